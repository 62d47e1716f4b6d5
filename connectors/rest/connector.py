"""Any REST back-office, by configuration alone: URL, method, headers, auth, body, answers."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.rest.mapping import Scope, compile_text, compile_tree, scope_of
from hub.connector import (
    Deliverable,
    HttpAnswer,
    HttpRequest,
    MappingError,
    Secret,
    Verdict,
    VerdictKind,
    retry_after,
    reveal,
)
from hub.errors import ConfigError

_STRICT: Final = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_AUTHORITY: Final = re.compile(r"(https?)://([^/{}?#@\s]+)(/[^\s]*)?")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_ENGINE_HEADERS: Final = frozenset(
    {
        "idempotency-key", "traceparent", "x-delivery-epoch", "x-hub-reference",
        "host", "content-length", "transfer-encoding", "connection",
    }
)  # fmt: skip
_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)*")

Status = Annotated[int, Field(ge=100, le=599)]
Scalar = str | int | float | bool | None


class NoAuth(BaseModel):
    """No credential."""

    model_config = _STRICT
    kind: Literal["none"] = "none"


class BearerAuth(BaseModel):
    """`Authorization: Bearer <token>`."""

    model_config = _STRICT
    kind: Literal["bearer"]
    token: Secret


class BasicAuth(BaseModel):
    """`Authorization: Basic <username:password>`, UTF-8."""

    model_config = _STRICT
    kind: Literal["basic"]
    username: str
    password: Secret


class HeaderAuth(BaseModel):
    """A secret in a header of its own."""

    model_config = _STRICT
    kind: Literal["header"]
    name: str = Field(pattern=_HEADER_NAME.pattern)
    value: Secret


class Rule(BaseModel):
    """A status, and perhaps what the JSON body must hold at a pointer (RFC 6901)."""

    model_config = _STRICT
    status: Status
    pointer: str | None = None
    equals: Scalar = None

    @field_validator("pointer")
    @classmethod
    def _is_pointer(cls, pointer: str | None) -> str | None:
        if pointer is not None and not _POINTER.fullmatch(pointer):
            raise ValueError("write a JSON pointer such as /besluit or /result/code")
        return pointer

    @model_validator(mode="after")
    def _both(self) -> "Rule":
        if self.pointer is None and "equals" in self.model_fields_set:
            raise ValueError("`equals` needs a `pointer`")
        return self


class Answer(BaseModel):
    """What statuses mean. Looked at in the order rejected, delivered, auth, wait.

    Any other 4xx parks the lane; anything else does not say whether it took effect.
    """

    model_config = _STRICT
    delivered: tuple[Status, ...] = (200, 201, 202, 204)
    rejected: tuple[Status | Rule, ...] = ()
    auth: tuple[Status, ...] = (401, 403)
    wait: tuple[Status | Literal["5xx"], ...] = (409, 425, 429, "5xx")

    @model_validator(mode="after")
    def _no_status_twice(self) -> "Answer":
        # Another answer for one status is possible by a pointer only; else one would never apply.
        plain = [r for r in self.rejected if isinstance(r, int)]
        plain += [r.status for r in self.rejected if isinstance(r, Rule) and r.pointer is None]
        listed = [*plain, *self.delivered, *self.auth, *self.wait]
        if twice := sorted({str(s) for s in listed if listed.count(s) > 1}):
            raise ValueError(f"status {', '.join(twice)} stands in two lists")
        return self


class RestConfig(BaseModel):
    """Settings of a destination that speaks REST. Templates: see the connector's README."""

    model_config = _STRICT
    url: str
    """Placeholders only behind the host; their values are percent-encoded."""
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[str, str] = Field(default_factory=dict)
    auth: Annotated[NoAuth | BearerAuth | BasicAuth | HeaderAuth, Field(discriminator="kind")] = (
        NoAuth()
    )
    body: dict[str, Any] | list[Any] | None = None
    """A tree of the JSON body; none sends no body."""
    content_type: str = Field(default="application/json", pattern=_HEADER_VALUE.pattern)
    answer: Answer = Answer()
    plain_http_reason: str | None = Field(default=None, min_length=10)
    """Why personal data may cross a network without TLS; needed for http:// off loopback."""

    @model_validator(mode="after")
    def _url_is_safe(self) -> "RestConfig":
        match = _AUTHORITY.fullmatch(self.url)
        if match is None:
            raise ValueError(
                "url: write https://host/path; placeholders and credentials cannot stand before "
                "the path, and a query follows a path"
            )
        host = urlsplit(f"//{match[2]}").hostname or ""
        if match[1] == "http" and host not in _LOOPBACK and self.plain_http_reason is None:
            raise ValueError("url: use https, or give `plain_http_reason` (off loopback only TLS)")
        return self

    @field_validator("headers")
    @classmethod
    def _headers_are_ours(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"not a header name: {name!r}")
            if name.lower() in _ENGINE_HEADERS:
                raise ValueError(f"header {name} is set by the delivery engine; leave it out")
        return headers

    @model_validator(mode="after")
    def _templates_compile(self) -> "RestConfig":
        _Templates(self)
        return self


