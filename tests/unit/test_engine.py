"""Ownership, lease, commits and bounds of a queue, sentence by sentence of the protocol."""

import random

import pytest

from hub.connector import Verdict, VerdictKind
from hub.delivery.effects import (
    CommitOffsets,
    Committed,
    Drained,
    Forget,
    InsertRow,
    Pace,
    PauseFetch,
    Publish,
    ReadBack,
    ReadParked,
    ResumeFetch,
    Send,
    SetEpoch,
    Stop,
)
from hub.delivery.engine import HELD_WHILE_SICK, QueueEngine
from hub.delivery.progress import FETCH_RESERVE, METADATA_CAP, WINDOW
from hub.outcome import OutcomeKind
from tests.unit.queue_desk import PACE, Desk

DELIVERED, REJECTED = VerdictKind.DELIVERED, VerdictKind.REJECTED
FAILED, NO_ANSWER = VerdictKind.RECORD_FAILED, VerdictKind.NO_ANSWER


# --- F2: taking over ---


def test_take_over_goes_in_the_protocols_order() -> None:
    desk = Desk().live(Committed(5, "1:7:c:"))
    kinds = [type(effect) for effect in desk.log]
    assert kinds == [CommitOffsets, SetEpoch, ReadParked, ReadBack, ResumeFetch]


def test_the_first_commit_raises_the_epoch_and_drops_the_clean_flag() -> None:
    desk = Desk().live(Committed(5, "1:7:c:"))
    (first,) = desk.all_of(CommitOffsets)
    assert (first.watermark, first.metadata) == (5, "1:8:u:")
    assert desk.all_of(SetEpoch)[0].epoch == 8


def test_the_first_commit_is_repeated_until_it_is_acked_and_nothing_precedes_it() -> None:
    desk = Desk()
    desk.hold(CommitOffsets)
    desk.live(Committed(5, "1:7:c:"))
    desk.do(desk.engine.commit_refused(desk.waiting.pop().token, desk.now))
    desk.wait(0.2)
    assert [type(effect) for effect in desk.log] == [CommitOffsets, CommitOffsets]
    desk.release()
    assert desk.all_of(ResumeFetch)


def test_nul_bytes_behind_the_metadata_are_ignored() -> None:
    desk = Desk().live(Committed(5, "1:7:c:\0\0"))
    assert desk.all_of(SetEpoch)[0].epoch == 8


@pytest.mark.parametrize(
    ("committed", "log_start", "says"),
    [
        (None, 3, "GM0000/x: no committed offset, yet the log starts at 3"),
        (Committed(2, "1:1:c:"), 3, "offset 2 is committed, yet the log starts at 3"),
        (Committed(9, ""), 3, "not of the form"),
        (Committed(9, "1:1:c:" + "_" * 800), 0, "wider than"),
    ],
)
def test_a_queue_whose_past_is_unknown_stops_and_says_so(
    committed: Committed | None, log_start: int, says: str
) -> None:
    engine = QueueEngine("GM0000/x", PACE, random.Random(1))
    (stop,) = engine.take_over(committed, log_start, 0.0)
    assert isinstance(stop, Stop)
    assert says in stop.reason
    assert engine.arrived(9, "a", "L", 0.0, 0.0) == []


def test_a_later_epoch_in_the_store_ends_it() -> None:
    desk = Desk()
    desk.hold(SetEpoch)
    desk.live()
    assert desk.engine.fenced(desk.now) == []
    assert desk.engine.durable(desk.waiting[0].token, desk.now) == []
    desk.arrive((0, "a", "L"))
    assert desk.sent() == []


def test_only_what_is_not_done_is_sent_after_take_over() -> None:
    # Offsets 6 and 7 are done: bits 1 and 2.
    desk = Desk().live(Committed(5, "1:1:u:Bg"))
    desk.arrive((5, "a", "L"), (6, "b", "M"), (7, "c", "N"), (8, "d", "O"))
    assert desk.sent() == ["a", "d"]
    assert desk.all_of(Forget) == [Forget(6), Forget(7)]


# --- D1, D2: done and commit ---


def test_a_delivered_record_is_done_when_its_outcome_is_durable() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.hold(Publish)
    desk.answer("a", DELIVERED)
    desk.wait(0.5)
    assert all(commit.watermark == 0 for commit in desk.all_of(CommitOffsets))
    desk.release()
    desk.wait(0.1)
    assert desk.all_of(CommitOffsets)[-1].watermark == 1
    assert desk.said("a") == [OutcomeKind.DELIVERED]


