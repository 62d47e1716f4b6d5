"""The HTTP seam against real sockets: what arrives how often, and what counts as sent."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hub.configuration import Limits
from hub.connector import HttpAnswer, HttpRequest, Verdict, VerdictKind
from hub.delivery.http import HttpClient

Handler = Callable[["Peer"], Awaitable[None]]
PATIENT = Limits(request_timeout_seconds=20.0, connect_timeout_seconds=4.0)


class Peer:
    """One request as a raw server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = b""
        self.body = b""

    async def read(self) -> bool:
        try:
            self.head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        lines = self.head.lower().split(b"\r\n")
        length = next((int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")), 0)
        self.body = await self.reader.readexactly(length)
        return True

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class Server:
    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.url = ""


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while not writer.is_closing() and await peer.read():
                server.requests.append(peer.head + peer.body)
                await handler(peer)
        writer.close()
        tasks.discard(task)

    listener = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/cases"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def client_with(
    limits: Limits = PATIENT,
    tls: ssl.SSLContext | None = None,
    on_sent: Callable[[], None] | None = None,
) -> AsyncIterator[HttpClient]:
    client = HttpClient(limits, tls, on_sent)
    try:
        yield client
    finally:
        await client.close()


def answer(body: bytes = b"ok", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), extra, body)


async def say_ok(peer: Peer) -> None:
    await peer.say(answer())


def verdict_of(result: HttpAnswer | Verdict) -> Verdict:
    assert isinstance(result, Verdict)
    return result


def answer_of(result: HttpAnswer | Verdict) -> HttpAnswer:
    assert isinstance(result, HttpAnswer), result
    return result


async def test_an_answer_comes_back_whole_and_the_engine_headers_win() -> None:
    async def handler(peer: Peer) -> None:
        await peer.say(answer(b'{"a":1}', b"Retry-After: 3\r\nX-Seen: yes\r\n"))

    async with serving(handler) as server, client_with() as client:
        request = HttpRequest("POST", server.url, {"X-Delivery-Epoch": "forged"}, b"{}")
        got = answer_of(await client.send(request, {"X-Delivery-Epoch": "7"}))
    assert (got.status, got.body) == (200, b'{"a":1}')
    assert got.headers["retry-after"] == "3"
    assert b"x-delivery-epoch: 7" in server.requests[0].lower()
    assert b"forged" not in server.requests[0]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH"])
async def test_a_request_dropped_on_a_kept_alive_connection_arrives_once(method: str) -> None:
    async def handler(peer: Peer) -> None:
        if len(server.requests) == 1:
            await peer.say(answer())
        else:
            peer.writer.close()

    async with serving(handler) as server, client_with() as client:
        answer_of(await client.send(HttpRequest(method, server.url, {}, b"1"), {}))
        second = verdict_of(await client.send(HttpRequest(method, server.url, {}, b"2"), {}))
    assert second.kind is VerdictKind.NO_ANSWER
    assert [r[-1:] for r in server.requests] == [b"1", b"2"]


async def test_aiohttp_would_send_a_dropped_put_twice_without_our_setting() -> None:
    """Shows that the test above can fail; when it stops failing, the setting can go."""

    async def handler(peer: Peer) -> None:
        if len(server.requests) == 1:
            await peer.say(answer())
        else:
            peer.writer.close()

    async with serving(handler) as server, client_with() as client:
        client._client._transport.client._retry_connection = True  # type: ignore[attr-defined]
        answer_of(await client.send(HttpRequest("PUT", server.url, {}, b"1"), {}))
        await client.send(HttpRequest("PUT", server.url, {}, b"2"), {})
    assert [r[-1:] for r in server.requests] == [b"1", b"2", b"2"]


async def test_what_came_while_a_connection_was_idle_is_no_answer_to_the_next_request() -> None:
    """A second 200, or a 408 for an idle connection: the request behind it was never written."""

    async def handler(peer: Peer) -> None:
        await peer.say(answer(peer.body))
        if peer.body == b"1":
            await asyncio.sleep(0.05)
            await peer.say(answer(b"nobody asked"))

    async with serving(handler) as server, client_with() as client:
        for body in (b"1", b"2", b"3"):
            got = answer_of(await client.send(HttpRequest("POST", server.url, {}, body), {}))
            assert got.body == body
            await asyncio.sleep(0.2)
    assert [r[-1:] for r in server.requests] == [b"1", b"2", b"3"]


async def test_a_refused_connection_was_not_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        async with client_with() as client:
            got = verdict_of(await client.send(HttpRequest("POST", url, {}, b"x"), {}))
    assert (got.kind, got.code) == (VerdictKind.NOT_SENT, "connect")


async def test_a_name_that_does_not_resolve_was_not_sent() -> None:
    async with client_with() as client:
        got = verdict_of(await client.send(HttpRequest("POST", "http://none.invalid/"), {}))
    assert got.kind is VerdictKind.NOT_SENT


