"""The delivery engine of one queue: ownership, lease, commits. Pure; the lanes are LaneEngine's.

The shell owns sockets, threads and the clock. It calls an input, begins the effects that come
back in their order, and reports each one's end. Not thread-safe: one caller at a time, except
`may_send`, which has no effects but must still not run beside another input.
"""

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from hub.connector import Verdict
from hub.delivery.effects import (
    Command,
    CommitOffsets,
    Committed,
    Drained,
    Effect,
    Forget,
    Pace,
    PauseFetch,
    ReadBack,
    ReadParked,
    ResumeFetch,
    Row,
    SetEpoch,
    Stop,
)
from hub.delivery.lane_engine import LaneEngine
from hub.delivery.lanes import LogRecord
from hub.delivery.outbox import Outbox
from hub.delivery.progress import (
    FETCH_RESERVE,
    READ_BACK_RECORDS,
    READ_BACK_SECONDS,
    WINDOW,
    Mark,
    Progress,
    SeenIds,
    read_metadata,
    write_metadata,
)
from hub.delivery.states import OWNER, Destination, Do, Owner, OwnerEvent, step

HELD_WHILE_SICK: Final = 64
"""Records kept of a sick destination: enough lanes to rotate probes; the log holds the others."""
_COMMIT_AGAIN: Final = 0.1
_NEVER: Final = float("inf")


@dataclass(slots=True)
class _Commit:
    token: int
    started: float
    covers: list[LogRecord]
    clean: bool = False
    last: bool = False


