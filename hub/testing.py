"""For authors of connectors: `ConnectorSuite`, inherited by a test class, and events to try.

Needs pytest and hypothesis (`pip install midoffice-hub[dev]`). The suite is C1 to C17 of
connectors/README.md as far as one connector can show them; the rest is the engine's to show.
"""

import ast
import copy
import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.connector import (
    RETRY_AFTER_CAP_SECONDS,
    Connector,
    Deliverable,
    HttpAnswer,
    HttpRequest,
    Kind,
    MappingError,
    Verdict,
    VerdictKind,
    discover,
)
from hub.contract import CO_MOVER, RELOCATION_REPORTED, REPORT_SUBMITTED
from hub.contract.library import default_folder
from hub.event import (
    PUBLIC_SPACE_REPORT,
    RELOCATION,
    Attachment,
    Authentication,
    Envelope,
    Part,
    Payment,
)

FILES: Final = ("manifest.toml", "connector.py", "mapping.py", "quality.yaml", "README.md")
MAY_GIVE: Final = frozenset(VerdictKind) - {VerdictKind.NO_ANSWER, VerdictKind.NOT_SENT}
_MAY_IMPORT: Final = frozenset({"hub.connector", "hub.event", "hub.errors", "hub.privacy"})
_NOT_PURE: Final = frozenset(
    {
        "socket", "ssl", "asyncio", "threading", "multiprocessing", "subprocess", "time", "random",
        "secrets", "urllib.request", "http.client", "httpx", "aiohttp", "requests", "sqlite3",
    }
)  # fmt: skip
_NOT_PURE_CALLS: Final = frozenset({"now", "today", "utcnow", "open", "sleep", "urandom"})
_QUALITY: Final = re.compile(r"(C\d+): (done|engine|todo|exempt)\b.*")
_INHERITED: Final = [HealthCheck.differing_executors]
_MANY: Final = 3 * examples().max_examples
"""300, unless the profile that hypothesis runs under says otherwise."""


