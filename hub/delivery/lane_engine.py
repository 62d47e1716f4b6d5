"""The lanes of one queue: whose turn it is, and how a result is written down.

It walks the tables of `states` and knows nothing of ownership, lease or commits: `engine` says
when sending is allowed and which records an acked commit covers, and hears which are done.
"""

import heapq
import random
from collections.abc import Callable, Iterable
from functools import partial

from hub.connector import Verdict
from hub.delivery import states
from hub.delivery.effects import Command, CommandKind, Pace, ParkReason, Row
from hub.delivery.health import Health
from hub.delivery.judge import Judge
from hub.delivery.lanes import Delivery, Lane, LogRecord, ParkedRow, Result, Ticket
from hub.delivery.outbox import Outbox
from hub.delivery.states import Do, LaneEvent, RecordEvent, RowEvent, step
from hub.delivery.writer import Writer
from hub.outcome import OutcomeKind
from hub.outcome.fold import SKIPPED


class LaneEngine:
    """`on_done` is called with each record that has become done, in the sense of D1."""

    def __init__(
        self,
        pace: Pace,
        rng: random.Random,
        outbox: Outbox,
        on_done: Callable[[LogRecord], None],
    ) -> None:
        self._pace = pace
        self._outbox = outbox
        self._on_done = on_done
        self.writer = Writer(outbox)
        self.holding = False
        """Handing over: nothing new is begun, what is under way is written down."""
        self.health = Health(pace, rng)
        self.judge = Judge(pace, rng, self.health)
        self._lanes: dict[str, Lane] = {}
        self._rows: dict[str, ParkedRow] = {}
        self._ready: dict[str, Lane] = {}
        """Lanes that may send, longest waiting first."""
        self._tickets: dict[int, Ticket] = {}
        self._timers: list[tuple[float, int, Lane, Delivery]] = []
        self._early: dict[str, list[Command]] = {}
        """Commands for a row whose insert is under way."""
        self._lane_does: dict[Do, Callable[[Lane], None]] = {
            Do.TAKE_RECORD: self._take_record,
            Do.START_ROUND: self._start_round,
            Do.SEND: self._send,
            Do.SEND_AGAIN_LATER: self._wait_due,
            Do.WAIT_OUT: self._wait_due,
            Do.SAY_WAITING: self._say_waiting,
            Do.CLOSE: self._close,
            Do.PARK: self._park,
            Do.SKIP: self._skip,
            Do.CHOOSE: self._choose,
        }
        self._record_does: dict[Do, Callable[[LogRecord], None]] = {
            Do.TELL_FINAL: self._tell_of_record,
            Do.TELL_PARKED: self._tell_of_record,
            Do.INSERT_ROW: self._insert_row,
            Do.ADD_ROW: self._add_row,
            Do.MARK_DONE: self._mark_done,
            Do.ADVANCE: self._advance,
        }
        self._row_does: dict[Do, Callable[[ParkedRow], None]] = {
            Do.TELL_FINAL: self._tell_of_row,
            Do.TELL_PARKED: self._tell_of_row,
            Do.DELETE_ROW: self._delete_row,
            Do.MARK_ROW: self._mark_row,
            Do.DROP_ROW: self._drop_row,
            Do.HOLD_ROW: self._hold_row,
        }

    # --- the tables ---

    def _fire(self, lane: Lane, event: LaneEvent) -> None:
        lane.state, does = step(states.LANE, lane.state, event)
        if lane.state is states.Lane.READY:
            self._ready[lane.ref] = lane
        else:
            self._ready.pop(lane.ref, None)
        for do in does:
            self._lane_does[do](lane)

    def _fire_record(self, record: LogRecord, event: RecordEvent) -> None:
        record.state, does = step(states.RECORD, record.state, event)
        for do in does:
            self._record_does[do](record)

    def _fire_row(self, row: ParkedRow, event: RowEvent) -> None:
        row.state, does = step(states.ROW, row.state, event)
        for do in does:
            self._row_does[do](row)

    # --- what comes in ---

    def load(self, rows: Iterable[Row], is_covered: Callable[[int], bool]) -> None:
        """The rows that stand parked at take-over; `is_covered`: by an acked commit."""
        for row in rows:
            parked = ParkedRow.of(row, covered=is_covered(row.offset))
            self._rows[row.event_id] = parked
            self._lane(row.lane).add_row(parked)

    def go(self) -> None:
        """Everything is known; lanes may move."""
        for lane in list(self._lanes.values()):
            self._choose(lane)

    def take(self, record: LogRecord, *, copy: bool) -> None:
        """A record not done yet. `copy`: the same id stands at a lower offset."""
        lane = self._lane(record.lane)
        if copy:
            lane.unsettled += 1
            self._fire_record(record, RecordEvent.COPY)
            return
        lane.queue.append(record)
        self._insert_next(lane)
        if lane.state is states.Lane.IDLE:
            self._choose(lane)

    def covered(self, records: Iterable[LogRecord]) -> None:
        """A commit that says that they are done is acked."""
        for record in records:
            self._fire_record(record, RecordEvent.COVERED)

    def command(self, command: Command) -> None:
        """Failure policy: what cannot be done is closed with the reason, so that none hangs."""
        row = self._rows.get(command.event_id)
        if row is not None:
            lane = self._lanes[row.lane]
            lane.commands.append(command)
            self._obey(lane)
        elif command.event_id in self._early:
            self._early[command.event_id].append(command)
        else:
            self.writer.refuse(command, "no parked record has this event id")

    def drop(self) -> None:
        """We are out: answers that still come change nothing."""
        for held in (self._tickets, self._ready, self._timers, self._lanes, self._rows):
            held.clear()

    def tick(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _, _, lane, hand = heapq.heappop(self._timers)
            waits = lane.state in {states.Lane.BACKOFF, states.Lane.ASKING}
            if lane.hand is hand and waits and hand.due <= now:
                self._fire(lane, LaneEvent.DUE)

    def next_due(self) -> float:
        due = self._timers[0][0] if self._timers else float("inf")
        slots = self.in_flight < self._pace.concurrency
        if self._ready and slots and self.health.state is states.Destination.SICK:
            return min(due, self.health.until)
        return due

    # --- sending ---

    @property
    def in_flight(self) -> int:
        return len(self._tickets)

    def pump(self, now: float) -> None:
        """Begin what may begin, longest waiting lane first; so probes rotate lanes."""
        while self._ready and self.in_flight < self._pace.concurrency and self.health.lets_go(now):
            self._fire(next(iter(self._ready.values())), LaneEvent.SEND)

    def sending(self, ticket: int, now: float) -> bool:
        """It is about to go on the wire. False: not awaited, or asked before."""
        found = self._tickets.get(ticket)
        if found is None or found.sent_at is not None:
            return False
        found.sent_at = now
        return True

    def withhold(self, ticket: int, now: float) -> None:
        """It did not go on the wire and will not."""
        found = self._tickets.get(ticket)
        if found is not None and found.sent_at is None:
            del self._tickets[ticket]
            self.health.not_asked(ticket, now)
            self._fire(found.lane, LaneEvent.WITHHELD)

    def answered(self, ticket: int, verdict: Verdict, now: float) -> None:
        found = self._tickets.pop(ticket, None)
        if found is not None:
            sent_at = now if found.sent_at is None else found.sent_at
            lane, hand = found.lane, found.hand
            self._fire(lane, self.judge.answer(ticket, lane.ref, hand, verdict, sent_at, now))

    def mapping_failed(self, ticket: int, text: str, now: float) -> None:
        found = self._tickets.pop(ticket, None)
        if found is not None:
            self._fire(found.lane, self.judge.not_mapped(ticket, found.hand, text, now))

    def key_store_away(self, ticket: int, now: float) -> None:
        found = self._tickets.pop(ticket, None)
        if found is not None:
            self._fire(found.lane, self.judge.key_store_away(ticket, found.hand, now))

    def erased(self, ticket: int, now: float) -> None:
        found = self._tickets.pop(ticket, None)
        if found is not None:
            self._fire(found.lane, self.judge.erased(ticket, found.hand, now))

    # --- whose turn it is ---

    def _lane(self, ref: str) -> Lane:
        return self._lanes.setdefault(ref, Lane(ref))

    def _choose(self, lane: Lane) -> None:
        if self.holding:
            return
        upcoming = lane.upcoming()
        if upcoming is not None:
            self._fire(lane, upcoming)
            if lane.state is states.Lane.PARKED:
                self._obey(lane)
        elif lane.empty:
            self._lanes.pop(lane.ref, None)

    def _moved(self, lane: Lane) -> None:
        """Something that a settling lane may wait for has happened."""
        if lane.state is states.Lane.SETTLING and lane.hand is None:
            self._fire(lane, LaneEvent.SETTLED)

    def _take_record(self, lane: Lane) -> None:
        record = lane.queue.popleft()
        lane.unsettled += 1
        self._fire_record(record, RecordEvent.CHOSEN)
        lane.hand = Delivery(record, record.attempt, self.health.wells_before)
        if not record.usable:
            record.result = Result(OutcomeKind.PARKED, ParkReason.RECORD, "unusable")
            self._fire(lane, LaneEvent.UNUSABLE)

    def _start_round(self, lane: Lane) -> None:
        row = lane.rows[0]
        self._fire_row(row, RowEvent.CHOSEN)
        hand = Delivery(row, row.attempt + 1, self.health.wells_before)
        hand.doubt_until = row.doubt_until
        lane.hand = hand
        self.writer.tell(row, Result(OutcomeKind.RESUMED), hand.attempt)

    def _send(self, lane: Lane) -> None:
        hand = lane.hand
        assert hand is not None
        ticket = self._outbox.number()
        self._tickets[ticket] = Ticket(lane, hand)
        self.health.sent(ticket)
        self.writer.send(ticket, hand)

    def _wait_due(self, lane: Lane) -> None:
        hand = lane.hand
        assert hand is not None
        heapq.heappush(self._timers, (hand.due, self._outbox.number(), lane, hand))

    def _say_waiting(self, lane: Lane) -> None:
        """Once per sickness and delivery: more would tell the citizen nothing new."""
        hand = lane.hand
        assert hand is not None
        if hand.told_sickness != self.health.sickness:
            hand.told_sickness = self.health.sickness
            self.writer.tell(hand.source, hand.source.result, hand.attempt)

    # --- how a result is written down ---

    def _close(self, lane: Lane) -> None:
        assert lane.hand is not None
        source = lane.hand.source
        if isinstance(source, LogRecord):
            self._fire_record(source, RecordEvent.FINAL)
        else:
            self._fire_row(source, RowEvent.FINAL)

    def _park(self, lane: Lane) -> None:
        assert lane.hand is not None
        source = lane.hand.source
        if isinstance(source, LogRecord):
            lane.inserting = source
            self._fire_record(source, RecordEvent.FAILED)
        else:
            self._fire_row(source, RowEvent.FAILED)

    def _skip(self, lane: Lane) -> None:
        row = lane.rows[0]
        row.result = Result(OutcomeKind.REJECTED, ParkReason.OPERATOR, SKIPPED)
        lane.hand = Delivery(row, row.attempt, self.health.wells_before)
        self._fire_row(row, RowEvent.FINAL)

    def _tell_of_record(self, record: LogRecord) -> None:
        written = partial(self._fire_record, record, RecordEvent.WRITTEN)
        self.writer.publish(record, record.attempt, written)

    def _insert_next(self, lane: Lane) -> None:
        """Records of a parked lane follow into `parked`, one at a time (S5)."""
        while lane.parked and lane.inserting is None and lane.queue and not self.holding:
            record = lane.queue.popleft()
            lane.unsettled += 1
            row = self._rows.get(record.event_id)
            if row is None:
                lane.inserting = record
                self._fire_record(record, RecordEvent.LANE_PARKED)
            else:
                record.attempt = row.attempt
                record.result = Result(OutcomeKind.PARKED, row.reason, row.result.code)
                self._fire_record(record, RecordEvent.STANDS_PARKED)

    def _insert_row(self, record: LogRecord) -> None:
        self._early[record.event_id] = []
        self.writer.insert(record, partial(self._fire_record, record, RecordEvent.WRITTEN))

    def _add_row(self, record: LogRecord) -> None:
        lane = self._lanes[record.lane]
        row = ParkedRow(
            record.event_id,
            record.offset,
            record.lane,
            record.attempt,
            record.result.reason,
            record.usable,
            result=record.result,
        )
        if lane.hand is not None and lane.hand.source is record:
            row.doubt_until = lane.hand.doubt_until
        self._rows[row.event_id] = row
        lane.add_row(row)
        lane.inserting = None
        lane.commands.extend(self._early.pop(record.event_id))
        self._insert_next(lane)
        self._obey(lane)

    def _mark_done(self, record: LogRecord) -> None:
        lane = self._lanes[record.lane]
        if lane.hand is not None and lane.hand.source is record:
            lane.hand = None
        self._on_done(record)

    def _advance(self, record: LogRecord) -> None:
        lane = self._lanes[record.lane]
        lane.unsettled -= 1
        row = self._rows.get(record.event_id)
        if row is not None and row.offset == record.offset:
            row.covered = True
        self._moved(lane)
        if lane.state is states.Lane.IDLE:
            self._choose(lane)

    def _tell_of_row(self, row: ParkedRow) -> None:
        hand = self._lanes[row.lane].hand
        assert hand is not None
        written = partial(self._fire_row, row, RowEvent.WRITTEN)
        self.writer.publish(row, hand.attempt, written)

    def _delete_row(self, row: ParkedRow) -> None:
        gone = partial(self._fire_row, row, RowEvent.WRITTEN)
        self._outbox.after_news(row.event_id, partial(self.writer.delete, row, gone))

    def _drop_row(self, row: ParkedRow) -> None:
        lane = self._lanes[row.lane]
        del self._rows[row.event_id]
        lane.rows.remove(row)
        lane.hand = None
        self._obey(lane)
        self._moved(lane)

    def _mark_row(self, row: ParkedRow) -> None:
        hand = self._lanes[row.lane].hand
        assert hand is not None
        written = partial(self._fire_row, row, RowEvent.WRITTEN)
        self.writer.mark(row, hand.attempt, written)

    def _hold_row(self, row: ParkedRow) -> None:
        lane = self._lanes[row.lane]
        assert lane.hand is not None
        row.reason = row.result.reason
        row.attempt = lane.hand.attempt
        row.doubt_until = lane.hand.doubt_until
        row.commands = []
        lane.hand = None
        self._moved(lane)

    # --- what operators order ---

    def _obey(self, lane: Lane) -> None:
        while lane.commands and not self.holding:
            command = lane.commands[0]
            row = self._rows.get(command.event_id)
            refusal = lane.refusal(row, command)
            if refusal:
                self.writer.refuse(command, refusal)
            elif not self._obeyed(lane, command):
                return
            lane.commands.popleft()

    def _obeyed(self, lane: Lane, command: Command) -> bool:
        """False: not now; it is taken up again when the row has come to rest."""
        row = lane.rows[0]
        if lane.state is states.Lane.PARKED:
            row.commands.append(command.command_id)
            resend = command.kind is CommandKind.RESEND
            self._fire(lane, LaneEvent.RESEND if resend else LaneEvent.SKIP)
            return True
        goes = row.state is states.Row.HEAD or (row.state is states.Row.WAITING and not row.reason)
        if command.kind is CommandKind.RESEND and goes:
            row.commands.append(command.command_id)
            return True
        return False
