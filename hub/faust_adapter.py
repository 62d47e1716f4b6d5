"""The one place that knows how Faust acknowledges, produces, starts and dies.

Faust 0.15.3 loses events when acks come out of order, when an agent raises, and when a produce
fails unseen (reference/faust.md; tests/live/test_faust_losses.py shows each). So: raw bytes in,
unacknowledged batches, one handler at a time, every produce awaited, acks in offset order after
all effects; and instead of raising, the process ends with nothing acknowledged.
"""

import asyncio
import json
import os
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faust
import mode
from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from hub import telemetry
from hub.errors import Away, BrokerAway
from hub.topics import LogRecord

Handle = Callable[[Sequence[LogRecord]], Awaitable[None]]

EXIT_AWAY: Final = 75
"""Something we need stayed away for too long: a restart is worth trying, nobody is to blame."""
EXIT_BUG: Final = 70
"""Unexpected: counts towards naming a poisonous offset (decision 28)."""

BATCH: Final = 500
_WITHIN_SECONDS: Final = 0.02
_MAX_POLL_RECORDS: Final = 100
# Above 0.2 x buffer / partitions, one full topic would stop every other (faust.md 3.1).
_BUFFER: Final = 16384


def make_app(group: str, bootstrap: str, instance_id: str, data: Path, session: float) -> faust.App:
    """A Faust app that listens on no port, declares no topic and elects no leader."""
    data.mkdir(parents=True, exist_ok=True)
    return faust.App(
        group,
        broker=[f"kafka://{address}" for address in bootstrap.split(",")],
        datadir=str(data),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        agent_supervisor=mode.CrashingSupervisor,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance_id,
        broker_commit_interval=0.5,
        broker_max_poll_records=_MAX_POLL_RECORDS,
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=max(10.0, session),
        stream_buffer_maxsize=_BUFFER,
        stream_wait_empty=True,
        stream_publish_on_commit=False,
        producer_acks=-1,
        producer_request_timeout=30.0,
        producer_linger=0.005,
        value_serializer="raw",
        key_serializer="raw",
    )


class Sender:
    """Produce through the app's producer, waiting for Kafka's ack."""

    def __init__(self, app: faust.App, timeout_seconds: float) -> None:
        self._app = app
        self._timeout = timeout_seconds

    async def __call__(self, topic: str, key: bytes, value: bytes) -> None:
        """Raises BrokerAway without an ack in time: the record may still be appended."""
        try:
            async with asyncio.timeout(self._timeout):
                acked = await self._app.producer.send(topic, key, value, None, None, None)
                await acked
        except (KafkaError, ProducerSendError, TimeoutError) as error:
            raise BrokerAway(f"{topic}: no ack ({type(error).__name__})") from error


class SingleStep:
    """Names the offset in hand before it is handled, for a process that died twice (decision 28).

    The supervisor reads `path` after the third death and hands that offset back as `poison`.
    """

    def __init__(self, path: Path, poison: tuple[str, int, int] | None) -> None:
        self._path = path
        self._poison = poison
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, record: LogRecord) -> AsyncIterator[bool]:
        """`record` alone in hand, whatever agents there are; yields whether it is the named one.

        Failure policy: once it is done, or something that it needs is away, nothing is named, so a
        death that comes then is held against no record.
        """
        place = (record.topic, record.partition, record.offset)
        async with self._alone:
            if place == self._poison:
                yield True
                return
            self._name(place)
            try:
                yield False
            except Away:
                self._path.unlink(missing_ok=True)
                raise
            self._path.unlink(missing_ok=True)

    def _name(self, place: tuple[str, int, int]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w") as file:
            json.dump(place, file)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way: what an agent does with the records of one topic.

    `handle` returns when everything that a batch causes is durable. It may raise Away: the batch
    is handled again for a while, then the process ends. `quarantine` takes one record that killed
    the process again and again. `after_ack` is for crash points.
    """

    topic: str
    handle: Handle
    quarantine: Callable[[LogRecord], Awaitable[None]]
    after_ack: Callable[[], None]


def add_agent(app: faust.App, step: Step, retry_seconds: float, single: SingleStep | None) -> None:
    """Let `step` see every record of its topic, in order per partition, at least once."""
    source = app.topic(
        step.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )

    async def take(batch: Sequence[LogRecord]) -> None:
        if single is None:
            await step.handle(batch)
            return
        async with single.hold(batch[0]) as named:
            await (step.quarantine(batch[0]) if named else step.handle(batch))

    async def agent(stream: Any) -> None:
        size = 1 if single else BATCH
        async for events in stream.noack_take(size, within=_WITHIN_SECONDS):
            await _persist(take, [_record(event) for event in events], retry_seconds)
            for event in events:
                await stream.ack(event)
            step.after_ack()

    app.agent(source, name=f"{app.conf.id}.{step.topic}", concurrency=1)(agent)


def _record(event: Any) -> LogRecord:
    message = event.message
    return LogRecord(
        message.topic, message.partition, message.offset, message.key, message.value or b""
    )


async def _persist(handle: Handle, batch: Sequence[LogRecord], retry_seconds: float) -> None:
    """Failure policy: nothing raises out of an agent, since Faust would acknowledge the batch."""
    log = telemetry.logger()
    until = time.monotonic() + retry_seconds
    pause = 0.1
    while True:
        try:
            await handle(batch)
        except Away as error:
            if time.monotonic() >= until:
                _end(EXIT_AWAY, batch[0], error)
            log.warning("retry_in_place", topic=batch[0].topic, error=str(error), seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        except Exception as error:  # noqa: BLE001 -- any bug: unacknowledged, redelivered
            _end(EXIT_BUG, batch[0], error)
        else:
            return


def _end(code: int, first: LogRecord, error: Exception) -> None:
    """End at once: a clean stop would commit what is in hand."""
    telemetry.logger().error(
        "process_ends",
        exit=code,
        topic=first.topic,
        partition=first.partition,
        offset=first.offset,
        error=f"{type(error).__name__}: {error}" if code == EXIT_AWAY else _trace(error),
    )
    os._exit(code)


def _trace(error: Exception) -> str:
    """Where it happened, without the values that its text may hold."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))
    return f"{type(error).__name__} at {where}"


def run(app: faust.App) -> None:
    """Run until SIGTERM or SIGINT; does not return (exits the process)."""
    worker = faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False)
    # It writes cursor codes into lines of our log, whatever the level and terminal or not.
    worker.spinner = None
    worker.execute_from_commandline()
