"""The thread on the Kafka consumer: whose commits go out, whose answers count."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from hub.delivery import reader as reader_module
from hub.delivery.claims import Bounds, Claim
from hub.delivery.listener import Commit, CommitResult, Taken
from hub.delivery.reader import QueueReader
from hub.errors import HubError
from hub.topics import QueueName

A, B = QueueName("GM0001", "a"), QueueName("GM0001", "b")
Step = Callable[["Consumer"], Any]


class Listener:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.at_revoke: Callable[[], None] = lambda: None

    def claimed(self, claims: Sequence[Claim]) -> None:
        self.told.append(("claimed", [claim.queue for claim in claims]))

    def taken(self, records: Sequence[Taken]) -> None:
        self.told += [("taken", record.queue) for record in records]

    def committed(self, results: Sequence[tuple[Commit, CommitResult]]) -> None:
        self.told += [("committed", (commit.token, result)) for commit, result in results]

    def revoking(self, queues: Sequence[QueueName], seconds: float) -> None:
        self.told.append(("revoking", list(queues)))
        self.at_revoke()

    def lost(self, queues: Sequence[QueueName]) -> None:
        self.told.append(("lost", list(queues)))

    def damaged(self, queue: QueueName, problem: str) -> None:
        self.told.append(("damaged", queue))

    def ended(self, error: HubError | None) -> None:
        self.told.append(("ended", error))

    def of(self, what: str) -> list[Any]:
        return [about for told, about in self.told if told == what]


class Loop:
    def call_soon_threadsafe(self, what: Callable[..., None], *about: Any) -> None:
        what(*about)


class Logs:
    def __init__(self) -> None:
        self.away: list[set[str]] = []
        """Topics not told of, at the next calls."""

    def claims(self, _consumer: Any, topics: Collection[str]) -> dict[str, Claim]:
        away = self.away.pop(0) if self.away else set()
        return {
            t: Claim(QueueName.from_topic(t), None, Bounds(0, 0), 0)
            for t in topics
            if t not in away
        }


class Message:
    def __init__(self, queue: QueueName) -> None:
        self._topic = queue.topic

    def error(self) -> None: ...

    def topic(self) -> str:
        return self._topic

    def offset(self) -> int:
        return 0

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def timestamp(self) -> tuple[int, int]:
        return 2, 0


class Consumer:
    """Each `poll` takes the next step; after the last one the reader is stopped."""

    def __init__(self, config: dict[str, Any], reader: QueueReader, steps: list[Step]) -> None:
        self.answer = config["on_commit"]
        self.reader = reader
        self.steps = steps
        self.steered: list[tuple[str, str]] = []
        self.seek_fails: list[bool] = []
        self.asynchronous: list[list[TopicPartition]] = []
        self.synchronous: list[list[TopicPartition]] = []

    def subscribe(self, _topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.on_assign, self.on_revoke, self.on_lost = on_assign, on_revoke, on_lost

    def poll(self, _seconds: float) -> Any:
        if not self.steps:
            self.reader.stop()
            return None
        made = self.steps.pop(0)(self)
        return made if isinstance(made, Message) else None

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> Any:
        (self.asynchronous if asynchronous else self.synchronous).append(offsets)
        return None if asynchronous else offsets

    def incremental_assign(self, _places: list[TopicPartition]) -> None: ...

    def pause(self, places: list[TopicPartition]) -> None:
        self.steered.append(("pause", places[0].topic[-1]))

    def resume(self, places: list[TopicPartition]) -> None:
        self.steered.append(("resume", places[0].topic[-1]))

    def seek(self, place: TopicPartition) -> None:
        self.steered.append(("seek", place.topic[-1]))
        if self.seek_fails.pop() if self.seek_fails else False:
            raise KafkaException(KafkaError(KafkaError._STATE))

    def close(self) -> None: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Listener, Consumer]]:
    def run(
        *steps: Step,
        at_revoke: Callable[[QueueReader], None] | None = None,
        away: Sequence[set[str]] = (),
    ) -> Any:
        listener = Listener()
        logs: Any = Logs()
        logs.away = list(away)
        reader = QueueReader({}, logs, listener, 0.0)
        loop: Any = Loop()
        reader._loop = loop
        if at_revoke is not None:
            listener.at_revoke = lambda: at_revoke(reader)
        made: list[Consumer] = []

        def make(config: dict[str, Any]) -> Consumer:
            made.append(Consumer(config, reader, list(steps)))
            return made[0]

        monkeypatch.setattr(reader_module, "Consumer", make)
        # What is handed over here is handed over at once; the rest need not wait for it.
        monkeypatch.setattr(reader_module, "_LAST_COMMIT_SECONDS", 0.2)
        reader.run()
        return listener, made[0]

    return run


def places(*queues: QueueName) -> list[TopicPartition]:
    return [TopicPartition(queue.topic, 0) for queue in queues]


def assign(*queues: QueueName) -> Step:
    return lambda consumer: consumer.on_assign(consumer, places(*queues))


def revoke(*queues: QueueName) -> Step:
    return lambda consumer: consumer.on_revoke(consumer, places(*queues))


def lose(*queues: QueueName) -> Step:
    return lambda consumer: consumer.on_lost(consumer, places(*queues))


def ask(queue: QueueName, token: int) -> Step:
    commit = Commit(queue, None, token, token, f"1:1:u:{token}")
    return lambda consumer: consumer.reader.commit(commit)


def answer(nth: int, error: KafkaError | None = None) -> Step:
    """Kafka's answer to the n-th asynchronous commit is heard."""
    return lambda consumer: consumer.answer(error, consumer.asynchronous[nth])


Run = Callable[..., tuple[Listener, Consumer]]


