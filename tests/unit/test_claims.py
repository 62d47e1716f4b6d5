"""What an owner must know of a queue: told of as many as Kafka answers for, and never guessed."""

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from hub.delivery import claims as claims_module
from hub.delivery.claims import QueueLogs

START, END = 100, 30_000
MARK = 20_000
AT = 5_000_000


class Log:
    """One queue as Kafka tells of it."""

    def __init__(self) -> None:
        self.leader = True
        self.readable = True
        self.hour_ago: int | None = 4_000
        self.mark: int | None = MARK


class Kafka:
    """Of confluent's clients what claims use."""

    def __init__(self, logs: dict[str, Log]) -> None:
        self.logs = logs
        self.unread: list[str] = []

    # The owner's consumer.

    def committed(self, places: list[TopicPartition], _seconds: float) -> list[TopicPartition]:
        marks = {place.topic: self.logs[place.topic].mark for place in places}
        return [TopicPartition(t, 0, -1001 if m is None else m, "1:7:u:") for t, m in marks.items()]

    # AdminClient.

    def list_offsets(self, asked: Any, **_more: Any) -> Any:
        answers = {}
        for place, spec in asked.items():
            answers[place] = answer = Future[Any]()
            if self.logs[place.topic].leader:
                answer.set_result(SimpleNamespace(offset=START if spec == "earliest" else END))
            else:
                answer.set_exception(KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE)))
        return answers

    # The consumer that looks at append times.

    def assign(self, places: list[TopicPartition]) -> None:
        self.unread = [p.topic for p in places if self.logs[p.topic].readable]

    def poll(self, _seconds: float) -> Any:
        if not self.unread:
            return None
        topic = self.unread.pop(0)
        self.unread.append(topic)
        return SimpleNamespace(topic=lambda: topic, timestamp=lambda: (2, AT), error=lambda: None)

    def offsets_for_times(self, asked: list[TopicPartition], _seconds: float) -> Any:
        found = []
        for place in asked:
            hour_ago = self.logs[place.topic].hour_ago
            error = KafkaError(KafkaError._TIMED_OUT) if hour_ago is None else None
            offset = place.offset if hour_ago is None else hour_ago
            found.append(SimpleNamespace(topic=place.topic, offset=offset, error=error))
        return found

    def close(self) -> None: ...


Told = Callable[[dict[str, Log]], dict[str, int]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Where each queue of which a claim was made is read back from."""
    monkeypatch.setattr(claims_module, "_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(claims_module, "_EARLIEST", "earliest")

    def told(logs: dict[str, Log]) -> dict[str, int]:
        kafka: Any = Kafka(logs)
        monkeypatch.setattr(claims_module, "Consumer", lambda _config: kafka)
        monkeypatch.setattr(claims_module, "AdminClient", lambda _config: kafka)
        found = QueueLogs("127.0.0.1:1").claims(kafka, sorted(logs))
        return {topic: claim.read_from for topic, claim in found.items()}

    return told


def queues(count: int) -> dict[str, Log]:
    return {f"deliveries.GM0001.q{n}": Log() for n in range(count)}


def test_an_hour_is_read_back_and_ten_thousand_records_at_least(told: Told) -> None:
    logs = queues(2)
    logs["deliveries.GM0001.q1"].hour_ago = 19_000
    assert told(logs) == dict(zip(logs, [4_000, MARK - 10_000], strict=True))


@pytest.mark.parametrize(
    "away",
    [
        lambda log: setattr(log, "leader", False),
        lambda log: setattr(log, "readable", False),
        lambda log: setattr(log, "hour_ago", None),
    ],
    ids=["leader", "append time", "offset of an hour ago"],
)
def test_one_queue_of_which_kafka_does_not_tell_keeps_no_other_waiting(
    told: Told, away: Callable[[Log], None]
) -> None:
    """Nor is it read back less far than it must be: it comes another time."""
    logs = queues(3)
    away(logs["deliveries.GM0001.q1"])
    assert told(logs) == {"deliveries.GM0001.q0": 4_000, "deliveries.GM0001.q2": 4_000}


def test_a_queue_without_a_committed_offset_needs_no_append_time(told: Told) -> None:
    logs = queues(2)
    for log in logs.values():
        log.readable = False
    logs["deliveries.GM0001.q1"].mark = None
    # Its log does not start at 0, so it is damaged (D4), and told of as that.
    assert told(logs) == {"deliveries.GM0001.q1": END}
