"""Reads what a website sends, within bounds."""

import asyncio
from typing import Final

from fastapi import Request

from hub.intake.problem import Declined
from hub.topics import BODY_CAP_BYTES

READ_SECONDS: Final = 20.0
"""So long a body may take to arrive: who drips it byte by byte holds no place for longer."""


async def read_json_body(request: Request) -> bytes:
    """The raw body. Raises Declined: 415, 413 as soon as it is too much, 408."""
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().replace(" ", "").removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Declined(
            415, "not_json", "Stuur application/json in UTF-8.", {"Accept": "application/json"}
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Declined(415, "compressed", "Stuur de inhoud zonder compressie (Content-Encoding).")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > BODY_CAP_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _read(request)
    except TimeoutError:
        raise Declined(
            408, "too_slow", "De inhoud kwam te langzaam binnen.", {"Connection": "close"}
        ) from None


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_CAP_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> Declined:
    return Declined(
        413,
        "too_large",
        f"De inhoud is groter dan {BODY_CAP_BYTES // 1024} kB.",
        {"Connection": "close"},
    )
