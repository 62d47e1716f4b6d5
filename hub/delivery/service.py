"""The delivery process: queue reader, an owner per queue, operators' commands, trimming."""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from hub.broker import Producer, consumer_config
from hub.broker.admin import Admin
from hub.configuration import Configuration, Limits
from hub.connector import Connector
from hub.contract import Contract
from hub.delivery.claims import Claim, QueueLogs
from hub.delivery.effects import Pace
from hub.delivery.engine import QueueEngine
from hub.delivery.listener import Commit, CommitResult, Taken
from hub.delivery.owner import QueueOwner, Surroundings
from hub.delivery.reader import QueueReader
from hub.delivery.sender import Line, Sender, make_line
from hub.delivery.store import DeliveryStore
from hub.errors import Away, ConfigError, HubError
from hub.faults import Faults
from hub.keys import KeyStore
from hub.settings import Settings
from hub.telemetry import logger
from hub.topics import DELIVERY_GROUP, QUEUE_PATTERN, QueueName

EXIT_BUG: Final = 70
EXIT_AGAIN: Final = 75
"""Our place in the group is taken, or Kafka is away: a new process may do better."""

_MAX_POLL_SECONDS: Final = 300.0
_POLL_MARGIN_SECONDS: Final = 60.0
_LEASE_MARGIN_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 30.0
_COMMANDS_SECONDS: Final = 0.5
_LINES_SECONDS: Final = 10.0
_TRIM_SECONDS: Final = 600.0
_TRIM_LEAST_RECORDS: Final = 1000


