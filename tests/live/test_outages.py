"""What the hub leans on goes away under load: the key store, the broker; and what comes in is bad:
garbage, and a record that kills whatever handles it.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from hub import broker
from hub.demo.plan import INTAKE, WORKER
from hub.demo.requests import DemoRequest
from hub.demo.stack import BROKER, Stack
from hub.demo.verdict import Seen, Verdict
from hub.outcome import METADATA, OutcomeKind, StatusStore
from hub.store import Store
from hub.topics import REQUESTS
from tests.live.outside import Outside, requests_of, small_stack, write_figures

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

SEED = 12
CITIZENS = 12
PER_SECOND = 20.0
KEYS_AWAY_SECONDS = 60
BROKER_AWAY_SECONDS = 40
"""Longer than the way tries in place, so that its end and its new start are part of it."""
QUIET_SECONDS = 60.0

_FIGURES: dict[str, Any] = {}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with small_stack(tmp_path_factory.mktemp("outages") / "demo", SEED) as made:
        yield made
    if len(_FIGURES) == 4:
        write_figures("outages", SEED, _FIGURES)


@pytest.fixture(scope="module")
def stream(stack: Stack) -> Iterator[DemoRequest]:
    return requests_of(stack.places, SEED, CITIZENS)


@contextmanager
def observing(stack: Stack, name: str, concurrency: int = 40) -> Iterator[Outside]:
    outside = Outside(stack, name, concurrency)
    try:
        yield outside
    finally:
        outside.close()


def _figures(outside: Outside, verdict: Verdict, seconds_away: float) -> dict[str, Any]:
    answers = outside.websites.answers
    return {
        **verdict.counts,
        "repeats": verdict.repeats,
        "posts": answers.total(),
        "answered_503": answers[503],
        "not_answered": answers[0],
        "seconds_away": round(seconds_away, 1),
        "seconds": round(verdict.seconds, 1),
        "child_exits": [f"{e.name} {e.code}" for e in outside.child_exits()],
    }


def _rounds(stack: Stack, references: Sequence[str]) -> set[tuple[OutcomeKind, int]]:
    """Kind and attempt of every outcome of these requests."""
    store = Store(stack.settings.database_url("status"), METADATA)
    try:
        status = StatusStore(store)
        return {(step.kind, step.attempt) for r in references for step in status.steps(r)}
    finally:
        store.close()


def test_without_keys_intake_says_so_and_lanes_wait(
    stack: Stack, stream: Iterator[DemoRequest]
) -> None:
    before, under = list(islice(stream, 40)), list(islice(stream, 300))
    with observing(stack, "keys") as outside:
        websites, watch = outside.websites, outside.watch

        async def run() -> float:
            await websites.run(before[:10])
            assert await watch.until_settled(QUIET_SECONDS)
            # Accepted while nothing delivers: these stand in the lanes when the keys go.
            await asyncio.to_thread(stack.kill, WORKER)
            await websites.run(before[10:])
            away_from = time.time()
            fault = {
                "HUB_FAULT": f"keys:{KEYS_AWAY_SECONDS}",
                "HUB_FAULT_SINCE": repr(away_from),
            }
            await asyncio.to_thread(stack.restart, INTAKE, fault)
            await asyncio.to_thread(stack.start_again, WORKER, fault)
            websites.answers.clear()
            posting = asyncio.create_task(websites.run(under, PER_SECOND))
            await asyncio.sleep(away_from + KEYS_AWAY_SECONDS - 5 - time.time())
            assert watch.open == 30
            await _ask_once(outside)
            assert set(watch.statuses.values()) <= {Seen.DELIVERED, Seen.OPEN}
            await posting
            await watch.until_settled(QUIET_SECONDS)
            return away_from + KEYS_AWAY_SECONDS

        back_at = asyncio.run(run())
        verdict = outside.verdict(before + under, {})
        assert verdict.ok, f"{'; '.join(verdict.problems)} {dict(verdict.offenders)}"
        assert websites.answers[503] > PER_SECOND
        assert set(websites.answers) == {202, 503}
        assert None not in websites.retry_after
        assert all(a.at >= back_at - 1 for a in websites.accepted[len(before) :])
        waited = {a.reference for a in websites.accepted[10 : len(before)]}
        came = [a.at for a in outside.arrivals() if a.reference in waited]
        assert min(came) >= back_at - 1, "opened without a key"
        assert verdict.repeats == 0
        assert outside.child_exits() == [], "waiting is no reason to end"
        first = {(OutcomeKind.ROUTED, 0), (OutcomeKind.WAITING, 1), (OutcomeKind.DELIVERED, 1)}
        assert _rounds(stack, sorted(waited)) <= first, "an attempt was burnt"
        assert outside.quarantined() == 0
        _FIGURES["keys"] = _figures(outside, verdict, KEYS_AWAY_SECONDS)


async def _ask_once(outside: Outside) -> None:
    """One look at every status that is open."""
    asked = False

    def stop() -> bool:
        nonlocal asked
        asked, before = True, asked
        return before

    await outside.watch.until_settled(QUIET_SECONDS, stop)


def test_a_killed_broker_loses_nothing(stack: Stack, stream: Iterator[DemoRequest]) -> None:
    requests = list(islice(stream, 400))
    with observing(stack, "broker") as outside:

        async def run() -> float:
            posting = asyncio.create_task(outside.websites.run(requests, PER_SECOND))
            while outside.settled() < 100:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(stack.kill, BROKER)
            gone_at = time.monotonic()
            await asyncio.sleep(BROKER_AWAY_SECONDS)
            await asyncio.to_thread(stack.start_again, BROKER)
            away = time.monotonic() - gone_at
            await posting
            await outside.watch.until_settled(QUIET_SECONDS)
            return away

        away = asyncio.run(run())
        verdict = outside.verdict(requests, {})
        assert verdict.ok, f"{'; '.join(verdict.problems)} {dict(verdict.offenders)}"
        assert outside.websites.answers[503] > 0
        assert None not in outside.websites.retry_after
        assert outside.quarantined() == 0
        _FIGURES["broker"] = _figures(outside, verdict, away)


GARBAGE = (b"", b"\x00", b"\x00\xff\xff\xff\xffnot ours", b"{}", b"\x00" * 900_000)


def test_garbage_is_set_aside_and_the_flow_goes_on(
    stack: Stack, stream: Iterator[DemoRequest]
) -> None:
    requests = list(islice(stream, 60))
    with observing(stack, "garbage") as outside:
        before = outside.quarantined()
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": broker.bootstrap(stack.settings), "acks": "all"}
        )
        partitions = len(producer.list_topics(REQUESTS, timeout=10).topics[REQUESTS].partitions)
        for partition in range(partitions):
            for number, value in enumerate(GARBAGE):
                producer.produce(REQUESTS, value, f"k{number}", partition)
        producer.produce(REQUESTS, None, b"\xff\xfe", 0)
        assert producer.flush(30) == 0

        async def run() -> None:
            await outside.websites.run(requests, PER_SECOND)
            await outside.watch.until_settled(QUIET_SECONDS)

        asyncio.run(run())
        verdict = outside.verdict(requests, {})
        assert verdict.ok, f"{'; '.join(verdict.problems)} {dict(verdict.offenders)}"
        planted = partitions * len(GARBAGE) + 1
        assert outside.quarantined() - before == planted
        assert outside.child_exits() == []
        _FIGURES["garbage"] = {**_figures(outside, verdict, 0.0), "planted": planted}


BUG = """
import hub.routing
from pathlib import Path

