"""Lanes, park and commands, sentence by sentence of the protocol."""

import pytest

from hub.connector import VerdictKind
from hub.delivery.effects import (
    CloseCommand,
    CommandKind,
    CommitOffsets,
    Committed,
    DeleteRow,
    InsertRow,
    MarkRow,
    Pace,
    ParkReason,
    Publish,
    Row,
)
from hub.outcome import OutcomeKind
from tests.unit.queue_desk import Desk

DELIVERED, REJECTED = VerdictKind.DELIVERED, VerdictKind.REJECTED
FAILED, AMBIGUOUS = VerdictKind.RECORD_FAILED, VerdictKind.AMBIGUOUS
RESEND, SKIP = CommandKind.RESEND, CommandKind.SKIP


def parked_lane(reason: ParkReason | None = ParkReason.RECORD) -> Desk:
    """Lane L: a stands parked for `reason`, b behind it; offsets 0 and 1 are committed."""
    rows = [Row("a", 0, "L", reason, 1), Row("b", 1, "L", None, 1)]
    return Desk().live(Committed(2, "1:1:c:"), rows)


# --- sending ---


def test_at_most_one_delivery_of_a_lane_and_so_many_of_a_destination_are_under_way() -> None:
    desk = Desk(Pace(concurrency=2)).live()
    desk.arrive((0, "a", "L"), (1, "b", "L"), (2, "c", "M"), (3, "d", "N"))
    assert desk.sent() == ["a", "c"]
    desk.answer("c", DELIVERED)
    assert desk.sent() == ["a", "c", "d"]


def test_rejected_is_final_and_the_lane_goes_on() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"))
    desk.answer("a", REJECTED, status=422, code="afgewezen")
    desk.wait(0.1)
    assert desk.sent() == ["a", "b"]
    (said,) = desk.all_of(Publish)
    assert (said.kind, said.status, said.code) == (OutcomeKind.REJECTED, 422, "afgewezen")


def test_erased_is_final_and_the_lane_goes_on() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"))
    desk.do(desk.engine.erased(desk.open_send("a").ticket, desk.now))
    desk.wait(0.1)
    assert desk.said("a") == [OutcomeKind.ERASED]
    assert desk.sent() == ["a", "b"]


def test_an_unclear_answer_is_tried_again_with_growing_jittered_waits() -> None:
    desk = Desk(Pace(backoff=1.0, backoff_cap=64.0)).live()
    desk.arrive((0, "a", "L"))
    waits = []
    for _ in range(8):
        desk.answer("a", AMBIGUOUS)
        began = desk.now
        desk.wait_for_send("a")
        waits.append(desk.now - began)
    for n, wait in enumerate(waits, start=1):
        assert wait <= 2.0**n + 0.1
    assert max(waits[4:]) > max(waits[:2])
    assert len({round(wait, 2) for wait in waits}) == len(waits)


def test_retry_after_is_honoured_and_capped() -> None:
    desk = Desk(Pace(retry_after_cap=60.0)).live()
    desk.arrive((0, "a", "L"))
    desk.answer("a", AMBIGUOUS, retry_after_seconds=40.0)
    desk.wait(39.0)
    assert desk.sent() == ["a"]
    desk.wait(2.0)
    assert desk.sent() == ["a", "a"]
    desk.answer("a", AMBIGUOUS, retry_after_seconds=1e9)
    desk.wait(61.0)
    assert len(desk.sent()) == 3


# --- park ---


def test_a_record_failure_parks_its_lane_in_order_and_the_rest_flows() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"), (2, "c", "M"), (3, "d", "L"))
    desk.answer("a", FAILED, code="http_400", text="no such street", status=400)
    desk.answer("c", DELIVERED)
    desk.arrive((4, "e", "L"))
    desk.wait(0.1)
    assert [insert.row for insert in desk.all_of(InsertRow)] == [
        Row("a", 0, "L", ParkReason.RECORD, 1, code="http_400"),
        Row("b", 1, "L", None, 1, code="behind"),
        Row("d", 3, "L", None, 1, code="behind"),
        Row("e", 4, "L", None, 1, code="behind"),
    ]
    assert desk.sent() == ["a", "c"]
    assert desk.all_of(CommitOffsets)[-1].watermark == 5
    assert desk.said("a") == desk.said("b") == [OutcomeKind.PARKED]


def test_a_row_is_durable_before_it_is_told_and_told_before_its_offset_counts() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.hold(InsertRow)
    desk.answer("a", FAILED)
    assert desk.said("a") == []
    desk.hold(Publish)
    desk.held.remove(InsertRow)
    insert = desk.waiting.pop()
    desk.do(desk.engine.durable(insert.token, desk.now))
    desk.wait(0.5)
    assert desk.all_of(CommitOffsets)[-1].watermark == 0
    desk.release()
    desk.wait(0.1)
    assert desk.all_of(CommitOffsets)[-1].watermark == 1


