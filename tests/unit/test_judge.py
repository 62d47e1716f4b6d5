"""What an answer means: no answer is not a no, and what speaks of the destination."""

import pytest

from hub.connector import Verdict, VerdictKind
from hub.delivery.effects import (
    CommandKind,
    Committed,
    InsertRow,
    MarkRow,
    Pace,
    ParkReason,
    Row,
)
from hub.delivery.judge import AMBIGUOUS_TRIES, AWAY_TRIES, UNDER_WAY_TRIES
from hub.outcome import OutcomeKind
from tests.unit.queue_desk import PACE, Desk

DELIVERED, REJECTED = VerdictKind.DELIVERED, VerdictKind.REJECTED
FAILED, NO_ANSWER = VerdictKind.RECORD_FAILED, VerdictKind.NO_ANSWER
AMBIGUOUS, UNDER_WAY = VerdictKind.AMBIGUOUS, VerdictKind.UNDER_WAY
RESEND = CommandKind.RESEND


# --- S2, S3, S4: no answer is not a no ---


def test_a_no_while_an_earlier_try_may_be_under_way_is_asked_once_more_after_it() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    first = desk.now
    desk.answer("a", NO_ANSWER)
    desk.wait_for_send("a")
    desk.answer("a", FAILED, status=400)
    assert not desk.all_of(InsertRow)
    desk.wait_for_send("a")
    assert desk.now >= first + PACE.request_timeout
    desk.answer("a", FAILED, status=400)
    (insert,) = desk.all_of(InsertRow)
    assert insert.row.reason is ParkReason.RECORD


def test_a_final_no_too_is_asked_once_more() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.answer("a", AMBIGUOUS)
    desk.wait_for_send("a")
    desk.answer("a", REJECTED)
    assert desk.said("a") == []
    desk.wait_for_send("a")
    desk.answer("a", REJECTED)
    assert desk.said("a") == [OutcomeKind.REJECTED]


def test_after_an_unclean_take_over_a_no_is_asked_once_more_and_after_a_clean_one_not() -> None:
    unclean = Desk().live(Committed(0, "1:1:u:"))
    unclean.arrive((0, "a", "L"))
    unclean.answer("a", FAILED)
    assert not unclean.all_of(InsertRow)
    unclean.wait_for_send("a")
    unclean.answer("a", FAILED)
    assert unclean.all_of(InsertRow)
    clean = Desk().live(Committed(0, "1:1:c:"))
    clean.arrive((0, "a", "L"))
    clean.answer("a", FAILED)
    assert clean.all_of(InsertRow)


def test_a_doubt_goes_with_the_record_into_park_and_out_again() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    give_up(desk, "a")
    desk.wait(0.1)
    desk.order(1, RESEND, "a")
    desk.answer("a", FAILED)
    assert not desk.all_of(MarkRow)
    desk.wait_for_send("a")
    desk.answer("a", FAILED)
    (mark,) = desk.all_of(MarkRow)
    assert (mark.reason, mark.attempt, mark.commands) == (ParkReason.RECORD, 2, (1,))


def test_under_way_is_waited_for_and_is_never_delivered_nor_a_failure() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    for _ in range(12):
        desk.answer("a", UNDER_WAY, status=409)
        desk.wait_for_send("a")
    assert desk.said("a") == []
    assert not desk.all_of(InsertRow)
    desk.answer("a", DELIVERED)
    assert desk.said("a") == [OutcomeKind.DELIVERED]


def test_under_way_for_ever_calls_a_person_once_others_succeed() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"))
    for i in range(UNDER_WAY_TRIES):
        assert not desk.all_of(InsertRow)
        if i == UNDER_WAY_TRIES - 1:
            desk.answer("b", DELIVERED)
        desk.answer("a", UNDER_WAY)
        if i < UNDER_WAY_TRIES - 1:
            desk.wait_for_send("a")
    (insert,) = desk.all_of(InsertRow)
    assert insert.row.reason is ParkReason.IN_DOUBT


