"""What the hub asks of a broker: the same for the broker in memory and for a real Kafka.

Where they differ there is a `Lack`, and the memory class shows that it really lacks it.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka.admin import AdminClient

from hub.broker import Admin, Endpoint, Producer, consumer_config, partition_of
from hub.broker.clients import client_config
from hub.broker.containers import container_kafka, docker_answers
from hub.broker.memory import Lack, MemoryBroker
from hub.errors import BrokerAway, ConfigError
from hub.topics import QueueName, TopicSpec, queue_spec

METADATA = "1:7:u:" + "A" * (4095 - 6)


class Topics(Protocol):
    def ensure_topics(self, specs: Iterable[TopicSpec]) -> list[str]: ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int: ...


class Broker:
    """What a test needs of either."""

    def __init__(self, bootstrap: str, topics: Topics, over: dict[str, Any]) -> None:
        self.bootstrap = bootstrap
        self.topics = topics
        self._over = over

    def topic(self, partitions: int = 1) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        assert self.topics.ensure_topics([TopicSpec(name, "k", partitions)]) == [name]
        return name

    @contextmanager
    def producer(self, timeout_seconds: float = 20.0) -> Iterator[Producer]:
        yield Producer(self.bootstrap, "conformance", timeout_seconds, linger_ms=1)

    def send(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> list[Any]:
        """Acks, in the order of the calls."""

        async def run() -> list[Any]:
            producer = Producer(self.bootstrap, "conformance", 20.0)
            try:
                return await asyncio.gather(*(producer.send(topic, k, v) for k, v in records))
            finally:
                await producer.close()

        return asyncio.run(run())

    @contextmanager
    def consumer(self, group: str | None = None, **over: Any) -> Iterator[KafkaConsumer]:
        group = group or uuid.uuid4().hex
        consumer = KafkaConsumer(consumer_config(self.bootstrap, group, **(self._over | over)))
        try:
            yield consumer
        finally:
            consumer.close()

    def read(self, topic: str, count: int, partitions: int = 1) -> list[Message]:
        with self.consumer() as consumer:
            consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
            return take(consumer, count)


def take(consumer: KafkaConsumer, count: int) -> list[Message]:
    """The next `count` messages, errors included."""
    found: list[Message] = []
    until(
        lambda: bool(found.extend(consumer.consume(count - len(found), 0.2))) or len(found) >= count
    )
    return found


def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "never came"


class BrokerBehaviour:
    """Inherited by both; a subclass gives `broker`."""

    def test_records_of_a_key_keep_the_order_of_the_calls(self, broker: Broker) -> None:
        topic = broker.topic(3)
        keys = [f"key-{n}".encode() for n in range(7)]
        sent = [(keys[n % 7], str(n).encode()) for n in range(350)]
        acks = broker.send(topic, sent)
        read = broker.read(topic, len(sent), 3)
        for key in keys:
            assert [m.value() for m in read if m.key() == key] == [v for k, v in sent if k == key]
            offsets = [a.offset for a, (k, _) in zip(acks, sent, strict=True) if k == key]
            assert offsets == sorted(set(offsets))

    def test_a_key_has_the_partition_of_murmur2(self, broker: Broker) -> None:
        topic = broker.topic(12)
        keys = [uuid.uuid4().hex.encode() for _ in range(100)]
        acks = broker.send(topic, [(k, b"v") for k in keys])
        assert [a.partition for a in acks] == [partition_of(k, 12) for k in keys]

    async def test_bytes_and_headers_come_back_unchanged(self, broker: Broker) -> None:
        topic = broker.topic()
        key, value = bytes(range(256)), b"\x00\x00" + bytes(range(256)) * 900
        headers = [("ce_id", b"\x00\xff"), ("ce_id", b""), ("traceparent", b"00-1")]
        with broker.producer() as producer:
            await producer.send(topic, key, value, headers)
            await producer.send(topic, key, b"")
            await producer.close()
        first, second = await asyncio.to_thread(broker.read, topic, 2)
        assert (first.key(), first.value(), first.headers()) == (key, value, headers)
        assert (second.value(), second.headers()) == (b"", None)

    def test_commit_metadata_of_4095_bytes_comes_back(self, broker: Broker) -> None:
        topic, group = broker.topic(), uuid.uuid4().hex
        broker.send(topic, [(b"k", b"v")] * 3)
        with broker.consumer(group) as consumer:
            place = TopicPartition(topic, 0, 2, METADATA)
            consumer.commit(offsets=[place], asynchronous=False)
        with broker.consumer(group) as consumer:
            (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
        assert found.offset == 2
        assert (found.metadata or "").rstrip("\0") == METADATA

    def test_what_was_not_committed_comes_again(self, broker: Broker) -> None:
        topic, group = broker.topic(), uuid.uuid4().hex
        broker.send(topic, [(b"k", str(n).encode()) for n in range(5)])
        over = {"auto.offset.reset": "earliest"}
        with broker.consumer(group, **over) as consumer:
            consumer.subscribe([topic])
            assert len(take(consumer, 5)) == 5
            consumer.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
        with broker.consumer(group, **over) as consumer:
            consumer.subscribe([topic])
            assert [m.value() for m in take(consumer, 3)] == [b"2", b"3", b"4"]

    def test_no_committed_offset_is_an_error_not_a_jump(self, broker: Broker) -> None:
        topic = broker.topic()
        broker.send(topic, [(b"k", b"v")])
        with broker.consumer() as consumer:
            consumer.subscribe([topic])
            (message,) = take(consumer, 1)
        error = message.error()
        assert error is not None
        assert error.name() == "_AUTO_OFFSET_RESET"

    def test_trimmed_records_are_gone_and_later_ones_stay(self, broker: Broker) -> None:
        topic = broker.topic()
        broker.send(topic, [(b"k", str(n).encode()) for n in range(5)])
        assert broker.topics.delete_records(topic, 0, 3) == 3
        with broker.consumer() as consumer:
            assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 10) == (3, 5)
            consumer.assign([TopicPartition(topic, 0, 3)])
            assert [m.value() for m in take(consumer, 2)] == [b"3", b"4"]

    def test_below_the_trimmed_start_is_an_error(self, broker: Broker) -> None:
        topic = broker.topic()
        broker.send(topic, [(b"k", b"v")] * 5)
        broker.topics.delete_records(topic, 0, 3)
        with broker.consumer() as consumer:
            consumer.assign([TopicPartition(topic, 0, 1)])
            (message,) = take(consumer, 1)
        error = message.error()
        assert error is not None
        assert error.name() == "_AUTO_OFFSET_RESET"

    def test_topics_are_made_once_and_keep_their_partitions(self, broker: Broker) -> None:
        topic = broker.topic(4)
        assert broker.topics.ensure_topics([TopicSpec(topic, "k", 4)]) == []
        with pytest.raises(ConfigError, match=topic):
            broker.topics.ensure_topics([TopicSpec(topic, "k", 5)])

    def test_two_members_share_twelve_queues_evenly(self, broker: Broker) -> None:
        prefix = f"q{uuid.uuid4().hex[:8]}"
        names = {f"{prefix}.{n}" for n in range(12)}
        broker.topics.ensure_topics([TopicSpec(name, "k", 1) for name in names])
        group = uuid.uuid4().hex
        with broker.consumer(group) as first, broker.consumer(group) as second:
            for consumer in (first, second):
                consumer.subscribe([f"^{prefix}\\..*"])

            def owned() -> list[set[str]]:
                for consumer in (first, second):
                    consumer.consume(1, 0.1)
                return [{p.topic for p in c.assignment()} for c in (first, second)]

            until(lambda: {len(queues) for queues in owned()} == {6})
            one, other = owned()
            assert one | other == names


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryBroker]:
    with MemoryBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def own_admin(kafka: Endpoint) -> Iterator[Admin]:
    with Admin(kafka.bootstrap) as admin:
        yield admin


@pytest.mark.slow
class TestMemory(BrokerBehaviour):
    """Each `Lack` has a test here or is named in `NOT_SHOWN`.

    In memory, but librdkafka's own clocks make it wait half a second in each.
    """

    NOT_SHOWN = frozenset({Lack.LONG_POLL})

    @pytest.fixture
    def broker(self, memory: MemoryBroker) -> Broker:
        return Broker(memory.bootstrap, memory, memory.consumer_over)

    def test_each_lack_is_shown(self) -> None:
        shown = {
            Lack[name.removeprefix("test_lacks_").upper()]
            for name in dir(self)
            if name.startswith("test_lacks_")
        }
        assert shown | self.NOT_SHOWN == set(Lack)

    def test_lacks_durability(self) -> None:
        with MemoryBroker() as first:
            first.ensure_topics([TopicSpec("t", "k", 1)])
            assert Broker(first.bootstrap, first, first.consumer_over).send("t", [(b"k", b"v")])
        with MemoryBroker() as second:
            assert second.ensure_topics([TopicSpec("t", "k", 1)]) == ["t"]
        with pytest.raises(BrokerAway, match="records are gone"):
            _ = first.bootstrap

    def test_lacks_admin(self, broker: Broker) -> None:
        with pytest.raises(BrokerAway):
            Admin(broker.bootstrap, timeout_seconds=2)

    async def test_lacks_strict_topics(self, broker: Broker) -> None:
        with broker.producer() as producer:
            assert (await producer.send("nobody-made-me", b"k", b"v")).offset == 0
            await producer.close()

    def test_lacks_topic_config(self, broker: Broker) -> None:
        topic = broker.topic()
        broker.send(topic, [(b"k", b"v")])
        (message,) = broker.read(topic, 1)
        assert message.timestamp()[0] == TIMESTAMP_CREATE_TIME

    def test_lacks_trimming(self, broker: Broker) -> None:
        place = TopicPartition(broker.topic(), 0, 0)
        client = AdminClient(client_config(broker.bootstrap, "conformance"))
        (answer,) = client.delete_records([place], request_timeout=1).values()
        with pytest.raises(KafkaException):
            answer.result(10)

    def test_lacks_capacity(self, broker: Broker) -> None:
        topic = broker.topic()
        broker.send(topic, [(b"%d" % n, b"v" * 900_000) for n in range(7)])
        with broker.consumer() as consumer:
            start, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)
        assert (start > 0, end) == (True, 7)

    def test_lacks_metadata_limit(self, broker: Broker) -> None:
        topic = broker.topic()
        with broker.consumer() as consumer:
            place = TopicPartition(topic, 0, 0, METADATA + "A")
            consumer.commit(offsets=[place], asynchronous=False)


class RealBehaviour(BrokerBehaviour):
    """What a Kafka does beyond the broker in memory."""

    def test_the_time_of_a_record_is_the_brokers(self, broker: Broker) -> None:
        topic = broker.topic()
        broker.send(topic, [(b"k", b"v")])
        (message,) = broker.read(topic, 1)
        assert message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME

    async def test_a_topic_that_nobody_made_takes_nothing(self, broker: Broker) -> None:
        with broker.producer(timeout_seconds=2) as producer:
            with pytest.raises(BrokerAway, match="nobody-made-me"):
                await producer.send("nobody-made-me", b"k", b"v")
            await producer.close()

    def test_metadata_over_4095_bytes_is_refused(self, broker: Broker) -> None:
        topic = broker.topic()
        place = TopicPartition(topic, 0, 0, METADATA + "A")
        with broker.consumer() as consumer, pytest.raises(KafkaException) as refused:
            consumer.commit(offsets=[place], asynchronous=False)
        assert refused.value.args[0].name() == "OFFSET_METADATA_TOO_LARGE"

    def test_a_static_member_that_left_is_removed_and_twice_is_no_error(
        self, broker: Broker, admin: Admin
    ) -> None:
        topic, group = broker.topic(), uuid.uuid4().hex
        with broker.consumer(group, **{"group.instance.id": f"{group}-0"}) as consumer:
            consumer.subscribe([topic])
            until(lambda: consumer.consume(1, 0.1) == [] and consumer.assignment() != [])

        def members() -> list[Any]:
            return list(admin._kafka.describe_groups([group])[group]["members"])

        assert len(members()) == 1, "close() alone keeps a static member for the whole session"
        for _ in range(2):
            admin.remove_group_members(group, [f"{group}-0"])
            assert members() == []

    def test_a_queue_that_would_lose_records_makes_the_cluster_unfit(self, admin: Admin) -> None:
        queue = QueueName("GM0000", f"x{uuid.uuid4().hex[:8]}").topic
        config = {**queue_spec(QueueName("GM0000", "x")).config, "retention.ms": "60000"}
        admin.ensure_topics([TopicSpec(queue, "k", 1, config)])
        try:
            (problem,) = admin.check_cluster()
        finally:
            admin._kafka.delete_topics([queue])
        assert queue in problem.text
        assert "retention.ms=-1" in problem.remedy

    def test_the_cluster_is_fit_for_the_hub(self, admin: Admin) -> None:
        assert admin.check_cluster() == []


@pytest.mark.live
class TestReal(RealBehaviour):
    """Our own Kafka."""

    @pytest.fixture
    def admin(self, own_admin: Admin) -> Admin:
        return own_admin

    @pytest.fixture
    def broker(self, kafka: Endpoint, admin: Admin) -> Broker:
        return Broker(kafka.bootstrap, admin, {})


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    assert docker_answers(), "no container engine answers; `make docker` needs one"
    with container_kafka() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="module")
def container_admin(container: str) -> Iterator[Admin]:
    with Admin(container) as admin:
        yield admin


@pytest.mark.docker
class TestContainer(RealBehaviour):
    """`make docker`, apart from `make test`: not yet run anywhere, for want of an engine."""

    @pytest.fixture
    def admin(self, container_admin: Admin) -> Admin:
        return container_admin

    @pytest.fixture
    def broker(self, container: str, admin: Admin) -> Broker:
        return Broker(container, admin, {})
