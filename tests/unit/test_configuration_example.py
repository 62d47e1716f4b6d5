"""The example in config/: in order, and its templates fit the schemas."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub.configuration import Configuration, check
from hub.connector import Deliverable, discover
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION, Authentication, Envelope, Payment
from hub.gazetteer import Gazetteer

REPOSITORY = Path(__file__).parents[2]
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def example() -> Configuration:
    return Configuration.load(REPOSITORY / "config", discover(), now=NOW)


def records(folder: str, pattern: str) -> list[dict[str, Any]]:
    files = sorted((REPOSITORY / "schemas" / folder / "examples/valid").glob(pattern))
    assert files
    return [json.loads(file.read_text())["record"] for file in files]


def envelope(service: str, code: str) -> Envelope:
    return Envelope(
        id="5b8f5f0e-6f0e-8c1d-9a55-0a1b2c3d4e5f",
        source="",
        type="",
        time=NOW,
        reference="7K3M9QXA2B4C5D6E7",
        origin=code,
        municipality_code=code,
        service=service,
        product="",
        subject_ref="8d7a3f0e-1111-4222-8333-444455556666",
        intake_channel="api",
        admitted_at=NOW,
        route_version="",
        body_schema="",
        traceparent="",
        authentication=Authentication("none"),
        payment=Payment("not_needed"),
        attachments=(),
        parts=(),
    )


def test_it_has_no_problem() -> None:
    assert [str(problem) for problem in check(REPOSITORY / "config", discover(), now=NOW)] == []


def test_it_serves_the_first_regions_as_they_are_today(example: Configuration) -> None:
    gazetteer = Gazetteer.load()
    assert example.handlers() == {m.code for m in gazetteer.seed_successors()}
    assert example.tenants.keys() == {
        code for seed in gazetteer.seed for code in (seed.code, seed.current_code)
    }
    for code in example.handlers():
        for service in (RELOCATION, PUBLIC_SPACE_REPORT):
            assert example.route_for(service, code, NOW) is not None


def test_each_destination_can_send_every_valid_example(example: Configuration) -> None:
    co_movers = records("relocation", "co_mover.*.json")
    bodies = {
        RELOCATION: [
            (body, *co_movers) for body in records("relocation", "relocation_reported.*.json")
        ],
        PUBLIC_SPACE_REPORT: [
            (body,) for body in records("public_space_report", "public_space_report_*.json")
        ],
    }
    connectors = discover()
    for code in example.handlers():
        for service, events in bodies.items():
            route = example.route_for(service, code, NOW)
            assert route is not None
            destination = example.destinations[route.queue(code)]
            kind = connectors[destination.connector]
            connector = kind(kind.Config.model_validate(destination.settings))
            for parts in events:
                request = connector.build(Deliverable(envelope(service, code), parts))
                assert code in request.url
                assert json.loads(request.body)["referentie"] == "7K3M9QXA2B4C5D6E7"