def test_erased_while_a_try_may_be_under_way_holds_the_lane_until_it_is_over() -> None:
    """A co-mover's key is gone; the next request of the applicant must not pass the first try."""
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"))
    first = desk.now
    desk.answer("a", NO_ANSWER)
    again = desk.wait_for_send("a")
    desk.do(desk.engine.erased(again.ticket, desk.now))
    assert desk.said("a") == []
    again = desk.wait_for_send("a")
    assert desk.now >= first + PACE.request_timeout
    desk.do(desk.engine.erased(again.ticket, desk.now))
    assert desk.said("a") == [OutcomeKind.ERASED]
    desk.wait_for_send("b")


# --- destination failures ---


@pytest.mark.parametrize(
    "kind", [None, VerdictKind.NOT_SENT, VerdictKind.THROTTLED, VerdictKind.CREDENTIALS]
)
def test_one_record_that_alone_is_turned_away_parks_and_stops_nobody(
    kind: VerdictKind | None,
) -> None:
    """A 403 on one file, a key that is missing: others succeed, yet its place fills the window."""
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    answered = turned_away = offset = 0
    while not desk.all_of(InsertRow):
        for send in desk.sends()[answered:]:
            answered += 1
            if send.event_id != "a":
                desk.answer(send.event_id, DELIVERED)
                continue
            turned_away += 1
            if kind is None:
                desk.do(desk.engine.key_store_away(send.ticket, desk.now))
            else:
                desk.answer("a", kind)
        offset += 1
        desk.arrive((offset, f"e{offset}", f"M{offset}"))
        desk.wait(0.1)
        assert turned_away <= 2 * AWAY_TRIES
    assert turned_away >= AWAY_TRIES
    (insert,) = desk.all_of(InsertRow)
    assert (insert.row.event_id, insert.row.reason) == ("a", ParkReason.RECORD)


def test_an_outage_turns_nobody_away_for_good_however_long_it_lasts() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"))
    answered = 0
    while answered < 4 * AWAY_TRIES:
        for send in desk.sends()[answered:]:
            answered += 1
            desk.answer(send.event_id, VerdictKind.CREDENTIALS)
        desk.wait(0.5)
    assert not desk.all_of(InsertRow)


@pytest.mark.parametrize(
    "kind", [VerdictKind.NOT_SENT, VerdictKind.THROTTLED, VerdictKind.CREDENTIALS]
)
def test_what_speaks_of_the_destination_pauses_the_queue(kind: VerdictKind) -> None:
    desk = Desk(Pace(concurrency=2)).live()
    desk.arrive((0, "a", "L"), (1, "b", "M"), (2, "c", "N"), (3, "d", "O"))
    desk.answer("a", kind)
    assert desk.sent() == ["a", "b"]
    desk.answer("b", kind)
    desk.wait(0.6)
    assert desk.sent() == ["a", "b", "c"], "one probe, and of the lane that waited longest"
    desk.answer("c", DELIVERED)
    assert desk.sent() == ["a", "b", "c", "d", "a"]
    assert [send.attempt for send in desk.sends()] == [1] * 5
    assert desk.said("a") == [OutcomeKind.WAITING]


def test_probes_rotate_lanes_and_pauses_grow() -> None:
    desk = Desk(Pace(pause=1.0, pause_cap=32.0)).live()
    desk.arrive((0, "a", "L"))
    desk.answer("a", VerdictKind.NOT_SENT)
    desk.arrive((1, "b", "M"), (2, "c", "N"))
    for event_id in ("a", "b", "c", "a", "b"):
        before = len(desk.sends())
        while len(desk.sends()) == before:
            desk.wait(0.05)
        assert desk.sent()[before:] == [event_id]
        desk.answer(event_id, VerdictKind.NOT_SENT)
    assert desk.engine.lanes.health.until - desk.now <= 32.0
    assert desk.said("a") == [OutcomeKind.WAITING], "once per sickness"
    assert not desk.all_of(InsertRow)


def test_each_sickness_says_waiting_anew() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"))
    desk.answer("a", VerdictKind.NOT_SENT)
    desk.answer("b", DELIVERED)
    desk.wait_for_send("a")
    desk.arrive((2, "c", "N"))
    desk.answer("a", UNDER_WAY)
    desk.answer("c", VerdictKind.NOT_SENT)
    desk.wait_for_send("c")
    desk.answer("c", VerdictKind.NOT_SENT)
    assert desk.said("c") == [OutcomeKind.WAITING]
    assert desk.said("a") == [OutcomeKind.WAITING]