def test_a_lane_advances_when_the_covering_commit_is_acked_and_others_do_not_wait() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"), (2, "c", "M"))
    assert desk.sent() == ["a", "c"]
    desk.hold(CommitOffsets)
    desk.answer("a", DELIVERED)
    desk.answer("c", DELIVERED)
    desk.arrive((3, "d", "N"))
    desk.wait(1.0)
    assert desk.sent() == ["a", "c", "d"]
    desk.release()
    assert desk.sent() == ["a", "c", "d", "b"]


def test_done_offsets_above_a_gap_stand_in_the_bitmap() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"), (2, "c", "N"))
    desk.answer("c", DELIVERED)
    desk.wait(0.1)
    commit = desk.all_of(CommitOffsets)[-1]
    assert (commit.watermark, commit.metadata) == (0, "1:1:u:BA")
    desk.answer("a", DELIVERED)
    desk.wait(0.1)
    commit = desk.all_of(CommitOffsets)[-1]
    assert (commit.watermark, commit.metadata) == (1, "1:1:u:Ag")


def test_commits_are_grouped() -> None:
    desk = Desk(Pace(concurrency=16)).live()
    desk.arrive(*((i, f"e{i}", f"L{i}") for i in range(10)))
    before = len(desk.all_of(CommitOffsets))
    for i in range(10):
        desk.answer(f"e{i}", DELIVERED)
        desk.wait(0.001)
    desk.wait(0.05)
    assert len(desk.all_of(CommitOffsets)) == before + 1


def test_a_write_that_failed_is_asked_for_again() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.hold(Publish)
    desk.answer("a", DELIVERED)
    for _ in range(3):
        desk.do(desk.engine.failed(desk.waiting.pop().token, desk.now))
        desk.wait(6.0)
    assert len(set(desk.all_of(Publish))) == 1
    assert len(desk.all_of(Publish)) == 4
    desk.release()
    desk.wait(0.1)
    assert desk.all_of(CommitOffsets)[-1].watermark == 1


# --- D3: the queue is its own memory ---


def test_a_second_copy_is_dropped() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "a", "L"))
    desk.answer("a", DELIVERED)
    desk.wait(0.1)
    assert desk.sent() == ["a"]
    assert desk.all_of(CommitOffsets)[-1].watermark == 2


def test_a_copy_of_a_record_read_back_is_dropped() -> None:
    desk = Desk().live(Committed(5, "1:1:u:"), seen=[(3, "a"), (4, "b")])
    desk.arrive((5, "a", "L"), (6, "c", "L"))
    desk.wait(0.1)
    assert desk.sent() == ["c"]


def test_it_reads_back_an_hour_and_ten_thousand_records_from_the_watermark() -> None:
    desk = Desk().live(Committed(50_000, "1:1:u:"))
    assert desk.all_of(ReadBack) == [ReadBack(50_000, 3600.0, 10_000)]


# --- F3: the lease ---


def test_a_ticket_may_be_used_once() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    ticket = desk.open_send("a").ticket
    assert desk.engine.may_send(ticket, desk.now)
    assert not desk.engine.may_send(ticket, desk.now)
    assert not desk.engine.may_send(999, desk.now)


def test_the_lease_counts_from_the_start_of_the_last_successful_commit() -> None:
    desk = Desk().live()
    desk.hold(CommitOffsets)
    desk.wait(1.5)
    began = desk.now - 0.5
    commit = desk.waiting.pop()
    desk.now += 2.0
    desk.engine.commit_acked(commit.token, desk.now)
    desk.arrive((0, "a", "L"))
    ticket = desk.open_send("a").ticket
    assert not desk.engine.may_send(ticket, began + PACE.lease + 0.01)


def test_without_lease_nothing_is_sent_and_with_it_the_lane_goes_on() -> None:
    desk = Desk().live()
    desk.hold(CommitOffsets)
    desk.wait(PACE.lease + 0.1)
    desk.arrive((0, "a", "L"))
    assert desk.sent() == []
    desk.release()
    desk.wait(1.1)
    assert desk.sent() == ["a"]


def test_a_refused_commit_does_not_renew_the_lease_and_is_sent_again() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"))
    desk.hold(CommitOffsets)
    desk.answer("a", DELIVERED)
    end = desk.now + PACE.lease
    while desk.now < end + 0.5:
        desk.wait(0.05)
        while desk.waiting:
            desk.do(desk.engine.commit_refused(desk.waiting.pop().token, desk.now))
    assert desk.sent() == ["a"]
    desk.release()
    desk.wait(0.3)
    assert desk.sent() == ["a", "b"]


