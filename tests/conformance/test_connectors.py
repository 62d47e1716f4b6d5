"""Every connector of ours passes the suite that strangers' connectors pass."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given

from connectors.rest.connector import RestConnector
from hub.connector import Deliverable, HttpRequest, VerdictKind, discover
from hub.testing import ConnectorSuite, events


class TestRest(ConnectorSuite):
    connector = RestConnector
    settings: ClassVar[Mapping[str, Any]] = {
        "method": "PUT",
        "url": "https://zaken.example.nl/api/{envelope.reference}/{parts.0.house_number?}x",
        "auth": {"kind": "bearer", "token": "env:HUB_TEST_REST_TOKEN"},
        "headers": {"X-Service": "{envelope.service}", "X-Text": "{parts.0.text?}"},
        "body": {
            "alles": "{parts.0}",
            "tekst": "{parts.0.text?} {parts.0.contact.name?}",
            "meeverhuizers": {
                "$each": "parts.1:",
                "$item": {
                    "bsn": "{item.bsn}",
                    "wie": {"$value": "{item.relation}", "$map": {"partner": "P", "child": "K"}},
                },
            },
        },
        "answer": {"rejected": [{"status": 422, "pointer": "/besluit", "equals": "afgewezen"}]},
    }
    secrets: ClassVar[Mapping[str, str]] = {"HUB_TEST_REST_TOKEN": "zeer-geheim-9431"}
    verdicts: ClassVar[Mapping[int, VerdictKind]] = {
        200: VerdictKind.DELIVERED,
        201: VerdictKind.DELIVERED,
        202: VerdictKind.DELIVERED,
        204: VerdictKind.DELIVERED,
        302: VerdictKind.AMBIGUOUS,
        400: VerdictKind.RECORD_FAILED,
        401: VerdictKind.CREDENTIALS,
        403: VerdictKind.CREDENTIALS,
        404: VerdictKind.RECORD_FAILED,
        409: VerdictKind.UNDER_WAY,
        422: VerdictKind.RECORD_FAILED,
        425: VerdictKind.UNDER_WAY,
        429: VerdictKind.THROTTLED,
        500: VerdictKind.AMBIGUOUS,
        503: VerdictKind.AMBIGUOUS,
    }
    broken = (
        ({"url": "https://{envelope.origin}.nl"}, "url"),
        ({"method": "GET"}, "method"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"headers": {"a b": "x"}}, "headers"),
        ({"auth": {"kind": "bearer", "token": "the-secret-itself"}}, "auth.bearer.token"),
        ({"auth": {"kind": "kerberos"}}, "auth"),
        ({"body": {"a": {"b": "{nobody.knows}"}}}, "body.a.b"),
        ({"answer": {"delivered": [200], "rejected": [200]}}, "answer"),
        ({"answer": {"delivered": [999]}}, "answer.delivered"),
        ({"answer": {"rejected": [{"status": 200, "pointer": "no"}]}}, "pointer"),
        ({"unknown": 1}, "unknown"),
    )


def test_every_connector_in_the_house_is_tested_here() -> None:
    tested = {suite.connector for suite in (TestRest,)}
    assert set(discover().values()) >= tested
    folders = {p.parent.name for p in Path("connectors").resolve().glob("*/manifest.toml")}
    assert folders == {suite.connector.__module__.split(".")[1] for suite in (TestRest,)}


class _Clumsy(RestConnector):
    """Breaks what the suite promises to find."""

    calls = 0

    def build(self, event: Deliverable) -> HttpRequest:
        type(self).calls += 1
        return HttpRequest("PUT", f"https://x.nl/{self.calls}")


@given(events())
def test_the_suite_finds_a_connector_that_is_not_pure(event: Deliverable) -> None:
    class Suite(TestRest):
        connector = _Clumsy

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_TEST_REST_TOKEN", "zeer-geheim-9431")
        with pytest.raises(AssertionError):
            # Any event shows it; a search would go on to the smallest.
            Suite.test_c2_build_is_pure_and_total.hypothesis.inner_test(Suite(), event)
        with pytest.raises(AssertionError):
            Suite().test_c16_no_socket_clock_thread_or_file_of_its_own()
