"""A demo back-office: a real HTTP service in its own process with its own database.

`PUT|POST /<destination>/...` takes a request of the `rest` connector: header `Idempotency-Key`,
JSON body with `referentie` and `burger` (whom the order is for; without it the reference).
`GET|POST /control` shows and sets its mood. It listens on loopback only.

With dedupe on, a repeat under a known Idempotency-Key gives the first answer again and has no
effect, and 409 while the first is still being worked on. With dedupe off each arrival is an effect.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
from asyncio import TimerHandle
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from pydantic import ValidationError

from hub.demo.journal import APPLIED, REJECTED, Arrival, Journal
from hub.demo.moods import Command, Mood

MARK_UNREADABLE: Final = "DEMO-ONLEESBAAR"
"""Anywhere in a body: answered 400, as a real one does with data it cannot take."""
MARK_REFUSED: Final = "DEMO-AFWIJZEN"
"""Anywhere in a body: decided no, 422 with `{"besluit": "afgewezen"}`."""

_HOST: Final = "127.0.0.1"
_WORKS: Final = Command(mood=Mood.WORKS)


class BackOffice:
    """The service. `start` listens; `close` ends it. One event loop, no threads."""

    def __init__(self, name: str, db: Path, dedupe: bool = True, seed: int = 0) -> None:
        self.name = name
        self._journal = Journal(db)
        self._dedupe = dedupe
        self._random = random.Random(f"{seed}:{name}")
        self._command = _WORKS
        self._timer: TimerHandle | None = None
        self._awake = asyncio.Event()
        self._awake.set()
        self._in_work: set[tuple[str, str]] = set()
        self._site: web.SockSite | None = None
        self._closed_door: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        application = web.Application(client_max_size=2_000_000)
        application.router.add_get("/control", self._show)
        application.router.add_post("/control", self._control)
        application.router.add_route("PUT", "/{destination}/{path:.*}", self._receive)
        application.router.add_route("POST", "/{destination}/{path:.*}", self._receive)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        self.port = 0

    async def start(self, port: int = 0) -> int:
        """Listen on loopback; 0 chooses a free port. Returns the port."""
        await self._runner.setup()
        door = _bound(port)
        self.port = int(door.getsockname()[1])
        await self._open(door)
        return self.port

    async def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._awake.set()
        if self._closed_door:
            self._closed_door.close()
        await self._runner.cleanup()
        self._journal.close()

    # -- requests

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        arrival = _arrival(request, raw)
        seq = self._journal.arrived(arrival)
        # A hanging system holds whoever comes; it goes on with them afterwards, whether they
        # still wait or not. So a late effect of a request that timed out is part of the test.
        await self._awake.wait()
        if self._command.mood is Mood.FAIL:
            return self._answer(seq, 500, {"title": "Interne fout"})
        if not raw or not arrival.key or MARK_UNREADABLE.encode() in raw:
            return self._answer(seq, 400, {"title": "Bericht kan niet worden verwerkt"})
        verdict = await self._work(arrival, REJECTED if MARK_REFUSED.encode() in raw else APPLIED)
        if verdict is None:
            return self._answer(seq, 409, {"title": "Bericht wordt nog verwerkt"})
        if self._command.mood is Mood.DROP and self._random.random() < self._command.probability:
            if request.transport:
                request.transport.abort()
            return web.Response(status=502)
        if verdict == REJECTED:
            return self._answer(seq, 422, {"besluit": "afgewezen"})
        return self._answer(seq, 200, {"referentie": arrival.reference})

    async def _work(self, arrival: Arrival, verdict: str) -> str | None:
        """Take effect once per key, or each time without dedupe. None: the key is under way."""
        place = (arrival.destination, arrival.key)
        if self._dedupe:
            if earlier := self._journal.decided(*place):
                return earlier
            if place in self._in_work:
                return None
        self._in_work.add(place)
        try:
            if self._command.mood is Mood.SLOW:
                await asyncio.sleep(self._command.delay_seconds)
            self._journal.decide(arrival, verdict)
        finally:
            self._in_work.discard(place)
        return verdict

    def _answer(self, seq: int, status: int, body: dict[str, Any]) -> web.Response:
        self._journal.answered(seq, status)
        return web.json_response(body, status=status)

    # -- control

    async def _show(self, _request: web.Request) -> web.Response:
        return web.json_response({"name": self.name, "mood": self._command.mood.value})

    async def _control(self, request: web.Request) -> web.StreamResponse:
        try:
            command = Command.model_validate_json(await request.read())
        except ValidationError as bad:
            return web.json_response({"title": f"{bad.error_count()} fouten"}, status=400)
        answer = web.json_response({"mood": command.mood.value})
        # The answer leaves first: some commands end the connection that it travels on.
        await answer.prepare(request)
        await answer.write_eof()
        await self._become(command)
        return answer

    async def _become(self, command: Command) -> None:
        if command.mood is Mood.CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._command = command
        if command.mood is Mood.HANG:
            self._awake.clear()
        else:
            self._awake.set()
        if command.mood is Mood.REFUSE:
            await self._shut()
        else:
            await self._reopen()
        if command.seconds is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(command.seconds, self._recover)

    def _recover(self) -> None:
        task = asyncio.create_task(self._become(_WORKS))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shut(self) -> None:
        """Refuse: no listener, no open connection. The port stays ours, bound and not listening."""
        if self._site is None:
            return
        site, self._site = self._site, None
        await site.stop()
        for connection in list(self._runner.server.connections if self._runner.server else []):
            if connection.transport:
                connection.transport.abort()
        self._closed_door = _bound(self.port)

    async def _reopen(self) -> None:
        if self._closed_door is not None:
            door, self._closed_door = self._closed_door, None
            await self._open(door)

    async def _open(self, door: socket.socket) -> None:
        self._site = web.SockSite(self._runner, door, backlog=512)
        await self._site.start()


def _bound(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind((_HOST, port))
    door.setblocking(False)
    return door


def _arrival(request: web.Request, raw: bytes) -> Arrival:
    """What the message says of itself; whatever is missing stays empty."""
    try:
        body = json.loads(raw)
    except ValueError:
        body = {}
    fields = body if isinstance(body, dict) else {}
    reference = str(fields.get("referentie") or request.headers.get("X-Hub-Reference") or "")
    return Arrival(
        destination=request.match_info["destination"],
        reference=reference.replace("-", ""),
        key=request.headers.get("Idempotency-Key", ""),
        lane=str(fields.get("burger") or reference),
    )


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    office = BackOffice(arguments.name, arguments.db, arguments.dedupe == "on", arguments.seed)
    await office.start(arguments.port)
    await stop.wait()
    await office.close()


def main() -> None:
    """Run one back-office until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m hub.demo.backoffice", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--dedupe", choices=("on", "off"), default="on")
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
