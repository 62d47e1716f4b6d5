"""From a website's POST to the topic `requests`, over a broker in memory."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import confluent_kafka
import httpx
import pytest
from confluent_kafka import TopicPartition

from hub.broker import Producer, consumer_config
from hub.broker.memory import MemoryBroker
from hub.contract import ENVELOPE
from hub.event import Envelope
from hub.topics import CATALOGUE, REQUESTS
from tests.desk import MOON, STAR, SUN, Desk, relocation

PARTITIONS = next(spec.partitions for spec in CATALOGUE if spec.name == REQUESTS)


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    with MemoryBroker() as memory:
        memory.ensure_topics(CATALOGUE)
        yield memory


@pytest.fixture
async def website(desk: Desk, broker: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    producer = Producer(broker.bootstrap, "intake", timeout_seconds=30.0)
    desk.admission = desk.make_admission(producer)
    async with desk.website() as client:
        yield client
    await producer.close()


def move_of(bsn: str, number: int) -> dict[str, Any]:
    return relocation(
        **{
            "aanvrager.bsn": bsn,
            "gegevens.nieuwAdres.huisnummer": number,
            "gegevens.meeverhuizers": [],
        }
    )


async def post(website: httpx.AsyncClient, body: Any, key: str) -> httpx.Response:
    return await website.post("/v1/verzoeken", json=body, headers={"Idempotency-Key": key})


def log(desk: Desk, broker: MemoryBroker) -> list[tuple[bytes, Envelope]]:
    """Every record of `requests`; of one partition in its order."""
    over = broker.consumer_over | {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(consumer_config(broker.bootstrap, "reader", **over))
    consumer.assign([TopicPartition(REQUESTS, p, 0) for p in range(PARTITIONS)])
    found, ended = [], 0
    while ended < PARTITIONS:
        message = consumer.poll(10.0)
        assert message is not None, "the broker gives neither records nor an end"
        if message.error() is not None:
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
            ended += 1
            continue
        decoded = desk.contract.decode(message.value(), ENVELOPE)
        found.append((message.key(), Envelope.from_record(decoded.record)))
    consumer.close()
    return found


async def test_one_citizens_requests_stand_in_the_order_of_their_202s(
    desk: Desk, broker: MemoryBroker, website: httpx.AsyncClient
) -> None:
    async def citizen(bsn: str) -> None:
        for number in range(1, 11):
            response = await post(website, move_of(bsn, number), f"{bsn}-{number}")
            assert response.status_code == 202

    await asyncio.gather(*(citizen(bsn) for bsn in (SUN, MOON, STAR)))
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for key, envelope in log(desk, broker):
        assert key == envelope.subject_ref.encode()
        by_key[key].append(desk.opened(envelope)[0]["new_address"]["house_number"])
    assert list(by_key.values()) == [list(range(1, 11))] * 3


@pytest.mark.slow
async def test_503_while_the_broker_is_down_and_the_same_reference_after(
    desk: Desk, broker: MemoryBroker, website: httpx.AsyncClient
) -> None:
    assert (await post(website, move_of(SUN, 1), "a")).status_code == 202
    patient = desk.admission._producer
    hasty = Producer(broker.bootstrap, "hasty", timeout_seconds=0.5)
    desk.admission._producer = hasty
    broker.set_down()
    assert (await post(website, move_of(SUN, 2), "b")).status_code == 503
    (pending,) = [row for row in desk.rows() if row.state == "pending"]
    # It is already there for whoever asks.
    assert (await website.get(f"/v1/verzoeken/{pending.reference}")).status_code == 200
    broker.set_up()
    await hasty.close()
    desk.admission._producer = patient
    answer = await post(website, move_of(SUN, 2), "b")
    assert answer.status_code == 202
    assert answer.json()["id"] == pending.id
    numbers = [desk.opened(e)[0]["new_address"]["house_number"] for _, e in log(desk, broker)]
    assert numbers[0] == 1
    # The failed try may have arrived as well: a copy of the same id, which queues drop.
    assert set(numbers[1:]) == {2}
    assert {e.id for _, e in log(desk, broker)} == {row.id for row in desk.rows()}


async def test_nothing_readable_reaches_the_broker(
    desk: Desk, broker: MemoryBroker, website: httpx.AsyncClient
) -> None:
    await post(website, relocation(), "a")
    ((_, envelope),) = log(desk, broker)
    wire = desk.contract.encode(ENVELOPE, envelope.to_record())
    for secret in (SUN, MOON, "Boterdiep", "1011AB", "zon@voorbeeld.nl"):
        assert secret.encode() not in wire
    assert desk.opened(envelope)[0]["applicant"] == {"bsn": SUN}
