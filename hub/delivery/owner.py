"""The shell around one queue's engine: does the effects, and reports what became of each."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from hub.connector import MappingError, Verdict, VerdictKind
from hub.contract import OUTCOME, Contract
from hub.delivery.claims import Claim
from hub.delivery.effects import (
    CloseCommand,
    Command,
    CommitOffsets,
    DeleteRow,
    Drained,
    Effect,
    Forget,
    InsertRow,
    MarkRow,
    PauseFetch,
    Publish,
    ReadBack,
    ReadParked,
    ResumeFetch,
    Send,
    SetEpoch,
    Stop,
)
from hub.delivery.engine import QueueEngine
from hub.delivery.listener import Commit, CommitResult, Taken
from hub.delivery.outbox import Write
from hub.delivery.sender import Line, Sender
from hub.delivery.store import DeliveryStore
from hub.errors import Away, Erased, Fenced, Poison
from hub.event import Envelope
from hub.faults import Faults
from hub.outcome import FINAL, Outcome
from hub.telemetry import logger
from hub.topics import OUTCOMES, QueueName

_UNUSABLE: Final = uuid.UUID("5f0a8a52-7d0c-4b57-9f0e-0c1f6f0a4d11")
_EARLY_RECORDS: Final = 100
_OVERHEAD_BYTES: Final = 2_000
"""What a held record costs beside its bytes, roughly."""

Now = Callable[[], float]


class Reading(Protocol):
    """What an owner asks of the queue reader."""

    @property
    def last_poll(self) -> float: ...

    def owns(self, queue_name: QueueName) -> bool: ...

    def commit(self, commit: Commit) -> None: ...

    def resume(self, queue_name: QueueName) -> None: ...

    def pause(self, queue_name: QueueName) -> None: ...


class Producing(Protocol):
    """What an owner asks of a producer."""

    def send(self, topic: str, key: bytes, value: bytes) -> Awaitable[object]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all owners of a process share."""

    reader: Reading
    store: DeliveryStore
    sender: Sender
    producer: Producing
    contract: Contract
    faults: Faults
    now: Now
    fail: Callable[[BaseException], None]
    """A bug: this process must end, and the next starts from what is durable."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A record taken and not done; no envelope: its bytes cannot be decoded."""

    record: bytes
    envelope: Envelope | None