class Manifest(BaseModel):
    """`manifest.toml` of a connector."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"[a-z][a-z0-9-]*")
    version: str = Field(pattern=r"\d+\.\d+\.\d+")
    owner: str
    summary: str
    services: list[str] = Field(min_length=1)
    transport: str = Field(pattern="rest|soap|topic")
    kinds: list[Kind] = Field(min_length=1)
    ordering: str = Field(pattern="subject|none")
    data_categories: list[str]
    purpose: str
    tariff_unit: str
    tier: str = Field(pattern="bronze|silver|gold")
    limits: dict[str, float]


def events(service: str | None = None) -> st.SearchStrategy[Deliverable]:
    """Events of a service (default: any), with parts made from the Avro schemas."""
    relocation = st.tuples(_records(RELOCATION_REPORTED)).flatmap(
        lambda first: st.lists(_records(CO_MOVER), max_size=3).map(lambda rest: (*first, *rest))
    )
    report = st.tuples(_records(REPORT_SUBMITTED))
    made = {
        RELOCATION: st.builds(_deliverable, st.just(RELOCATION), relocation, _MOMENTS),
        PUBLIC_SPACE_REPORT: st.builds(
            _deliverable, st.just(PUBLIC_SPACE_REPORT), report, _MOMENTS
        ),
    }
    return made[service] if service else st.one_of(*made.values())


class ConnectorSuite:
    """Inherit and fill in the class variables. Each test says which point of the scale it is."""

    connector: ClassVar[type[Connector]]
    settings: ClassVar[Mapping[str, Any]]
    """Settings that work, as in a destination's file."""
    secrets: ClassVar[Mapping[str, str]] = {}
    """Environment variables that the settings name, with values of at least eight characters."""
    verdicts: ClassVar[Mapping[int, VerdictKind]]
    """What a status with an empty JSON object as body means; at least one of each class."""
    broken: ClassVar[Sequence[tuple[Mapping[str, Any], str]]]
    """Changes to the settings, each with a word that the error must name."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _environment(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in cls.secrets.items():
                patch.setenv(name, value)
            yield

    @property
    def folder(self) -> Path:
        return Path(inspect.getfile(self.connector)).parent

    def make(self, **changes: Any) -> Connector:
        config = self.connector.Config.model_validate({**self.settings, **changes})
        return self.connector(config)

    def manifest(self) -> Manifest:
        return Manifest.model_validate(tomllib.loads((self.folder / "manifest.toml").read_text()))

    def test_c1_the_manifest_is_valid_and_the_connector_is_found(self) -> None:
        manifest = self.manifest()
        assert discover()[manifest.id] is self.connector
        schema = self.connector.Config.model_json_schema()
        assert json.dumps(schema), "forms and documents are made from it"

    @given(st.deferred(events))
    @examples(max_examples=_MANY, deadline=None, suppress_health_check=_INHERITED)
    def test_c2_build_is_pure_and_total(self, event: Deliverable) -> None:
        connector, before = self.make(), copy.deepcopy(event)
        first, second = _built(connector, event), _built(connector, event)
        assert first == second
        assert event == before
        if isinstance(first, str):
            assert not [value for value in _texts(event.parts) if value in first]

    def test_c6_each_status_means_what_is_declared(self) -> None:
        classes = {status // 100 for status in self.verdicts}
        assert {2, 4, 5} <= classes, f"declare one of 2xx, 4xx and 5xx at least, not {classes}"
        for status, kind in self.verdicts.items():
            assert self.make().classify(HttpAnswer(status, {}, b"{}")).kind is kind, status

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "7"}, 7.0),
            ({"retry-after": " 0 "}, 0.0),
            ({"retry-after": "31536000"}, RETRY_AFTER_CAP_SECONDS),
            ({"retry-after": "9" * 5000}, RETRY_AFTER_CAP_SECONDS),
            ({"retry-after": "-1"}, None),
            ({"retry-after": "soon"}, None),
            ({"retry-after": "٣"}, None),
            ({"retry-after": "Mon, 23 Nov 2026 12:00:09 GMT"}, None),
            (
                {
                    "retry-after": "Mon, 23 Nov 2026 12:00:09 GMT",
                    "date": "Mon, 23 Nov 2026 12:00:00 GMT",
                },
                9.0,
            ),
            (
                {
                    "retry-after": "Mon, 23 Nov 2020 12:00:00 GMT",
                    "date": "Mon, 23 Nov 2026 12:00:00 GMT",
                },
                None,
            ),
            ({}, None),
        ],
    )
    def test_c7_retry_after(self, headers: dict[str, str], seconds: float | None) -> None:
        waits = [s for s, kind in self.verdicts.items() if kind in _WAITS]
        assert waits, "no declared status makes us wait"
        for status in waits:
            verdict = self.make().classify(HttpAnswer(status, headers, b"{}"))
            assert verdict.retry_after_seconds == seconds

    @given(
        st.integers(-1, 1000) | st.integers(),
        st.dictionaries(st.sampled_from(["retry-after", "date", "content-type"]), st.text()),
        st.binary(max_size=300) | st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe"]),
    )
    @examples(max_examples=_MANY, deadline=None, suppress_health_check=_INHERITED)
    def test_c8_classify_survives_any_answer(
        self, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        verdict = self.make().classify(HttpAnswer(status, headers, body))
        assert isinstance(verdict, Verdict)
        assert verdict.kind in MAY_GIVE
        assert len(verdict.text) <= 200
        wait = verdict.retry_after_seconds
        assert wait is None or 0 <= wait <= RETRY_AFTER_CAP_SECONDS

    def test_c8_the_words_of_an_answer_are_not_repeated(self) -> None:
        for status in self.verdicts:
            answer = HttpAnswer(status, {}, b'{"title": "burger 999993653 Boterdiep"}')
            verdict = self.make().classify(answer)
            assert "999993653" not in f"{verdict}"
            assert "Boterdiep" not in f"{verdict}"

    @given(st.deferred(events))
    @examples(deadline=None, suppress_health_check=_INHERITED)
    def test_c11_secrets_stand_in_headers_only(self, event: Deliverable) -> None:
        connector = self.make()
        request = _built(connector, event)
        shown = repr(connector) + str(self.connector.Config.model_validate(self.settings))
        if isinstance(request, HttpRequest):
            shown += request.url + request.body.decode("utf-8", "replace")
        for secret in self.secrets.values():
            assert secret not in shown

    def test_c13_a_broken_configuration_names_the_field(self) -> None:
        assert self.broken, "give at least one broken configuration"
        for change, word in self.broken:
            with pytest.raises(ValidationError) as bad:
                self.connector.Config.model_validate({**self.settings, **change})
            told = bad.value.errors(include_input=False, include_url=False)
            places = " ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in told)
            assert word in places, f"{change}: {places}"

    def test_c16_no_socket_clock_thread_or_file_of_its_own(self) -> None:
        for path in self.folder.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                for name in _imported(node):
                    assert name not in _NOT_PURE, f"{path.name} imports {name}"
                    ours = name == "hub" or name.startswith("hub.")
                    assert not ours or name in _MAY_IMPORT, f"{path.name} imports {name}"
                called = _called(node)
                assert called not in _NOT_PURE_CALLS, f"{path.name} calls {called}"

    def test_c17_the_five_files_are_there_and_the_scale_is_filled_in(self) -> None:
        missing = [name for name in FILES if not (self.folder / name).is_file()]
        assert not missing
        assert "```toml" in (self.folder / "README.md").read_text(), "show a configuration"
        lines = (self.folder / "quality.yaml").read_text().splitlines()
        told = [m[1] for line in lines if (m := _QUALITY.fullmatch(line))]
        assert told == [f"C{number}" for number in range(1, 21)]


_WAITS: Final = frozenset({VerdictKind.UNDER_WAY, VerdictKind.THROTTLED, VerdictKind.AMBIGUOUS})
_MOMENTS: Final = st.floats(1.6e9, 2.2e9).map(lambda at: datetime.fromtimestamp(at, UTC))


def _built(connector: Connector, event: Deliverable) -> HttpRequest | str:
    """The request, or the text of its MappingError; any other error fails the test."""
    try:
        return connector.build(event)
    except MappingError as bad:
        return str(bad)


def _texts(value: Any) -> Iterator[str]:
    """Texts in an event that are long enough not to stand in a message by chance."""
    if isinstance(value, str) and len(value) >= 8:
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _deliverable(service: str, parts: tuple[dict[str, Any], ...], at: datetime) -> Deliverable:
    envelope = Envelope(
        id="018f3f4e-0000-8000-8000-000000000001",
        source="urn:nld:oin:00000001002564440000:systeem:website",
        type=f"nl.midoffice.{service}",
        time=at,
        reference="7K3M9QXA2B4C5D6E7",
        origin="GM0363",
        municipality_code="GM0599",
        service=service,
        product="http://standaarden.overheid.nl/owms/terms/verhuismelding",
        subject_ref="f2c5ff9c-7a39-4f8f-9d5e-6d2f5e9c1b11",
        intake_channel="api",
        admitted_at=at,
        route_version="0" * 64,
        body_schema="nl.midoffice.test.v1",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        authentication=Authentication("digid", "substantial"),
        payment=Payment("not_needed"),
        attachments=(Attachment("foto-1", "image/jpeg", 123, "0" * 64),),
        parts=(Part("f2c5ff9c-7a39-4f8f-9d5e-6d2f5e9c1b11", b"sealed"),),
        effective_date=at.date(),
    )
    return Deliverable(envelope, parts)


def _records(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Decoded records of the schema `name`, as schemas/ has it now."""
    for path in sorted(default_folder().rglob("*.avsc")):
        schema = json.loads(path.read_text())
        if f"{schema.get('namespace')}.{schema['name']}" == name:
            return _of_type(schema, {})
    raise AssertionError(f"no schema {name}")


