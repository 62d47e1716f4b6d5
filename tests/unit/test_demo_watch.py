"""The watch reads the status resource, and the course of trouble takes every planned step."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from hub.demo.loader import Accepted
from hub.demo.moods import Command, Mood
from hub.demo.plan import KILL, MOOD, Plan, Step
from hub.demo.trouble import cause_trouble
from hub.demo.verdict import Seen
from hub.demo.watch import Watch, read_status
from hub.outcome import StatusWord


def _accepted(number: int) -> Accepted:
    return Accepted(number, f"R{number}", f"k{number}", "GM1", "GM1", "bz", "b", 0.0, 1)


@pytest.mark.parametrize(
    ("status", "word", "seen"),
    [
        (404, "", Seen.MISSING),
        (503, "", None),
        (200, StatusWord.RECEIVED, Seen.OPEN),
        (200, StatusWord.UNDER_WAY, Seen.OPEN),
        (200, StatusWord.WAITING, Seen.OPEN),
        (200, StatusWord.DELIVERED, Seen.DELIVERED),
        (200, StatusWord.REJECTED, Seen.REJECTED),
        (200, StatusWord.ERASED, Seen.ERASED),
        (200, StatusWord.WITH_STAFF, Seen.PARKED),
    ],
)
def test_words_of_the_status_resource(status: int, word: str, seen: Seen | None) -> None:
    assert read_status(status, {"status": str(word), "stappen": []}) is seen


def test_quarantined_is_told_from_parked_by_its_step() -> None:
    body = {"status": str(StatusWord.WITH_STAFF), "stappen": [{"stap": "apart gezet"}]}
    assert read_status(200, body) is Seen.QUARANTINED


class FakeStatus:
    """Answers each reference with its words in turn, the last one for ever."""

    def __init__(self) -> None:
        self.words: dict[str, list[str]] = {}
        self.asked: list[str] = []

    async def get(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        assert request.headers["Authorization"] == "Bearer secret"
        self.asked.append(reference)
        words = self.words[reference]
        word = words.pop(0) if len(words) > 1 else words[0]
        if word == "503":
            return web.Response(status=503)
        return web.json_response({"status": word, "stappen": []})


@pytest.fixture
async def status() -> AsyncIterator[tuple[FakeStatus, Watch]]:
    fake = FakeStatus()
    application = web.Application()
    application.router.add_get("/v1/verzoeken/{reference}", fake.get)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield fake, Watch(f"http://127.0.0.1:{runner.addresses[0][1]}", {"GM1": "secret"})
    finally:
        await runner.cleanup()


async def test_waits_until_all_are_settled(
    status: tuple[FakeStatus, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.demo.watch._PAUSE_SECONDS", 0.0)
    fake, watch = status
    fake.words = {
        "R0": ["onderweg", "503", "wacht", "afgeleverd"],
        "R1": ["geweigerd"],
        "R2": ["ontvangen", "in behandeling bij medewerker"],
    }
    for number in range(3):
        watch.add(_accepted(number))
    assert await watch.until_settled()
    assert watch.statuses == {"R0": Seen.DELIVERED, "R1": Seen.REJECTED, "R2": Seen.PARKED}
    assert fake.asked.count("R1") == 1


async def test_gives_up_when_nothing_changes(
    status: tuple[FakeStatus, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.demo.watch._PAUSE_SECONDS", 0.0)
    fake, watch = status
    fake.words = {"R0": ["onderweg"], "R1": ["afgeleverd"]}
    watch.add(_accepted(0))
    watch.add(_accepted(1))
    assert not await watch.until_settled(quiet_seconds=0.0)
    assert watch.statuses == {"R0": Seen.OPEN, "R1": Seen.DELIVERED}
    assert watch.open == 1


class FakeStack:
    def __init__(self) -> None:
        self.did: list[tuple[str, object]] = []

    def restart(self, name: str) -> None:
        self.did.append(("restart", name))

    def command(self, code: str, command: Command) -> None:
        self.did.append((code, command))

    def heal(self) -> None:
        self.did.append(("heal", None))


STEPS = (
    Step(1, MOOD, "GM1", Mood.SLOW.value, value=1.0),
    Step(5, KILL, "worker"),
    Step(9, MOOD, "GM2", Mood.HANG.value, seconds=20.0),
)


def _plan() -> Plan:
    return Plan(1, 10, True, True, {}, STEPS, 0.0)


async def test_trouble_waits_for_its_count() -> None:
    stack, count, posted = FakeStack(), 0, asyncio.Event()
    task = asyncio.create_task(
        cause_trouble(stack, _plan(), lambda: count, posted.is_set, lambda _: None)
    )
    for reached, steps in ((0, 0), (4, 1), (5, 2)):
        count = reached
        while len(stack.did) < steps:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(stack.did) == steps
    posted.set()
    assert await task == list(STEPS)
    assert stack.did == [
        ("GM1", Command(mood=Mood.SLOW, delay_seconds=1.0, probability=0.0)),
        ("restart", "worker"),
        ("GM2", Command(mood=Mood.HANG, seconds=20.0, delay_seconds=0.0, probability=0.0)),
    ]
