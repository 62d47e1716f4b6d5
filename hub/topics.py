"""The topic catalogue: name, key, partitions, retention. No topic name as text elsewhere.

Order of a citizen rests on partition counts that never change (design, "Rules"); growth is a new
topic generation after a drain.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

REQUESTS = "requests"
OUTCOMES = "outcomes"
QUARANTINE = "quarantine"
QUEUE_PREFIX = "deliveries."
# Read by Python and by librdkafka, whose POSIX expressions know no \d.
QUEUE_PATTERN = r"^deliveries\.GM[0-9]{4}\.[a-z0-9][a-z0-9-]{0,62}$"

WAY_GROUP = "hub-way"
DELIVERY_GROUP = "hub-delivery"
"""Consumer groups of a worker's two processes."""

DESTINATION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MUNICIPALITY_CODE = re.compile(r"GM\d{4}")

BODY_CAP_BYTES = 256 * 1024
RECORD_CAP_BYTES = 1024 * 1024

_FOREVER: Mapping[str, str] = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(RECORD_CAP_BYTES),
}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must look like; `config` is Kafka's topic configuration."""

    name: str
    key: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=lambda: dict(_FOREVER))


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as it stands in the log: raw bytes, nothing decoded."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes


CATALOGUE: tuple[TopicSpec, ...] = (
    TopicSpec(REQUESTS, key="subject_ref", partitions=12),
    TopicSpec(OUTCOMES, key="reference", partitions=12),
    # 14 days: what could not be accepted, sealed, until an operator has looked at it.
    TopicSpec(
        QUARANTINE,
        key="record id",
        partitions=1,
        config={**_FOREVER, "retention.ms": str(14 * 24 * 3600 * 1000)},
    ),
)


@dataclass(frozen=True, slots=True, order=True)
class QueueName:
    """A stream: the queue of one destination of one municipality."""

    municipality_code: str
    destination: str

    def __post_init__(self) -> None:
        if not MUNICIPALITY_CODE.fullmatch(self.municipality_code):
            raise ValueError(f"not a municipality code (GMxxxx): {self.municipality_code!r}")
        if not DESTINATION_NAME.fullmatch(self.destination):
            raise ValueError(
                f"not a destination name (a-z, 0-9, dash, at most 63): {self.destination!r}"
            )

    @property
    def topic(self) -> str:
        return f"{QUEUE_PREFIX}{self.municipality_code}.{self.destination}"

    @classmethod
    def from_topic(cls, topic: str) -> "QueueName":
        """Raises ValueError for a topic that is not a queue."""
        if not re.fullmatch(QUEUE_PATTERN, topic):
            raise ValueError(f"not a delivery queue: {topic!r}")
        _, municipality_code, destination = topic.split(".", 2)
        return cls(municipality_code, destination)

    def __str__(self) -> str:
        return f"{self.municipality_code}/{self.destination}"


def queue_spec(queue: QueueName) -> TopicSpec:
    """One partition: one worker owns a destination, so its lanes and pace need no sharing.

    No retention by time or size (rule 10): trimmed behind the committed watermark only.
    """
    return TopicSpec(queue.topic, key="subject_ref", partitions=1)