def test_a_withheld_ticket_goes_back_into_its_lane() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    assert not desk.engine.may_send(desk.open_send("a").ticket, desk.now + PACE.lease + 1)
    desk.wait(1.1)
    assert desk.sent() == ["a", "a"]
    desk.answer("a", DELIVERED)
    assert desk.said("a") == [OutcomeKind.DELIVERED]


def test_a_silent_poll_loop_ends_the_lease_however_fresh_the_commit() -> None:
    desk = Desk(Pace(poll_silence=3.0)).live()
    desk.arrive((0, "a", "L"))
    for _ in range(4):
        desk.now += 1.0
        desk.do(desk.engine.tick(desk.now))
    assert not desk.engine.may_send(desk.open_send("a").ticket, desk.now)
    desk.engine.polled(desk.now)
    desk.do(desk.engine.tick(desk.now))
    assert desk.engine.may_send(desk.open_send("a").ticket, desk.now)


def test_nothing_is_sent_or_written_after_a_revoke() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "M"))
    tickets = [send.ticket for send in desk.sends()]
    assert desk.engine.may_send(tickets[0], desk.now)
    assert desk.engine.revoked(desk.now) == []
    assert not desk.engine.may_send(tickets[1], desk.now)
    before = len(desk.log)
    assert desk.engine.answered(tickets[0], Verdict(DELIVERED), desk.now) == []
    assert desk.engine.tick(desk.now + 5) == []
    assert len(desk.log) == before


# --- F4: handing over ---


def test_a_quiet_owner_hands_over_clean() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.answer("a", DELIVERED)
    desk.do(desk.engine.drain(desk.now + 2, desk.now))
    last = desk.all_of(CommitOffsets)[-1]
    assert (last.watermark, last.metadata, last.last) == (1, "1:1:c:", True)
    assert desk.all_of(Drained) == [Drained(clean=True)]


def test_a_request_under_way_at_the_deadline_makes_it_unclean() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    assert desk.engine.may_send(desk.open_send("a").ticket, desk.now)
    desk.do(desk.engine.drain(desk.now + 2, desk.now))
    desk.wait(1.9)
    assert not desk.all_of(Drained)
    desk.wait(0.2)
    assert desk.all_of(CommitOffsets)[-1].metadata == "1:1:u:"
    assert desk.all_of(Drained) == [Drained(clean=False)]


def test_a_try_without_an_answer_makes_it_unclean_even_when_its_record_is_delivered() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.answer("a", NO_ANSWER)
    desk.wait_for_send("a")
    desk.answer("a", DELIVERED)
    desk.do(desk.engine.drain(desk.now + 2, desk.now))
    assert desk.all_of(Drained) == [Drained(clean=False)]


def test_its_own_wait_after_an_unclean_take_over_must_be_over() -> None:
    desk = Desk().live(Committed(0, "1:3:u:"))
    desk.do(desk.engine.drain(desk.now + 2, desk.now))
    assert desk.all_of(Drained) == [Drained(clean=False)]
    patient = Desk().live(Committed(0, "1:3:u:"))
    patient.wait(PACE.request_timeout)
    patient.do(patient.engine.drain(patient.now + 2, patient.now))
    assert patient.all_of(Drained) == [Drained(clean=True)]


def test_nothing_is_sent_once_it_hands_over() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"))
    desk.do(desk.engine.drain(desk.now + 2, desk.now))
    assert not desk.engine.may_send(desk.open_send("a").ticket, desk.now)
    desk.arrive((1, "b", "M"))
    desk.wait(3.0)
    assert desk.sent() == ["a"]
    assert desk.all_of(Drained) == [Drained(clean=True)]


def test_a_failure_that_comes_back_while_handing_over_is_written_down() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (1, "b", "L"))
    send = desk.open_send("a")
    assert desk.engine.may_send(send.ticket, desk.now)
    desk.do(desk.engine.drain(desk.now + 5, desk.now))
    desk.do(desk.engine.answered(send.ticket, Verdict(FAILED), desk.now))
    assert [insert.row.event_id for insert in desk.all_of(InsertRow)] == ["a"]
    assert desk.all_of(CommitOffsets)[-1].metadata == "1:1:c:"
    assert desk.all_of(CommitOffsets)[-1].watermark == 1


