"""The one factory of HTTP clients, and what counts as sent.

httpx over an aiohttp session of our own making: a shared plain httpx client collapses under
fan-out, and three habits of aiohttp must be off: it resends PUT, DELETE and GET by itself when a
kept-alive connection drops, it takes what came while a connection was idle for the answer to the
next request, and it keeps cookies.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from hub.configuration import Limits
from hub.connector import HttpAnswer, HttpRequest, Verdict, VerdictKind

_KEEPALIVE_SECONDS: Final = 4.0
"""Below the 5 s after which common servers close an idle connection: a request that meets a
closing connection has no answer, and then its lane waits for the whole request timeout."""


_NEVER_SENT: Final = (
    # aiohttp raises these while it connects, before a byte of the request is written,
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    # and these two before it connects at all: an address that is none.
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)


class _Connector(aiohttp.TCPConnector):
    """Gives out no idle connection on which something came that nobody had asked for."""

    async def _get(self, *about: Any) -> Any:
        # A private name; tests/unit/test_http.py shows that this one is still the one in use.
        while (found := await super()._get(*about)) is not None:
            protocol = found.protocol
            if protocol is not None and not protocol.should_close:
                return found
            found.close()
        return None


class HttpClient:
    """The client of one destination. Make it inside the running loop; `close` it there."""

    def __init__(
        self,
        limits: Limits,
        tls: ssl.SSLContext | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> None:
        """`on_sent` is called when a request body has been handed to the socket (crash points).

        `connect_timeout_seconds` bounds DNS, TCP and TLS together, `request_timeout_seconds`
        everything from there to the last byte of the answer.
        """
        self._limits = limits
        context = tls or _default_tls()
        session = aiohttp.ClientSession(
            # No limit here: the engine bounds what is under way, and a wait for a free
            # connection would be taken for a slow back-office.
            connector=_Connector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            trace_configs=[_tracing(on_sent)] if on_sent else None,
        )
        # Without this aiohttp sends a PUT or DELETE twice (tests/unit/test_http.py shows it).
        session._retry_connection = False  # noqa: SLF001
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(verify=context, trust_env=False, client=session),
            # `pool` bounds the whole way to a connection, DNS included; `connect` each socket.
            timeout=httpx.Timeout(
                None,
                connect=limits.connect_timeout_seconds,
                pool=limits.connect_timeout_seconds,
            ),
            follow_redirects=False,
            trust_env=False,
        )
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    async def send(self, request: HttpRequest, headers: Mapping[str, str]) -> HttpAnswer | Verdict:
        """One try. An answer if a status came back, else a verdict NOT_SENT or NO_ANSWER.

        `headers` are the engine's and win over the connector's. Only what aiohttp could not
        connect is NOT_SENT; whatever else goes wrong may have reached the back-office. An answer
        that breaks off, is too long or too slow behind its status keeps the bytes that came.
        """
        try:
            message = self._client.build_request(
                request.method,
                request.url,
                # Identity: an answer is never unpacked here, so it cannot be a zip bomb.
                headers={**request.headers, "Accept-Encoding": "identity", **headers},
                content=request.body,
            )
        except Exception as error:  # noqa: BLE001 - nothing was sent: whatever it is, say so
            return Verdict(VerdictKind.NOT_SENT, "unsendable", type(error).__name__)
        return await self._exchange(message)

    async def _exchange(self, message: httpx.Request) -> HttpAnswer | Verdict:
        answer: HttpAnswer | None = None
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.request_timeout_seconds):
                response = await self._client.send(message, stream=True)
                answer = HttpAnswer(response.status_code, _lower(response.headers), b"")
                try:
                    await self._read(response, body)
                finally:
                    await response.aclose()
        except Exception as error:  # noqa: BLE001 - "no answer" is the safe reading of any error
            if answer is None:
                return _unanswered(error)
        assert answer is not None
        return HttpAnswer(
            answer.status, answer.headers, bytes(body[: self._limits.answer_cap_bytes])
        )

    async def _read(self, response: httpx.Response, body: bytearray) -> None:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= self._limits.answer_cap_bytes:
                return

    async def close(self) -> None:
        await self._client.aclose()


def _unanswered(error: Exception) -> Verdict:
    """httpx-aiohttp reports a server that hung up after the request as ConnectTimeout, so only
    aiohttp's own error, kept as the cause, can tell what was never sent."""
    cause = error.__cause__
    if isinstance(cause, _NEVER_SENT):
        return Verdict(VerdictKind.NOT_SENT, _connect_code(cause), type(cause).__name__)
    code = "timeout" if isinstance(error, TimeoutError) else "broken_off"
    return Verdict(VerdictKind.NO_ANSWER, code, type(cause or error).__name__)


def _connect_code(cause: BaseException) -> str:
    if isinstance(cause, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return "connect_timeout"
    return "connect" if isinstance(cause, aiohttp.ClientConnectorError) else "unsendable"


def _lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@cache
def _default_tls() -> ssl.SSLContext:
    """Verifying, by the system's trust store; one for all clients, as loading it takes 10 ms."""
    return ssl.create_default_context()


def _tracing(on_sent: Callable[[], None]) -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()

    async def chunk_sent(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any
    ) -> None:
        # aiohttp calls this just before it writes; the write follows in the same step of the loop.
        asyncio.get_running_loop().call_soon(on_sent)

    tracing.on_request_chunk_sent.append(chunk_sent)
    return tracing
