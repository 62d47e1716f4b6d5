"""Posts that no door may take, with tokens wherever a caller can put text."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from hub.demo.requests import DemoRequest
from tests.live.canary_plan import Plan, Tokens

POST: Final = "/v1/verzoeken"
_Way = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Post:
    """One HTTP request. `what` names it in a failure; it holds no token."""

    what: str
    body: bytes
    method: str = "POST"
    path: str = POST
    headers: Mapping[str, str] | None = None
    accepted: bool = False
    """True: what is wrong with it is to be ignored, and it is admitted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`raw`: status line, headers and body, as far as they came."""

    post: Post
    status: int
    raw: bytes


def posts(plan: Plan) -> Iterator[Post]:
    place = plan.places[0]
    for good in (plan.relocation(place), plan.report(place, "bsn"), plan.report(place, "kvk")):
        yield from _spoiled_fields(good, plan.tokens)
    good = plan.relocation(place)
    yield from _refused_values(good, plan)
    yield from _not_json(good, plan.tokens)
    yield from _headers(plan)
    yield from _elsewhere(good, plan.tokens)


def send(port: int, key: str, post: Post) -> Answer:
    """`key`: the API key, unless the post brings its own credential."""
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Idempotency-Key": f"misvormd {post.what}",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers |= post.headers or {}
        connection.request(post.method, post.path, post.body, headers)
        answer = connection.getresponse()
        lines = [f"{answer.status} {answer.reason}", *(f"{n}: {v}" for n, v in answer.getheaders())]
        return Answer(post, answer.status, "\n".join(lines).encode() + b"\n\n" + answer.read())
    finally:
        connection.close()


def send_raw(port: int, raw: bytes) -> bytes:
    """Bytes that are no HTTP; what comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(raw)
        wire.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := wire.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)


def _spoiled_fields(good: DemoRequest, tokens: Tokens) -> Iterator[Post]:
    """Each value replaced by what does not belong there, and each object with one field more."""
    for way, value in _places(good.body, ()):
        name = ".".join(map(str, way)) or "body"
        label = f"refused {good.service} {name}"
        if isinstance(value, dict):
            more = {
                **value,
                tokens.word(f"{label}, name of a field"): tokens.word(f"{label}, more"),
            }
            yield Post(f"{label}: one field more", _with(good.body, way, more))
        if not way:
            continue
        wrong = {
            "far too long": tokens.word(f"{label}, long") * 200,
            "an object": {tokens.word(f"{label}, name"): tokens.bsn(f"{label}, object")},
            "a list": [tokens.word(f"{label}, list")],
            "a number": int(tokens.bsn(f"{label}, number")),
        }
        for what, instead in wrong.items():
            yield Post(f"{label}: {what}", _with(good.body, way, instead))


def _refused_values(good: DemoRequest, plan: Plan) -> Iterator[Post]:
    """Understood, and not allowed."""
    tokens = plan.tokens
    wrong = tokens.bsn("refused, fails the 11-test", valid=False)
    twice = good.body["gegevens"]["meeverhuizers"] * 2
    for what, way, value in (
        ("BSN", ("aanvrager", "bsn"), wrong),
        ("co-mover", ("gegevens", "meeverhuizers", 0, "bsn"), wrong),
        ("the same co-mover twice", ("gegevens", "meeverhuizers"), twice),
        ("unknown postcode", ("gegevens", "nieuwAdres", "postcode"), "9999ZZ"),
        ("another municipality", ("gemeente",), "GM0363"),
    ):
        yield Post(f"refused {what}", _with(good.body, way, value))
    report = plan.report(plan.places[0], "bsn")
    at_sea = {"lat": tokens.degrees("refused latitude", 53.5), "lon": 3.3}
    yield Post("refused: at sea", _with(report.body, ("gegevens", "locatie", "punt"), at_sea))
    slug = tokens.word("refused category")
    yield Post("refused: category", _with(report.body, ("gegevens", "categorie", "sub"), slug))
    file = f"{tokens.bsn('refused attachment')}-paspoort"
    yield Post("refused: file", _with(report.body, ("bijlagen", 0, "referentie"), file))


