"""The producer of intake and delivery: asyncio over librdkafka, one unacked record per key."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from hub.broker.clients import client_config
from hub.errors import BrokerAway, Poison
from hub.telemetry import logger
from hub.topics import RECORD_CAP_BYTES

Headers = Sequence[tuple[str, bytes]]
_Lane = tuple[str, bytes]
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Ack:
    """Where the broker has put a record, durably by its own measure (acks=all)."""

    partition: int
    offset: int


class _Record:
    __slots__ = ("future", "headers", "value")

    def __init__(self, value: bytes, headers: Headers, future: "asyncio.Future[Ack]") -> None:
        self.value = value
        self.headers = headers
        self.future = future


@dataclass(frozen=True, slots=True)
class _Report:
    lane: _Lane
    error: KafkaError | None
    partition: int = -1
    offset: int = -1


class Producer:
    """Rule 3: of one (topic, key) at most one record is unacknowledged; later ones wait behind it
    in the order of the calls.

    A record that is not acked in time, or refused, fails with BrokerAway **and so does every
    record that waits behind it**, unsent: none of them can pass it. "Failed" means unknown: the
    record may still be in the log or come into it; repeat it under the same id. A call after
    that starts anew. Poison: no Kafka takes a record of this size; it never comes into the log,
    so what waits behind it goes on.

    Use from one event loop. `timeout_seconds` counts from the record's turn, not from the call.
    """

    def __init__(
        self, bootstrap: str, client_id: str, timeout_seconds: float, linger_ms: float = 5.0
    ) -> None:
        timeout_ms = int(timeout_seconds * 1000)
        self._config = client_config(bootstrap, client_id) | {
            "acks": "all",
            "enable.idempotence": True,
            # The partitioner of the other two clients; librdkafka's own default agrees with none.
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            "delivery.timeout.ms": timeout_ms,
            "request.timeout.ms": timeout_ms,
            "socket.timeout.ms": max(timeout_ms, 1000),
            "message.max.bytes": RECORD_CAP_BYTES,
        }
        self._timeout_seconds = timeout_seconds
        self._lanes: dict[_Lane, deque[_Record]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: _Client | None = None
        self._closed = False

    async def send(self, topic: str, key: bytes, value: bytes, headers: Headers = ()) -> Ack:
        """Append `value`; returns when the broker has acked it. A cancelled call may have sent."""
        if self._closed:
            raise BrokerAway(f"{topic}: this producer is closed")
        loop = asyncio.get_running_loop()
        if self._client is None:
            self._loop = loop
            self._client = _Client(self._config, loop, self._settle, self._replace)
        assert loop is self._loop, "a Producer serves one event loop"
        lane = (topic, key)
        record = _Record(value, headers, loop.create_future())
        queue = self._lanes.get(lane)
        if queue is None:
            self._lanes[lane] = deque((record,))
            self._produce(lane, record)
        else:
            queue.append(record)
        return await record.future

    async def close(self) -> None:
        """Wait for what is under way (at most the timeout), fail the rest, end the thread."""
        self._closed = True
        under_way = [record.future for queue in self._lanes.values() for record in queue]
        if under_way:
            await asyncio.wait(under_way, timeout=self._timeout_seconds)
        if self._client is not None:
            self._client.end()
            await asyncio.to_thread(self._client.join)
            self._client = None
        for lane in list(self._lanes):
            self._fail(lane, BrokerAway(f"{lane[0]}: the producer was closed before the ack"))

    def _produce(self, lane: _Lane, record: _Record) -> None:
        assert self._client is not None
        try:
            self._client.produce(lane, record)
        except BufferError:
            self._fail(lane, BrokerAway(f"{lane[0]}: too many records wait for the broker"))
        except KafkaException as failure:
            # Later, not now: a queue of such records would settle itself by recursion.
            asyncio.get_running_loop().call_soon(self._settle, _Report(lane, failure.args[0]))

    def _settle(self, report: _Report) -> None:
        """On the loop: the report of the head of a lane, the only record of it under way."""
        lane = report.lane
        queue = self._lanes.get(lane)
        if queue is None:
            return  # Failed by `close`, which did not wait for it.
        error = report.error and _as_ours(lane[0], report.error)
        if isinstance(error, BrokerAway):
            self._fail(lane, error)
            return
        done = queue.popleft().future
        if not done.done() and error:
            done.set_exception(error)
        elif not done.done():
            done.set_result(Ack(report.partition, report.offset))
        while queue and queue[0].future.done():
            queue.popleft()  # Cancelled while it waited: never sent.
        if queue:
            self._produce(lane, queue[0])
        else:
            del self._lanes[lane]

    def _fail(self, lane: _Lane, error: BrokerAway) -> None:
        for record in self._lanes.pop(lane, ()):
            if not record.future.done():
                # One each: an exception raised in several tasks mixes their tracebacks.
                record.future.set_exception(BrokerAway(*error.args))

    def _replace(self, broken: "_Client", error: KafkaError) -> None:
        """After a fatal error (a gap in the idempotent sequence) librdkafka's producer is dead."""
        if broken is self._client:
            logger().error("producer_replaced", error=error.name())
            broken.end()
            assert self._loop is not None
            self._client = _Client(self._config, self._loop, self._settle, self._replace)


