"""Around every answer: the headers that each must have, and a problem for what nobody caught."""

import traceback
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.intake import problem
from hub.telemetry import logger

API_VERSION: Final = "1.0.0"

_HEADERS: Final = tuple(
    (name.lower().encode(), value.encode())
    for name, value in {
        "API-Version": API_VERSION,
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }.items()
)


class Guard:
    """ASGI middleware. The text of an unknown error never leaves: it may quote a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, send_guarded)
        except ClientDisconnect:
            pass  # Nobody is there to answer; what was admitted stays admitted.
        except Exception as error:  # noqa: BLE001 - the server would log it with its text
            logger().error("intake_failed", error=type(error).__name__, path=_place(error))
            if not begun:
                await problem.failed()(scope, receive, send_guarded)


def _place(error: BaseException) -> str:
    """File and line that raised; not the text."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"