class QueueOwner:
    """One queue while it is ours. Every method runs in the event loop."""

    def __init__(self, claim: Claim, line: Line, engine: QueueEngine, around: Surroundings) -> None:
        self.queue = claim.queue
        self.name = str(claim.queue)
        self.watermark = claim.committed.watermark if claim.committed else 0
        """Last committed."""
        self.drained = asyncio.Event()
        """Set when nothing more will be committed: handed over, lost, or stopped."""
        self._claim = claim
        self._line = line
        self._engine = engine
        self._around = around
        self._held: dict[int, _Held] = {}
        self._next_offset = claim.read_from
        self._early: list[Taken] | None = []
        """Records that came before the engine wanted any. Not pausing until then saves a second:
        librdkafka looks so rarely for partitions that were resumed."""
        self._back_to: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._marked: tuple[int, str] | None = None
        self._live = False

    # --- what comes in ------------------------------------------------------------------------

    def start(self) -> None:
        """Take over. Nothing is sent before the engine has fenced off every earlier owner."""
        now = self._around.now()
        claim = self._claim
        if self.watermark > claim.bounds.end:
            self._stop(f"{claim.damage}: records that were there are gone; restore the broker")
            return
        self._do(self._engine.take_over(claim.committed, claim.bounds.start, now))

    def taken(self, record: Taken) -> None:
        """The next record, from `read_from` on."""
        if self._early is None:
            self._take(record)
            return
        self._early.append(record)
        if len(self._early) == _EARLY_RECORDS:
            self._around.reader.pause(self.queue)

    def _take(self, record: Taken) -> None:
        if self._over or record.offset < self._next_offset:
            return  # Fetched again after a pause.
        if record.offset != self._next_offset:
            # Counting what is missing as done would lose it, and no retry brings it back.
            self._stop(f"offset {self._next_offset} is missing from the log; restart the worker")
            return
        self._next_offset += 1
        if self._back_to is not None and record.offset < self._back_to:
            self._engine.seen(record.offset, self._read(record)[0], record.appended_at)
            self._read_back()
        else:
            self._arrived(record)

    def committed(self, commit: Commit, result: CommitResult) -> None:
        now = self._around.now()
        if result is CommitResult.OVER:
            self.lost()
        elif result is CommitResult.REFUSED:
            self._do(self._engine.commit_refused(commit.token, now))
        else:
            if self._news(commit) and self._live:
                self._around.faults.crash("delivery.after_commit")
            self._marked = (commit.watermark, commit.metadata)
            self.watermark = commit.watermark
            self._do(self._engine.commit_acked(commit.token, now))

    def command(self, command: Command) -> None:
        if not self._over:
            self._do(self._engine.command(command, self._around.now()))

    def drain(self, seconds: float) -> None:
        if not self._over:
            now = self._around.now()
            self._do(self._engine.drain(now + seconds, now))

    def lost(self) -> None:
        """Someone else's: nothing more is written; what is on the wire cannot be called back."""
        if not self._over:
            self._do(self._engine.revoked(self._around.now()))
            self._end()

    def damaged(self, problem: str) -> None:
        self._stop(f"{problem}: records were deleted that nobody has delivered; see design rule 10")

    def abandon(self) -> None:
        """Send, write and commit nothing more; what is durable stays true."""
        self._end()

    async def close(self) -> None:
        """End what is under way: only when the process ends, or nobody waits for it any more."""
        self._end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._line.close()

    # --- the log ------------------------------------------------------------------------------

    def _arrived(self, record: Taken) -> None:
        event_id, envelope = self._read(record)
        lane = record.key.decode("utf-8", "backslashreplace").replace("\0", "\\0")
        size = 2 * len(record.value) + _OVERHEAD_BYTES
        self._held[record.offset] = _Held(record.value, envelope)
        take = self._engine.unusable if envelope is None else self._engine.arrived
        now = self._around.now()
        effects = take(record.offset, event_id, lane, record.appended_at, now, size)
        self._around.faults.crash("delivery.after_intake")
        self._do(effects)

    def _read(self, record: Taken) -> tuple[str, Envelope | None]:
        try:
            envelope = self._around.sender.decode(record.value)
        except Poison as bad:
            logger().error("queue_record", queue=self.name, offset=record.offset, error=str(bad))
            # The same for every owner, so that it is parked once.
            return str(uuid.uuid5(_UNUSABLE, f"{self.queue.topic}|{record.offset}")), None
        return envelope.id, envelope

    def _begin_reading(self, watermark: int) -> None:
        self._back_to = watermark
        early, self._early = self._early or [], None
        self._around.reader.resume(self.queue)
        self._read_back()
        for record in early:
            self._take(record)

    def _read_back(self) -> None:
        """Live as soon as the last record before the watermark has been told."""
        if self._back_to is not None and self._next_offset >= self._back_to:
            self._back_to = None
            self._live = True
            self._do(self._engine.read_back_done(self._around.now()))

    # --- effects ------------------------------------------------------------------------------

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._begin(effect)
        self._set_timer()

    def _begin(self, effect: Effect) -> None:
        match effect:
            case CommitOffsets():
                self._commit(effect)
            case Send():
                self._spawn(self._attempt(effect, self._held.get(effect.offset)))
            case Forget(offset):
                self._held.pop(offset, None)
            case PauseFetch(why):
                logger().debug("fetch_paused", queue=self.name, reason=why)
                self._around.reader.pause(self.queue)
            case ResumeFetch():
                self._around.reader.resume(self.queue)
            case ReadBack(watermark):
                self._begin_reading(watermark)
            case Drained(clean):
                state = "clean" if clean else "unclean"
                logger().info("queue_handed_over", queue=self.name, state=state)
                self._end()
            case Stop(reason):
                self._stop(reason)
            case _:
                self._spawn(self._write(effect.token, self._work(effect)))

    def _commit(self, asked: CommitOffsets) -> None:
        commit = Commit(self.queue, self, asked.token, asked.watermark, asked.metadata)
        if self._news(commit) and self._live:
            self._around.faults.crash("delivery.before_commit")
        self._around.reader.commit(commit)

    def _news(self, commit: Commit) -> bool:
        """Whether it says more than the last one did, beside renewing the lease."""
        return self._marked != (commit.watermark, commit.metadata)

    async def _write(self, token: int, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` and report. Away means unknown, and the engine asks again."""
        try:
            await work()
        except Fenced as fenced:
            logger().warning("fenced", queue=self.name, error=str(fenced))
            self._report(self._engine.fenced)
            self._end()
        except Away as away:
            logger().warning("write_failed", queue=self.name, error=str(away))
            self._report(self._engine.failed, token)
        else:
            self._report(self._engine.durable, token)

    def _report(self, what: Callable[..., list[Effect]], *about: Any) -> None:
        """Tell the engine, unless this owner is over: then nobody asks."""
        if not self._over:
            self._do(what(*about, self._around.now()))

    def _work(self, effect: Write) -> Callable[[], Awaitable[None]]:
        """What writes `effect` down. The bytes it speaks of are taken now, before a Forget."""
        store = self._around.store
        match effect:
            case Publish():
                return partial(self._publish, effect, self._held.get(effect.offset))
            case InsertRow():
                return partial(self._insert, effect, self._held[effect.row.offset])
            case SetEpoch():
                return partial(self._set_epoch, effect.epoch)
            case ReadParked():
                return partial(self._read_parked, effect)
            case DeleteRow():
                return partial(store.delete, self.name, effect)
            case MarkRow():
                return partial(store.mark, self.name, effect)
            case CloseCommand():
                return partial(store.close_command, self.name, effect)

    async def _set_epoch(self, epoch: int) -> None:
        """Where the offset was set back, the group never takes the queue away: say what to do."""
        try:
            await self._around.store.set_epoch(self.name, epoch)
        except Fenced as fenced:
            self._stop(
                f"{fenced}. If no other worker owns this queue, its committed offset was lost or "
                "set back: find the first undelivered record, then commit its offset with the "
                "metadata 1:<epoch of the store>:u: and restart the worker"
            )
            raise

    async def _insert(self, asked: InsertRow, held: _Held) -> None:
        reference = held.envelope.reference if held.envelope else ""
        self._around.faults.crash("delivery.before_park_row")
        await self._around.store.insert(self.name, asked, held.record, reference)
        self._around.faults.crash("delivery.after_park_row")

    async def _read_parked(self, asked: ReadParked) -> None:
        rows = await self._around.store.read_parked(self.name, asked.epoch)
        # The engine takes the rows with the report; `durable` for this token then says nothing new.
        self._report(self._engine.parked_read, asked.token, rows)

    # --- outcomes and attempts ----------------------------------------------------------------

    async def _publish(self, asked: Publish, held: _Held | None) -> None:
        envelope = (await self._bytes_of(asked, held)).envelope
        if envelope is None:
            return  # Not decodable, so there is no reference under which to tell it.
        outcome = Outcome.of(
            envelope,
            asked.kind,
            time=datetime.now(UTC),
            destination=self.queue,
            attempt=asked.attempt,
            reason=asked.reason,
            code=asked.code,
            text=asked.text,
            status=asked.status,
        )
        value = self._around.contract.encode(OUTCOME, outcome.to_record())
        await self._around.producer.send(OUTCOMES, outcome.reference.encode(), value)
        if asked.kind in FINAL:
            self._around.faults.crash("delivery.after_outcome")

    async def _bytes_of(self, asked: Publish | Send, held: _Held | None) -> _Held:
        """What was held when the engine asked; of a parked delivery, its row.

        Raises Fenced where that row is gone: only a later owner can have removed it.
        """
        if not asked.parked:
            assert held is not None, "asked for a record that is not held"
            return held
        record = await self._around.store.record_of(self.name, asked.event_id)
        if record is None:
            raise Fenced(f"{self.name}: the parked row of {asked.event_id} is gone")
        try:
            return _Held(record, self._around.sender.decode(record))
        except Poison:
            return _Held(record, None)

    async def _attempt(self, asked: Send, held: _Held | None) -> None:
        """One Send, from bytes to verdict; every way out tells the engine, but a withheld one."""
        ticket, engine = asked.ticket, self._engine
        try:
            envelope = (await self._bytes_of(asked, held)).envelope
            if envelope is None:
                self._report(engine.mapping_failed, ticket, "the queue record cannot be decoded")
                return
            request = await self._around.sender.prepare(self._line, envelope)
        except MappingError as bad:
            self._report(engine.mapping_failed, ticket, str(bad))
            return
        except Erased:
            self._report(engine.erased, ticket)
            return
        except Away as away:
            logger().warning("cannot_open", queue=self.name, error=str(away))
            self._report(engine.key_store_away, ticket)
            return
        except Fenced:
            self._report(engine.fenced)
            self._end()
            return
        verdict = await self._around.sender.send(
            self._line, request, envelope, asked.epoch, lambda: self._may_send(ticket)
        )
        if verdict is not None:
            self._log(asked, verdict)
            self._report(engine.answered, ticket, verdict)

    def _log(self, asked: Send, verdict: Verdict) -> None:
        if verdict.kind is not VerdictKind.DELIVERED:
            logger().info(
                "attempt",
                queue=self.name,
                event_id=asked.event_id,
                attempt=asked.attempt,
                kind=verdict.kind.value,
                code=verdict.code,
                status=verdict.status,
            )

    def _may_send(self, ticket: int) -> bool:
        if self._over or not self._around.reader.owns(self.queue):
            return False
        self._engine.polled(self._around.reader.last_poll)
        return self._engine.may_send(ticket, self._around.now())

    # --- time and the end ---------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._over:
            now = self._around.now()
            wait = max(0.0, self._engine.next_wakeup(now) - now)
            self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            if not self._over:
                self._engine.polled(self._around.reader.last_poll)
                self._do(self._engine.tick(self._around.now()))
        except Exception as bug:  # noqa: BLE001 - a timer has nobody else to tell
            self._around.fail(bug)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._around.fail(bug)

    def _stop(self, reason: str) -> None:
        """A person must act. The queue stays ours, paused, so that its state is seen."""
        logger().error("queue_stopped", queue=self.name, reason=reason)
        self._around.reader.pause(self.queue)
        self._end()

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()
        self._early = None
        self.drained.set()
