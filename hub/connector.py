"""The plugin seam: what a connector is, and how one is found. Connectors are never imported here.

A connector turns an event into a request (`build`) and an answer into a verdict (`classify`).
Both are pure and total: no clock, no network, no sleep, no state. Sending, retries, timeouts,
TLS and redaction are the engine's.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Protocol

from pydantic import AfterValidator, BaseModel, SecretStr

from hub.errors import ConfigError
from hub.event import Envelope


@dataclass(frozen=True, slots=True)
class Deliverable:
    """An event as a connector sees it: the envelope, and the parts opened and decoded in order."""

    envelope: Envelope
    parts: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send. The engine adds Idempotency-Key, traceparent and the epoch header."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer; header names in lower case, the body cut at the engine's cap."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class VerdictKind(StrEnum):
    """What an answer means. A connector gives the first seven, the engine the last two."""

    DELIVERED = "delivered"
    """The back-office has it."""
    REJECTED = "rejected"
    """It decided no, finally; the lane goes on."""
    RECORD_FAILED = "record_failed"
    """It cannot take this record (4xx, mapping): the lane parks."""
    UNDER_WAY = "under_way"
    """An earlier try is still being worked on (409, 425): wait, send again (protocol S4)."""
    THROTTLED = "throttled"
    """Too much (429): speaks of the destination at once."""
    CREDENTIALS = "credentials"
    """Refused us (401, 403): speaks of the destination at once; calls a person."""
    AMBIGUOUS = "ambiguous"
    """An answer that does not say whether it took effect (5xx)."""
    NO_ANSWER = "no_answer"
    """Perhaps sent, no status came back: under way until its request timeout (protocol S2)."""
    NOT_SENT = "not_sent"
    """Certainly not sent: no connection. Speaks of the destination at once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A classified answer. `text` is for operators and holds nothing personal; at most 200 long."""

    kind: VerdictKind
    code: str = ""
    text: str = ""
    retry_after_seconds: float | None = None
    status: int | None = None


RETRY_AFTER_CAP_SECONDS: Final = 3600.0
"""No answer can make us wait longer than this: a year in Retry-After is a mistake of theirs."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks us to wait; None when it asks nothing we can use. Never raises.

    A date counts from the answer's own `Date` header, so that no clock is needed here and a
    back-office with a wrong clock is still understood; without that header a date says nothing.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        # A number too long for the interpreter to read is over the cap by its length alone.
        return (
            min(float(text), RETRY_AFTER_CAP_SECONDS)
            if len(text) < 10
            else (RETRY_AFTER_CAP_SECONDS)
        )
    try:
        until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("date", ""))
        seconds = (until - now).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(seconds, RETRY_AFTER_CAP_SECONDS) if seconds >= 0 else None


def _is_reference(secret: SecretStr) -> SecretStr:
    kind, _, name = secret.get_secret_value().partition(":")
    if kind not in {"env", "file"} or not name:
        raise ValueError("write env:NAME or file:/path; a secret itself never stands here")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_is_reference)]
"""A field of `Config` that says where a secret is: `env:NAME` or `file:/path`."""


class SecretMissing(ConfigError):
    """A secret is not there now. Failure policy: its destination waits, and nobody else does."""


def reveal(secret: SecretStr) -> str:
    """The secret that a `Secret` points at, read once when a connector is made.

    Raises SecretMissing naming the reference: the destination waits until it can be read.
    """
    reference = secret.get_secret_value()
    kind, _, name = reference.partition(":")
    try:
        value = os.environ[name] if kind == "env" else Path(name).read_text().strip()
    except (KeyError, OSError, UnicodeDecodeError):
        raise SecretMissing(f"secret {reference}: not there or not readable; set it") from None
    if not value:
        raise SecretMissing(f"secret {reference}: is empty; set it")
    return value


class Kind(StrEnum):
    """What a destination offers against repeats (protocol S1)."""

    KEY = "key"
    NATURAL = "natural"
    QUERY = "query"
    NONE = "none"


class Connector(Protocol):
    """One connector with its settings. Made once per destination."""

    Config: ClassVar[type[BaseModel]]
    """Settings of a destination; secrets as `SecretStr`. Generates form, docs and checks."""

    def __init__(self, config: Any) -> None: ...

    def build(self, event: Deliverable) -> HttpRequest:
        """The request for `event`. Raises MappingError if this record cannot be mapped."""
        ...

    def classify(self, answer: HttpAnswer) -> Verdict:
        """What `answer` means; never raises, whatever the bytes."""
        ...


class MappingError(Exception):
    """This record cannot be turned into a request; the lane parks. Text holds no personal data."""


def discover() -> dict[str, type[Connector]]:
    """Connectors by name, ours and others', from the entry point group `hub.connectors`."""
    found: dict[str, type[Connector]] = {}
    for point in entry_points(group="hub.connectors"):
        if point.name in found:
            raise ConfigError(
                f"connector {point.name!r} is offered by two installed packages, the second is "
                f"{point.dist.name if point.dist else 'unknown'}; uninstall one"
            )
        found[point.name] = point.load()
    return found
