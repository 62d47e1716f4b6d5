"""The loader against a fake intake: repeats under the same key, keeps a subject's order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hub.demo.loader import Loader, read_journal
from hub.demo.requests import DemoRequest


class FakeIntake:
    """Answers what `script` says per idempotency key and time; then 202."""

    def __init__(self) -> None:
        self.script: dict[str, list[int]] = {}
        self.posts: list[tuple[str, str]] = []
        self.under_way: Counter[str] = Counter()
        self.overlap: list[str] = []
        self.most = 0

    async def post(self, request: web.Request) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        subject = (await request.json())["subject"]
        self.posts.append((key, request.headers["Authorization"]))
        if self.under_way[subject]:
            self.overlap.append(subject)
        self.under_way[subject] += 1
        self.most = max(self.most, self.under_way.total())
        # Let others come in, so that an overlap would show.
        for _ in range(20):
            await asyncio.sleep(0)
        self.under_way[subject] -= 1
        status = self.script[key].pop(0) if self.script.get(key) else 202
        if status == 0:
            assert request.transport
            request.transport.abort()
            return web.Response()
        if status == 202:
            return web.json_response({"referentie": f"REF-{key}"}, status=202)
        return web.json_response({"title": "nee"}, status=status)


@pytest.fixture
async def intake() -> AsyncIterator[tuple[FakeIntake, str]]:
    fake = FakeIntake()
    application = web.Application()
    application.router.add_post("/v1/verzoeken", fake.post)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield fake, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _request(index: int, subject: str) -> DemoRequest:
    body = {"subject": subject}
    return DemoRequest(index, f"k{index}", "GM1", "GM1", "relocation", "bz", subject, body)


async def _run(url: str, requests: list[DemoRequest], journal: Path) -> Loader:
    loader = Loader(url, {"GM1": "secret"}, journal, concurrency=8)
    try:
        await loader.run(requests)
    finally:
        loader.close()
    return loader


async def test_order_per_subject_and_journal(
    intake: tuple[FakeIntake, str], tmp_path: Path
) -> None:
    fake, url = intake
    requests = [_request(i, f"s{i % 5}") for i in range(60)]
    loader = await _run(url, requests, tmp_path / "posted.jsonl")
    assert fake.overlap == []
    assert fake.most > 1
    assert len(fake.posts) == 60
    assert {secret for _, secret in fake.posts} == {"Bearer secret"}
    for subject in range(5):
        mine = [a for a in loader.accepted if a.subject == f"s{subject}"]
        assert [int(a.key[1:]) for a in mine] == list(range(subject, 60, 5))
    assert [a.order for a in loader.accepted] == list(range(60))
    assert read_journal(tmp_path / "posted.jsonl") == loader.accepted
    assert loader.accepted[0].reference == f"REF{loader.accepted[0].key}"


async def test_repeats_with_the_same_key_until_202(
    intake: tuple[FakeIntake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, url = intake
    monkeypatch.setattr("hub.demo.loader._PAUSE_SECONDS", 0.0)
    fake.script = {"k0": [503, 0, 429, 500], "k1": [0]}
    loader = await _run(url, [_request(0, "a"), _request(1, "a"), _request(2, "b")], tmp_path / "j")
    assert {a.key: a.posts for a in loader.accepted} == {"k0": 5, "k1": 2, "k2": 1}
    assert loader.refused == []


async def test_a_4xx_is_final_and_the_subject_goes_on(
    intake: tuple[FakeIntake, str], tmp_path: Path
) -> None:
    fake, url = intake
    fake.script = {"k0": [400]}
    loader = await _run(url, [_request(0, "a"), _request(1, "a")], tmp_path / "j")
    assert [(r.key, r.status, r.title) for r in loader.refused] == [("k0", 400, "nee")]
    assert [a.key for a in loader.accepted] == ["k1"]


async def test_nobody_answers_at_first(unused_tcp_port: int, tmp_path: Path) -> None:
    loader = Loader(
        f"http://127.0.0.1:{unused_tcp_port}", {"GM1": "secret"}, tmp_path / "j", concurrency=2
    )
    task = asyncio.create_task(loader.run([_request(0, "a")]))
    await asyncio.sleep(0)
    fake = FakeIntake()
    application = web.Application()
    application.router.add_post("/v1/verzoeken", fake.post)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    try:
        await task
    finally:
        loader.close()
        await runner.cleanup()
    assert [a.key for a in loader.accepted] == ["k0"]