class QueueEngine:
    """See README.md for when to call what. `queue` is named in errors only.

    Failure policy: what the tables do not know raises NoSuchTransition. The shell lets go of the
    queue then; the next owner starts from what is durable.
    """

    lane_engine: ClassVar[type[LaneEngine]] = LaneEngine

    def __init__(self, queue: str, pace: Pace, rng: random.Random) -> None:
        self._queue = queue
        self._pace = pace
        self._outbox = Outbox(rng)
        self.lanes = self.lane_engine(pace, rng, self._outbox, self._done)
        self.state = Owner.CLAIMING
        self.epoch = 0
        self._progress = Progress(0)
        self._seen = SeenIds()
        self._held: dict[int, LogRecord] = {}
        """By offset: taken and not done."""
        self._held_bytes = 0
        self._fresh: list[LogRecord] = []
        """Done, in no commit yet."""
        self._dirty = False
        """The next commit is set for what is fresh, not only for the lease."""
        self._commit: _Commit | None = None
        self._commit_at = _NEVER
        self._lease_until = -_NEVER
        self._polled_at = 0.0
        self._fetching = False
        self._leave_by = _NEVER
        self._rows: list[Row] = []
        self._orders: deque[Command] = deque()
        """Told, not yet passed on: they wait for the lease."""
        self._orders_seen: set[int] = set()
        self._newest_append = 0.0
        self._handed_over_clean = False
        self._does = {
            Do.SET_EPOCH: self._set_epoch,
            Do.READ_PARKED: self._read_parked,
            Do.READ_BACK: self._read_back,
            Do.GO_LIVE: self.lanes.go,
            Do.HOLD: self._hold,
            Do.LAST_COMMIT: self._commit_now,
            Do.SAY_DRAINED: self._say_drained,
            Do.DROP_ALL: self._drop_all,
        }

    def _fire(self, event: OwnerEvent) -> None:
        self.state, does = step(OWNER, self.state, event)
        for do in does:
            self._does[do]()

    # --- taking over (F2) ---

    def take_over(self, committed: Committed | None, log_start: int, now: float) -> list[Effect]:
        """The queue is ours. D4: without a usable committed offset nothing is guessed."""
        self._polled_at = now
        try:
            mark = self._mark(committed, log_start)
        except ValueError as bad:
            self._fire(OwnerEvent.UNREADABLE)
            return [Stop(f"{self._queue}: {bad}")]
        self._progress = Progress(committed.watermark if committed else 0, mark.bits)
        self.epoch = mark.epoch + 1
        self.lanes.writer.epoch = self.epoch
        if not mark.clean:
            self.lanes.judge.unclean_until = now + self._pace.request_timeout
        self._commit_at = now
        return self._flush(now)

    @staticmethod
    def _mark(committed: Committed | None, log_start: int) -> Mark:
        if committed is None:
            if log_start > 0:
                raise ValueError(
                    f"no committed offset, yet the log starts at {log_start}: group offsets have "
                    "expired or were deleted; set it to the first undelivered record by hand"
                )
            return Mark(0, clean=True, bits=0)
        if committed.watermark < log_start:
            raise ValueError(
                f"offset {committed.watermark} is committed, yet the log starts at {log_start}: "
                "undelivered records were deleted; find them in `requests`, then set the offset"
            )
        try:
            return read_metadata(committed.metadata)
        except ValueError as bad:
            raise ValueError(
                f"{bad} (offset {committed.watermark}): something else commits in our group; "
                "find out what, then set offset and metadata by hand"
            ) from None

    def parked_read(self, token: int, rows: Iterable[Row], now: float) -> list[Effect]:
        self._rows = list(rows)
        return self.durable(token, now)

    def seen(self, offset: int, event_id: str, appended_at: float) -> None:
        """A record before the watermark, read back (D3)."""
        if self.state is Owner.READING_BACK:
            self._seen.add(offset, appended_at, event_id)

    def read_back_done(self, now: float) -> list[Effect]:
        if self.state is Owner.READING_BACK:
            self._fire(OwnerEvent.READ_BACK)
        return self._flush(now)

    # --- the log ---

    def room(self) -> int:
        """How many offsets more may be taken; a hard bound, unlike PauseFetch."""
        return WINDOW - self._progress.span if self.state is Owner.LIVE else 0

    def arrived(
        self,
        offset: int,
        event_id: str,
        lane: str,
        appended_at: float,
        now: float,
        size: int = 0,
    ) -> list[Effect]:
        """The next record of the log. Raises ValueError out of order or beyond `room`."""
        return self._take(LogRecord(event_id, offset, lane, appended_at, size), now)

    def unusable(
        self,
        offset: int,
        event_id: str,
        lane: str,
        appended_at: float,
        now: float,
        size: int = 0,
    ) -> list[Effect]:
        """Queue bytes that cannot be decoded: parked in their lane, so that the rest flows."""
        record = LogRecord(event_id, offset, lane, appended_at, size, usable=False)
        return self._take(record, now)

    def _take(self, record: LogRecord, now: float) -> list[Effect]:
        if self.state is not Owner.LIVE:
            return []
        self._progress.take(record.offset)
        copy = record.event_id in self._seen
        self._seen.add(record.offset, record.appended_at, record.event_id)
        self._newest_append = record.appended_at
        if self._progress.is_done(record.offset):
            self._outbox.put(Forget(record.offset))
        else:
            self._held[record.offset] = record
            self._held_bytes += record.size
            self.lanes.take(record, copy=copy)
        return self._flush(now)

    def _done(self, record: LogRecord) -> None:
        del self._held[record.offset]
        self._held_bytes -= record.size
        self._progress.done(record.offset)
        self._fresh.append(record)
        self._outbox.put(Forget(record.offset))

    # --- sending ---

    def polled(self, now: float) -> None:
        self._polled_at = now

    def may_send(self, ticket: int, now: float) -> bool:
        """F3: the last statement before the socket. On False the ticket is void."""
        if self._leased(now) and self.lanes.sending(ticket, now):
            return True
        self.lanes.withhold(ticket, now)
        return False

    def _leased(self, now: float) -> bool:
        silent = now - self._polled_at > self._pace.poll_silence
        return self.state is Owner.LIVE and now < self._lease_until and not silent

    def answered(self, ticket: int, verdict: Verdict, now: float) -> list[Effect]:
        self.lanes.answered(ticket, verdict, now)
        return self._flush(now)

    def mapping_failed(self, ticket: int, text: str, now: float) -> list[Effect]:
        self.lanes.mapping_failed(ticket, text, now)
        return self._flush(now)

    def key_store_away(self, ticket: int, now: float) -> list[Effect]:
        """The queue pauses; no attempt is burnt."""
        self.lanes.key_store_away(ticket, now)
        return self._flush(now)

    def erased(self, ticket: int, now: float) -> list[Effect]:
        self.lanes.erased(ticket, now)
        return self._flush(now)

    # --- what became of effects ---

    def durable(self, token: int, now: float) -> list[Effect]:
        self._outbox.durable(token)
        return self._flush(now)

    def failed(self, token: int, now: float) -> list[Effect]:
        """Unknown or away: it is asked for again after a while."""
        self._outbox.failed(token, now)
        return self._flush(now)

    def fenced(self, now: float) -> list[Effect]:
        """The store has a later epoch: somebody else owns the queue."""
        return self.revoked(now)

    def commit_acked(self, token: int, now: float) -> list[Effect]:
        commit = self._commit
        if commit is None or commit.token != token:
            return []
        self._commit = None
        self._lease_until = commit.started + self._pace.lease
        self.lanes.covered(commit.covers)
        self._handed_over_clean = commit.clean
        if self.state is Owner.CLAIMING or commit.last:
            self._fire(OwnerEvent.COMMITTED)
        self._seen.forget_before(self._progress.watermark, self._oldest_append())
        return self._flush(now)

    def commit_refused(self, token: int, now: float) -> list[Effect]:
        """It does not renew the lease and is sent again (decision 1)."""
        commit = self._commit
        if commit is None or commit.token != token:
            return []
        self._commit = None
        self._fresh = commit.covers + self._fresh
        self._dirty = True
        self._commit_at = now + _COMMIT_AGAIN
        return self._flush(now)

    def _oldest_append(self) -> float:
        oldest = next(iter(self._held.values()), None)
        return oldest.appended_at if oldest else self._newest_append

    def command(self, command: Command, now: float) -> list[Effect]:
        """An open command, told in the order of ids: a skip that overtakes a resend which an
        earlier owner has half done would reject what was applied."""
        if command.command_id not in self._orders_seen:
            self._orders_seen.add(command.command_id)
            self._orders.append(command)
        return self._flush(now)

    # --- time and the end ---

    def tick(self, now: float) -> list[Effect]:
        self._outbox.tick(now)
        if self.state is Owner.LIVE:
            self.lanes.tick(now)
        return self._flush(now)

    def next_wakeup(self, now: float) -> float:
        """When to call `tick`; at most a second away, perhaps past already."""
        due = min(now + 1.0, self._outbox.next_due())
        if self._commit is None:
            due = min(due, self._commit_at)
        if self._leased(now):
            due = min(due, self.lanes.next_due())
        if self.state is Owner.DRAINING:
            due = min(due, self._leave_by, self._free_at() if self._quiet() else _NEVER)
        return due

    def drain(self, deadline: float, now: float) -> list[Effect]:
        """Hand over: begin nothing, write down what comes back, at most until `deadline`."""
        self._leave_by = deadline
        self._fire(OwnerEvent.DRAIN)
        return self._flush(now)

    def revoked(self, now: float) -> list[Effect]:
        """Ownership is over: by revoke, lost, a fatal commit error, or an older epoch."""
        self._fire(OwnerEvent.LOST)
        return self._flush(now)

    def _quiet(self) -> bool:
        return self.lanes.in_flight == 0 and self._outbox.awaited == 0

    def _free_at(self) -> float:
        """From then on nothing that this owner or one before it sent can be under way (F4)."""
        return max(self.lanes.judge.open_until, self.lanes.judge.unclean_until)

    def _emptied(self, now: float) -> bool:
        free_at = self._free_at()
        worth_waiting = now < free_at <= self._leave_by
        return now >= self._leave_by or (self._quiet() and not worth_waiting)

    # --- actions of the owner's table ---

    def _set_epoch(self) -> None:
        token = self._outbox.number()
        self._outbox.begin(SetEpoch(token, self.epoch), lambda: self._fire(OwnerEvent.EPOCH_SET))

    def _read_parked(self) -> None:
        token = self._outbox.number()
        self._outbox.begin(
            ReadParked(token, self.epoch), lambda: self._fire(OwnerEvent.PARKED_READ)
        )

    def _read_back(self) -> None:
        self.lanes.load(self._rows, self._progress.is_done)
        self._rows = []
        self._outbox.put(ReadBack(self._progress.watermark, READ_BACK_SECONDS, READ_BACK_RECORDS))

    def _hold(self) -> None:
        self.lanes.holding = True

    def _commit_now(self) -> None:
        self._commit_at = -_NEVER

    def _say_drained(self) -> None:
        self._drop_all()
        self._outbox.put(Drained(self._handed_over_clean))

    def _drop_all(self) -> None:
        self._outbox.drop()
        self.lanes.drop()
        self._commit = None
        self._commit_at = _NEVER
        self._held.clear()
        self._fresh.clear()

    # --- what follows every input ---

    def _flush(self, now: float) -> list[Effect]:
        if self.state in {Owner.GONE, Owner.STOPPED}:
            return self._outbox.collect()
        if self.state is Owner.DRAINING and self._emptied(now):
            self._fire(OwnerEvent.EMPTIED)
        if self._leased(now):
            while self._orders:
                self.lanes.command(self._orders.popleft())
            self.lanes.pump(now)
        self._commit_if_due(now)
        self._fetch()
        return self._outbox.collect()

    def _commit_if_due(self, now: float) -> None:
        if self._fresh and not self._dirty:
            self._dirty = True
            self._commit_at = min(self._commit_at, now + self._pace.commit_group)
        if self._commit is not None or now < self._commit_at:
            return
        last = self.state is Owner.LEAVING
        clean = last and self._quiet() and now >= self._free_at()
        commit = _Commit(self._outbox.number(), now, self._fresh, clean, last)
        self._commit, self._fresh, self._dirty = commit, [], False
        self._commit_at = now + self._pace.commit_every
        metadata = write_metadata(Mark(self.epoch, clean, self._progress.bits))
        self._outbox.put(CommitOffsets(commit.token, self._progress.watermark, metadata, last))

    def _fetch(self) -> None:
        why = self._enough()
        if why and self._fetching:
            self._outbox.put(PauseFetch(why))
        elif not why and not self._fetching and self.state is Owner.LIVE:
            self._outbox.put(ResumeFetch())
        else:
            return
        self._fetching = not why

    def _enough(self) -> str:
        """Why to take no more records; empty: go on. Half of a bound is free before it resumes."""
        share = 1.0 if self._fetching else 0.5
        sick = self.lanes.health.state is not Destination.WELL
        reasons = {
            "handing over": self.state is not Owner.LIVE,
            "window": self._progress.span >= share * (WINDOW - FETCH_RESERVE),
            "memory": self._held_bytes >= share * self._pace.held_bytes,
            "sick": sick and len(self._held) >= HELD_WHILE_SICK,
        }
        return next((why for why, holds in reasons.items() if holds), "")