class DeliveryService:
    """One process that delivers the queues which the group gives it. `run` once, in its loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        configuration: Configuration,
        connectors: Mapping[str, type[Connector]],
        bootstrap: str,
        store: DeliveryStore,
        keys: KeyStore,
        contract: Contract,
        producer: Producer,
        faults: Faults,
        instance_id: str,
        group: str = DELIVERY_GROUP,
        pattern: str = QUEUE_PATTERN,
    ) -> None:
        """`pattern` says which queues this group delivers; every other one is somebody else's."""
        self._settings = settings
        self._configuration = configuration
        self._connectors = connectors
        self._bootstrap = bootstrap
        self._store = store
        self._sender = Sender(contract, keys, faults)
        self._owners: dict[QueueName, QueueOwner] = {}
        self._waiting: dict[QueueName, Claim] = {}
        """Ours, but not to be delivered as configured now."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._exit: int | None = None
        self._last_resort: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._reader = QueueReader(
            self._consumer_config(group, instance_id),
            QueueLogs(bootstrap),
            self,
            settings.drain_seconds,
            pattern,
        )
        self._around = Surroundings(
            self._reader,
            store,
            self._sender,
            producer,
            contract,
            faults,
            time.monotonic,
            self._fail,
        )

    @property
    def queues(self) -> frozenset[QueueName]:
        """The queues that are ours now."""
        return frozenset({*self._owners, *self._waiting})

    async def run(self) -> int:
        """Deliver until SIGTERM, SIGINT or `stop`; the exit code of this process."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
        self._reader.start()
        self._spawn(self._every(_COMMANDS_SECONDS, self._tell_commands))
        self._spawn(self._every(_LINES_SECONDS, self._try_waiting))
        self._spawn(self._every(_TRIM_SECONDS, self._trim))
        await self._ended.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._closing, *(o.close() for o in self._owners.values()))
        self._sender.close()
        if self._last_resort is not None:
            self._last_resort.cancel()
        return self._exit or 0

    def stop(self) -> None:
        """Hand every queue over, then end; what is under way gets `drain_seconds`."""
        if not self._stopping:
            self._stopping = True
            self._spawn(self._drain_all())

    # --- what the reader tells ----------------------------------------------------------------

    def claimed(self, claims: Sequence[Claim]) -> None:
        try:
            for claim in claims:
                logger().info(
                    "queue_ours",
                    queue=str(claim.queue),
                    watermark=claim.committed.watermark if claim.committed else None,
                )
                self._waiting[claim.queue] = claim
                if not self._stopping:
                    self._take_over(claim, loud=True)
        except Exception as bug:  # noqa: BLE001 - told from another thread, nobody else hears it
            self._fail(bug)

    def taken(self, records: Sequence[Taken]) -> None:
        try:
            for record in records:
                owner = self._owners.get(record.queue)
                if owner is not None:
                    owner.taken(record)
        except Exception as bug:  # noqa: BLE001 - told from another thread, nobody else hears it
            self._fail(bug)

    def committed(self, results: Sequence[tuple[Commit, CommitResult]]) -> None:
        try:
            for commit, result in results:
                # An answer to an earlier owner says nothing to its successor.
                if self._owners.get(commit.queue) is commit.owner:
                    self._owners[commit.queue].committed(commit, result)
        except Exception as bug:  # noqa: BLE001 - told from another thread, nobody else hears it
            self._fail(bug)

    def revoking(self, queues: Sequence[QueueName], seconds: float) -> None:
        for queue in queues:
            self._spawn(self._hand_over(queue, seconds))

    def lost(self, queues: Sequence[QueueName]) -> None:
        for queue in queues:
            self._waiting.pop(queue, None)
            owner = self._owners.pop(queue, None)
            if owner is not None:
                logger().info("queue_gone", queue=str(queue))
                owner.lost()
                closing = asyncio.get_running_loop().create_task(owner.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def damaged(self, queue: QueueName, problem: str) -> None:
        owner = self._owners.get(queue)
        if owner is not None:
            owner.damaged(problem)

    def ended(self, error: HubError | None) -> None:
        if error is not None:
            logger().error("reader_ended", error=str(error), kind=type(error).__name__)
            self._exit = self._exit or EXIT_AGAIN
        self._ended.set()

    # --- owners -------------------------------------------------------------------------------

    def _take_over(self, claim: Claim, *, loud: bool) -> None:
        """Start the queue's engine, if it can be delivered as configured; else it waits."""
        try:
            line = self._line(claim.queue)
        except ConfigError as bad:
            self._reader.pause(claim.queue)
            if loud:
                logger().error("queue_waits", queue=str(claim.queue), remedy=str(bad))
            return
        del self._waiting[claim.queue]
        engine = QueueEngine(str(claim.queue), self._pace(line.destination.limits), random.Random())
        owner = QueueOwner(claim, line, engine, self._around)
        self._owners[claim.queue] = owner
        owner.start()

    def _line(self, queue: QueueName) -> Line:
        destination = self._configuration.destinations.get(queue)
        name = destination.connector if destination else ""
        return make_line(queue, destination, self._connectors.get(name))

    def _pace(self, limits: Limits) -> Pace:
        return Pace(
            concurrency=limits.concurrency,
            request_timeout=limits.request_timeout_seconds,
            lease=self._settings.session_timeout_seconds
            - limits.connect_timeout_seconds
            - _LEASE_MARGIN_SECONDS,
            poll_silence=_MAX_POLL_SECONDS - _POLL_MARGIN_SECONDS,
        )

    def _consumer_config(self, group: str, instance_id: str) -> dict[str, Any]:
        over = {
            "session.timeout.ms": int(self._settings.session_timeout_seconds * 1000),
            "max.poll.interval.ms": int(_MAX_POLL_SECONDS * 1000),
            # A queue that is resumed joins the next fetch, so this is how long it may wait to be
            # read; 3000 would save some CPU with thousands of idle queues.
            "fetch.wait.max.ms": 500,
            # Thousands of queues in one process: a little of each, not 100,000 records of one.
            "queued.min.messages": 500,
            "max.partition.fetch.bytes": 1_048_576,
        }
        return consumer_config(self._bootstrap, group, instance_id, **over)

    async def _hand_over(self, queue: QueueName, seconds: float) -> None:
        owner = self._owners.get(queue)
        if owner is not None:
            owner.drain(seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(owner.drained.wait(), seconds + 1.0)
        self._reader.released(queue)

    async def _drain_all(self) -> None:
        logger().info("draining", count=len(self._owners))
        seconds = self._settings.drain_seconds
        for owner in self._owners.values():
            owner.drain(seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + 1.0):
                for owner in list(self._owners.values()):
                    await owner.drained.wait()
        self._reader.stop()

    def _fail(self, bug: BaseException) -> None:
        """A bug. Failure policy: nothing more is acknowledged; the next process starts from what
        is durable, which costs repeats of what was under way."""
        if self._exit is None:
            self._exit = EXIT_BUG
            logger().critical("delivery_bug", error=_where(bug))
            self._stopping = True
            for owner in self._owners.values():
                owner.abandon()
            self._reader.stop()
            # Heartbeats go on in the background: a close that hangs would keep the queues.
            loop = asyncio.get_running_loop()
            self._last_resort = loop.call_later(_CLOSE_SECONDS, os._exit, EXIT_BUG)

    # --- housekeeping -------------------------------------------------------------------------

    async def _every(self, seconds: float, work: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except (Away, ConfigError) as error:
                logger().warning("housekeeping_later", step=work.__name__, error=str(error))

    async def _tell_commands(self) -> None:
        owners = {owner.name: owner for owner in self._owners.values()}
        for name, commands in (await self._store.open_commands(owners.keys())).items():
            for command in commands:
                owners[name].command(command)

    async def _try_waiting(self) -> None:
        """A secret that was missing may be there now."""
        if not self._stopping:
            for claim in list(self._waiting.values()):
                self._take_over(claim, loud=False)
                if claim.queue in self._owners:
                    # What came before the pause took hold was dropped.
                    self._reader.rewind(claim.queue, claim.read_from)

    async def _trim(self) -> None:
        marks = {queue.topic: owner.watermark for queue, owner in self._owners.items()}
        await asyncio.to_thread(trim, self._bootstrap, marks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._fail(bug)


def trim(
    bootstrap: str, watermarks: Mapping[str, int], logs: QueueLogs | None = None
) -> dict[str, int]:
    """Delete what lies behind the read-back window of each topic's committed offset (rule 10).

    Returns the new log starts of what was trimmed. The window is that of a taking-over owner, so
    a queue is never shorter than what the next one must read back. Blocks; raises BrokerAway.
    """
    if not watermarks:
        return {}
    logs = logs or QueueLogs(bootstrap)
    bounds = logs.bounds(watermarks)
    known = {topic: watermarks[topic] for topic in bounds}
    starts = logs.read_back_starts(known, bounds)
    trimmed = {
        topic: start
        for topic, start in starts.items()
        if start - bounds[topic].start >= _TRIM_LEAST_RECORDS
    }
    if trimmed:
        with Admin(bootstrap) as admin:
            for topic, start in trimmed.items():
                admin.delete_records(topic, 0, start)
                logger().info("queue_trimmed", topic=topic, offset=start)
    return trimmed


def _where(bug: BaseException) -> str:
    """Type and place of a bug; its text may quote a record."""
    trace = bug.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(bug).__name__
    code = trace.tb_frame.f_code
    return f"{type(bug).__name__} in {code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
