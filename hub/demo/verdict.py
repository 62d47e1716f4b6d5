"""The count of decision 33: what was posted against what took effect, not against what we say.

Pure: journals and statuses in, a verdict out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from hub.demo.journal import APPLIED, REJECTED, Arrival, Decision
from hub.demo.loader import Accepted, Refusal

COUNTED: Final = (
    "accepted",
    "delivered",
    "rejected",
    "parked",
    "quarantined",
    "open",
    "lost",
    "twice",
    "inversions",
)
"""Keys of the last line of `hub demo`, before `seconds` and `events_per_second`."""


class Seen(StrEnum):
    """What the status resource says of a request, as far as the count needs it."""

    MISSING = "missing"
    """404 after a 202."""
    OPEN = "open"
    PARKED = "parked"
    QUARANTINED = "quarantined"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was observed. `offices`: municipality code to its journal, in its order.

    `bad`: idempotency key to the planned status (400: to be parked, 422: to be rejected).
    """

    asked: int
    accepted: Sequence[Accepted]
    refused: Sequence[Refusal]
    decisions: Mapping[str, Sequence[Decision]]
    arrivals: Mapping[str, Sequence[Arrival]]
    statuses: Mapping[str, Seen]
    bad: Mapping[str, int]
    dedupe: bool
    started: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts, and in words whatever is not as it must be. `ok`: nothing is."""

    counts: Mapping[str, int]
    repeats: int
    """Arrivals at a back-office beyond the first of each request."""
    seconds: float
    """From the first post to the last arrival at a back-office."""
    problems: tuple[str, ...]
    offenders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """References behind the counts that must be zero, at most twenty each."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The last line of `hub demo`: exactly the keys of the issue."""
        rate = self.counts["accepted"] / self.seconds if self.seconds else 0.0
        return {
            **{name: self.counts[name] for name in COUNTED},
            "seconds": round(self.seconds, 2),
            "events_per_second": round(rate, 1),
        }


def judge(evidence: Evidence) -> Verdict:
    """Count. Each accepted request falls in one of delivered, rejected, parked, quarantined, open,
    lost; `twice` and `inversions` count beside them."""
    applied, rejected = _effects(evidence, APPLIED), _effects(evidence, REJECTED)
    sorted_out: dict[str, list[str]] = defaultdict(list)
    for accepted in evidence.accepted:
        reference = accepted.reference
        seen = evidence.statuses.get(reference, Seen.OPEN)
        place = _place(seen, reference, applied, rejected)
        sorted_out[place].append(reference)
    twice = [reference for reference, times in applied.items() if times > 1]
    overtaken = inversions(evidence.accepted, evidence.decisions)
    counts = {name: len(sorted_out[name]) for name in COUNTED}
    counts |= {
        "accepted": len(evidence.accepted),
        "twice": len(twice),
        "inversions": len(overtaken),
    }
    problems = (
        *_incomplete(evidence, counts),
        *_against_plan(evidence, sorted_out),
        *_strangers(evidence),
        *_contradictions(evidence, applied, rejected),
    )
    zero = {**sorted_out, "twice": twice, "inversions": overtaken}
    return Verdict(
        counts=counts,
        repeats=_repeats(evidence),
        seconds=_seconds(evidence),
        problems=problems,
        offenders={
            name: tuple(zero[name][:20])
            for name in ("open", "lost", "quarantined", "twice", "inversions")
            if zero[name]
        },
    )


def inversions(
    accepted: Iterable[Accepted], decisions: Mapping[str, Sequence[Decision]]
) -> list[str]:
    """Requests whose first effect came after that of a later one of the same lane.

    A lane is subject and destination; the order is that of the 202s.
    """
    first: dict[tuple[str, str, str], int] = {}
    for office, made in decisions.items():
        for decision in made:
            first.setdefault((office, decision.destination, decision.reference), decision.seq)
    lanes: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for one in sorted(accepted, key=lambda a: a.order):
        place = first.get((one.handler, one.destination, one.reference))
        if place is not None:
            lanes[one.lane].append((place, one.reference))
    return [reference for lane in lanes.values() for reference in _overtaken(lane)]