def test_a_lane_with_an_insert_under_way_is_not_live() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"))
    desk.hold(InsertRow)
    desk.answer("a", FAILED)
    desk.wait(2.0)
    assert desk.sent() == ["a"]
    assert len(desk.all_of(InsertRow)) == 1, "rows become durable in the order of the log"
    desk.release()
    assert [insert.row.event_id for insert in desk.all_of(InsertRow)] == ["a", "b"]


def test_a_mapping_failure_parks_like_any_record_failure() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.do(desk.engine.mapping_failed(desk.open_send("a").ticket, "no street", desk.now))
    (insert,) = desk.all_of(InsertRow)
    assert (insert.row.reason, insert.code, insert.text) == (
        ParkReason.RECORD,
        "mapping",
        "no street",
    )


def test_what_cannot_be_decoded_is_parked_unsent_and_untold() -> None:
    desk = Desk().live()
    desk.do(desk.engine.unusable(0, "offset-0", "L", 0.0, desk.now))
    desk.arrive((1, "b", "L"), (2, "c", "M"))
    desk.wait(0.1)
    assert desk.sent() == ["c"]
    rows = [insert.row for insert in desk.all_of(InsertRow)]
    assert rows[0] == Row("offset-0", 0, "L", ParkReason.RECORD, 1, False, "unusable")
    assert desk.said("offset-0") == []
    desk.order(1, SKIP, "offset-0")
    assert [delete.event_id for delete in desk.all_of(DeleteRow)] == ["offset-0"]
    assert desk.said("offset-0") == []
    assert desk.sent() == ["c", "b"]


def test_a_record_that_stands_parked_counts_as_done_and_is_told_again() -> None:
    rows = [Row("a", 0, "L", ParkReason.RECORD, 3, code="http_400")]
    desk = Desk().live(Committed(0, "1:1:c:"), rows)
    desk.order(1, RESEND, "a")
    assert desk.sent() == [], "its offset is not covered yet"
    desk.arrive((0, "a", "L"))
    (told,) = desk.all_of(Publish)
    assert (told.kind, told.attempt, told.reason, told.code) == (
        OutcomeKind.PARKED,
        3,
        ParkReason.RECORD,
        "http_400",
    )
    assert not desk.all_of(InsertRow)
    desk.wait(0.1)
    assert desk.sent() == ["a"]


# --- commands ---


def test_resend_sends_the_head_then_the_rest_follows_by_itself_and_the_lane_is_live() -> None:
    desk = parked_lane()
    desk.arrive((2, "c", "L"))
    desk.wait(0.1)
    assert desk.sent() == []
    desk.order(7, RESEND, "a")
    assert desk.sent() == ["a"]
    assert desk.open_send("a").parked
    assert desk.open_send("a").attempt == 2
    desk.answer("a", DELIVERED)
    assert [(d.event_id, d.commands) for d in desk.all_of(DeleteRow)] == [("a", (7,))]
    assert desk.sent() == ["a", "b"]
    desk.answer("b", DELIVERED)
    desk.answer("c", DELIVERED)
    desk.arrive((3, "d", "L"))
    assert not desk.open_send("d").parked
    assert desk.said("a") == [OutcomeKind.RESUMED, OutcomeKind.DELIVERED]
    assert desk.said("c") == [OutcomeKind.PARKED, OutcomeKind.RESUMED, OutcomeKind.DELIVERED]


def test_a_row_without_a_reason_of_its_own_goes_by_itself_under_any_owner() -> None:
    desk = parked_lane(None)
    assert desk.sent() == ["a"]


def test_a_resend_that_fails_again_stays_parked_and_closes_the_command() -> None:
    desk = parked_lane()
    desk.order(7, RESEND, "a")
    desk.answer("a", FAILED, code="http_400", text="still", status=400)
    (mark,) = desk.all_of(MarkRow)
    assert (mark.event_id, mark.reason, mark.attempt) == ("a", ParkReason.RECORD, 2)
    assert (mark.commands, mark.code, mark.text, mark.status) == ((7,), "http_400", "still", 400)
    told = desk.all_of(Publish)
    assert [(p.kind, p.attempt) for p in told] == [
        (OutcomeKind.RESUMED, 2),
        (OutcomeKind.PARKED, 2),
    ]
    desk.wait(60.0)
    assert desk.sent() == ["a"]
    desk.order(8, RESEND, "a")
    assert desk.open_send("a").attempt == 3