class _Templates:
    """The compiled templates of a configuration."""

    def __init__(self, config: RestConfig) -> None:
        self.url = compile_text(config.url, "url", in_url=True)
        self.headers = {
            name: compile_text(value, f"headers.{name}") for name, value in config.headers.items()
        }
        self.body = None if config.body is None else compile_tree(config.body)


class RestConnector:
    """One REST destination. Secrets are read once, here."""

    Config: ClassVar[type[BaseModel]] = RestConfig

    def __init__(self, config: RestConfig) -> None:
        self._config = config
        self._templates = _Templates(config)
        self._auth = _auth_headers(config.auth)
        self._rejected = [
            Rule(status=entry) if isinstance(entry, int) else entry
            for entry in config.answer.rejected
        ]

    def __repr__(self) -> str:
        return f"RestConnector({self._config.method} {self._config.url})"

    def build(self, event: Deliverable) -> HttpRequest:
        """The request for `event`; MappingError names the path that is missing or does not fit."""
        scope = scope_of(event)
        url = self._templates.url(scope)
        if {".", ".."} & set(urlsplit(url).path.split("/")):
            raise MappingError("url: a value of only dots would climb in the path")
        headers = {name: _header(name, r(scope)) for name, r in self._templates.headers.items()}
        headers |= self._auth
        if self._templates.body is None:
            return HttpRequest(self._config.method, url, headers)
        headers.setdefault("Content-Type", self._config.content_type)
        return HttpRequest(self._config.method, url, headers, self._body(scope))

    def _body(self, scope: Scope) -> bytes:
        assert self._templates.body is not None
        tree = self._templates.body(scope)
        try:
            text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return text.encode()
        except ValueError:
            # The value itself stays out of the text: it may be personal.
            raise MappingError("body: a number or text in it has no JSON form") from None

    def classify(self, answer: HttpAnswer) -> Verdict:
        """What the status, and where a rule asks for it the body, means."""
        wait = retry_after(answer.headers)
        kind = self._kind(answer)
        code = f"http_{answer.status}"
        return Verdict(kind, code, _text(answer.status), wait, answer.status)

    def _kind(self, answer: HttpAnswer) -> VerdictKind:
        status, lists = answer.status, self._config.answer
        rules = [rule for rule in self._rejected if rule.status == status]
        if any(rule.pointer is None for rule in rules):
            return VerdictKind.REJECTED
        if rules:
            readable, body = _read_json(answer.body)
            if any(readable and _holds(rule, body) for rule in rules):
                return VerdictKind.REJECTED
            if not readable:
                # The decision stands in a body that we cannot read (cut off, a login page):
                # guessing "delivered" could lose a refusal, so it is asked again.
                return VerdictKind.AMBIGUOUS
        if status in lists.delivered:
            return VerdictKind.DELIVERED
        if status in lists.auth:
            return VerdictKind.CREDENTIALS
        if status in lists.wait or ("5xx" in lists.wait and 500 <= status <= 599):
            return _wait_kind(status)
        if 400 <= status <= 499:
            return VerdictKind.RECORD_FAILED
        # A redirect, a 1xx, a 2xx that nobody listed: it may or may not have taken effect.
        return VerdictKind.AMBIGUOUS


def _wait_kind(status: int) -> VerdictKind:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return VerdictKind.THROTTLED
    return VerdictKind.UNDER_WAY if 400 <= status <= 499 else VerdictKind.AMBIGUOUS


def _text(status: int) -> str:
    """For operators. Never the answer's own words: they may repeat what we sent."""
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _auth_headers(auth: NoAuth | BearerAuth | BasicAuth | HeaderAuth) -> dict[str, str]:
    match auth:
        case BearerAuth():
            name, value = "Authorization", f"Bearer {reveal(auth.token)}"
        case BasicAuth():
            pair = f"{auth.username}:{reveal(auth.password)}".encode()
            name, value = "Authorization", f"Basic {base64.b64encode(pair).decode()}"
        case HeaderAuth():
            name, value = auth.name, reveal(auth.value)
        case NoAuth():
            return {}
    if not _HEADER_VALUE.fullmatch(value):
        raise ConfigError(f"settings.auth: the secret for {name} holds characters no header can")
    return {name: value}


def _header(name: str, value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise MappingError(f"headers.{name}: a value with characters that no header can hold")
    return value


def _read_json(body: bytes) -> tuple[bool, Any]:
    try:
        return True, json.loads(body)
    except (ValueError, RecursionError):
        return False, None


def _holds(rule: Rule, body: Any) -> bool:
    found = body
    for step in (rule.pointer or "").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, Sequence) and not isinstance(found, str) and name.isdecimal():
            place = int(name[:9])
            if place >= len(found):
                return False
            found = found[place]
        else:
            return False
    # `1 == True` in Python; in JSON they differ.
    return isinstance(found, bool) == isinstance(rule.equals, bool) and bool(found == rule.equals)
