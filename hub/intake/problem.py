"""Answers that are not a success: problem+json (RFC 9457), in Dutch, never repeating input."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import Response

from hub.admission import KeyReused, SubjectErased
from hub.errors import InvalidField, Refused
from hub.event import show_reference

RETRY_AFTER_SECONDS: Final = 2

TITLES: Final[Mapping[int, str]] = {
    400: "Verzoek niet in orde",
    401: "Niet aangemeld",
    403: "Geen toegang",
    404: "Niet gevonden",
    405: "Methode niet toegestaan",
    408: "Verzoek duurde te lang",
    409: "Sleutel al gebruikt",
    410: "Gegevens gewist",
    413: "Verzoek te groot",
    415: "Inhoudstype niet ondersteund",
    500: "Fout in de hub",
    503: "Tijdelijk niet beschikbaar",
}

_STATUS: Final[Mapping[type[Refused], int]] = {KeyReused: 409, SubjectErased: 410}


class Declined(Exception):
    """A door says no before admission is asked. `code` is stable."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers


def problem(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A problem; `more` are members beside the standard ones."""
    content = {"title": TITLES[status], "status": status, "detail": detail, "code": code} | more
    return Response(
        json.dumps(content, ensure_ascii=False),
        status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def refused(error: Refused, name_of: Callable[[str], str | None]) -> Response:
    """400 with every fault, and the municipalities among which the citizen can choose."""
    more: dict[str, Any] = {}
    if error.fields:
        more["invalidParams"] = invalid_params(error.fields)
    if error.candidates:
        more["kandidaten"] = [{"gemeente": c, "naam": name_of(c) or c} for c in error.candidates]
    if isinstance(error, SubjectErased):
        more["referentie"] = show_reference(error.reference)
    return problem(_STATUS.get(type(error), 400), error.code, error.detail, **more)


def invalid_params(fields: Sequence[InvalidField]) -> list[dict[str, str]]:
    return [{"name": f.name, "reason": f.reason, "code": f.code} for f in fields]


def away() -> Response:
    """503: nobody knows whether it arrived; the same key makes a repeat harmless."""
    return problem(
        503,
        "try_again",
        "Onbekend of uw verzoek is aangekomen; stuur het opnieuw met dezelfde sleutel.",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def failed() -> Response:
    return problem(
        500,
        "internal_error",
        "Er ging iets mis in de hub. Onbekend of uw verzoek is aangekomen; stuur het opnieuw met "
        "dezelfde sleutel.",
    )
