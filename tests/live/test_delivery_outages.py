"""Delivery while something is away: a frozen owner, the broker, the key store. And trimming."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.broker import Endpoint
from hub.broker.local import LocalKafka
from hub.delivery.claims import QueueLogs
from hub.delivery.service import trim
from hub.errors import StoreAway
from hub.faults import Faults
from hub.keys import KeyFile, KeyStore
from hub.settings import Settings
from tests.live.back_office import BackOffice, World, back_office

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


async def test_a_frozen_owner_sends_nothing_new_after_the_next_has_begun(
    world: World, office: BackOffice
) -> None:
    """Fault 3: the lease, checked last, stops it; only what had passed the check may come (F6)."""
    queue = world.queue("frozen")
    world.make_topics()
    lanes = [f"lane-{n}" for n in range(8)]
    await world.put(queue, lanes, 0, 400)
    office.pause_seconds = 0.1
    plan = {
        "home": str(world.settings.home),
        "bootstrap": world.bootstrap,
        "url": office.url,
        "group": world.group,
        "topic": queue.topic,
        "crash_at": "",
        "slot": 1,
    }
    frozen = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.live.delivery_child", json.dumps(plan)
    )
    try:
        await office.until(lambda: len(office.applied) >= 20)
        frozen.send_signal(signal.SIGSTOP)
        async with world.delivering(0):
            await office.until(lambda: any(seen.epoch == 2 for seen in office.requests))
            frozen.send_signal(signal.SIGCONT)
            await office.until(lambda: len(office.applied) == 400)
        frozen.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(frozen.wait(), 60) in (0, 75)
    finally:
        if frozen.returncode is None:
            frozen.kill()
    epochs = [seen.epoch for seen in office.requests]
    late = epochs[epochs.index(2) :].count(1)
    assert late <= world.limits.concurrency
    for at, lane in enumerate(lanes):
        assert office.numbers(queue, lane) == list(range(at, 400, 8))


@pytest.mark.timeout(300)
async def test_a_broker_that_goes_and_comes_back_loses_nothing(
    tmp_path: Path, office: BackOffice
) -> None:
    local = LocalKafka(tmp_path / "kafka-home", Settings.from_env().cache, tied=True)
    world = World(tmp_path, local.start().bootstrap, office)
    try:
        queue = world.queue("broker")
        world.make_topics()
        lanes = [f"lane-{n}" for n in range(8)]
        await world.put(queue, lanes, 0, 200)
        office.pause_seconds = 0.05
        async with world.supervised():
            await office.until(lambda: len(office.applied) >= 40)
            local.kill()
            await asyncio.to_thread(local.start)
            await office.until(lambda: len(office.applied) == 200)
        for at, lane in enumerate(lanes):
            assert office.numbers(queue, lane) == list(range(at, 200, 8))
    finally:
        await world.close()
        local.stop()


class Away(Faults):
    """The key store is away until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__(None, None, Path())
        self.away = True
        self.asked = 0

    def check(self, store: str) -> None:
        self.asked += 1
        if self.away:
            raise StoreAway(f"{store}: away")


async def test_while_the_key_store_is_away_lanes_wait_and_no_attempt_is_burnt(
    world: World, office: BackOffice
) -> None:
    queue = world.queue("keys")
    world.make_topics()
    await world.put(queue, ["a", "b"], 0, 20)
    faults = Away()
    file = KeyFile.open(world.settings.home / "keys.json")
    world.keys = KeyStore(world.admission, file, faults)
    async with world.delivering():
        await office.until(lambda: faults.asked >= 3)
        assert office.requests == []
        assert world.rows.list_parked() == []
        faults.away = False
        await office.until(lambda: len(office.applied) == 20)
    assert office.repeats() == 0
    assert office.numbers(queue, "a") == list(range(0, 20, 2))


async def test_a_queue_is_trimmed_behind_what_the_next_owner_reads_back(world: World) -> None:
    queue = world.queue("trim")
    world.make_topics()
    for first in range(0, 4000, 500):
        # The records of one batch have one append time.
        keys = [str(number).encode() for number in range(first, first + 500)]
        await asyncio.gather(*(world.producer.send(queue.topic, key, b"x") for key in keys))
    deep = QueueLogs(world.bootstrap, seconds=3600.0, records=1000)
    assert await asyncio.to_thread(trim, world.bootstrap, {queue.topic: 3500}, deep) == {}, (
        "all of it was appended within the hour"
    )
    shallow = QueueLogs(world.bootstrap, seconds=0.0, records=1000)
    trimmed = await asyncio.to_thread(trim, world.bootstrap, {queue.topic: 3500}, shallow)
    bounds = shallow.bounds([queue.topic])[queue.topic]
    assert trimmed == {queue.topic: bounds.start}
    assert 1000 <= bounds.start <= 2500
    assert bounds.end == 4000
    again = await asyncio.to_thread(trim, world.bootstrap, {queue.topic: 3500}, shallow)
    assert again == {}
