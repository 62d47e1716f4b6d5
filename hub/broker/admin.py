"""Administration of a real cluster: topics, trimming, group members, and whether it may be used."""

import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, MemberToRemove
from kafka.errors import (
    CoordinatorNotAvailableError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
)

from hub.errors import BrokerAway, ConfigError
from hub.topics import CATALOGUE, QUEUE_PATTERN, QueueName, TopicSpec, queue_spec

_MINUTES_30_DAYS: Final = 30 * 24 * 60
# Topic settings that lose or reorder accepted events if they differ (rule 10).
_MUST_MATCH: Final = ("retention.ms", "retention.bytes", "message.timestamp.type")
_GONE: Final = ("UnknownMemberIdError", "NoError")


@dataclass(frozen=True, slots=True)
class ClusterProblem:
    """Why a cluster may not be used as it is."""

    text: str
    remedy: str


class Admin:
    """Every call blocks for at most `timeout_seconds`; call it off the event loop.

    Raises BrokerAway when the cluster does not answer, ConfigError when it answers no.
    """

    def __init__(self, bootstrap: str, timeout_seconds: float = 10.0) -> None:
        self._timeout_ms = int(timeout_seconds * 1000)
        self._lock = threading.Lock()
        _knock(bootstrap, timeout_seconds)
        with self._asking("connect"):
            self._kafka = KafkaAdminClient(
                bootstrap_servers=bootstrap.split(","),
                client_id="hub-admin",
                request_timeout_ms=self._timeout_ms,
                bootstrap_timeout_ms=self._timeout_ms,
                reconnect_backoff_max_ms=1000,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._kafka.close()

    def topics(self) -> dict[str, int]:
        """Name and partition count of every topic, Kafka's own internal ones left out."""
        with self._asking("describe topics"):
            described = self._kafka.describe_topics()
        return {t["name"]: len(t["partitions"]) for t in described if not t["is_internal"]}

    def ensure_topics(self, specs: Iterable[TopicSpec]) -> list[str]:
        """Make what is missing, return the names made once each has a leader.

        An existing topic is left as it is; ConfigError if its partition count differs, because
        the order of every key in it would change.
        """
        wanted = {spec.name: spec for spec in specs}
        existing = self.topics()
        for name, count in existing.items():
            if name in wanted and count != wanted[name].partitions:
                raise ConfigError(
                    f"topic {name}: has {count} partitions, the hub wants "
                    f"{wanted[name].partitions}; drain it and remove it, or use another cluster"
                )
        missing = [spec for name, spec in wanted.items() if name not in existing]
        if missing:
            self._create(missing)
        return [spec.name for spec in missing]

    def _create(self, specs: list[TopicSpec]) -> None:
        request = {
            spec.name: {"num_partitions": spec.partitions, "configs": dict(spec.config)}
            for spec in specs
        }
        with self._asking("create topics"):
            answer = self._kafka.create_topics(
                request, timeout_ms=self._timeout_ms, raise_errors=False
            )
        for topic in answer["topics"]:
            # Somebody else making it at the same moment is as good as having made it.
            if topic["error_code"] not in (0, TopicAlreadyExistsError.errno):
                raise ConfigError(f"topic {topic['name']}: not created: {topic['error_message']}")
        with self._asking("wait for topics"):
            self._kafka.wait_for_topics(list(request), timeout_ms=self._timeout_ms)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        """Trim: records below `before_offset` are gone. Returns the new log start.

        An offset beyond the end is ConfigError: the caller believes in records that are not there.
        """
        where = TopicPartition(topic, partition)
        with self._asking(f"delete records of {topic}"):
            try:
                answer = self._kafka.delete_records(
                    {where: before_offset}, timeout_ms=self._timeout_ms
                )
            except OffsetOutOfRangeError:
                raise ConfigError(
                    f"{topic}/{partition}: cannot be trimmed to {before_offset}, the log ends below"
                ) from None
        start: int = answer[where]["low_watermark"]
        return start

    def remove_group_members(self, group: str, instance_ids: Iterable[str]) -> None:
        """Let static members leave at once; only for processes known to be dead (F1).

        Members that have left already are no error.
        """
        members = [MemberToRemove(group_instance_id=i) for i in instance_ids]
        with self._asking(f"remove members of {group}"):
            answer = self._kafka.remove_group_members(group, members)
        for member, error in answer.items():
            if error.__name__ not in _GONE:
                raise BrokerAway(f"{group}: {member.group_instance_id} stays: {error.__name__}")

    def owned_partitions(self, group: str) -> int:
        """How many partitions the members of `group` own; 0 while the group is being formed.

        A member that died counts until its session is over.
        """
        with self._asking(f"describe {group}"):
            try:
                members = self._kafka.describe_groups([group])[group]["members"]
            except CoordinatorNotAvailableError:
                return 0
        assigned = [m["member_assignment"] for m in members if m["member_assignment"]]
        return sum(len(t["partitions"]) for a in assigned for t in a["assigned_partitions"])

    def check_cluster(self) -> list[ClusterProblem]:
        """What would make this cluster lose or reorder accepted events; empty: it may be used."""
        there = self.topics()
        known = {spec.name: spec for spec in CATALOGUE if spec.name in there}
        queues = (QueueName.from_topic(name) for name in there if re.fullmatch(QUEUE_PATTERN, name))
        known |= {queue.topic: queue_spec(queue) for queue in queues}
        return [
            *self._expiring_offsets(),
            *(
                problem
                for name, actual in self._configs(ConfigResourceType.TOPIC, list(known)).items()
                for problem in _differences(known[name], actual)
            ),
        ]

    def _expiring_offsets(self) -> Iterator[ClusterProblem]:
        with self._asking("describe the cluster"):
            ids = [str(b["broker_id"]) for b in self._kafka.describe_cluster()["brokers"]]
        for broker, actual in self._configs(ConfigResourceType.BROKER, ids).items():
            minutes = actual.get("offsets.retention.minutes")
            if minutes is None or int(minutes) < _MINUTES_30_DAYS:
                shown = "cannot be read" if minutes is None else f"is {minutes}"
                yield ClusterProblem(
                    f"broker {broker}: offsets.retention.minutes {shown}: a queue whose worker is "
                    "away for so long forgets what was delivered",
                    f"set it to at least {_MINUTES_30_DAYS} (30 days), best 2147483647",
                )

    def _configs(self, kind: ConfigResourceType, names: list[str]) -> Mapping[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(kind, name) for name in names]
        with self._asking("describe configurations"):
            answer: dict[str, Any] = self._kafka.describe_configs(resources, config_filter="all")
        return {
            name: {key: entry["value"] for key, entry in entries.items()}
            for described in answer.values()
            for name, entries in described.items()
        }

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """One question at a time: kafka-python's admin client is not made for threads."""
        with self._lock:
            try:
                yield
            except KafkaError as failure:
                # Its text repeats the whole request; the name of the error says enough.
                raise BrokerAway(f"{what}: {type(failure).__name__} from Kafka") from None


def _differences(spec: TopicSpec, actual: Mapping[str, str]) -> Iterator[ClusterProblem]:
    for key in _MUST_MATCH:
        wanted = spec.config.get(key)
        if wanted is not None and actual.get(key) != wanted:
            yield ClusterProblem(
                f"topic {spec.name}: {key} is {actual.get(key, 'not readable')}, not {wanted}",
                f"set {key}={wanted} on the topic",
            )
    if "compact" in actual.get("cleanup.policy", ""):
        yield ClusterProblem(
            f"topic {spec.name}: cleanup.policy is {actual['cleanup.policy']}: compaction removes "
            "earlier requests of a citizen",
            "set cleanup.policy=delete on the topic",
        )


def _knock(bootstrap: str, timeout_seconds: float) -> None:
    """Say at once that nobody listens: kafka-python would try for long, and leaves sockets open."""
    failures = []
    for address in bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout_seconds).close()
        except (OSError, ValueError) as failure:
            failures.append(f"{address}: {failure}")
        else:
            return
    raise BrokerAway(
        f"Kafka does not answer ({'; '.join(failures)}); start it (`hub kafka start`) or set "
        "HUB_KAFKA"
    )
