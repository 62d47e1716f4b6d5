"""The count finds what was planted: losses, doubles, inversions, the unplanned."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from hub.demo.journal import APPLIED, REJECTED, Arrival, Decision
from hub.demo.loader import Accepted, Refusal
from hub.demo.verdict import COUNTED, Evidence, Seen, inversions, judge

GM = "GM0363"


def _accepted(order: int, subject: str = "b1") -> Accepted:
    return Accepted(order, f"R{order}", f"k{order}", GM, GM, "burgerzaken", subject, 100.0, 1)


def _decision(order: int, seq: int, verdict: str = APPLIED) -> Decision:
    return Decision("burgerzaken", f"R{order}", f"e{order}", "b1", verdict, seq)


def _arrivals(*orders: int) -> list[Arrival]:
    return [Arrival("burgerzaken", f"R{order}", f"e{order}", "b1", at=110.0) for order in orders]


def _evidence(decisions: Sequence[Decision], seen: dict[str, Seen] | None = None) -> Evidence:
    accepted = [_accepted(order) for order in range(4)]
    return Evidence(
        asked=4,
        accepted=accepted,
        refused=(),
        decisions={GM: decisions},
        arrivals={GM: _arrivals(0, 1, 2, 3)},
        statuses={a.reference: Seen.DELIVERED for a in accepted} | (seen or {}),
        bad={},
        dedupe=True,
        started=100.0,
    )


GOOD = [_decision(order, order + 1) for order in range(4)]


def test_a_clean_run() -> None:
    verdict = judge(_evidence(GOOD))
    assert verdict.ok, verdict.problems
    assert verdict.as_json() == {
        "accepted": 4,
        "delivered": 4,
        "rejected": 0,
        "parked": 0,
        "quarantined": 0,
        "open": 0,
        "lost": 0,
        "twice": 0,
        "inversions": 0,
        "seconds": 10.0,
        "events_per_second": 0.4,
    }
    assert verdict.repeats == 0


def test_closed_in_the_hub_and_never_applied_is_lost() -> None:
    verdict = judge(_evidence(GOOD[:3]))
    assert (verdict.counts["lost"], verdict.counts["delivered"]) == (1, 3)
    assert verdict.offenders["lost"] == ("R3",)
    assert not verdict.ok


def test_missing_in_the_hub_and_never_applied_is_lost() -> None:
    verdict = judge(_evidence(GOOD[:3], {"R3": Seen.MISSING}))
    assert verdict.counts["lost"] == 1


def test_not_final_is_open_whatever_was_applied() -> None:
    verdict = judge(_evidence(GOOD, {"R3": Seen.OPEN}))
    assert (verdict.counts["open"], verdict.counts["delivered"]) == (1, 3)
    assert not verdict.ok


def test_two_effects_count_as_twice_though_the_key_differs() -> None:
    again = replace(_decision(2, 9), key="another")
    evidence = _evidence([*GOOD, again])
    assert judge(evidence).counts["twice"] == 1
    assert not judge(evidence).ok
    reported = judge(replace(evidence, dedupe=False))
    assert reported.counts["twice"] == 1
    assert reported.ok


def test_repeated_arrivals_are_counted() -> None:
    evidence = replace(_evidence(GOOD), arrivals={GM: _arrivals(0, 1, 1, 1, 2, 3)})
    assert judge(evidence).repeats == 2


@pytest.mark.parametrize(
    ("order", "overtaken"),
    [
        ((0, 1, 2, 3), set()),
        ((1, 0, 2, 3), {"R0"}),
        ((3, 0, 1, 2), {"R0", "R1", "R2"}),
        ((1, 2, 3, 0), {"R0"}),
    ],
)
def test_inversions_by_first_effect(order: tuple[int, ...], overtaken: set[str]) -> None:
    made = [_decision(number, seq) for seq, number in enumerate(order)]
    accepted = [_accepted(number) for number in range(4)]
    # A late repeat of an early one is no inversion: the first effect counts.
    made.append(_decision(0, 99))
    assert set(inversions(accepted, {GM: made})) == overtaken


def test_other_subjects_may_pass() -> None:
    accepted = [_accepted(0, "b1"), _accepted(1, "b2")]
    assert inversions(accepted, {GM: [_decision(1, 1), _decision(0, 2)]}) == []


def test_parked_and_rejected_exactly_as_planned() -> None:
    decisions = [GOOD[0], GOOD[1], _decision(2, 3, REJECTED)]
    seen = {"R2": Seen.REJECTED, "R3": Seen.PARKED}
    evidence = replace(_evidence(decisions, seen), bad={"k2": 422, "k3": 400})
    verdict = judge(evidence)
    assert verdict.ok, verdict.problems
    assert [verdict.counts[n] for n in ("delivered", "rejected", "parked")] == [2, 1, 1]
    swapped = judge(replace(evidence, bad={"k1": 422, "k3": 400}))
    assert "planned to be rejected and not so: R1" in swapped.problems
    assert "rejected and not planned: R2" in swapped.problems


def test_contradictions_are_found() -> None:
    parked = judge(_evidence(GOOD, {"R3": Seen.PARKED}))
    assert "parked although decided: R3" in parked.problems
    refused = judge(_evidence([*GOOD[:3], _decision(3, 4, REJECTED)]))
    assert any("otherwise at the back-office: R3" in p for p in refused.problems)


def test_effects_of_what_nobody_posted() -> None:
    verdict = judge(_evidence([*GOOD, _decision(77, 5)]))
    assert verdict.problems == ("effects at a back-office that nobody asked for: R77",)


def test_at_the_wrong_back_office() -> None:
    evidence = _evidence(GOOD)
    elsewhere = replace(evidence, decisions={"GM0599": GOOD})
    assert any("nobody asked for" in problem for problem in judge(elsewhere).problems)


def test_refusals_at_the_door_and_missing_posts_are_problems() -> None:
    evidence = replace(_evidence(GOOD), asked=5, refused=[Refusal("k9", 400, "fout")])
    assert judge(evidence).problems == (
        "4 of 5 requests were accepted",
        "refused at the door, by status: {400: 1}",
    )


def test_every_accepted_request_is_counted_once() -> None:
    seen = {"R0": Seen.OPEN, "R1": Seen.QUARANTINED, "R2": Seen.PARKED}
    counts = judge(_evidence([], seen)).counts
    apart = [name for name in COUNTED if name not in {"accepted", "twice", "inversions"}]
    assert sum(counts[name] for name in apart) == counts["accepted"] == 4