good = hub.routing.route

def route(envelope, table):
    if envelope.reference == Path(__file__).with_name("doomed").read_text():
        raise ZeroDivisionError
    return good(envelope, table)

hub.routing.route = route
"""


def test_a_record_that_kills_the_way_is_named_and_the_flow_goes_on(
    stack: Stack, stream: Iterator[DemoRequest], tmp_path: Path
) -> None:
    """Decision 28, with a bug planted in the worker's processes that one record sets off."""
    requests = list(islice(stream, 40))
    (tmp_path / "sitecustomize.py").write_text(BUG)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    with observing(stack, "doomed") as outside:
        before = outside.quarantined()

        async def run() -> str:
            await asyncio.to_thread(stack.kill, WORKER)
            await outside.websites.run(requests[:20])
            doomed = outside.websites.accepted[10].reference
            (tmp_path / "doomed").write_text(doomed)
            await asyncio.to_thread(stack.start_again, WORKER, {"PYTHONPATH": path})
            await outside.websites.run(requests[20:], PER_SECOND)
            await outside.watch.until_settled(QUIET_SECONDS)
            return doomed

        doomed = asyncio.run(run())
        assert outside.watch.statuses[doomed] is Seen.QUARANTINED
        key = next(a.key for a in outside.websites.accepted if a.reference == doomed)
        verdict = outside.verdict([r for r in requests if r.key != key], {})
        assert verdict.ok, f"{'; '.join(verdict.problems)} {dict(verdict.offenders)}"
        assert outside.quarantined() - before == 1
        assert doomed not in {a.reference for a in outside.arrivals()}
        assert [(e.name, e.code) for e in outside.child_exits()] == [("way", 70)] * 3
        _FIGURES["doomed"] = _figures(outside, verdict, 0.0)
