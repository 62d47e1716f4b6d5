"""From outcomes to the status a citizen reads. Pure; order and repeats of outcomes do not matter.

State of a destination: final over open, then the highest attempt, then what comes last within one.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from hub.outcome.record import FINAL, Outcome, OutcomeKind, latest_of_each

SKIPPED: Final = "skipped"
"""Code of a rejection that an operator ordered."""


class StatusWord(StrEnum):
    """The words of the status resource."""

    RECEIVED = "ontvangen"
    UNDER_WAY = "onderweg"
    WAITING = "wacht"
    DELIVERED = "afgeleverd"
    REJECTED = "geweigerd"
    WITH_STAFF = "in behandeling bij medewerker"
    ERASED = "gewist"


_WORD: Final = {
    OutcomeKind.ROUTED: StatusWord.UNDER_WAY,
    OutcomeKind.QUARANTINED: StatusWord.WITH_STAFF,
    OutcomeKind.WAITING: StatusWord.WAITING,
    OutcomeKind.PARKED: StatusWord.WITH_STAFF,
    OutcomeKind.RESUMED: StatusWord.UNDER_WAY,
    OutcomeKind.DELIVERED: StatusWord.DELIVERED,
    OutcomeKind.REJECTED: StatusWord.REJECTED,
    OutcomeKind.ERASED: StatusWord.ERASED,
}

# Of several destinations the request as a whole says what most needs to be known.
_OPEN_FIRST: Final = (StatusWord.WITH_STAFF, StatusWord.WAITING, StatusWord.UNDER_WAY)
_FINAL_FIRST: Final = (StatusWord.REJECTED, StatusWord.ERASED, StatusWord.DELIVERED)

# In what order they come about within one attempt: coming out of park begins the next.
_WITHIN_ATTEMPT: Final = (
    OutcomeKind.QUARANTINED,
    OutcomeKind.ROUTED,
    OutcomeKind.RESUMED,
    OutcomeKind.WAITING,
    OutcomeKind.PARKED,
    OutcomeKind.ERASED,
    OutcomeKind.REJECTED,
    OutcomeKind.DELIVERED,
)

_STEP_TEXT: Final = {
    OutcomeKind.ROUTED: "Uw verzoek is onderweg naar de gemeente.",
    OutcomeKind.QUARANTINED: (
        "Uw verzoek kon niet vanzelf worden doorgestuurd. Een medewerker bekijkt het."
    ),
    OutcomeKind.WAITING: (
        "Het systeem van de gemeente is nu niet bereikbaar. "
        "Uw verzoek wacht en wordt later vanzelf bezorgd."
    ),
    OutcomeKind.PARKED: "Uw verzoek wacht achter een eerder verzoek dat een medewerker bekijkt.",
    OutcomeKind.RESUMED: "Uw verzoek wordt opnieuw bezorgd.",
    OutcomeKind.DELIVERED: "Uw verzoek is bezorgd bij de gemeente.",
    OutcomeKind.REJECTED: "De gemeente heeft uw verzoek geweigerd.",
    OutcomeKind.ERASED: "Uw gegevens zijn gewist. Uw verzoek is daarna niet meer bezorgd.",
}
_PARKED_TEXT: Final = {
    "record": (
        "Het systeem van de gemeente kon uw verzoek niet verwerken. Een medewerker bekijkt het."
    ),
    "in_doubt": (
        "Het is niet zeker of uw verzoek is aangekomen. Een medewerker zoekt dat voor u uit."
    ),
    "operator": "Een medewerker heeft uw verzoek apart gezet en bekijkt het.",
}
_SKIPPED_TEXT: Final = "Een medewerker heeft uw verzoek afgesloten zonder het te bezorgen."


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """Where the delivery to one destination stands; `since` and the rest are its last outcome's."""

    destination: str
    word: StatusWord
    kind: OutcomeKind
    final: bool
    attempt: int
    since: datetime
    reason: str | None
    code: str


@dataclass(frozen=True, slots=True)
class StatusStep:
    """A line of the status page; `text` is Dutch and for the citizen."""

    time: datetime
    kind: OutcomeKind
    destination: str | None
    text: str


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """The whole request. `final`: it was routed, and each routed delivery is final."""

    word: StatusWord
    final: bool
    destinations: tuple[DestinationStatus, ...]
    steps: tuple[StatusStep, ...]


def fold(outcomes: Iterable[Outcome]) -> RequestStatus:
    """Status of the one request that `outcomes` are about; of none: received, not final."""
    known = sorted(latest_of_each(outcomes).values(), key=lambda o: (o.time, o.record_id))
    destinations = _destinations(known)
    routed = any(outcome.kind is OutcomeKind.ROUTED for outcome in known)
    final = routed and bool(destinations) and all(d.final for d in destinations)
    steps = tuple(StatusStep(o.time, o.kind, o.destination, step_text(o)) for o in known)
    return RequestStatus(_word(known, destinations, final), final, destinations, steps)


def step_text(outcome: Outcome) -> str:
    """What a citizen reads of this outcome."""
    if outcome.kind is OutcomeKind.PARKED and outcome.reason in _PARKED_TEXT:
        return _PARKED_TEXT[outcome.reason]
    if outcome.kind is OutcomeKind.REJECTED and outcome.code == SKIPPED:
        return _SKIPPED_TEXT
    return _STEP_TEXT[outcome.kind]


def _destinations(known: list[Outcome]) -> tuple[DestinationStatus, ...]:
    """Every destination that was routed to or has spoken: outcomes may overtake `routed`."""
    spoken: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in known:
        for name in outcome.destinations:
            spoken[name].append(outcome)
        if outcome.destination is not None:
            spoken[outcome.destination].append(outcome)
    return tuple(_destination(name, max(spoken[name], key=_weight)) for name in sorted(spoken))


def _weight(outcome: Outcome) -> tuple[bool, int, int, datetime, str]:
    """Clocks of two owners may differ, so time decides last."""
    return (
        outcome.kind in FINAL,
        outcome.attempt,
        _WITHIN_ATTEMPT.index(outcome.kind),
        outcome.time,
        outcome.record_id,
    )


def _destination(name: str, last: Outcome) -> DestinationStatus:
    return DestinationStatus(
        destination=name,
        word=_WORD[last.kind],
        kind=last.kind,
        final=last.kind in FINAL,
        attempt=last.attempt,
        since=last.time,
        reason=last.reason,
        code=last.code,
    )


def _word(
    known: list[Outcome], destinations: tuple[DestinationStatus, ...], final: bool
) -> StatusWord:
    if not destinations:
        quarantined = any(outcome.kind is OutcomeKind.QUARANTINED for outcome in known)
        return StatusWord.WITH_STAFF if quarantined else StatusWord.RECEIVED
    words = {d.word for d in destinations if final or not d.final}
    order = _FINAL_FIRST if final else _OPEN_FIRST
    # All that spoke are final, yet `routed` has not come: more destinations may follow.
    return next((word for word in order if word in words), StatusWord.UNDER_WAY)
