"""One thread that makes every call on the Kafka consumer of delivery.

A tight `poll` loop in one thread starves `commit` in another for ever (confluent-kafka), so
commits, pauses and polls take turns here, and the event loop speaks to this thread through a
queue. Commits go for many queues in one call, one call under way.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from hub.delivery.claims import Claim, QueueLogs
from hub.delivery.listener import Commit, CommitResult, Listener, Taken
from hub.errors import BrokerAway, HubError
from hub.telemetry import logger
from hub.topics import QUEUE_PATTERN, QueueName

BATCH_RECORDS: Final = 100
BATCHES_AHEAD: Final = 2
"""What may still come for a queue after `pause`: BATCH_RECORDS * (BATCHES_AHEAD + 1)."""

_BUSY_SECONDS: Final = 0.005
_IDLE_SECONDS: Final = 0.05
_CALM_AFTER_SECONDS: Final = 1.0
_SAY_AGAIN_SECONDS: Final = 10.0
_COMMIT_BYTES: Final = 500_000
"""Kafka refuses commits over its largest record batch (1 MB), with all queues in them."""
_COMMIT_OVERHEAD_BYTES: Final = 150
_CLAIM_AGAIN_SECONDS: Final = 0.5
_CLAIM_REST: Final = 10.0
"""So many times as long as the claims took that told nothing."""
_ANSWER_SECONDS: Final = 90.0
"""Longer than librdkafka lets a commit be unanswered."""
_LAST_COMMIT_SECONDS: Final = 1.0
"""For the commits of a hand-over whose sends have used up their time."""

_OVER: Final = frozenset({KafkaError.UNKNOWN_MEMBER_ID})
_REPLACED: Final = frozenset({KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID})  # noqa: SLF001


class Replaced(HubError):
    """Another process uses our instance id; this consumer is dead. Failure policy: exit 75."""


@dataclass(frozen=True, slots=True)
class _Steer:
    how: Literal["resume", "pause", "seek"]
    queue: QueueName
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Released:
    queue: QueueName


class _Stop: ...


_Request = Commit | _Steer | _Released | _Stop
_Marks = frozenset[tuple[str, int, str | None]]
"""What a commit says, by which its answer is known: topic, offset, metadata."""


class QueueReader:
    """Reads the queues that the group gives this process. Methods but `run` are for the loop."""

    def __init__(
        self,
        config: Mapping[str, Any],
        logs: QueueLogs,
        listener: Listener,
        revoke_seconds: float,
        pattern: str = QUEUE_PATTERN,
    ) -> None:
        self._config = dict(config)
        self._logs = logs
        self._listener = listener
        self._revoke_seconds = revoke_seconds
        self._pattern = pattern
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests: queue.Queue[_Request] = queue.Queue()
        self._inbox: deque[_Request] = deque()
        self._commits: dict[str, Commit] = {}
        self._under_way: dict[str, Commit] | None = None
        self._begun_at = 0.0
        self._told_at = -_SAY_AGAIN_SECONDS
        self._done_again: list[_Marks] = []
        """Commits whose own answer, which may still come, says nothing any more."""
        self._ours: set[QueueName] = set()
        self._batch: list[Taken] = []
        self._unclaimed: set[str] = set()
        """Topics that the group gives us and of which Kafka has not told the offsets yet."""
        self._claim_at = 0.0
        self._handing_over: set[QueueName] = set()
        self._stopping = False
        self._room = threading.Semaphore(BATCHES_AHEAD)
        self._active_at = 0.0
        self._failure: HubError | None = None
        self.last_poll = time.monotonic()
        """When the last turn of the poll loop began (protocol F3), by time.monotonic."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self.run, name="queue-reader", daemon=True).start()

    def owns(self, queue_name: QueueName) -> bool:
        """Whether the group gives it to us still: known here before the loop is told (F3)."""
        return queue_name in self._ours

    def commit(self, commit: Commit) -> None:
        self._requests.put(commit)

    def resume(self, queue_name: QueueName) -> None:
        self._requests.put(_Steer("resume", queue_name))

    def pause(self, queue_name: QueueName) -> None:
        self._requests.put(_Steer("pause", queue_name))

    def rewind(self, queue_name: QueueName, offset: int) -> None:
        """Read a paused queue again from `offset` on, once it is resumed."""
        self._requests.put(_Steer("seek", queue_name, offset))

    def released(self, queue_name: QueueName) -> None:
        self._requests.put(_Released(queue_name))

    def stop(self) -> None:
        """Leave the group without a word (static membership); `ended` tells when it is done."""
        self._requests.put(_Stop())

    # --- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        try:
            consumer = Consumer(
                {**self._config, "on_commit": self._on_commit, "error_cb": self._on_error}
            )
            try:
                consumer.subscribe(
                    [self._pattern],
                    on_assign=self._on_assign,
                    on_revoke=self._on_revoke,
                    on_lost=self._on_lost,
                )
                while not self._stopping:
                    self._turn(consumer)
            finally:
                # `close` calls on_revoke once more; there is nothing left to hand over.
                self._stopping = True
                consumer.close()
        except HubError as error:
            self._tell(self._listener.ended, error)
        except KafkaException as error:
            self._tell(self._listener.ended, BrokerAway(f"queue reader: {error.args[0]}"))
        except Exception as bug:  # noqa: BLE001 - else nobody would ever hear of this thread again
            self._tell(self._listener.ended, HubError(f"queue reader: {type(bug).__name__}"))
        else:
            self._tell(self._listener.ended, None)

    def _turn(self, consumer: Consumer) -> None:
        self._serve(consumer)
        self._begin_commit(consumer)
        self._claim_the_rest(consumer)
        if not self._room.acquire(blocking=False):
            # The loop is behind: wait for it, or for a request; heartbeats have their own thread.
            self._wait_for_request(_BUSY_SECONDS)
            return
        records = self._poll(consumer)
        if records:
            self._active_at = time.monotonic()
            self._tell(self._hand_over, records)
        else:
            self._room.release()
        if self._failure is not None:
            raise self._failure

    def _hand_over(self, records: list[Taken]) -> None:
        try:
            self._listener.taken(records)
        finally:
            self._room.release()

    def _poll(self, consumer: Consumer) -> list[Taken]:
        self.last_poll = time.monotonic()
        calm = self.last_poll - self._active_at > _CALM_AFTER_SECONDS
        records = self._batch = []
        message = consumer.poll(_IDLE_SECONDS if calm else _BUSY_SECONDS)
        while message is not None:
            if (error := message.error()) is not None:
                self._speak_of(error, message)
            else:
                records.append(_taken(message))
            if len(records) >= BATCH_RECORDS:
                break
            message = consumer.poll(0)
        return records

    def _speak_of(self, error: KafkaError, message: Message) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            # An offset that the log does not have: no retry brings those records back.
            name = QueueName.from_topic(str(message.topic()))
            self._tell(self._listener.damaged, name, f"no record at offset {message.offset()}")
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _REPLACED:
            self._failure = Replaced(f"this consumer is dead ({error.name()})")
        elif error.code() != KafkaError._TRANSPORT:  # noqa: SLF001 - librdkafka reconnects
            logger().warning("kafka_says", error=error.name())

    def _wait_for_request(self, seconds: float) -> None:
        try:
            self._inbox.append(self._requests.get(timeout=seconds))
        except queue.Empty:
            return

    def _serve(self, consumer: Consumer) -> None:
        """Do what the loop asked, in its order."""
        while not self._requests.empty():
            self._inbox.append(self._requests.get())
        while self._inbox:
            match self._inbox.popleft():
                case Commit() as commit:
                    # Kafka takes commits of any queue from any member: one that comes after the
                    # hand-over would put back what the next owner has committed.
                    if commit.queue in self._ours:
                        self._commits[commit.queue.topic] = commit
                case _Steer() as steer:
                    _steer(consumer, steer)
                case _Released(name):
                    self._handing_over.discard(name)
                case _Stop():
                    self._stopping = True

    # --- commits ------------------------------------------------------------------------------

    def _begin_commit(self, consumer: Consumer) -> None:
        now = time.monotonic()
        if self._under_way is not None and now - self._begun_at > _ANSWER_SECONDS:
            self._done_again = [_marks(_places(self._under_way))]
            self._settle(KafkaError(KafkaError._TIMED_OUT), [])  # noqa: SLF001
        if self._under_way is not None or not self._commits:
            return
        self._active_at = self._begun_at = now
        self._under_way = self._next_commits()
        try:
            consumer.commit(offsets=_places(self._under_way), asynchronous=True)
        except KafkaException as error:
            self._settle(error.args[0], [])

    def _next_commits(self) -> dict[str, Commit]:
        """Those that wait longest, as many as Kafka takes in one call."""
        room = _COMMIT_BYTES
        chosen: dict[str, Commit] = {}
        for topic, commit in self._commits.items():
            room -= _COMMIT_OVERHEAD_BYTES + len(topic) + len(commit.metadata)
            if chosen and room < 0:
                break
            chosen[topic] = commit
        for topic in chosen:
            del self._commits[topic]
        return chosen

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        # An answer that stayed out must not be taken for that of a later commit.
        if (marks := _marks(places)) in self._done_again:
            self._done_again.remove(marks)
        else:
            self._settle(error, places)

    def _settle(self, error: KafkaError | None, places: Sequence[TopicPartition]) -> None:
        if self._under_way is None:
            return
        sent, self._under_way = self._under_way, None
        errors = {place.topic: place.error for place in places}
        results = []
        for topic, commit in sent.items():
            # No word on a topic is no success either.
            failed = error or errors.get(topic, KafkaError(KafkaError._FAIL))  # noqa: SLF001
            results.append((commit, self._result(failed)))
            if failed is not None:
                self._say_refused(topic, failed)
        self._tell(self._listener.committed, results)

    def _say_refused(self, topic: str, error: KafkaError) -> None:
        """Without commits nothing is sent, so it must be seen; each is tried ten times a second."""
        if time.monotonic() - self._told_at > _SAY_AGAIN_SECONDS:
            self._told_at = time.monotonic()
            logger().warning("commit_refused", topic=topic, error=error.name())

    def _result(self, error: KafkaError | None) -> CommitResult:
        if error is None:
            return CommitResult.ACKED
        if error.code() in _REPLACED:
            self._on_error(error)
            return CommitResult.OVER
        return CommitResult.OVER if error.code() in _OVER else CommitResult.REFUSED

    def _commit_now(self, consumer: Consumer) -> None:
        """Inside a rebalance callback no other callback is served: commit and wait."""
        if self._under_way is not None:
            # Done again, as its answer cannot be heard here.
            self._done_again.append(_marks(_places(self._under_way)))
        again = {**(self._under_way or {}), **self._commits}
        self._commits = {t: c for t, c in again.items() if c.queue in self._ours}
        self._under_way = None
        while self._commits:
            self._under_way = self._next_commits()
            try:
                places = consumer.commit(offsets=_places(self._under_way), asynchronous=False)
            except KafkaException as error:
                self._settle(error.args[0], [])
            else:
                self._settle(None, places)

    # --- the group ----------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        topics = [place.topic for place in places]
        claims = self._claims(consumer, topics)
        starts = {t: claims[t].read_from if t in claims else OFFSET_END for t in topics}
        consumer.incremental_assign([TopicPartition(t, 0, start) for t, start in starts.items()])
        self._unclaimed.update(topic for topic in topics if topic not in claims)
        if self._unclaimed:
            # Kafka is starting, or a leader is: from where to read is not known yet.
            consumer.pause([TopicPartition(topic, 0) for topic in self._unclaimed])
        self._claimed(claims)

    def _claims(self, consumer: Consumer, topics: Collection[str]) -> dict[str, Claim]:
        began = time.monotonic()
        claims: dict[str, Claim] = {}
        try:
            claims = self._logs.claims(consumer, topics)
        except BrokerAway as error:
            logger().warning("claim_later", count=len(topics), error=str(error))
        now = time.monotonic()
        # Meanwhile no other queue can commit: one leader that is away must not cost them more.
        rest = 1.0 if claims else _CLAIM_REST
        self._claim_at = now + max(_CLAIM_AGAIN_SECONDS, rest * (now - began))
        return claims

    def _claim_the_rest(self, consumer: Consumer) -> None:
        if not self._unclaimed or time.monotonic() < self._claim_at:
            return
        found = self._claims(consumer, self._unclaimed)
        # Where the seek fails, the next record would come from the end of the log.
        claims = {
            topic: claim
            for topic, claim in found.items()
            if _steer(consumer, _Steer("seek", claim.queue, claim.read_from))
        }
        self._unclaimed -= claims.keys()
        for claim in claims.values():
            _steer(consumer, _Steer("resume", claim.queue))
        self._claimed(claims)

    def _claimed(self, claims: Mapping[str, Claim]) -> None:
        self._ours |= {claim.queue for claim in claims.values()}
        if claims:
            self._tell(self._listener.claimed, list(claims.values()))

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """Hand over: the loop drains these queues and gives their last commits."""
        names = [QueueName.from_topic(place.topic) for place in places]
        self._unclaimed -= {place.topic for place in places}
        if self._stopping or not names:
            return
        self._handing_over = set(names)
        self._tell(self._listener.revoking, names, self._revoke_seconds)
        until = time.monotonic() + self._revoke_seconds + _LAST_COMMIT_SECONDS
        while self._handing_over and (left := until - time.monotonic()) > 0:
            self._wait_for_request(min(left, _IDLE_SECONDS))
            self._serve(consumer)
            self._commit_now(consumer)
        self._let_go(names)

    def _on_lost(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        self._let_go([QueueName.from_topic(place.topic) for place in places])

    def _let_go(self, names: list[QueueName]) -> None:
        """Nothing of these queues comes or goes any more, also not what is on its way."""
        self._unclaimed -= {name.topic for name in names}
        self._ours.difference_update(names)
        self._batch[:] = [record for record in self._batch if record.queue not in names]
        for name in names:
            self._commits.pop(name.topic, None)
        self._tell(self._listener.lost, names)

    def _tell(self, what: Callable[..., None], *about: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(what, *about)
        except RuntimeError:
            # The loop is closed: this process is ending and nobody listens.
            self._stopping = True


def _steer(consumer: Consumer, steer: _Steer) -> bool:
    place = TopicPartition(steer.queue.topic, 0, steer.offset)
    try:
        if steer.how == "seek":
            consumer.seek(place)
        elif steer.how == "pause":
            consumer.pause([place])
        else:
            consumer.resume([place])
    except KafkaException:
        # Revoked in the meantime: whoever asked hears of that too.
        logger().debug("queue_not_ours", topic=place.topic)
        return False
    return True


def _marks(places: Sequence[TopicPartition]) -> _Marks:
    return frozenset((place.topic, place.offset, place.metadata) for place in places)


def _places(commits: Mapping[str, Commit]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, 0, commit.watermark, commit.metadata)
        for topic, commit in commits.items()
    ]


_queue_of = lru_cache(maxsize=10_000)(QueueName.from_topic)


def _taken(message: Message) -> Taken:
    return Taken(
        _queue_of(str(message.topic())),
        int(message.offset() or 0),
        message.key() or b"",
        message.value() or b"",
        message.timestamp()[1] / 1000,
    )
