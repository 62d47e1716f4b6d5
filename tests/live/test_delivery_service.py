"""Delivery on a real Kafka: order, park, restart, split of queues."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from hub.broker import Endpoint
from hub.delivery import service as service_module
from hub.delivery.effects import CommandKind
from hub.outcome import OutcomeKind
from hub.topics import QueueName
from tests.live.back_office import BackOffice, Seen, World, back_office

pytestmark = pytest.mark.live


@pytest.fixture
async def office() -> AsyncIterator[BackOffice]:
    async with back_office() as running:
        yield running


@pytest.fixture
async def world(kafka: Endpoint, tmp_path: Path, office: BackOffice) -> AsyncIterator[World]:
    made = World(tmp_path, kafka.bootstrap, office)
    yield made
    await made.close()


def committed(world: World, queue: QueueName) -> tuple[int, str]:
    consumer = Consumer({"bootstrap.servers": world.bootstrap, "group.id": world.group})
    try:
        (place,) = consumer.committed([TopicPartition(queue.topic, 0)], 20.0)
    finally:
        consumer.close()
    return place.offset, place.metadata or ""


async def test_a_queue_is_delivered_in_order_once_and_its_offset_says_clean(
    world: World, office: BackOffice
) -> None:
    queue = world.queue("all")
    world.make_topics()
    lanes = [f"lane-{n}" for n in range(20)]
    sent = await world.put(queue, lanes, 0, 200)
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 200)
    for at, lane in enumerate(lanes):
        assert office.numbers(queue, lane) == list(range(at, 200, 20))
    assert office.repeats() == 0
    assert office.most_under_way <= world.limits.concurrency
    assert {s.body["bsn"] for s in office.requests} == {"999993653"}
    assert {key for _, key in office.applied} == {envelope.id for envelope in sent}
    assert committed(world, queue) == (200, "1:1:c:")
    told = world.outcomes(200)
    assert Counter(o.kind for o in told) == {OutcomeKind.DELIVERED: 200}
    assert {o.event_id for o in told} == {envelope.id for envelope in sent}


async def test_a_refused_record_parks_its_lane_only_and_a_resend_restores_the_order(
    world: World, office: BackOffice
) -> None:
    queue = world.queue("park")
    world.make_topics()
    healed = False

    def refuse_first_of_a(seen: Seen) -> int:
        return 400 if seen.lane == "a" and seen.number == 0 and not healed else 201

    office.answers = refuse_first_of_a
    sent = await world.put(queue, ["a", "b", "c"], 0, 30)
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 20)
        await office.until(lambda: len(world.rows.list_parked(str(queue))) == 10)
        parked = world.rows.list_parked(str(queue))
        assert [(r.reason, r.status) for r in parked][:2] == [("record", 400), (None, None)]
        assert [r.event_id for r in parked] == [e.id for e in sent[0::3]]
        assert office.numbers(queue, "a") == []
        assert office.numbers(queue, "b") == list(range(1, 30, 3))
        healed = True
        world.rows.request_command(CommandKind.RESEND, sent[0].id, by="test")
        await office.until(lambda: len(office.applied) == 30)
        await office.until(lambda: not world.rows.list_parked(str(queue)))
    assert office.numbers(queue, "a") == list(range(0, 30, 3))
    assert office.repeats() == 1
    kinds = Counter(o.kind for o in world.outcomes(50))
    assert (kinds[OutcomeKind.PARKED], kinds[OutcomeKind.RESUMED]) == (10, 10)


async def test_a_skip_ends_as_rejected_and_the_lane_goes_on(
    world: World, office: BackOffice
) -> None:
    queue = world.queue("skip")
    world.make_topics()
    office.answers = lambda seen: 400 if seen.number == 0 else 201
    sent = await world.put(queue, ["a"], 0, 3)
    async with world.delivering():
        await office.until(lambda: len(world.rows.list_parked(str(queue))) == 3)
        world.rows.request_command(CommandKind.SKIP, sent[0].id, "double", "test")
        await office.until(lambda: len(office.applied) == 2)
        await office.until(lambda: not world.rows.list_parked(str(queue)))
    assert office.numbers(queue, "a") == [1, 2]
    final = {o.event_id: o.kind for o in world.outcomes(8) if o.kind is OutcomeKind.REJECTED}
    assert final == {sent[0].id: OutcomeKind.REJECTED}


async def test_a_restart_goes_on_where_it_was_without_a_second_request(
    world: World, office: BackOffice
) -> None:
    queue = world.queue("restart")
    world.make_topics()
    office.pause_seconds = 0.02
    await world.put(queue, [f"lane-{n}" for n in range(10)], 0, 200)
    async with world.delivering():
        await office.until(lambda: len(office.applied) >= 60)
    first = len(office.requests)
    assert first < 200
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 200)
    assert office.repeats() == 0
    assert sorted({s.epoch for s in office.requests}) == [1, 2]
    for lane in range(10):
        assert office.numbers(queue, f"lane-{lane}") == list(range(lane, 200, 10))


async def test_a_second_copy_in_the_log_causes_no_second_request(
    world: World, office: BackOffice
) -> None:
    queue = world.queue("copy")
    world.make_topics()
    envelope, value = world.event(queue, "a", 0)
    key = envelope.subject_ref.encode()
    await world.producer.send(queue.topic, key, value)
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 1)
    await world.producer.send(queue.topic, key, value)
    await world.put(queue, ["a"], 1, 1)
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 2)
    assert office.repeats() == 0


async def test_a_sick_destination_waits_and_its_neighbour_does_not(
    world: World, office: BackOffice
) -> None:
    sick, well = world.queue("sick"), world.queue("well")
    world.make_topics()
    healed = False
    office.answers = lambda seen: 503 if seen.queue == sick.topic and not healed else 201
    # More than the engine holds of a sick destination: fetching pauses, and resumes.
    await world.put(sick, [f"lane-{n}" for n in range(8)], 0, 800)
    async with world.delivering():
        await office.until(lambda: len(office.requests) >= 3)
        await world.put(well, [f"lane-{n}" for n in range(8)], 0, 40)
        await office.until(lambda: len(office.applied) == 40)
        assert {queue for queue, _ in office.applied} == {well.topic}
        assert world.rows.list_parked(str(sick)) == []
        healed = True
        await office.until(lambda: len(office.applied) == 840)
    for lane in range(8):
        assert office.numbers(sick, f"lane-{lane}") == list(range(lane, 800, 8))


async def test_bytes_that_are_no_event_park_and_the_others_flow(
    world: World, office: BackOffice
) -> None:
    queue = world.queue("poison")
    world.make_topics()
    await world.producer.send(queue.topic, b"somebody", b"\x00nonsense")
    await world.put(queue, ["a", "b"], 0, 4)
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 4)
        await office.until(lambda: len(world.rows.list_parked(str(queue))) == 1)
    assert committed(world, queue)[0] == 5


async def test_a_queue_without_a_destination_waits_and_loses_nothing(
    world: World, office: BackOffice
) -> None:
    known, unknown = world.queue("known"), world.queue("unknown")
    world.make_topics()
    destination = world.destinations.pop(unknown)
    await world.put(unknown, ["a"], 0, 3)
    await world.put(known, ["a"], 0, 3)
    async with world.delivering() as service:
        await office.until(lambda: len(office.applied) == 3 and unknown in service.queues)
    assert {queue for queue, _ in office.applied} == {known.topic}
    world.destinations[unknown] = destination
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 6)
    assert office.numbers(unknown, "a") == [0, 1, 2]


async def test_a_queue_whose_secret_is_missing_starts_when_it_is_there(
    world: World, office: BackOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_LINES_SECONDS", 0.1)
    queue = world.queue("secret", auth={"kind": "bearer", "token": "env:HUB_TEST_TOKEN"})
    world.make_topics()
    await world.put(queue, ["a"], 0, 150)
    async with world.delivering() as service:
        await office.until(lambda: queue in service.queues)
        assert office.requests == []
        monkeypatch.setenv("HUB_TEST_TOKEN", "s3cret")
        await office.until(lambda: len(office.applied) == 150)
    assert office.numbers(queue, "a") == list(range(150))
    assert office.repeats() == 0


async def test_an_erased_person_is_passed_over_and_told(world: World, office: BackOffice) -> None:
    queue = world.queue("erased")
    world.make_topics()
    gone, *_ = await world.put(queue, ["gone", "here"], 0, 4)
    world.keys.erase(queue.municipality_code, gone.subject_ref)
    async with world.delivering():
        await office.until(lambda: len(office.applied) == 2)
        told = await asyncio.to_thread(world.outcomes, 4)
    assert office.numbers(queue, "here") == [1, 3]
    assert Counter(o.kind for o in told) == {OutcomeKind.DELIVERED: 2, OutcomeKind.ERASED: 2}


async def test_two_services_split_twelve_queues_six_and_six(
    world: World, office: BackOffice
) -> None:
    queues = [world.queue(f"split{n}") for n in range(12)]
    world.make_topics()
    for queue in queues:
        await world.put(queue, ["a", "b"], 0, 6)

    async with world.delivering(0) as one:
        await office.until(lambda: len(one.queues) == 12)
        async with world.delivering(1) as two:
            await office.until(lambda: len(one.queues) == len(two.queues) == 6)
            assert one.queues | two.queues == set(queues)
            for queue in queues:
                await world.put(queue, ["a", "b"], 6, 6)
            await office.until(lambda: len(office.applied) == 144)
    for queue in queues:
        assert office.numbers(queue, "a") == [0, 2, 4, 6, 8, 10]
        assert office.numbers(queue, "b") == [1, 3, 5, 7, 9, 11]