def _not_json(good: DemoRequest, tokens: Tokens) -> Iterator[Post]:
    body = json.dumps(good.body).encode()
    word = tokens.word("refused JSON").encode()
    yield Post("cut off", body[:-1])
    yield Post("text", word)
    yield Post("a list", b'["' + word + b'"]')
    yield Post("a text in JSON", b'"' + word + b'"')
    yield Post("not a number", b'{"type": NaN, "' + word + b'": 1}')
    yield Post("not UTF-8", b'{"type": "' + word + b'\xff"}')
    yield Post("a null byte", b'{"type": "' + word + b'\0"}')
    yield Post("deep", b'{"type":' + b'["' + word + b'",' * 5000)
    yield Post("UTF-16", json.dumps(good.body).encode("utf-16"))
    yield Post("too large", body + b" " * 300_000 + word)
    yield Post("empty", b"")


def _headers(plan: Plan) -> Iterator[Post]:
    """Refused for a header; the body alone would be admitted, unless said otherwise."""
    tokens = plan.tokens
    body = json.dumps(plan.relocation(plan.places[0]).body).encode()
    word = tokens.word
    for what, headers in (
        ("media type", {"Content-Type": f"text/{word('refused media type')}"}),
        ("charset", {"Content-Type": f"application/json; charset={word('refused charset')}"}),
        ("encoding", {"Content-Encoding": word("refused encoding")}),
        ("bearer", {"Authorization": f"Bearer {word('refused bearer')}"}),
        ("key", {"Authorization": f"Bearer hub_live_GM0268_{word('refused key')}"}),
        ("basic", {"Authorization": f"Basic {word('refused basic')}"}),
        ("no key", {"Idempotency-Key": ""}),
        ("long key", {"Idempotency-Key": word("refused idempotency key") * 20}),
        ("unprintable key", {"Idempotency-Key": f"\xa0{word('refused key')}\x80"}),
    ):
        yield Post(f"header: {what}", body, headers=headers)
    odd = {
        "Idempotency-Key": f"{word('Idempotency-Key')} met spatie",
        "traceparent": f"00-{word('traceparent')}-01",
        "tracestate": word("tracestate"),
        "baggage": f"burger={word('baggage')}",
        "User-Agent": word("User-Agent"),
        "Referer": f"https://example.nl/{word('Referer')}",
        "Cookie": f"burger={word('Cookie')}",
        "X-Forwarded-For": word("X-Forwarded-For"),
        "X-Request-Id": word("X-Request-Id"),
        word("name of a header"): word("header"),
    }
    path = f"{POST}?bsn={tokens.bsn('query')}"
    yield Post("headers that say nothing to us", body, path=path, headers=odd, accepted=True)


def _elsewhere(good: DemoRequest, tokens: Tokens) -> Iterator[Post]:
    word = tokens.word
    yield Post("status", b"", "GET", f"{POST}/{word('refused path')}")
    yield Post("status of a BSN", b"", "GET", f"{POST}/{tokens.bsn('refused path')}")
    yield Post("query", b"", "GET", f"{POST}?bsn={tokens.bsn('refused query')}")
    yield Post("path", b"", "GET", f"/{word('refused path')}/%00")
    yield Post("method", json.dumps(good.body).encode(), word("refused method"))
    yield Post("put", json.dumps(good.body).encode(), "PUT")


def _places(value: Any, way: _Way) -> Iterator[tuple[_Way, Any]]:
    yield way, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*way, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*way, number))


def _with(body: dict[str, Any], way: _Way, instead: Any) -> bytes:
    new = deepcopy(body)
    if not way:
        return json.dumps(instead).encode()
    place: Any = new
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = instead
    return json.dumps(new).encode()