def _of_type(kind: Any, named: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """A strategy for an Avro type; `named` holds the types met before."""
    if isinstance(kind, list):
        return st.one_of(*(_of_type(one, named) for one in kind))
    if isinstance(kind, str):
        return named[kind] if kind in named else _PLAIN[kind]
    if "logicalType" in kind:
        return _LOGICAL[kind["logicalType"]]
    if kind["type"] == "array":
        return st.lists(_of_type(kind["items"], named), max_size=3)
    if kind["type"] == "enum":
        found: st.SearchStrategy[Any] = st.sampled_from(kind["symbols"])
    elif kind["type"] == "record":
        found = st.fixed_dictionaries(
            {field["name"]: _of_type(field["type"], named) for field in kind["fields"]}
        )
    else:
        return _of_type(kind["type"], named)
    named[kind["name"]] = found
    return found


_PLAIN: Final[dict[str, st.SearchStrategy[Any]]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32),
    "double": st.floats(),
    "bytes": st.binary(max_size=20),
    # Lone surrogates too: Python's JSON reads them from what a website sent.
    "string": st.text(max_size=20)
    | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2),
}
_LOGICAL: Final[dict[str, st.SearchStrategy[Any]]] = {
    "date": _MOMENTS.map(lambda at: at.date()),
    "timestamp-micros": _MOMENTS,
    "timestamp-millis": _MOMENTS,
}
