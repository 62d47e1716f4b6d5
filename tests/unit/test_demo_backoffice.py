"""The demo back-office over real HTTP on loopback, in and out of process."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.demo.backoffice import MARK_REFUSED, MARK_UNREADABLE, BackOffice
from hub.demo.journal import APPLIED, REJECTED, JournalReader, count_by_reference

Office = Callable[..., Awaitable["Running"]]


class Running:
    """A back-office in this process and a client of it."""

    def __init__(self, office: BackOffice, session: aiohttp.ClientSession, db: Path) -> None:
        self.office, self.session, self.reader = office, session, JournalReader(db)
        self.url = f"http://127.0.0.1:{office.port}"

    async def send(self, key: str, reference: str = "REF1", **body: Any) -> tuple[int, Any]:
        async with self.session.put(
            f"{self.url}/burgerzaken/zaken/{reference}",
            json={"referentie": reference, "burger": "b1", **body},
            headers={"Idempotency-Key": key},
        ) as answer:
            return answer.status, await answer.json()

    async def command(self, **command: Any) -> int:
        async with self.session.post(f"{self.url}/control", json=command) as answer:
            return answer.status


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    stack = contextlib.AsyncExitStack()

    async def start(dedupe: bool = True) -> Running:
        db = tmp_path / "office.db"
        service = BackOffice("GM0363", db, dedupe)
        await service.start()
        stack.push_async_callback(service.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        return Running(service, session, db)

    async with stack:
        yield start


async def test_a_repeat_under_its_key_has_one_effect(office: Office) -> None:
    running = await office()
    assert await running.send("k1") == (200, {"referentie": "REF1"})
    assert await running.send("k1") == (200, {"referentie": "REF1"})
    assert [d.verdict for d in running.reader.decisions()] == [APPLIED]
    assert count_by_reference(running.reader.arrivals()) == {"REF1": 2}


async def test_without_dedupe_each_arrival_is_an_effect(office: Office) -> None:
    running = await office(dedupe=False)
    await running.send("k1")
    await running.send("k1")
    assert [(d.seq, d.lane_seq) for d in running.reader.decisions()] == [(1, 1), (2, 2)]


async def test_counts_order_per_lane(office: Office) -> None:
    running = await office()
    for key, citizen in (("k1", "a"), ("k2", "b"), ("k3", "a")):
        await running.send(key, key, burger=citizen)
    found = [(d.lane, d.lane_seq, d.seq) for d in running.reader.decisions()]
    assert found == [("a", 1, 1), ("b", 1, 2), ("a", 2, 3)]
    assert running.reader.decisions() == []


async def test_planned_records_are_refused(office: Office) -> None:
    running = await office()
    assert (await running.send("k1", text=MARK_UNREADABLE))[0] == 400
    assert await running.send("k2", text=MARK_REFUSED) == (422, {"besluit": "afgewezen"})
    assert await running.send("k2", text=MARK_REFUSED) == (422, {"besluit": "afgewezen"})
    assert [d.verdict for d in running.reader.decisions()] == [REJECTED]
    assert [a.answer for a in running.reader.arrivals()] == [400, 422, 422]


async def test_409_while_the_same_key_is_being_worked_on(office: Office) -> None:
    running = await office()
    await running.command(mood="slow", delay_seconds=30)
    first = asyncio.create_task(running.send("k1"))
    while not (arrivals := running.reader.arrivals()):
        await asyncio.sleep(0)
    assert len(arrivals) == 1
    assert (await running.send("k1"))[0] == 409
    first.cancel()


async def test_failing_has_no_effect(office: Office) -> None:
    running = await office()
    await running.command(mood="fail")
    assert (await running.send("k1"))[0] == 500
    await running.command(mood="works")
    assert (await running.send("k1"))[0] == 200
    assert len(running.reader.decisions()) == 1


async def test_a_lost_answer_has_taken_effect(office: Office) -> None:
    running = await office()
    await running.command(mood="drop", probability=1.0)
    # Not through `send`: the client must not repeat by itself, as aiohttp does with a PUT.
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await running.session.post(
            f"{running.url}/x/1", json={"referentie": "R"}, headers={"Idempotency-Key": "k1"}
        )
    assert [d.verdict for d in running.reader.decisions()] == [APPLIED]
    assert [a.answer for a in running.reader.arrivals()] == [None]


async def test_what_hung_takes_effect_afterwards_though_nobody_waits(office: Office) -> None:
    running = await office()
    await running.command(mood="hang")
    impatient = asyncio.create_task(running.send("k1"))
    while not running.reader.arrivals():
        await asyncio.sleep(0)
    impatient.cancel()
    assert running.reader.decisions() == []
    await running.command(mood="works")
    while not (made := running.reader.decisions()):
        await asyncio.sleep(0)
    assert [d.key for d in made] == ["k1"]


@pytest.mark.slow
async def test_refuses_connections_for_a_while_and_listens_again(office: Office) -> None:
    running = await office()
    await running.send("k1")
    assert await running.command(mood="refuse", seconds=2) == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await running.send("k2")
    while True:
        try:
            assert (await running.send("k2"))[0] == 200
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.01)
        else:
            break
    assert len(running.reader.decisions()) == 2


async def test_a_command_it_does_not_know(office: Office) -> None:
    running = await office()
    assert await running.command(mood="moody") == 400
    async with running.session.get(f"{running.url}/control") as answer:
        assert (await answer.json())["mood"] == "works"


def _process(db: Path, port: int) -> subprocess.Popen[bytes]:
    module = [sys.executable, "-m", "hub.demo.backoffice", "--name", "GM0363"]
    return subprocess.Popen([*module, "--port", str(port), "--db", str(db)])


async def _until_up(session: aiohttp.ClientSession, url: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            async with session.get(f"{url}/control"):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.02)
    raise AssertionError("the back-office did not come up")


@pytest.mark.slow
async def test_in_its_own_process_it_remembers_across_a_crash(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, db = f"http://127.0.0.1:{port}", tmp_path / "office.db"
    headers = {"Idempotency-Key": "k1"}
    async with aiohttp.ClientSession() as session:
        first = _process(db, port)
        try:
            await _until_up(session, url)
            for _ in range(2):
                async with session.post(f"{url}/a/1", json={}, headers=headers) as answer:
                    assert answer.status == 200
            await session.post(f"{url}/control", data=json.dumps({"mood": "crash"}))
            assert await asyncio.to_thread(first.wait) == -signal.SIGKILL
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first.pid, signal.SIGKILL)
            first.wait()
        second = _process(db, port)
        try:
            await _until_up(session, url)
            async with session.post(f"{url}/a/1", json={}, headers=headers) as answer:
                assert answer.status == 200
        finally:
            second.terminate()
            assert await asyncio.to_thread(second.wait) == 0
    reader = JournalReader(db)
    assert len(reader.decisions()) == 1
    assert len(reader.arrivals()) == 3