def test_throttling_is_honoured_for_the_whole_queue() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.answer("a", VerdictKind.THROTTLED, retry_after_seconds=30.0)
    desk.arrive((1, "b", "M"))
    desk.wait(29.5)
    assert desk.sent() == ["a"]
    desk.wait(1.0)
    assert len(desk.sent()) == 2


def test_an_answer_from_before_the_sickness_does_not_end_it() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"))
    b = desk.open_send("b")
    assert desk.engine.may_send(b.ticket, desk.now)
    desk.answer("a", VerdictKind.THROTTLED, retry_after_seconds=30.0)
    desk.do(desk.engine.answered(b.ticket, Verdict(DELIVERED), desk.now))
    desk.wait(5.0)
    assert desk.sent() == ["a", "b"]


def test_unclear_answers_of_three_lanes_pause_the_queue() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"), (2, "c", "N"), (3, "d", "O"))
    desk.answer("a", AMBIGUOUS)
    desk.answer("b", NO_ANSWER)
    assert desk.engine.lanes.health.sickness == 0
    desk.answer("c", AMBIGUOUS)
    assert desk.engine.lanes.health.sickness == 1
    assert desk.said("c") == [OutcomeKind.WAITING]


def test_two_lanes_that_always_fail_stop_nobody() -> None:
    """One record always answers 500, one always times out; the rest flows."""
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"))
    fine = 0
    for offset in range(2, 60):
        for event_id, verdict in (("a", AMBIGUOUS), ("b", NO_ANSWER)):
            ticket = desk.open_send(event_id).ticket
            if desk.engine.lanes._tickets.get(ticket):
                desk.answer(event_id, verdict)
        desk.arrive((offset, f"e{offset}", f"X{offset}"))
        if f"e{offset}" in desk.sent():
            desk.answer(f"e{offset}", DELIVERED)
            fine += 1
        desk.wait(1.0)
    assert fine == 58
    assert desk.engine.lanes.health.sickness == 0
    parked = {insert.row.event_id: insert.row.reason for insert in desk.all_of(InsertRow)}
    assert parked == {"a": ParkReason.IN_DOUBT, "b": ParkReason.IN_DOUBT}


def give_up(desk: Desk, event_id: str) -> None:
    """Five ambiguous failures, each with another lane's success before it."""
    for n in range(AMBIGUOUS_TRIES):
        offset = desk.engine._progress.newest + 1
        desk.arrive((offset, f"other{offset}", f"other{offset}"))
        desk.answer(f"other{offset}", DELIVERED)
        desk.answer(event_id, AMBIGUOUS, status=500)
        if n < AMBIGUOUS_TRIES - 1:
            assert not desk.all_of(InsertRow)
            desk.wait_for_send(event_id)


def test_five_ambiguous_failures_while_others_succeed_park_as_in_doubt() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    give_up(desk, "a")
    (insert,) = desk.all_of(InsertRow)
    assert insert.row == Row("a", 0, "L", ParkReason.IN_DOUBT, 1, code="ambiguous")
    assert insert.status == 500


def test_one_that_is_alone_goes_on() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    for _ in range(30):
        desk.answer("a", AMBIGUOUS)
        desk.wait_for_send("a")
    assert not desk.all_of(InsertRow)
    desk.answer("a", DELIVERED)
    assert desk.said("a") == [OutcomeKind.DELIVERED]


def test_a_key_store_that_is_away_pauses_the_queue_and_burns_nothing() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    for _ in range(10):
        desk.do(desk.engine.key_store_away(desk.open_send("a").ticket, desk.now))
        desk.wait_for_send("a")
    assert desk.said("a") == [OutcomeKind.WAITING]
    desk.do(desk.engine.mapping_failed(desk.open_send("a").ticket, "no street", desk.now))
    assert desk.engine.lanes.health.cause == "", "it opened the parts, so the key store is back"
    assert desk.said("a") == [OutcomeKind.WAITING, OutcomeKind.PARKED]