def offsets(commits: list[list[TopicPartition]]) -> list[list[tuple[str, int]]]:
    return [[(place.topic[-1], place.offset) for place in commit] for commit in commits]


def test_one_commit_is_under_way_and_its_answer_counts(run: Run) -> None:
    listener, consumer = run(assign(A), ask(A, 1), ask(A, 2), answer(0), lambda _: None, answer(1))
    assert offsets(consumer.asynchronous) == [[("a", 1)], [("a", 2)]]
    assert listener.of("committed") == [(1, CommitResult.ACKED), (2, CommitResult.ACKED)]


def test_an_answer_that_stayed_out_is_not_taken_for_that_of_a_later_commit(run: Run) -> None:
    """A hand-over does the commit under way again; its own answer comes when a later one is out."""
    refused = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    listener, consumer = run(
        *(assign(A, B), ask(A, 1), revoke(B), ask(A, 2), answer(0), answer(1, refused)),
        at_revoke=lambda reader: reader.released(B),
    )
    assert offsets(consumer.synchronous) == [[("a", 1)]]
    assert offsets(consumer.asynchronous) == [[("a", 1)], [("a", 2)]]
    assert listener.of("committed") == [(1, CommitResult.ACKED), (2, CommitResult.REFUSED)]


@pytest.mark.parametrize("go", [revoke, lose])
def test_no_commit_goes_out_for_a_queue_that_went(run: Run, go: Callable[..., Step]) -> None:
    """Kafka would take it, and put back what the next owner has committed."""
    listener, consumer = run(assign(A, B), go(A), ask(A, 1), ask(B, 2), lambda _: None)
    assert listener.of("lost") == [[A]]
    assert offsets(consumer.asynchronous) == [[("b", 2)]]


def test_a_hand_over_does_no_commit_again_of_a_queue_that_went_before(run: Run) -> None:
    _, consumer = run(
        *(assign(A, B), ask(A, 1), lose(A), revoke(B)),
        at_revoke=lambda reader: reader.commit(Commit(B, None, 2, 2, "1:1:c:")),
    )
    assert offsets(consumer.synchronous) == [[("b", 2)]]


def test_a_queue_is_ours_until_it_is_handed_over(run: Run) -> None:
    seen: list[bool] = []

    def look(consumer: Consumer) -> None:
        seen.append(consumer.reader.owns(A))

    run(look, assign(A), look, revoke(A), look, at_revoke=lambda r: seen.append(r.owns(A)))
    assert seen == [False, True, True, False]


def test_records_polled_before_a_queue_went_do_not_come_behind_its_next_claim(run: Run) -> None:
    """The next claim reads them again; in between they would look like a hole in the log."""

    def message(consumer: Consumer) -> Message:
        consumer.steps[:0] = [go_and_come]
        return Message(A)

    def go_and_come(consumer: Consumer) -> Message:
        lose(A)(consumer)
        assign(A)(consumer)
        return Message(B)

    listener, _ = run(assign(A, B), message)
    assert listener.of("taken") == [B]
    assert [set(queues) for queues in listener.of("claimed")] == [{A, B}, {A}]


def test_commits_that_kafka_would_not_take_in_one_call_go_in_several(run: Run) -> None:
    """Refused as a whole, and asked for again as a whole, they would stop every queue for ever."""
    queues = [QueueName("GM0001", f"q{n}") for n in range(400)]
    big = "1:1:u:" + "A" * 3000

    def all_of_them(consumer: Consumer) -> None:
        for queue in queues:
            consumer.reader.commit(Commit(queue, None, 1, 1, big))

    answers = [answer(n) for n in range(3)]
    listener, consumer = run(assign(*queues), all_of_them, *answers, lambda _: None)
    assert len(consumer.asynchronous) == 3
    assert all(sum(len(p.metadata or "") for p in c) < 500_000 for c in consumer.asynchronous)
    assert len(listener.of("committed")) == len(queues)
    _, consumer = run(assign(*queues), all_of_them, revoke(queues[0]))
    assert len(consumer.synchronous) >= 2


def test_a_commit_without_any_answer_does_not_hold_up_the_others_for_ever(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_ANSWER_SECONDS", -1.0)
    listener, consumer = run(assign(A), ask(A, 1), ask(A, 2), lambda _: None)
    assert listener.of("committed")[0] == (1, CommitResult.REFUSED)
    assert offsets(consumer.asynchronous)[1] == [("a", 2)]


def test_a_bug_ends_the_thread_aloud(run: Run) -> None:
    def bug(_consumer: Consumer) -> None:
        raise ZeroDivisionError("never shown")

    listener, _ = run(assign(A), bug)
    (error,) = listener.of("ended")
    assert isinstance(error, HubError)
    assert "ZeroDivisionError" in str(error)
    assert "never shown" not in str(error)


def test_a_queue_of_which_kafka_does_not_tell_is_claimed_when_it_does(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_CLAIM_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(reader_module, "_CLAIM_REST", 0.0)
    listener, consumer = run(assign(A, B), *[lambda _: None] * 3, away=[{B.topic}, {B.topic}])
    assert listener.of("claimed") == [[A], [B]]
    assert consumer.steered == [("pause", "b"), ("seek", "b"), ("resume", "b")]


def test_a_queue_that_cannot_be_wound_back_yet_is_not_read_from_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_CLAIM_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(reader_module, "_CLAIM_REST", 0.0)

    def fails(consumer: Consumer) -> None:
        consumer.seek_fails.append(True)

    listener, consumer = run(fails, assign(B), *[lambda _: None] * 3, away=[{B.topic}])
    assert listener.of("claimed") == [[B]]
    assert consumer.steered == [("pause", "b"), ("seek", "b"), ("seek", "b"), ("resume", "b")]