def test_an_owner_that_never_committed_leaves_without_a_commit() -> None:
    desk = Desk()
    desk.hold(CommitOffsets)
    desk.live(Committed(3, "1:4:c:"))
    desk.do(desk.engine.drain(desk.now + 2, desk.now))
    assert desk.log[-1] == Drained(clean=False)
    assert len(desk.all_of(CommitOffsets)) == 1


# --- bounds ---


def test_the_window_is_bounded_and_its_metadata_fits() -> None:
    desk = Desk(Pace(concurrency=WINDOW)).live()
    size = WINDOW - FETCH_RESERVE
    desk.arrive(*((i, f"e{i}", f"L{i}") for i in range(size - 1)))
    assert not desk.all_of(PauseFetch)
    desk.arrive((size - 1, "x", "X"))
    assert desk.all_of(PauseFetch) == [PauseFetch("window")]
    # What was fetched before the pause still comes, up to the hard bound.
    desk.arrive(*((i, f"e{i}", f"L{i}") for i in range(size, WINDOW)))
    assert desk.engine.room() == 0
    with pytest.raises(ValueError, match="beyond the window"):
        desk.arrive((WINDOW, "y", "Y"))
    for i in range(1, WINDOW, 2):
        if i != size - 1:
            desk.answer(f"e{i}", DELIVERED)
    desk.wait(0.1)
    assert 600 < len(desk.all_of(CommitOffsets)[-1].metadata) <= METADATA_CAP


def test_fetching_goes_on_when_half_the_window_is_free() -> None:
    desk = Desk(Pace(concurrency=WINDOW)).live()
    size = WINDOW - FETCH_RESERVE
    desk.arrive(*((i, f"e{i}", f"L{i}") for i in range(size)))
    resumed = len(desk.all_of(ResumeFetch))
    for i in range(size // 2):
        desk.answer(f"e{i}", DELIVERED)
    assert len(desk.all_of(ResumeFetch)) == resumed
    desk.answer(f"e{size // 2}", DELIVERED)
    assert len(desk.all_of(ResumeFetch)) == resumed + 1


def test_memory_is_bounded_by_bytes_too() -> None:
    desk = Desk(Pace(held_bytes=1000)).live()
    desk.do(desk.engine.arrived(0, "a", "L", 0.0, desk.now, 600))
    assert not desk.all_of(PauseFetch)
    desk.do(desk.engine.arrived(1, "b", "M", 0.0, desk.now, 600))
    assert desk.all_of(PauseFetch) == [PauseFetch("memory")]
    desk.answer("a", DELIVERED)
    desk.answer("b", DELIVERED)
    assert isinstance(
        [e for e in desk.log if isinstance(e, PauseFetch | ResumeFetch)][-1], ResumeFetch
    )


def test_a_sick_destination_leaves_the_rest_in_the_log() -> None:
    desk = Desk().live()
    desk.arrive((0, "e0", "L0"))
    desk.answer("e0", VerdictKind.NOT_SENT)
    desk.arrive(*((i, f"e{i}", f"L{i}") for i in range(1, HELD_WHILE_SICK)))
    assert desk.all_of(PauseFetch) == [PauseFetch("sick")]


def test_records_out_of_order_are_refused() -> None:
    desk = Desk().live()
    desk.arrive((3, "a", "L"))
    with pytest.raises(ValueError, match="taken before"):
        desk.arrive((3, "a", "L"))


def test_offsets_that_the_log_skips_count_as_done() -> None:
    desk = Desk().live()
    desk.arrive((0, "a", "L"), (4, "b", "M"))
    desk.answer("a", DELIVERED)
    desk.answer("b", DELIVERED)
    desk.wait(0.1)
    assert desk.all_of(CommitOffsets)[-1].watermark == 5


def test_nothing_of_a_finished_lane_stays_in_memory() -> None:
    desk = Desk().live()
    for i in range(50):
        desk.arrive((i, f"e{i}", f"L{i}"))
        desk.answer(f"e{i}", DELIVERED)
    desk.wait(0.1)
    lanes = desk.engine.lanes
    left = [lanes._lanes, lanes._tickets, lanes._rows, lanes._ready, lanes._timers]
    assert [*left, desk.engine._held, desk.engine._fresh] == [{}, {}, {}, {}, [], {}, []]
    assert desk.engine._held_bytes == 0
    assert isinstance(desk.log[0], CommitOffsets)
    assert len(desk.all_of(Send)) == 50
