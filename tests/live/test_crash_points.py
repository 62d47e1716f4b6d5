"""Every crash point on one real Kafka: 20 requests each, counted at the back-offices.

Each point is planted from the start and held back by its own marker until requests flow; the next
pass after that ends the process, in the middle of the stream.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from hub.demo.plan import INTAKE, WORKER
from hub.demo.requests import DemoRequest, spoil
from hub.demo.stack import Stack
from hub.demo.verdict import Verdict
from hub.faults import CRASH_POINTS
from hub.worker import DELIVERY, WAY
from tests.live.outside import ChildExit, Outside, requests_of, small_stack, write_figures

pytestmark = [pytest.mark.live, pytest.mark.timeout(150)]

SEED = 11
REQUESTS = 20
FIRST_LOT = 5
UNPLUG_AFTER = 3
PER_SECOND = 40.0
QUIET_SECONDS = 40.0
CITIZENS = 5
PARKING = ("delivery.before_park_row", "delivery.after_park_row")
CHILD = {"routing": WAY, "projection": WAY, "delivery": DELIVERY}


class Walk:
    """One stack for all points, and the requests for each."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.outside = Outside(stack, "walk")
        self.posted: list[DemoRequest] = []
        self.bad: dict[str, int] = {}
        self.figures: dict[str, Any] = {}
        self._exits_before = 0
        # Citizens beyond the first few are kept for parking: nothing of theirs follows it.
        stream = requests_of(stack.places, SEED, CITIZENS + 2 * len(PARKING))
        usual = {f"burger-{number}" for number in range(CITIZENS)}
        most = list(islice(stream, 40 * REQUESTS))
        self._usual = (r for r in most if r.subject in usual or r.subject.startswith("melding"))
        self._others = [
            r for r in most if r.subject.startswith("burger") and r.subject not in usual
        ]

    def requests(self, point: str) -> list[DemoRequest]:
        """Twenty; where the point is about parking, three of one lane: good, bad, behind it."""
        found = list(islice(self._usual, REQUESTS))
        if point in PARKING:
            good, bad, behind = self._lane(PARKING.index(point))
            found[-12::4] = [good, spoil(bad, 400), behind]
            self.bad |= {bad.key: 400, behind.key: 400}
        self.posted += found
        return found

    def _lane(self, number: int) -> list[DemoRequest]:
        lanes: dict[str, list[DemoRequest]] = {}
        for request in self._others:
            lanes.setdefault(request.lane, []).append(request)
        by_citizen = {found[0].subject: found for found in lanes.values() if len(found) >= 3}
        return list(by_citizen.values())[number][:3]

    def plant(self, point: str) -> None:
        """Kill and start again what has this point, with it planted."""
        target = INTAKE if point.startswith("admission") else WORKER
        self.stack.restart(target, {"HUB_CRASH_AT": point})
        self._exits_before = len(self.outside.child_exits())

    def exits(self) -> list[ChildExit]:
        """Of the worker's children, since the point was planted."""
        return self.outside.child_exits()[self._exits_before :]

    def close(self) -> None:
        self.outside.close()


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with small_stack(tmp_path_factory.mktemp("crash") / "demo", SEED) as stack:
        made = Walk(stack)
        yield made
        made.close()


class Plug:
    """The marker that holds a point back; `unplug` lets the next pass through it crash."""

    def __init__(self, stack: Stack, point: str) -> None:
        self._marker = stack.folder.home / "crashed" / point
        self._marker.parent.mkdir(exist_ok=True)
        self._marker.write_text("held")

    def unplug(self) -> None:
        self._marker.unlink()

    def crashed(self) -> int | None:
        """The pid that ended there."""
        if not self._marker.exists():
            return None
        text = self._marker.read_text()
        return int(text) if text.isdigit() else None


async def _revive_intake(stack: Stack) -> list[int | None]:
    """Nobody supervises intake here: start it again when it ends. Returns its exit code."""
    process = stack.processes[INTAKE]
    while process.running:
        await asyncio.sleep(0.02)
    code = process.exit_code
    await asyncio.to_thread(stack.start_again, INTAKE, {})
    return [code]


async def _through(walk: Walk, point: str, requests: list[DemoRequest], plug: Plug) -> list[Any]:
    """Post all and wait for all. Returns the exit codes of intake."""
    outside, watch = walk.outside, walk.outside.watch
    reviving = asyncio.create_task(_revive_intake(walk.stack))
    try:
        await outside.websites.run(requests[:FIRST_LOT])
        assert await watch.until_settled(QUIET_SECONDS), "the first lot, before anything crashes"
        posting = asyncio.create_task(outside.websites.run(requests[FIRST_LOT:], PER_SECOND))
        # What is about parking is passed by one record only, so it must not slip through.
        flowing = outside.settled() + (0 if point in PARKING else UNPLUG_AFTER)
        while outside.settled() < flowing:
            await asyncio.sleep(0.005)
        plug.unplug()
        await posting
        await watch.until_settled(QUIET_SECONDS)
        if point.startswith("admission"):
            async with asyncio.timeout(QUIET_SECONDS):
                return await reviving
    finally:
        reviving.cancel()
    return []


def _until_seen(walk: Walk, plug: Plug, point: str) -> None:
    """The last pass may come after the last status, as commits do."""
    until = time.monotonic() + QUIET_SECONDS
    while plug.crashed() is None or (not point.startswith("admission") and not walk.exits()):
        assert time.monotonic() < until, f"{point} was never reached"
        time.sleep(0.05)


def _without_zeros(verdict: Verdict) -> dict[str, Any]:
    return {name: count for name, count in verdict.counts.items() if count}


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_nothing_is_lost_doubled_or_overtaken_at(walk: Walk, point: str) -> None:
    started = time.monotonic()
    plug = Plug(walk.stack, point)
    walk.plant(point)
    requests = walk.requests(point)
    intake_exits = asyncio.run(_through(walk, point, requests, plug))

    _until_seen(walk, plug, point)
    if point.startswith("admission"):
        assert intake_exits == [137], f"{point}: intake ended with {intake_exits}"
        assert walk.exits() == [], f"{point}: children of the worker ended too"
    else:
        child = CHILD[point.partition(".")[0]]
        assert walk.exits() == [ChildExit(child, 137, plug.crashed() or 0)], point
    verdict = walk.outside.verdict(requests, walk.bad)
    assert verdict.ok, f"{point}: {'; '.join(verdict.problems)} {dict(verdict.offenders)}"
    assert verdict.counts["accepted"] == REQUESTS
    walk.figures[point] = {
        **_without_zeros(verdict),
        "repeats": verdict.repeats,
        "exit": 137,
        "seconds": round(time.monotonic() - started, 1),
    }


def test_nothing_came_late_of_any_point(walk: Walk) -> None:
    """One more round through every lane, then the count over all that was ever posted."""
    stack, outside = walk.stack, walk.outside
    stack.restart(WORKER, {})
    requests = walk.requests("")
    asyncio.run(outside.websites.run(requests))
    assert asyncio.run(outside.watch.until_settled(QUIET_SECONDS))
    verdict = outside.verdict(walk.posted, walk.bad)
    assert verdict.ok, f"{'; '.join(verdict.problems)} {dict(verdict.offenders)}"
    assert outside.strangers() == set()
    points = {point: walk.figures[point] for point in CRASH_POINTS if point in walk.figures}
    if len(points) == len(CRASH_POINTS):
        totals = {**verdict.counts, "repeats": verdict.repeats, "points": len(points)}
        write_figures("crash_points", SEED, totals | points)
