"""The websites: posts requests over HTTP until each has its 202 or a 4xx, and writes both down.

Order: a subject's next request is posted only after the former's 202, so the order of 202s is the
order that the hub promises to keep. Whatever leaves us in doubt (no connection, no answer, 429,
5xx) is posted again with the same Idempotency-Key.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from hub.demo.requests import DemoRequest

CLIENT: Final = "demo"
"""Name of the API client at every website of the demo."""

_TIMEOUT_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.25
_PAUSE_MOST_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A 202. `order` counts them over the whole run; `reference` without dashes."""

    order: int
    reference: str
    key: str
    origin: str
    handler: str
    destination: str
    subject: str
    at: float
    posts: int

    @property
    def lane(self) -> str:
        return f"{self.handler}/{self.destination}/{self.subject}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 4xx: the hub did not take it. `title` is the problem's, which holds nothing personal."""

    key: str
    status: int
    title: str


@asynccontextmanager
async def web_session(connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Keep-alive connections to the intake, as a website has them."""
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


class Loader:
    """Posts a stream of requests. The journal is JSON lines, flushed with each 202."""

    def __init__(
        self,
        base_url: str,
        keys: Mapping[str, str],
        journal: Path,
        concurrency: int = 16,
        on_accepted: Callable[[Accepted], None] | None = None,
    ) -> None:
        """`keys`: API key per origin."""
        self._url = f"{base_url}/v1/verzoeken"
        self._keys = keys
        self._concurrency = concurrency
        self._on_accepted = on_accepted
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._journal = journal.open("w")
        self.accepted: list[Accepted] = []
        self.refused: list[Refusal] = []
        self.started = 0.0

    def close(self) -> None:
        self._journal.close()

    async def run(self, requests: Iterable[DemoRequest], per_second: float | None = None) -> None:
        """Post all; at most `per_second` new ones a second. Returns when each is settled."""
        self.started = time.time()
        source = _Source(requests, per_second)
        async with web_session(self._concurrency) as session, asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(source, session))

    async def _work(self, source: "_Source", session: aiohttp.ClientSession) -> None:
        while (request := await source.take()) is not None:
            try:
                await self._settle(request, session)
            finally:
                source.done(request)

    async def _settle(self, request: DemoRequest, session: aiohttp.ClientSession) -> None:
        posts, pause = 0, _PAUSE_SECONDS
        while True:
            posts += 1
            status, body = await self._post(request, session)
            if status == 202:
                return self._note(request, str(body["referentie"]), posts)
            if 400 <= status < 500 and status != 429:
                refusal = Refusal(request.key, status, str(body.get("title", "")))
                self.refused.append(refusal)
                return self._write({"refused": asdict(refusal)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MOST_SECONDS)

    async def _post(
        self, request: DemoRequest, session: aiohttp.ClientSession
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON body; 0: no answer, so unknown."""
        headers = {
            "Authorization": f"Bearer {self._keys[request.origin]}",
            "Idempotency-Key": request.key,
        }
        try:
            async with session.post(self._url, json=request.body, headers=headers) as answer:
                body = await answer.json(content_type=None)
                return answer.status, body if isinstance(body, dict) else {}
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, {}

    def _note(self, request: DemoRequest, reference: str, posts: int) -> None:
        accepted = Accepted(
            order=len(self.accepted),
            reference=reference.replace("-", ""),
            key=request.key,
            origin=request.origin,
            handler=request.handler,
            destination=request.destination,
            subject=request.subject,
            at=time.time(),
            posts=posts,
        )
        self.accepted.append(accepted)
        self._write({"accepted": asdict(accepted)})
        if self._on_accepted:
            self._on_accepted(accepted)

    def _write(self, line: dict[str, Any]) -> None:
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()


class _Source:
    """Hands out requests in their order, one at a time per subject, at a pace."""

    def __init__(self, requests: Iterable[DemoRequest], per_second: float | None) -> None:
        self._requests = iter(requests)
        self._gap = 1 / per_second if per_second else 0.0
        self._next_at = time.monotonic()
        self._ready: deque[DemoRequest] = deque()
        self._behind: dict[str, deque[DemoRequest]] = {}
        """Per subject with one under way, what waits for it."""
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def take(self) -> DemoRequest | None:
        """The next one that may be posted; None when all are handed out."""
        async with self._turn:
            while True:
                if self._ready:
                    return self._ready.popleft()
                request = next(self._requests, None)
                if request is not None:
                    await self._pace()
                    if self._claim(request):
                        return request
                elif self._waiting:
                    await self._freed.wait()
                    self._freed.clear()
                else:
                    return None

    def _claim(self, request: DemoRequest) -> bool:
        behind = self._behind.get(request.subject)
        if behind is None:
            self._behind[request.subject] = deque()
            return True
        behind.append(request)
        self._waiting += 1
        return False

    def done(self, request: DemoRequest) -> None:
        """The subject's next one may go."""
        behind = self._behind[request.subject]
        if behind:
            self._waiting -= 1
            self._ready.append(behind.popleft())
            self._freed.set()
        else:
            del self._behind[request.subject]

    async def _pace(self) -> None:
        if not self._gap:
            return
        now = time.monotonic()
        # Time lost while nothing was accepted is not made up for by a burst.
        self._next_at = max(self._next_at + self._gap, now - 5 * self._gap)
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)


def read_journal(path: Path) -> list[Accepted]:
    """The 202s that a loader wrote down, in their order."""
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return [Accepted(**line["accepted"]) for line in lines if "accepted" in line]
