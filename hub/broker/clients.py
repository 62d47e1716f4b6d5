"""What every confluent client of the hub has in common, and the settings of a consumer."""

from collections.abc import Mapping
from typing import Any, Final

from hub.telemetry import logger

SESSION_TIMEOUT_MS: Final = 6000


class LibrdkafkaLog:
    """librdkafka's log lines (addresses, states, topics; never records) as ours."""

    def log(self, level: int, text: str, *arguments: object) -> None:
        level_name = "error" if level >= 40 else "warning" if level >= 30 else "debug"
        getattr(logger(), level_name)("librdkafka", error=text % arguments if arguments else text)


QUIET: Final[Mapping[str, Any]] = {"log_level": 0, "logger": LibrdkafkaLog()}
"""For probes that expect refused connections."""


def client_config(bootstrap: str, client_id: str) -> dict[str, Any]:
    """Reconnects within a second: a restarted broker must not be found ten seconds late."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "broker.address.family": "v4" if "127.0.0.1" in bootstrap else "any",
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        "log_level": 3,
        "logger": LibrdkafkaLog(),
    }


def consumer_config(
    bootstrap: str, group: str, instance_id: str | None = None, **over: Any
) -> dict[str, Any]:
    """Settings of a confluent Consumer by decisions 1 and 6; `over` wins (`**{"a.b": 1}`).

    All calls on the Consumer must come from one thread: a tight `poll` in one starves `commit`
    and `assignment` from another for ever.
    """
    config = client_config(bootstrap, instance_id or group) | {
        "group.id": group,
        # The classic protocol: there a commit renews the session, on which the lease rests.
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "topic.metadata.refresh.interval.ms": 5000,
        # A committed offset below the log start is records lost: an alarm, never a silent jump.
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": 1500,
        # At the default of 1000 a full local queue puts fetching to sleep for a second.
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 16384,
    }
    if instance_id is not None:
        config["group.instance.id"] = instance_id
    return config | over


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 as an unsigned 32-bit number."""
    mask = 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * 0x5BD1E995 & mask
        k = (k ^ (k >> 24)) * 0x5BD1E995 & mask
        h = (h * 0x5BD1E995 & mask) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * 0x5BD1E995 & mask
    h = (h ^ (h >> 13)) * 0x5BD1E995 & mask
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """Where each of our three clients puts `key` in a topic of `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
