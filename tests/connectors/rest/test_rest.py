"""The rest connector: golden requests, its README, templates and answers."""

import json
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import connectors.rest
from connectors.rest.connector import RestConfig, RestConnector
from connectors.rest.mapping import compile_tree
from hub.connector import Deliverable, HttpAnswer, HttpRequest, MappingError, VerdictKind
from hub.errors import ConfigError
from hub.event import Attachment, Authentication, Envelope, Part, Payment

README = (Path(connectors.rest.__file__).parent / "README.md").read_text()


def event(**first_part: Any) -> Deliverable:
    at = datetime(2026, 11, 23, 12, tzinfo=UTC)
    envelope = Envelope(
        id="018f3f4e-0000-8000-8000-000000000001",
        source="urn:website",
        type="nl.midoffice.relocation",
        time=at,
        reference="7K3M9QXA2B4C5D6E7",
        origin="GM0363",
        municipality_code="GM0363",
        service="relocation",
        product="http://upl/verhuizing",
        subject_ref="s",
        intake_channel="api",
        admitted_at=at,
        route_version="v",
        body_schema="b.v1",
        traceparent="00-t",
        authentication=Authentication("digid", "substantial"),
        payment=Payment("not_needed"),
        attachments=(Attachment("foto", "image/jpeg", 12, "ab"),),
        parts=(Part("s", b"sealed"), Part("c", b"sealed")),
        effective_date=date(2026, 12, 1),
    )
    applicant = {
        "effective_date": date(2026, 12, 1),
        "applicant": {"bsn": "999993653"},
        "contact": {"name": None, "phone": None},
        "new_address": {"street": "Boterdiep", "house_number": 31},
        "residence_kind": "main_occupant",
        **first_part,
    }
    return Deliverable(envelope, (applicant, {"bsn": "999990482", "relation": "partner"}))


def connector(**settings: Any) -> RestConnector:
    return RestConnector(RestConfig.model_validate({"url": "https://x.nl/a", **settings}))


def sent(body: Any, **first_part: Any) -> Any:
    return json.loads(connector(body=body).build(event(**first_part)).body)


def block(language: str) -> str:
    return README.split(f"```{language}\n")[1].split("```")[0]


def test_the_example_of_the_readme_sends_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GM0363_BURGERZAKEN", "geheim")
    settings = tomllib.loads(block("toml"))["settings"]
    made = RestConnector(RestConfig.model_validate(settings))
    request = made.build(event())
    assert request == HttpRequest(
        "PUT",
        "https://burgerzaken.example.nl/api/verhuizingen/7K3M9QXA2B4C5D6E7",
        {
            "X-Gemeente": "GM0363",
            "Authorization": "Bearer geheim",
            "Content-Type": "application/json",
        },
        request.body,
    )
    assert json.loads(request.body) == json.loads(block("json"))
    no = made.classify(HttpAnswer(422, {}, b'{"besluit": "afgewezen"}'))
    assert (no.kind, no.code, no.status) == (VerdictKind.REJECTED, "http_422", 422)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{parts.0.new_address.house_number}", 31),
        ("{parts.0.new_address}", {"street": "Boterdiep", "house_number": 31}),
        ("nr {parts.0.new_address.house_number}", "nr 31"),
        ("{parts.0.contact.phone?}", None),
        ("{parts.0.nothing.at.all?}", None),
        ("{parts.9.bsn?}", None),
        ("tel {parts.0.contact.phone?}.", "tel ."),
        ("{envelope.effective_date}", "2026-12-01"),
        ("{envelope.admitted_at}", "2026-11-23T12:00:00+00:00"),
        ("{envelope.attachments.0.ref}", "foto"),
        ("{{{envelope.origin}}}", "{GM0363}"),
        ("", ""),
        (7, 7),
        (None, None),
        (date(2026, 1, 2), "2026-01-02"),
        ({"$each": "parts.1:", "$item": "{item.bsn}"}, ["999990482"]),
        (
            {"$each": "envelope.attachments", "$item": ["{item.size}", "{envelope.origin}"]},
            [[12, "GM0363"]],
        ),
        ({"$each": "parts.0.none", "$item": "x"}, []),
        ({"$value": "{parts.0.residence_kind}", "$map": {"main_occupant": 1}}, 1),
        ({"$value": "{parts.0.contact.name?}", "$map": {"x": 1}}, None),
    ],
)
def test_templates(template: Any, value: Any) -> None:
    assert sent({"x": template}) == {"x": value}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"x": "{parts.0.contact.phone}"}, "parts.0.contact.phone"),
        ({"x": "{parts.5.bsn}"}, "parts.5.bsn"),
        ({"x": {"y": ["{envelope.nothing}"]}}, "body.x.y.0"),
        ({"x": "a {parts.0.new_address}"}, "body.x"),
        ({"x": {"$each": "envelope.origin", "$item": "y"}}, "envelope.origin"),
        ({"x": {"$value": "{parts.0.applicant.bsn}", "$map": {"a": 1}}}, "$map"),
    ],
)
def test_what_cannot_be_mapped_names_the_path_and_no_value(body: Any, path: str) -> None:
    with pytest.raises(MappingError, match=r".") as bad:
        connector(body=body).build(event())
    assert path in str(bad.value)
    assert "999993653" not in str(bad.value)