def _overtaken(lane: Sequence[tuple[int, str]]) -> list[str]:
    """Of places in the order of the 202s, those that come after a later one's."""
    found = []
    least = float("inf")
    for place, reference in reversed(lane):
        if place > least:
            found.append(reference)
        least = min(least, place)
    return found


def _effects(evidence: Evidence, verdict: str) -> Counter[str]:
    return Counter(
        decision.reference
        for made in evidence.decisions.values()
        for decision in made
        if decision.verdict == verdict
    )


def _place(
    seen: Seen, reference: str, applied: Mapping[str, int], rejected: Mapping[str, int]
) -> str:
    """Closed in the hub or unknown to it, and never decided at a back-office, is lost."""
    if seen in {Seen.OPEN, Seen.PARKED, Seen.QUARANTINED}:
        return seen.value
    if reference in applied:
        return "delivered"
    return "rejected" if reference in rejected else "lost"


def _repeats(evidence: Evidence) -> int:
    arrivals = [a for found in evidence.arrivals.values() for a in found]
    return len(arrivals) - len({(a.destination, a.reference) for a in arrivals})


def _seconds(evidence: Evidence) -> float:
    last = max((a.at for found in evidence.arrivals.values() for a in found), default=0.0)
    return max(0.0, last - evidence.started) if evidence.started else 0.0


def _incomplete(evidence: Evidence, counts: Mapping[str, int]) -> list[str]:
    found = []
    if counts["accepted"] != evidence.asked:
        found.append(f"{counts['accepted']} of {evidence.asked} requests were accepted")
    if evidence.refused:
        statuses = Counter(refusal.status for refusal in evidence.refused)
        found.append(f"refused at the door, by status: {dict(statuses)}")
    must_be_zero = ["open", "lost", "quarantined", "inversions"]
    # Without dedupe each repeat takes effect: they are reported, and are no fault of ours.
    must_be_zero += ["twice"] if evidence.dedupe else []
    found += [f"{name}: {counts[name]}" for name in must_be_zero if counts[name]]
    return found


def _against_plan(evidence: Evidence, sorted_out: Mapping[str, Sequence[str]]) -> list[str]:
    """Parked and rejected must be the planned ones, by reference."""
    found = []
    for name, status in (("parked", 400), ("rejected", 422)):
        planned = {a.reference for a in evidence.accepted if evidence.bad.get(a.key) == status}
        actual = set(sorted_out.get(name, ()))
        if missing := sorted(planned - actual):
            found.append(f"planned to be {name} and not so: {_some(missing)}")
        if unplanned := sorted(actual - planned):
            found.append(f"{name} and not planned: {_some(unplanned)}")
    return found


def _strangers(evidence: Evidence) -> list[str]:
    """Effects of what nobody posted, or at another back-office than the handler's."""
    expected = {(a.handler, a.destination, a.reference) for a in evidence.accepted}
    seen = {
        (office, decision.destination, decision.reference)
        for office, made in evidence.decisions.items()
        for decision in made
    }
    strange = sorted({reference or "(none)" for _, _, reference in seen - expected})
    return [f"effects at a back-office that nobody asked for: {_some(strange)}"] if strange else []


def _contradictions(
    evidence: Evidence, applied: Mapping[str, int], rejected: Mapping[str, int]
) -> list[str]:
    """Protocol property 7: what stands parked was not applied; and no request has both ends."""
    parked = {r for r, seen in evidence.statuses.items() if seen is Seen.PARKED}
    found = []
    if missing := sorted(r for r, seen in evidence.statuses.items() if seen is Seen.MISSING):
        found.append(f"404 after a 202: {_some(missing)}")
    for seen, never in ((Seen.DELIVERED, rejected), (Seen.REJECTED, applied)):
        said = {r for r, status in evidence.statuses.items() if status is seen}
        if wrong := sorted(said & never.keys()):
            found.append(f"{seen} in the hub, otherwise at the back-office: {_some(wrong)}")
    if both := sorted(parked & (applied.keys() | rejected.keys())):
        found.append(f"parked although decided: {_some(both)}")
    if both := sorted(applied.keys() & rejected.keys()):
        found.append(f"applied and rejected: {_some(both)}")
    return found


def _some(references: Sequence[str]) -> str:
    shown = ", ".join(references[:5])
    return shown if len(references) <= 5 else f"{shown} and {len(references) - 5} more"
