"""Configuration: every mistake is named with file, line and remedy."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from hub.configuration import Configuration, Limits, check
from hub.connector import (
    Deliverable,
    HttpAnswer,
    HttpRequest,
    Kind,
    SecretMissing,
    Verdict,
    VerdictKind,
)
from hub.errors import ConfigError
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION
from hub.topics import QueueName

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

ROUTES = """\
# What goes where.
[[route]]
service = "relocation"
handler = "GM0505"
destination = "zaken"
valid_from = 2026-01-01T00:00:00+01:00
recorded_at = 2025-12-01T09:00:00+01:00

[[route]]
service = "public_space_report"
handler = "*"
destination = "meldingen"
valid_from = 2026-01-01T00:00:00+01:00
recorded_at = 2025-12-01T09:00:00+01:00
"""
DESTINATION = """\
connector = "fake"
kind = "key"

[limits]
concurrency = 2

[settings]
url = "https://zaken.example"
"""
TENANT = """\
[clients.website]
idempotency_pointer = "/kenmerk"
[clients.app]
"""


class NoAuth(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["none"] = "none"


class TokenAuth(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["token"]
    token: str

    @field_validator("token")
    @classmethod
    def _by_name(cls, token: str) -> str:
        if not token.startswith("env:"):
            raise ValueError("write env:NAME, never the secret itself")
        return token


class FakeConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    retries: int = 3
    auth: Annotated[NoAuth | TokenAuth, Field(discriminator="kind")] = NoAuth()


class FakeConnector:
    Config: ClassVar[type[BaseModel]] = FakeConfig

    def __init__(self, config: Any) -> None:
        if config.url == "broken":
            raise ConfigError("the template of `url` has no end")
        if config.url == "secret":
            raise SecretMissing("secret env:TOKEN: not there or not readable; set it")

    def build(self, event: Deliverable) -> HttpRequest:
        raise NotImplementedError

    def classify(self, answer: HttpAnswer) -> Verdict:
        return Verdict(VerdictKind.DELIVERED)


CONNECTORS = {"fake": FakeConnector}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small configuration in order: GM0505 with two destinations, GM0268 with one."""
    root = tmp_path / "config"
    files = {
        "routes.toml": ROUTES,
        "destinations/GM0505/zaken.toml": DESTINATION,
        "destinations/GM0505/meldingen.toml": DESTINATION,
        "destinations/GM0268/meldingen.toml": DESTINATION,
        "tenants/GM0505.toml": TENANT,
        "tenants/GM0501.toml": "[clients.website]\n",
        "README.md": "read me",
        "destinations/README.md": "read me",
        "tenants/.hidden": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def append(file: Path, **keys: str) -> None:
    """Append a route row; keys as TOML text."""
    row = {
        "service": '"relocation"',
        "handler": '"GM0505"',
        "destination": '"zaken"',
        "valid_from": "2026-06-01T00:00:00+02:00",
        "recorded_at": "2026-05-01T00:00:00+02:00",
        **keys,
    }
    with file.open("a") as out:
        out.write("\n[[route]]\n" + "".join(f"{k} = {v}\n" for k, v in row.items() if v))


def found(config: Path) -> list[str]:
    """Problems as lines, with paths relative to the configuration."""
    problems = check(config, CONNECTORS, now=NOW)
    return [str(p).replace(f"{config}/", "") for p in problems]


def test_a_configuration_in_order_is_read(config: Path) -> None:
    assert found(config) == []
    read = Configuration.load(config, CONNECTORS, now=NOW)
    queue = QueueName("GM0505", "zaken")
    destination = read.destinations[queue]
    assert (destination.connector, destination.kind) == ("fake", Kind.KEY)
    assert destination.settings == {"url": "https://zaken.example"}
    assert destination.limits == Limits(concurrency=2)
    assert destination.limits.request_timeout_seconds == 30.0
    assert read.handlers() == {"GM0505", "GM0268"}
    clients = read.tenants["GM0505"].clients
    assert clients["website"].idempotency_pointer == "/kenmerk"
    assert clients["app"].idempotency_pointer is None
    assert "GM0501" in read.tenants, "an ended municipality keeps its website"
    assert [(r.service, r.line) for r in read.routes.rows] == [
        (RELOCATION, 2),
        (PUBLIC_SPACE_REPORT, 9),
    ]


def test_admission_gets_a_route_only_where_the_destination_is_declared(config: Path) -> None:
    read = Configuration.load(config, CONNECTORS, now=NOW)
    for handler in ("GM0505", "GM0268"):
        route = read.route_for(PUBLIC_SPACE_REPORT, handler, NOW)
        assert route is not None
        assert route.queue(handler) == QueueName(handler, "meldingen")
    # `*` counts for it, but it has no such destination.
    assert read.routes.choose(PUBLIC_SPACE_REPORT, "GM0014", NOW) is not None
    assert read.route_for(PUBLIC_SPACE_REPORT, "GM0014", NOW) is None
    assert read.route_for(RELOCATION, "GM0268", NOW) is None


Change = Callable[[Path], object]


def in_routes(old: str, new: str) -> Change:
    return lambda config: edit(config / "routes.toml", old, new)


def in_destination(old: str, new: str) -> Change:
    return lambda config: edit(config / "destinations/GM0505/zaken.toml", old, new)


def in_tenant(old: str, new: str) -> Change:
    return lambda config: edit(config / "tenants/GM0505.toml", old, new)


def new_row(**keys: str) -> Change:
    return lambda config: append(config / "routes.toml", **keys)


def new_file(name: str, text: str = "") -> Change:
    def make(config: Path) -> None:
        (config / name).parent.mkdir(parents=True, exist_ok=True)
        (config / name).write_text(text)

    return make


ZAKEN = "destinations/GM0505/zaken.toml"

MISTAKES: dict[str, tuple[Change, str, list[str]]] = {
    "syntax": (in_routes('"GM0505"', '"GM0505'), "routes.toml:4: not TOML", ["repair the syntax"]),
    "syntax at the end": (
        lambda config: (config / "routes.toml").write_text("a = [1,\n2\n"),
        "routes.toml:2: not TOML",
        [],
    ),
    "not UTF-8": (
        lambda config: (config / "routes.toml").write_bytes(b"# ok\n# caf\xe9\n"),
        "routes.toml:2: not UTF-8",
        ["save the file as UTF-8"],
    ),
    "no routes file": (
        lambda config: (config / "routes.toml").unlink(),
        "routes.toml:1: cannot be read",
        [],
    ),
    "unknown key": (
        in_routes("service =", "servise ="),
        "routes.toml:3: unknown key 'servise'",
        ["did you mean 'service'?"],
    ),
    "missing key": (
        in_routes('handler = "GM0505"\n', ""),
        "routes.toml:2: key 'handler' is missing",
        ["add handler = ..."],
    ),
    "unknown table": (in_routes("[[route]]", "[[routes]]"), "routes.toml:2:", ["'route'?"]),
    "no offset": (
        in_routes("2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00"),
        "routes.toml:6:",
        ["with its offset, such as 2026-01-01T00:00:00+01:00"],
    ),
    "date as text": (
        in_routes("2026-01-01T00:00:00+01:00", '"2026-01-01T00:00:00+01:00"'),
        "routes.toml:6:",
        ["with its offset"],
    ),
    "unknown service": (
        in_routes('"relocation"', '"relocations"'),
        "routes.toml:3: unknown service 'relocations'",
        ["did you mean 'relocation'?"],
    ),
    "unknown municipality": (
        in_routes("GM0505", "GM9999"),
        "routes.toml:4: no municipality has the code 'GM9999'",
        ["codes are GMxxxx"],
    ),
    "not a code": (in_routes("GM0505", "dordrecht"), "routes.toml:4:", ["codes are GMxxxx"]),
    "ended municipality": (
        in_routes("GM0505", "GM0501"),
        "routes.toml:4: GM0501 (Brielle) ended on 2023-01-01",
        ["use its successor GM1992 (Voorne aan Zee)"],
    ),
    "undeclared destination": (
        in_routes('"zaken"', '"zakne"'),
        "routes.toml:5: destination 'zakne' is not declared",
        ["make destinations/GM0505/zakne.toml", "did you mean 'zaken'?"],
    ),
    "undeclared for all": (
        in_routes('"meldingen"', '"mor"'),
        "routes.toml:12: destination 'mor' is not declared",
        ["make destinations/<GMxxxx>/mor.toml"],
    ),
    "bad destination name": (
        in_routes('"zaken"', '"Zaken!"'),
        "routes.toml:5:",
        ["a name has a-z, 0-9 and dashes"],
    ),
    "same row twice": (
        new_row(
            valid_from="2025-12-31T23:00:00Z",
            recorded_at="2025-12-01T08:00:00Z",
        ),
        "routes.toml:17: the same row as in line 2",
        ["take it out"],
    ),
    "recorded before the one above": (
        new_row(recorded_at="2025-11-01T00:00:00+01:00"),
        "routes.toml:21: recorded before the row above it",
        ["append rows at the end"],
    ),
    "unknown connector": (
        in_destination('"fake"', '"fak"'),
        f"{ZAKEN}:1: no connector 'fak' is installed",
        ["did you mean 'fake'?"],
    ),
    "kind to come": (
        in_destination('kind = "key"', 'kind = "query"'),
        f"{ZAKEN}:2: kind 'query' is not built yet",
        ["Idempotency-Key"],
    ),
    "no kind": (in_destination('kind = "key"', 'kind = "keys"'), f"{ZAKEN}:2: kind:", []),
    "limit typo": (
        in_destination("concurrency", "concurency"),
        f"{ZAKEN}:5: unknown key 'concurency'",
        ["did you mean 'concurrency'?"],
    ),
    "limit too high": (
        in_destination("concurrency = 2", "concurrency = 17"),
        f"{ZAKEN}:5: limits.concurrency:",
        ["less than or equal to 16"],
    ),
    "setting typo": (
        in_destination("url =", "ulr ="),
        f"{ZAKEN}:8: unknown key 'ulr'",
        ["did you mean 'url'?"],
    ),
    "setting of a wrong type": (
        in_destination("[settings]", '[settings]\nretries = "many"'),
        f"{ZAKEN}:8: retries:",
        ["valid integer"],
    ),
    "key of a tagged union": (
        in_destination("[settings]", '[settings.auth]\nkind = "token"\ntokn = "env:X"\n[settings]'),
        f"{ZAKEN}:9: unknown key 'tokn'",
        ["did you mean 'token'?"],
    ),
    "secret in the file": (
        in_destination(
            "[settings]", '[settings.auth]\nkind = "token"\ntoken = "s3cr3t-w0rd"\n[settings]'
        ),
        f"{ZAKEN}:9: auth.token.token:",
        ["write env:NAME"],
    ),
    "connector refuses": (
        in_destination("https://zaken.example", "broken"),
        f"{ZAKEN}:7: the template of `url` has no end",
        ["[settings]"],
    ),
    "folder of no municipality": (
        new_file("destinations/dordrecht/zaken.toml", DESTINATION),
        "destinations/dordrecht:1: not the folder of a municipality",
        ["codes are GMxxxx"],
    ),
    "folder of an unknown municipality": (
        new_file("destinations/GM9999/zaken.toml", DESTINATION),
        "destinations/GM9999:1: no municipality has the code",
        ["codes are GMxxxx"],
    ),
    "folder of an ended municipality": (
        new_file("destinations/GM0501/zaken.toml", DESTINATION),
        "destinations/GM0501:1: GM0501 ended on 2023-01-01",
        ["use its successor GM1992 (Voorne aan Zee)"],
    ),
    "not a TOML file": (
        new_file("destinations/GM0505/zaken.toml.bak"),
        "destinations/GM0505/zaken.toml.bak:1: not a .toml file",
        ["rename it"],
    ),
    "destination name": (
        new_file("destinations/GM0505/Zaken 2.toml", DESTINATION),
        "destinations/GM0505/Zaken 2.toml:1: not a destination name",
        ["use a-z, 0-9 and dashes"],
    ),
    "tenant of no municipality": (
        new_file("tenants/GM9999.toml"),
        "tenants/GM9999.toml:1: no municipality has the code",
        ["rename the file"],
    ),
    "not a pointer": (
        in_tenant('"/kenmerk"', '"kenmerk"'),
        "tenants/GM0505.toml:2:",
        ["not a JSON pointer (RFC 6901), such as /kenmerk"],
    ),
    "client typo": (
        in_tenant("idempotency_pointer", "idempotency_key"),
        "tenants/GM0505.toml:2: unknown key 'idempotency_key'",
        ["did you mean 'idempotency_pointer'?"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_file_line_and_remedy(config: Path, name: str) -> None:
    change, begins, holds = MISTAKES[name]
    change(config)
    problems = found(config)
    match = [p for p in problems if p.startswith(begins) and all(part in p for part in holds)]
    assert match, problems
    assert "s3cr3t" not in "".join(problems)
    with pytest.raises(ConfigError) as raised:
        Configuration.load(config, CONNECTORS, now=NOW)
    assert match[0] in str(raised.value).replace(f"{config}/", "")


@pytest.mark.parametrize("name", MISTAKES)
def test_one_mistake_is_one_problem(config: Path, name: str) -> None:
    MISTAKES[name][0](config)
    if name in {"unknown key", "setting typo", "key of a tagged union"}:
        assert len(found(config)) == 2, "the key is unknown, and the right one is missing"
    else:
        assert len(found(config)) == 1


def test_a_missing_secret_is_told_and_keeps_no_process_from_starting(config: Path) -> None:
    """Intake and the way need none, and delivery has other destinations."""
    in_destination("https://zaken.example", "secret")(config)
    (problem,) = check(config, CONNECTORS, now=NOW)
    assert str(problem).startswith(f"{config / ZAKEN}:7: secret env:TOKEN: not there")
    loaded = Configuration.load(config, CONNECTORS, now=NOW)
    assert QueueName("GM0505", "zaken") in loaded.destinations


def test_all_problems_are_told_at_once_in_order(config: Path) -> None:
    edit(config / "routes.toml", '"relocation"', '"x"')
    edit(config / ZAKEN, "fake", "x")
    edit(config / "tenants/GM0505.toml", '"/kenmerk"', '""')
    places = [problem.split(": ")[0] for problem in found(config)]
    assert places == [f"{ZAKEN}:1", "routes.toml:3", "tenants/GM0505.toml:2"]


def test_no_folder_at_all(tmp_path: Path) -> None:
    (problem,) = check(tmp_path / "none", CONNECTORS)
    assert "no such folder; make it, or point HUB_CONFIG at yours" in str(problem)


def test_a_destination_may_go_once_its_row_is_past(config: Path) -> None:
    (config / ZAKEN).unlink()
    append(config / "routes.toml", destination='"meldingen"', valid_from="2026-11-24T00:00:00Z")
    assert [p.split(": ")[1].split("; ")[0] for p in found(config)] == [
        "destination 'zaken' is not declared"
    ]
    edit(config / "routes.toml", "2026-11-24T00:00:00Z", "2026-11-23T00:00:00Z")
    assert found(config) == []


def test_what_was_recorded_before_a_municipality_ended_stays(config: Path) -> None:
    """The merger came later: row and destination were right when they were written."""
    before = {
        "handler": '"GM0501"',
        "valid_from": "2022-01-01T00:00:00Z",
        "recorded_at": "2021-12-01T00:00:00Z",
    }
    text = (config / "routes.toml").read_text()
    (config / "routes.toml").write_text("")
    append(config / "routes.toml", **before)
    with (config / "routes.toml").open("a") as out:
        out.write(text)
    assert found(config) == [], "past, so its destination may be gone"
    new_file("destinations/GM0501/zaken.toml", DESTINATION)(config)
    assert found(config) == [], "or still be there, for what stands on its queue"
