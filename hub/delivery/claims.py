"""What an owner must know of a queue before it takes it: committed offset, log bounds, and from
where to read back (protocol D3, D4). Every call blocks; failures are BrokerAway."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import admin as kafka_admin
from confluent_kafka.admin import AdminClient

from hub.broker.clients import client_config
from hub.delivery.effects import Committed
from hub.delivery.progress import READ_BACK_RECORDS, READ_BACK_SECONDS
from hub.errors import BrokerAway
from hub.telemetry import logger
from hub.topics import QueueName

_TIMEOUT_SECONDS: Final = 5.0
_UNTYPED: Final[Any] = kafka_admin
_EARLIEST: Final = _UNTYPED.OffsetSpec.earliest()
_LATEST: Final = _UNTYPED.OffsetSpec.latest()


@dataclass(frozen=True, slots=True)
class Bounds:
    """First offset in the log, and the one after the last."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A queue that the group has just given us. `read_from`: where reading back begins."""

    queue: QueueName
    committed: Committed | None
    bounds: Bounds
    read_from: int

    @property
    def damage(self) -> str | None:
        """Why nobody may deliver from here: records are missing, or what is done is unknown."""
        start, end = self.bounds.start, self.bounds.end
        if self.committed is None:
            if start == 0:
                return None
            return f"no committed offset, and the log begins at {start}"
        watermark = self.committed.watermark
        if start <= watermark <= end:
            return None
        return f"committed offset {watermark} lies outside the log ({start} to {end})"


class QueueLogs:
    """Looks at the logs of queues. One thread at a time."""

    def __init__(
        self,
        bootstrap: str,
        seconds: float = READ_BACK_SECONDS,
        records: int = READ_BACK_RECORDS,
    ) -> None:
        self._config = client_config(bootstrap, "hub-delivery-logs")
        self._seconds, self._records = seconds, records
        self._admin: AdminClient | None = None

    def claims(self, consumer: Consumer, topics: Collection[str]) -> dict[str, Claim]:
        """Claims by topic, as far as Kafka tells now; ask again for those that are missing.

        Committed offsets come through the owner's `consumer`.
        """
        if not topics:
            return {}
        places = [TopicPartition(topic, 0) for topic in topics]
        with _asking("committed offsets"):
            answers = consumer.committed(places, _TIMEOUT_SECONDS)
        committed = {
            place.topic: Committed(place.offset, place.metadata or "")
            if place.offset >= 0
            else None
            for place in answers
            if place.error is None
        }
        bounds = self.bounds(committed)
        marks = {t: c.watermark for t, c in committed.items() if c is not None and t in bounds}
        starts = self.read_back_starts(marks, bounds)
        return {
            topic: _claim(topic, committed[topic], bounds[topic], starts)
            for topic in bounds
            if topic in starts or committed[topic] is None
        }

    def bounds(self, topics: Collection[str]) -> dict[str, Bounds]:
        """Where each log begins and ends now; without those whose leader does not answer."""
        starts, ends = self._offsets(topics, _EARLIEST), self._offsets(topics, _LATEST)
        return {topic: Bounds(starts[topic], ends[topic]) for topic in starts.keys() & ends.keys()}

    def _offsets(self, topics: Collection[str], spec: Any) -> dict[str, int]:
        if not topics:
            return {}
        if self._admin is None:
            self._admin = AdminClient(dict(self._config))
        places = [TopicPartition(topic, 0) for topic in topics]
        with _asking("log bounds"):
            asked = self._admin.list_offsets(
                dict.fromkeys(places, spec), request_timeout=_TIMEOUT_SECONDS
            )
        found: dict[str, int] = {}
        for place, answer in asked.items():
            try:
                found[place.topic] = answer.result().offset
            except KafkaException as error:
                # librdkafka asks on with the leader epoch that it once learned, for ever refused
                # (FENCED_LEADER_EPOCH) after the broker was restarted; a new client asks anew.
                self._admin = None
                logger().warning("log_bounds_later", topic=place.topic, error=_name(error))
        return found

    def read_back_starts(
        self, watermarks: Mapping[str, int], bounds: Mapping[str, Bounds]
    ) -> dict[str, int]:
        """From where to read back, by topic: at least `records`, and all appended in the `seconds`
        before the record at the watermark, or all that the log still has; without those of which
        Kafka does not tell now."""
        starts = {
            topic: max(bounds[topic].start, mark - self._records)
            for topic, mark in watermarks.items()
        }
        # Only where the log goes on before that can the time reach further back.
        deep = {
            topic: min(mark, bounds[topic].end - 1)
            for topic, mark in watermarks.items()
            if bounds[topic].start < starts[topic] <= bounds[topic].end
        }
        if deep:
            since = self._since(deep)
            for topic in deep:
                start = starts.pop(topic)
                if topic in since:
                    starts[topic] = min(start, since[topic])
        return starts

    def _since(self, offsets: Mapping[str, int]) -> dict[str, int]:
        """The first offset appended at most `seconds` before the record at each of `offsets`."""
        consumer = Consumer(
            {
                **self._config,
                "group.id": "hub-delivery-logs",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 10,
                # Room for any record: a queue whose batch does not fit is told of only where it
                # stands first in a fetch, one queue a fetch. Of 800 queues 100 came in 5 s, not all
                # in 1.6 s.
                "max.partition.fetch.bytes": 262_144,
                "queued.min.messages": 1,
            }
        )
        try:
            with _asking("append times"):
                appended = self._append_times(consumer, offsets)
                if not appended:
                    return {}
                asked = [
                    TopicPartition(topic, 0, max(0, at - int(self._seconds * 1000)))
                    for topic, at in appended.items()
                ]
                found = consumer.offsets_for_times(asked, _TIMEOUT_SECONDS)
        finally:
            consumer.close()
        # The offset of a place with an error is still the time that was asked for.
        return {
            place.topic: place.offset if place.offset >= 0 else offsets[place.topic]
            for place in found
            if place.error is None
        }

    def _append_times(self, consumer: Consumer, offsets: Mapping[str, int]) -> dict[str, int]:
        consumer.assign([TopicPartition(topic, 0, offset) for topic, offset in offsets.items()])
        found: dict[str, int] = {}
        until = time.monotonic() + _TIMEOUT_SECONDS
        # Thousands may take longer: those that are left come another time.
        while len(found) < len(offsets) and time.monotonic() < until:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                found.setdefault(str(message.topic()), message.timestamp()[1])
        if left := len(offsets) - len(found):
            logger().warning("append_times_later", count=left)
        return found


def _claim(
    topic: str, committed: Committed | None, bounds: Bounds, starts: Mapping[str, int]
) -> Claim:
    read_from = starts[topic] if committed else bounds.start
    claim = Claim(QueueName.from_topic(topic), committed, bounds, read_from)
    if claim.damage is None:
        return claim
    # Never read: the end is an offset that every log has.
    return Claim(claim.queue, committed, bounds, bounds.end)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as failure:
        raise BrokerAway(
            f"{what} of the queues: Kafka does not tell ({_name(failure)})"
        ) from failure


def _name(failure: KafkaException) -> str:
    error: Any = failure.args[0]
    return str(error.name())
