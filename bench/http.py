"""Why there is one small client per destination and no shared plain httpx client."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import httpx

from bench import Comparison, compare
from hub.connector import HttpAnswer, HttpRequest
from hub.delivery.http import HttpClient, HttpLimits

_REQUESTS = 1_000
_DESTINATIONS = 10
_AT_ONCE = 16
_BODY = b"x" * 600


async def _drive(sends: list[Callable[[], Awaitable[int]]]) -> float:
    """`_AT_ONCE` workers per destination; answered requests per second over all of them."""
    left = iter(range(_REQUESTS))

    async def worker(send: Callable[[], Awaitable[int]]) -> None:
        for _ in left:
            status = await send()
            assert status == 201, status

    started = time.perf_counter()
    await asyncio.gather(*(worker(send) for send in sends for _ in range(_AT_ONCE)))
    return _REQUESTS / (time.perf_counter() - started)


async def _shared_httpx(url: str) -> float:
    async with httpx.AsyncClient(
        limits=httpx.Limits(max_connections=None), timeout=60, trust_env=False
    ) as client:

        async def send() -> int:
            return (await client.put(url, content=_BODY)).status_code

        return await _drive([send] * _DESTINATIONS)


async def _ours(url: str) -> float:
    clients = [HttpClient(HttpLimits()) for _ in range(_DESTINATIONS)]

    def sender(client: HttpClient) -> Callable[[], Awaitable[int]]:
        async def send() -> int:
            answer = await client.send(HttpRequest("PUT", url, {}, _BODY), {})
            return answer.status if isinstance(answer, HttpAnswer) else 0

        return send

    try:
        return await _drive([sender(client) for client in clients])
    finally:
        for client in clients:
            await client.close()


def run(rounds: int) -> Comparison:
    target = subprocess.Popen([sys.executable, "-m", "bench.target"], stdout=subprocess.PIPE)
    try:
        assert target.stdout is not None
        url = f"http://127.0.0.1:{int(target.stdout.readline())}/"
        return compare(
            f"{_DESTINATIONS} destinations, {_AT_ONCE} requests at once each, answers after 5 ms",
            {
                "one shared httpx client (baseline)": lambda: asyncio.run(_shared_httpx(url)),
                "a client per destination (hub.delivery.http)": lambda: asyncio.run(_ours(url)),
            },
            rounds,
        )
    finally:
        target.kill()
        target.wait()
