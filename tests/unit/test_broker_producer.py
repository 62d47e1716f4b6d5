"""Rule 3 at our producer: one unacked record per key, and a failed one is never passed."""

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, ClassVar

import confluent_kafka
import pytest
from confluent_kafka import KafkaError

from hub.broker import Ack, Producer
from hub.broker.memory import MemoryBroker
from hub.errors import BrokerAway, Poison
from hub.topics import REQUESTS, TopicSpec

TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)


class Held:
    """librdkafka's producer, whose answers the test gives."""

    made: ClassVar["list[Held]"] = []
    full = False

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.sent: list[bytes] = []
        self._callbacks: list[Any] = []
        self._answers: queue.Queue[Any] = queue.Queue()
        Held.made.append(self)

    def produce(self, topic: str, value: bytes, key: bytes, headers: Any, on_delivery: Any) -> None:
        if self.full:
            raise BufferError
        self.sent.append(value)
        self._callbacks.append(on_delivery)

    def answer(self, value: bytes, error: KafkaError | None = None) -> None:
        at = self.sent.index(value)
        self._answers.put(partial(self._callbacks[at], error, Place(at)))

    def poll(self, timeout: float) -> None:
        try:
            self._answers.get(timeout=min(timeout, 0.02))()
        except queue.Empty:
            pass

    def purge(self) -> None:
        for value in self.sent:
            self.answer(value, KafkaError(KafkaError._PURGE_QUEUE))

    def flush(self, timeout: float) -> None:
        while not self._answers.empty():
            self.poll(0)


class Place:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


@pytest.fixture
async def producer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Producer]:
    monkeypatch.setattr(confluent_kafka, "Producer", Held)
    Held.made = []
    producer = Producer("h:1", "test", timeout_seconds=0.1)
    yield producer
    await producer.close()


def send(producer: Producer, key: bytes, value: bytes) -> "asyncio.Task[Ack]":
    return asyncio.ensure_future(producer.send("t", key, value))


async def settled(*tasks: "asyncio.Task[Ack]") -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_of_one_key_one_is_under_way_and_others_do_not_wait(producer: Producer) -> None:
    first, second, other = (
        send(producer, k, v) for k, v in ((b"a", b"1"), (b"a", b"2"), (b"b", b"3"))
    )
    await asyncio.sleep(0)
    (kafka,) = Held.made
    assert kafka.sent == [b"1", b"3"]
    kafka.answer(b"1")
    assert await first == Ack(0, 0)
    assert kafka.sent == [b"1", b"3", b"2"]
    kafka.answer(b"3")
    kafka.answer(b"2")
    assert await settled(second, other) == [Ack(0, 2), Ack(0, 1)]


async def test_the_same_key_of_another_topic_does_not_wait(producer: Producer) -> None:
    tasks = [asyncio.ensure_future(producer.send(t, b"a", t.encode())) for t in ("t", "u")]
    await asyncio.sleep(0)
    assert Held.made[0].sent == [b"t", b"u"]
    Held.made[0].answer(b"t")
    Held.made[0].answer(b"u")
    await asyncio.gather(*tasks)


async def test_what_waits_behind_a_failed_record_fails_unsent(producer: Producer) -> None:
    tasks = [send(producer, b"a", b"%d" % n) for n in range(3)]
    await asyncio.sleep(0)
    (kafka,) = Held.made
    kafka.answer(b"0", TIMED_OUT)
    assert [type(r) for r in await settled(*tasks)] == [BrokerAway] * 3
    assert kafka.sent == [b"0"]
    again = send(producer, b"a", b"again")
    await asyncio.sleep(0)
    kafka.answer(b"again")
    assert await again == Ack(0, 1)
    assert kafka.sent == [b"0", b"again"]


async def test_a_call_cancelled_while_waiting_is_never_sent(producer: Producer) -> None:
    first, second, third = (send(producer, b"a", b"%d" % n) for n in range(3))
    await asyncio.sleep(0)
    second.cancel()
    (kafka,) = Held.made
    kafka.answer(b"0")
    await first
    kafka.answer(b"2")
    await third
    assert kafka.sent == [b"0", b"2"]


