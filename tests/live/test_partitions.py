"""The three clients of the hub put the same key in the same partition of a real Kafka."""

import asyncio
import random
import uuid

import aiokafka
import kafka as kafka_python
import pytest

from hub.broker import Admin, Endpoint, Producer, partition_of
from hub.topics import TopicSpec

pytestmark = pytest.mark.live

PARTITIONS = 24
SEED = 1000


@pytest.fixture
def topic(kafka: Endpoint) -> str:
    name = f"partitions-{uuid.uuid4().hex[:8]}"
    with Admin(kafka.bootstrap) as admin:
        assert admin.ensure_topics([TopicSpec(name, "k", PARTITIONS)]) == [name]
    return name


def keys() -> list[bytes]:
    """Half as the hub makes them, half of any length and content."""
    chance = random.Random(SEED)
    ours = [str(uuid.UUID(int=chance.getrandbits(128))).encode() for _ in range(500)]
    return ours + [chance.randbytes(chance.randint(1, 90)) for _ in range(500)]


async def by_confluent(bootstrap: str, topic: str) -> list[int]:
    producer = Producer(bootstrap, "partitions", 30.0)
    try:
        acks = await asyncio.gather(*(producer.send(topic, key, b"c") for key in keys()))
    finally:
        await producer.close()
    return [ack.partition for ack in acks]


def by_kafka_python(bootstrap: str, topic: str) -> list[int]:
    producer = kafka_python.KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    try:
        sent = [producer.send(topic, key=key, value=b"k") for key in keys()]
        return [future.get(30).partition for future in sent]
    finally:
        producer.close()


async def by_aiokafka(bootstrap: str, topic: str) -> list[int]:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        sent = [await producer.send(topic, key=key, value=b"a") for key in keys()]
        return [record.partition for record in await asyncio.gather(*sent)]
    finally:
        await producer.stop()


async def test_three_clients_agree_on_1000_keys(kafka: Endpoint, topic: str) -> None:
    confluent = await by_confluent(kafka.bootstrap, topic)
    plain = await asyncio.to_thread(by_kafka_python, kafka.bootstrap, topic)
    asynchronous = await by_aiokafka(kafka.bootstrap, topic)
    assert confluent == plain == asynchronous
    assert confluent == [partition_of(key, PARTITIONS) for key in keys()]
    assert set(confluent) == set(range(PARTITIONS))