def test_skip_rejects_the_head_and_the_rest_follows() -> None:
    desk = parked_lane()
    desk.hold(Publish)
    desk.order(7, SKIP, "a")
    assert not desk.all_of(DeleteRow), "the outcome is durable first"
    desk.release()
    (told, *_) = desk.all_of(Publish)
    assert (told.kind, told.reason, told.code) == (
        OutcomeKind.REJECTED,
        ParkReason.OPERATOR,
        "skipped",
    )
    assert [(d.event_id, d.commands) for d in desk.all_of(DeleteRow)] == [("a", (7,))]
    assert desk.sent() == ["b"]


@pytest.mark.parametrize(
    ("reason", "kind", "event_id", "refusal"),
    [
        (ParkReason.IN_DOUBT, SKIP, "a", "only what has definitely failed can be skipped"),
        (None, SKIP, "a", "only what has definitely failed can be skipped"),
        (ParkReason.RECORD, RESEND, "b", "it stands behind a and follows by itself"),
        (ParkReason.RECORD, SKIP, "b", "it stands behind a and follows by itself"),
        (ParkReason.RECORD, RESEND, "x", "no parked record has this event id"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    reason: ParkReason | None, kind: CommandKind, event_id: str, refusal: str
) -> None:
    desk = parked_lane(reason)
    desk.order(7, kind, event_id)
    (close,) = desk.all_of(CloseCommand)
    assert close.command_id == 7
    assert close.refusal.startswith(refusal)
    assert not desk.all_of(DeleteRow)


def test_what_is_in_doubt_can_be_resent() -> None:
    desk = parked_lane(ParkReason.IN_DOUBT)
    desk.order(7, RESEND, "a")
    assert desk.sent() == ["a"]


def test_a_command_told_twice_is_obeyed_once() -> None:
    desk = parked_lane()
    desk.order(7, RESEND, "a")
    desk.order(7, RESEND, "a")
    desk.answer("a", FAILED)
    desk.order(7, RESEND, "a")
    assert desk.sent() == ["a"]


def test_a_skip_waits_for_the_resend_before_it() -> None:
    desk = parked_lane()
    desk.order(7, RESEND, "a")
    desk.order(8, SKIP, "a")
    assert OutcomeKind.REJECTED not in desk.said("a")
    desk.answer("a", FAILED)
    assert desk.said("a")[-1] is OutcomeKind.REJECTED
    applied = parked_lane()
    applied.order(7, RESEND, "a")
    applied.order(8, SKIP, "a")
    applied.answer("a", DELIVERED)
    assert [c.refusal for c in applied.all_of(CloseCommand)] == ["it is no longer parked"]


def test_commands_told_before_the_lease_keep_their_order() -> None:
    desk = Desk()
    desk.hold(CommitOffsets)
    rows = [Row("a", 0, "L", ParkReason.RECORD, 1)]
    desk.live(Committed(1, "1:1:c:"), rows)
    desk.order(7, RESEND, "a")
    desk.release()
    desk.order(8, SKIP, "a")
    assert desk.sent() == ["a"]
    assert OutcomeKind.REJECTED not in desk.said("a")


def test_a_command_for_a_row_whose_insert_is_under_way_waits_for_it() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.hold(InsertRow)
    desk.answer("a", FAILED)
    desk.order(7, RESEND, "a")
    assert not desk.all_of(CloseCommand)
    desk.release()
    desk.wait(0.1)
    assert desk.sent() == ["a", "a"]


def test_an_outage_during_a_resend_burns_nothing_and_keeps_the_command_open() -> None:
    desk = parked_lane()
    desk.order(7, RESEND, "a")
    desk.answer("a", VerdictKind.NOT_SENT)
    assert not desk.all_of(MarkRow)
    desk.wait_for_send("a")
    desk.answer("a", DELIVERED)
    (delete,) = desk.all_of(DeleteRow)
    assert delete.commands == (7,)
    assert desk.open_send("a").attempt == 2


def test_news_that_kafka_did_not_take_is_dropped_once_the_result_is_being_written() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.hold(Publish)
    desk.answer("a", VerdictKind.NOT_SENT)
    waiting = desk.waiting.pop()
    desk.wait_for_send("a")
    desk.answer("a", DELIVERED)
    desk.do(desk.engine.failed(waiting.token, desk.now))
    desk.release()
    desk.wait(10.0)
    assert desk.said("a") == [OutcomeKind.WAITING, OutcomeKind.DELIVERED]


def test_a_row_stands_until_all_that_is_told_of_it_is_acked() -> None:
    desk = parked_lane()
    desk.hold(Publish)
    desk.order(7, RESEND, "a")
    desk.answer("a", DELIVERED)
    resumed, delivered = desk.waiting
    desk.do(desk.engine.durable(delivered.token, desk.now))
    assert not desk.all_of(DeleteRow)
    desk.do(desk.engine.failed(resumed.token, desk.now))
    assert [delete.event_id for delete in desk.all_of(DeleteRow)] == ["a"]