async def test_no_connection_in_time_was_not_sent() -> None:
    """A full accept queue: the kernel drops SYNs, so the connection hangs."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        limits = Limits(request_timeout_seconds=20.0, connect_timeout_seconds=0.1)
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        async with client_with(limits) as client:
            got = verdict_of(await client.send(HttpRequest("POST", url, {}, b"x"), {}))
    assert (got.kind, got.code) == (VerdictKind.NOT_SENT, "connect_timeout")


async def test_a_connection_closed_after_the_request_may_have_been_sent() -> None:
    async def handler(peer: Peer) -> None:
        peer.writer.close()

    async with serving(handler) as server, client_with() as client:
        got = verdict_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert got.kind is VerdictKind.NO_ANSWER
    assert len(server.requests) == 1


async def test_a_reset_after_the_request_may_have_been_sent() -> None:
    async def handler(peer: Peer) -> None:
        peer.writer.transport.abort()

    async with serving(handler) as server, client_with() as client:
        got = verdict_of(await client.send(HttpRequest("PUT", server.url, {}, b"x"), {}))
    assert got.kind is VerdictKind.NO_ANSWER
    assert len(server.requests) == 1


async def test_something_else_than_http_may_have_been_sent() -> None:
    async def handler(peer: Peer) -> None:
        await peer.say(b"\x00\x01SMTP ready\r\n\r\n")
        peer.writer.close()

    async with serving(handler) as server, client_with() as client:
        got = verdict_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert got.kind is VerdictKind.NO_ANSWER


@pytest.mark.slow
async def test_the_total_timeout_holds_while_bytes_of_the_head_trickle_in() -> None:
    async def handler(peer: Peer) -> None:
        for byte in answer():
            await peer.say(bytes([byte]))
            await asyncio.sleep(0.5)

    limits = Limits(request_timeout_seconds=3.0)
    async with serving(handler) as server, client_with(limits) as client:
        got = verdict_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert (got.kind, got.code) == (VerdictKind.NO_ANSWER, "timeout")


async def test_an_answer_that_breaks_off_behind_its_status_keeps_what_came() -> None:
    async def handler(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\npart")
        peer.writer.close()

    async with serving(handler) as server, client_with() as client:
        got = answer_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert (got.status, got.body) == (201, b"part")


@pytest.mark.slow
async def test_an_answer_too_slow_behind_its_status_keeps_what_came() -> None:
    async def handler(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        await asyncio.sleep(60)

    limits = Limits(request_timeout_seconds=3.0)
    async with serving(handler) as server, client_with(limits) as client:
        got = answer_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert (got.status, got.body) == (200, b"part")


async def test_a_huge_answer_is_cut_at_the_cap_and_not_read_on() -> None:
    written = 0

    async def handler(peer: Peer) -> None:
        nonlocal written
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(2000):
            await peer.say(b"x" * 65536)
            written += 65536

    limits = Limits(request_timeout_seconds=20.0, answer_cap_bytes=100_000)
    async with serving(handler) as server, client_with(limits) as client:
        got = answer_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert len(got.body) == 100_000
    assert written < 131_072_000


async def test_a_packed_answer_is_not_unpacked() -> None:
    async def handler(peer: Peer) -> None:
        await peer.say(answer(b"\x1f\x8bzip", b"Content-Encoding: gzip\r\n"))

    async with serving(handler) as server, client_with() as client:
        got = answer_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert got.body == b"\x1f\x8bzip"
    assert b"accept-encoding: identity" in server.requests[0].lower()


async def test_redirects_are_answers_and_cookies_are_forgotten() -> None:
    async def handler(peer: Peer) -> None:
        target = server.url.encode() + b"/other"
        await peer.say(
            b"HTTP/1.1 307 X\r\nLocation: %s\r\nSet-Cookie: s=1\r\nContent-Length: 0\r\n\r\n"
            % target
        )

    async with serving(handler) as server, client_with() as client:
        for _ in range(2):
            got = answer_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
            assert got.status == 307
    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1].lower()


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(say_ok) as server, client_with() as client:
        answer_of(await client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
    assert server.requests[0].startswith(b"POST /cases HTTP/1.1")


async def test_an_address_that_cannot_be_one_was_not_sent() -> None:
    async with client_with() as client:
        for url in ("http://[", "ftp://127.0.0.1/", "nothing", "http://127.0.0.1:99999/"):
            got = verdict_of(await client.send(HttpRequest("POST", url, {}, b"x"), {}))
            assert got.kind is VerdictKind.NOT_SENT, url


async def test_on_sent_is_called_when_the_body_is_on_the_wire_and_no_answer_is_read() -> None:
    sent = asyncio.Event()
    arrived = asyncio.Event()

    async def handler(peer: Peer) -> None:
        arrived.set()
        await sent.wait()
        await peer.say(answer())

    async with serving(handler) as server, client_with(on_sent=sent.set) as client:
        trying = asyncio.create_task(client.send(HttpRequest("POST", server.url, {}, b"x"), {}))
        await asyncio.wait_for(arrived.wait(), 20)
        answer_of(await trying)
    assert sent.is_set()


async def test_an_unknown_certificate_was_not_sent_and_a_known_one_is_taken(
    tmp_path: Path,
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        f" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {key}"
        f" -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate, key)
    async with serving(say_ok, ours) as server:
        request = HttpRequest("POST", server.url, {}, b"x")
        async with client_with() as client:
            got = verdict_of(await client.send(request, {}))
        assert (got.kind, got.code) == (VerdictKind.NOT_SENT, "tls")
        assert server.requests == []
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with client_with(tls=trusting) as client:
            assert answer_of(await client.send(request, {})).status == 200