async def test_a_call_cancelled_under_way_still_holds_its_key(producer: Producer) -> None:
    first, second = (send(producer, b"a", b"%d" % n) for n in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await settled(first)
    (kafka,) = Held.made
    assert kafka.sent == [b"0"], "the first may still come into the log"
    kafka.answer(b"0")
    other = send(producer, b"b", b"b")
    await asyncio.sleep(0)
    kafka.answer(b"b")
    await other
    assert kafka.sent == [b"0", b"b", b"1"] or kafka.sent == [b"0", b"1", b"b"]
    kafka.answer(b"1")
    assert isinstance(await second, Ack)


async def test_a_full_local_queue_is_broker_away_and_the_key_is_free(producer: Producer) -> None:
    Held.full = True
    try:
        with pytest.raises(BrokerAway, match="too many"):
            await producer.send("t", b"a", b"1")
    finally:
        Held.full = False
    again = send(producer, b"a", b"2")
    await asyncio.sleep(0)
    Held.made[0].answer(b"2")
    assert isinstance(await again, Ack)


async def test_close_fails_what_has_no_ack_and_ends(producer: Producer) -> None:
    tasks = [send(producer, b"a", b"%d" % n) for n in range(2)]
    await asyncio.sleep(0)
    await producer.close()
    assert [type(r) for r in await settled(*tasks)] == [BrokerAway] * 2
    assert Held.made[0].sent == [b"0"]
    with pytest.raises(BrokerAway, match="closed"):
        await producer.send("t", b"a", b"3")


async def test_settings_on_which_order_rests(producer: Producer) -> None:
    task = send(producer, b"a", b"1")
    await asyncio.sleep(0)
    expected = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
    assert Held.made[0].config | expected == Held.made[0].config
    Held.made[0].answer(b"1")
    await task


@pytest.fixture
def memory() -> Iterator[MemoryBroker]:
    with MemoryBroker() as broker:
        broker.ensure_topics([TopicSpec(REQUESTS, "k", 1)])
        yield broker


async def test_a_fatal_error_fails_its_records_and_the_next_one_goes(memory: MemoryBroker) -> None:
    """Without a fresh inner producer every later send would fail for ever."""
    producer = Producer(memory.bootstrap, "t", 20.0)
    assert (await producer.send(REQUESTS, b"k", b"0")).offset == 0
    memory.fail_produces([KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER])
    failed = await settled(*(send_to(producer, b"%d" % n) for n in range(3)))
    assert [type(r) for r in failed] == [BrokerAway] * 3
    assert (await producer.send(REQUESTS, b"k", b"4")).offset == 1
    await producer.close()


def send_to(producer: Producer, value: bytes) -> "asyncio.Task[Ack]":
    return asyncio.ensure_future(producer.send(REQUESTS, b"k", value))


@pytest.mark.slow
async def test_no_broker_is_broker_away_and_back_is_an_ack(memory: MemoryBroker) -> None:
    producer = Producer(memory.bootstrap, "t", 10.0)
    await producer.send(REQUESTS, b"k", b"0")
    memory.set_down()
    with pytest.raises(BrokerAway, match=REQUESTS):
        await producer.send(REQUESTS, b"k", b"1")
    memory.set_up()
    patient = Producer(memory.bootstrap, "t", 30.0)
    assert isinstance(await patient.send(REQUESTS, b"k", b"2"), Ack)
    await patient.close()
    await producer.close()


async def test_a_record_that_kafka_never_takes_is_poison_and_stops_no_one(
    memory: MemoryBroker,
) -> None:
    producer = Producer(memory.bootstrap, "t", 20.0)
    values = [b"0", b"x" * 2_000_000, b"y" * 2_000_000, b"1"]
    results = await settled(*(send_to(producer, value) for value in values))
    assert [type(r) for r in results] == [Ack, Poison, Poison, Ack]
    memory.fail_produces([KafkaError.MSG_SIZE_TOO_LARGE])
    results = await settled(*(send_to(producer, value) for value in (b"2", b"3")))
    assert [type(r) for r in results] == [Poison, Ack]
    await producer.close()
