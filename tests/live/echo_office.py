"""A back-office that repeats what it was sent in every part of its answer, as real ones do.

`python tests/live/echo_office.py PORT`. Whatever the mark in a request, the echo is there: in the
body, the reason phrase and the headers. A good one's first try is answered with something that is
no decision (500, 302, 409, 429 or a broken answer), the next with 200. It keeps nothing on disk.
"""

import argparse
import asyncio
import signal
from collections import Counter
from urllib.parse import quote

from aiohttp import web

from hub.demo.backoffice import MARK_REFUSED, MARK_UNREADABLE

_UNDECIDED = (500, 302, 409, 429, 0)
_EVERY = 10
"""One in so many good ones is first answered with something else: not so many that it is sick."""


class EchoOffice:
    def __init__(self) -> None:
        self._tries: Counter[str] = Counter()
        self._good = 0

    async def receive(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        self._tries[key] += 1
        status = self._status(raw, self._tries[key])
        if not status:
            # Half an answer: a parser that complains of it may quote it.
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 200 " + raw + b"\r\nContent-Length: x\r\n\r\n")  # type: ignore[attr-defined]  # a stream's
            request.transport.close()
            return web.Response()
        said = raw.decode(errors="replace").replace("\r", " ").replace("\n", " ")
        headers = {
            "Location": f"http://127.0.0.1:{request.url.port}/{quote(said[:500])}",
            "X-Echo": quote(said),
            "X-Wie": request.path_qs,
            "Retry-After": f"0; {quote(said[:200])}" if status == 429 else "0",
            "Set-Cookie": f"wie={quote(said[:200])}",
            "Content-Type": f'text/plain; wat="{quote(said[:100])}"',
        }
        body = b'{"besluit": "afgewezen", "fout": ' + raw + b"}" if status == 422 else raw
        return web.Response(body=body, status=status, reason=quote(said[:2000]), headers=headers)

    def _status(self, raw: bytes, tries: int) -> int:
        if MARK_UNREADABLE.encode() in raw:
            return 400
        if MARK_REFUSED.encode() in raw:
            return 422
        if tries > 1:
            return 200
        self._good += 1
        turn, rest = divmod(self._good, _EVERY)
        return 200 if rest else _UNDECIDED[turn % len(_UNDECIDED)]


async def serve(port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    office = EchoOffice()
    application = web.Application(client_max_size=2_000_000)
    application.router.add_route("*", "/{path:.*}", office.receive)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    asyncio.run(serve(parser.parse_args().port))
