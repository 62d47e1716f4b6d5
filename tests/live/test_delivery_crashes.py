"""A kill at each named point of delivery: nothing lost, no lane out of order, one row per event."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.broker import Endpoint
from hub.faults import CRASH_POINTS
from hub.topics import QueueName
from tests.live.back_office import BackOffice, World, back_office

pytestmark = pytest.mark.live

POINTS = [point for point in CRASH_POINTS if point.startswith("delivery.")]
LANES = ["a", "b", "c", "d", "e"]


@pytest.fixture
async def world(kafka: Endpoint, tmp_path: Path) -> AsyncIterator[World]:
    async with back_office() as office:
        made = World(tmp_path, kafka.bootstrap, office)
        yield made
        await made.close()


async def child(world: World, queue: QueueName, point: str) -> asyncio.subprocess.Process:
    plan = {
        "home": str(world.settings.home),
        "bootstrap": world.bootstrap,
        "url": world.office.url,
        "group": world.group,
        "topic": queue.topic,
        "crash_at": point,
        "slot": 0,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.live.delivery_child", json.dumps(plan),
        stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


def refuse_the_third(office: BackOffice) -> None:
    office.answers = lambda seen: 400 if seen.number == 2 else 201


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_loses_nothing(world: World, point: str) -> None:
    office = world.office
    refuse_the_third(office)
    queue = world.queue("crash")
    world.make_topics()
    sent = await world.put(queue, LANES, 0, 30)
    killed = await child(world, queue, point)
    try:
        assert await asyncio.wait_for(killed.wait(), 60) == 137, f"{point} was never reached"
    finally:
        if killed.returncode is None:
            killed.kill()
    assert (world.settings.home / "crashed" / point).exists()
    assert len(office.applied) < 24, "it was killed when all was done: that shows little"
    again = await child(world, queue, point)
    try:
        await office.until(lambda: len(office.applied) == 24)
        await office.until(lambda: len(world.rows.list_parked(str(queue))) == 6)
        again.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(again.wait(), 60) == 0
    finally:
        if again.returncode is None:
            again.kill()
    for at, lane in enumerate(LANES):
        expected = [] if lane == "c" else list(range(at, 30, 5))
        assert office.numbers(queue, lane) == expected
    parked = world.rows.list_parked(str(queue))
    assert [row.event_id for row in parked] == [envelope.id for envelope in sent[2::5]]
    # Only what was under way or not yet committed may come again: a window, not the queue.
    assert office.repeats() <= 12