@pytest.mark.parametrize(
    "body",
    [
        {"x": "{nothing.here}"},
        {"x": "{parts}}"},
        {"x": "{"},
        {"x": "{item.bsn}"},
        {"x": {"$each": "parts.1:"}},
        {"x": {"$each": "parts.1:.bsn", "$item": "y"}},
        {"x": {"$value": "{envelope.id}", "$map": "no table"}},
        {"x": {"$unknown": 1}},
    ],
)
def test_a_template_that_makes_no_sense_is_refused_at_once(body: Any) -> None:
    with pytest.raises(ValidationError, match=r"body\.x"):
        connector(body=body)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("a/b?c#d", "https://x.nl/z/a%2Fb%3Fc%23d?q=a%2Fb%3Fc%23d"),
        ("é ", "https://x.nl/z/%C3%A9%20?q=%C3%A9%20"),
        ("..%2f", "https://x.nl/z/..%252f?q=..%252f"),
    ],
)
def test_a_value_cannot_leave_its_place_in_the_url(value: str, url: str) -> None:
    made = connector(url="https://x.nl/z/{parts.0.name}?q={parts.0.name}")
    assert made.build(event(name=value)).url == url


@pytest.mark.parametrize("value", ["", ".", "..", "\ud800", None, {"a": 1}])
def test_a_value_that_no_url_can_hold_is_not_sent(value: Any) -> None:
    with pytest.raises(MappingError):
        connector(url="https://x.nl/z/{parts.0.name}").build(event(name=value))
    with pytest.raises(MappingError):
        connector(url="https://x.nl/z/.{parts.0.dots}").build(event(dots="."))


def test_a_value_cannot_add_a_header() -> None:
    made = connector(headers={"X-Name": "{parts.0.name}"})
    assert made.build(event(name="Zon")).headers["X-Name"] == "Zon"
    for hostile in ("a\r\nX-Evil: 1", "\x00", "漢"):
        with pytest.raises(MappingError):
            made.build(event(name=hostile))


@pytest.mark.parametrize(
    "url",
    [
        "https://{envelope.origin}.nl/a",
        "https://x.nl{envelope.origin}/a",
        "https://user:secret@x.nl/a",
        "http://burgerzaken.nl/a",
        "ftp://x.nl/a",
        "x.nl/a",
        "https://",
        "https://[/a",
    ],
)
def test_an_address_that_is_unsafe_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        connector(url=url)


def test_plain_http_needs_loopback_or_a_reason() -> None:
    connector(url="http://127.0.0.1:8080/a")
    connector(url="http://localhost/a")
    connector(url="http://intern.nl/a", plain_http_reason="inside the municipality's own rack")


def test_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pässword\n")
    basic = connector(
        auth={"kind": "basic", "username": "hub", "password": f"file:{tmp_path}/secret"}
    )
    assert basic.build(event()).headers["Authorization"] == "Basic aHViOnDDpHNzd29yZA=="
    monkeypatch.setenv("KEY", "k1")
    header = connector(auth={"kind": "header", "name": "X-Api-Key", "value": "env:KEY"})
    assert header.build(event()).headers == {"X-Api-Key": "k1"}
    for reference in ("env:NOT_THERE", f"file:{tmp_path}/gone"):
        with pytest.raises(ConfigError, match=reference):
            connector(auth={"kind": "bearer", "token": reference})
    monkeypatch.setenv("KEY", "k\n1")
    with pytest.raises(ConfigError, match="X-Api-Key") as bad:
        connector(auth={"kind": "header", "name": "X-Api-Key", "value": "env:KEY"})
    assert "k\n1" not in str(bad.value)


def test_without_a_body_nothing_is_sent_in_it() -> None:
    request = connector(method="DELETE").build(event())
    assert (request.body, request.headers) == (b"", {})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b'{"result": {"code": "no"}}', VerdictKind.REJECTED),
        (200, b'{"result": {"code": "yes"}}', VerdictKind.DELIVERED),
        (200, b'{"result": []}', VerdictKind.DELIVERED),
        (200, b"<html>log in</html>", VerdictKind.AMBIGUOUS),
        (200, b'{"result": {"co', VerdictKind.AMBIGUOUS),
        (200, b"", VerdictKind.AMBIGUOUS),
        (201, b"<html>", VerdictKind.DELIVERED),
        (410, b"", VerdictKind.REJECTED),
        (422, b'[true, 1, {"a/b": 7}]', VerdictKind.REJECTED),
        (422, b'[1, 1, {"a/b": 8}]', VerdictKind.RECORD_FAILED),
        (422, b'[true, 1, {"a/b": 8}]', VerdictKind.REJECTED),
        (422, b'[false, 1, {"a/b": 7}]', VerdictKind.REJECTED),
        (423, b"", VerdictKind.UNDER_WAY),
        (400, b"", VerdictKind.RECORD_FAILED),
        (404, b"", VerdictKind.RECORD_FAILED),
        (307, b"", VerdictKind.AMBIGUOUS),
        (206, b"", VerdictKind.AMBIGUOUS),
        (599, b"", VerdictKind.AMBIGUOUS),
    ],
)
def test_answers_by_rule(status: int, body: bytes, kind: VerdictKind) -> None:
    made = connector(
        answer={
            "rejected": [
                410,
                {"status": 200, "pointer": "/result/code", "equals": "no"},
                {"status": 422, "pointer": "/0", "equals": True},
                {"status": 422, "pointer": "/2/a~1b", "equals": 7},
            ],
            "wait": [409, 423, 425, 429, "5xx"],
        }
    )
    assert made.classify(HttpAnswer(status, {}, body)).kind is kind


@given(st.text())
def test_any_text_is_a_template_or_is_refused(text: str) -> None:
    try:
        render = compile_tree({"x": text})
    except ValueError:
        return
    try:
        render({"envelope": {"a": "b"}, "parts": ({"c": 1},)})
    except MappingError:
        return