class _Client:
    """One librdkafka producer and the thread that serves its delivery reports to the loop."""

    def __init__(
        self,
        config: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        settle: Callable[[_Report], None],
        replace: Callable[["_Client", KafkaError], None],
    ) -> None:
        self._loop = loop
        self._settle = settle
        self._replace = replace
        self._reports: list[_Report] = []
        self._end = threading.Event()
        self._kafka = confluent_kafka.Producer(config)
        self._thread = threading.Thread(target=self._serve, name="producer", daemon=True)
        self._thread.start()

    def produce(self, lane: _Lane, record: _Record) -> None:
        topic, key = lane
        self._kafka.produce(
            topic,
            record.value,
            key,
            headers=list(record.headers),
            on_delivery=partial(self._delivered, lane),
        )

    def end(self) -> None:
        """What has no report yet gets one, as failed; then the thread ends."""
        self._end.set()

    def join(self) -> None:
        self._thread.join()

    def _delivered(self, lane: _Lane, error: KafkaError | None, message: Message) -> None:
        partition, offset = (-1, -1) if error else (message.partition(), message.offset())
        self._reports.append(_Report(lane, error, partition or 0, offset or 0))

    def _serve(self) -> None:
        fatal = None
        while fatal is None and not self._end.is_set():
            fatal = self._poll(partial(self._kafka.poll, _POLL_SECONDS))
            if not self._hand_over(fatal):
                return
        self._poll(self._kafka.purge)
        self._poll(partial(self._kafka.flush, 1.0))
        self._hand_over(None)

    @staticmethod
    def _poll(call: Callable[[], object]) -> KafkaError | None:
        """A fatal error comes as an exception out of any call that serves reports."""
        try:
            call()
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            return error
        return None

    def _hand_over(self, fatal: KafkaError | None) -> bool:
        """All reports of one poll in one wake-up of the loop. False: the loop is closed."""
        if not self._reports and fatal is None:
            return True
        reports, self._reports = self._reports, []
        try:
            self._loop.call_soon_threadsafe(self._settle_all, reports, fatal)
        except RuntimeError:
            return False
        return True

    def _settle_all(self, reports: list[_Report], fatal: KafkaError | None) -> None:
        if fatal is not None:
            self._replace(self, fatal)
        for report in reports:
            self._settle(report)


def _as_ours(topic: str, error: KafkaError) -> BrokerAway | Poison:
    if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
        return Poison(f"{topic}: a record over {RECORD_CAP_BYTES} bytes, which Kafka never takes")
    return BrokerAway(f"{topic}: no ack from Kafka ({error.name()}); the record may be in the log")
