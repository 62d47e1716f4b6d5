"""The HTTP door: what a website may send, and what it gets back."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from hub.errors import StoreAway
from hub.event import show_reference
from hub.intake.answers import STEP_WORDS
from hub.intake.problem import TITLES
from hub.outcome import OutcomeKind, StatusWord, outcome_record_id
from tests.desk import (
    AMSTERDAM,
    MOON,
    ROTTERDAM,
    SUN,
    Desk,
    relocation,
    report,
)
from tests.unit.test_admission_sweeper import routed

POST, CANARY = "/v1/verzoeken", "Kanarie7f3a"


@pytest.fixture
async def website(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    async with desk.website() as client:
        yield client


@pytest.fixture(scope="module")
def door(lasting_desk: Desk) -> FastAPI:
    return lasting_desk.app()


@pytest.fixture(scope="module")
def refused(lasting_desk: Desk) -> httpx.AsyncClient:
    """A website of which every request is refused; it holds no connection, so nothing to close."""
    return lasting_desk.website()


async def post(website: httpx.AsyncClient, body: Any, key: str = "k") -> httpx.Response:
    return await website.post(POST, json=body, headers={"Idempotency-Key": key})


def check_problem(response: httpx.Response, status: int, code: str | None = None) -> Any:
    """Every refusal has this shape."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["title"] == TITLES[status]
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    assert code in (None, problem["code"])
    check_headers(response)
    return problem


def check_headers(response: httpx.Response) -> None:
    headers = response.headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["API-Version"].count(".") == 2
    assert "Server" not in headers


async def test_a_request_is_taken_and_found_again(desk: Desk, website: httpx.AsyncClient) -> None:
    response = await post(website, relocation())
    assert response.status_code == 202
    check_headers(response)
    taken = response.json()
    (row,) = desk.rows()
    assert taken == {
        "id": row.id,
        "referentie": show_reference(row.reference),
        "status": "ontvangen",
    }
    assert response.headers["Location"] == f"{POST}/{row.reference}"
    status = await website.get(response.headers["Location"])
    assert status.status_code == 200
    check_headers(status)
    assert status.json() == {
        "id": row.id,
        "referentie": taken["referentie"],
        "type": "verhuizing",
        "gemeente": AMSTERDAM,
        "status": "ontvangen",
        "definitief": False,
        "stappen": [
            {
                "tijdstip": "2026-11-23T12:00:00.000Z",
                "stap": "ontvangen",
                "bestemming": None,
                "tekst": "Uw verzoek is ontvangen.",
            }
        ],
    }


async def test_a_repeat_gets_the_same_answer(website: httpx.AsyncClient) -> None:
    first, again = [await post(website, relocation()) for _ in range(2)]
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    check_problem(await post(website, report()), 409, "idempotency_key_reused")


async def test_the_steps_come_from_the_outcomes(desk: Desk, website: httpx.AsyncClient) -> None:
    location = (await post(website, relocation())).headers["Location"]
    (row,) = desk.rows()
    queue = f"{AMSTERDAM}/zaken"
    first = replace(routed(row), destinations=(queue,))
    parked = replace(
        first,
        record_id=outcome_record_id(row.id, queue, OutcomeKind.PARKED, 1),
        kind=OutcomeKind.PARKED,
        destination=queue,
        destinations=(),
        attempt=1,
        reason="record",
        time=row.admitted_at + timedelta(seconds=1),
        text=f"for operators {CANARY}",
    )
    desk.status.outcomes[row.id] = [first, parked]
    status = (await website.get(location)).json()
    assert status["status"] == StatusWord.WITH_STAFF.value
    assert not status["definitief"]
    assert [s["stap"] for s in status["stappen"]] == ["ontvangen", "doorgestuurd", "bij medewerker"]
    assert status["stappen"][2]["bestemming"] == queue
    assert CANARY not in str(status)
    done = replace(parked, record_id="d", kind=OutcomeKind.DELIVERED, attempt=2, reason=None)
    desk.status.outcomes[row.id].append(done)
    status = (await website.get(location)).json()
    assert (status["status"], status["definitief"]) == ("afgeleverd", True)


def test_every_kind_of_outcome_has_a_word() -> None:
    assert set(STEP_WORDS) == set(OutcomeKind)


async def test_a_reference_is_read_as_people_write_it(website: httpx.AsyncClient) -> None:
    shown = (await post(website, relocation())).json()["referentie"]
    for written in (shown, shown.lower(), shown.replace("-", "")):
        assert (await website.get(f"{POST}/{written}")).status_code == 200


async def test_a_misread_reference_is_not_found(website: httpx.AsyncClient) -> None:
    shown = (await post(website, relocation())).json()["referentie"]
    wrong = shown[:-1] + ("A" if shown[-1] != "A" else "B")
    check_problem(await website.get(f"{POST}/{wrong}"), 404, "reference_misread")
    problem = check_problem(await website.get(f"{POST}/{CANARY}"), 404)
    assert CANARY not in str(problem)


async def test_another_origins_reference_is_not_found(desk: Desk) -> None:
    async with desk.website(AMSTERDAM) as mine, desk.website(ROTTERDAM) as theirs:
        location = (await post(mine, relocation())).headers["Location"]
        foreign = await theirs.get(location)
        never = await theirs.get(f"{POST}/{'0' * 17}")
        check_problem(foreign, 404, "unknown_reference")
        assert foreign.text == never.text, "it can be told from one that never was"
        assert (await mine.get(location)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", POST), ("GET", f"{POST}/{'0' * 17}"), ("GET", f"{POST}/x")]
)
@pytest.mark.parametrize(
    "credential",
    [
        None,
        "",
        "Bearer",
        "Bearer x",
        "Bearer hub_live_GM0363_" + "A" * 43,
        "Bearer hub_test_GM0363_" + "A" * 43,
        "Basic aHViOmh1Yg==",
        "bearer " + "A" * 5_000,
    ],
)
async def test_nothing_without_a_key(
    door: FastAPI, method: str, path: str, credential: str | None
) -> None:
    headers = {} if credential is None else {"Authorization": credential}
    transport = httpx.ASGITransport(door)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as nobody:
        response = await nobody.request(method, path, headers=headers, content=b"{")
    check_problem(response, 401, "unauthenticated")
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_health_needs_no_key(desk: Desk) -> None:
    transport = httpx.ASGITransport(desk.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as nobody:
        response = await nobody.get("/v1/health")
    assert response.status_code == 200
    check_headers(response)


async def test_a_client_that_left_the_configuration_is_out(desk: Desk) -> None:
    async with desk.website(client="oude-site") as website:
        check_problem(await post(website, relocation()), 403, "client_not_configured")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v2/verzoeken", 404),
        ("POST", "/v1/verzoeken/", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/v1/verzoeken/a/b", 404),
        ("GET", POST, 405),
        ("DELETE", f"{POST}/{'0' * 17}", 405),
        ("OPTIONS", POST, 405),
        ("POST", "/v1/health", 405),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    refused: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await refused.request(method, path)
    check_problem(response, status)
    assert ("Allow" in response.headers) == (status == 405)


# --- the idempotency key ---------------------------------------------------------------------


async def test_without_a_key_nothing_is_taken(website: httpx.AsyncClient) -> None:
    problem = check_problem(
        await website.post(POST, json=relocation(**{"aanvrager.bsn": "1"})),
        400,
        "idempotency_key_required",
    )
    # Together with what else is wrong.
    assert [p["name"] for p in problem["invalidParams"]] == ["Idempotency-Key", "aanvrager.bsn"]


async def test_a_key_in_a_configured_field(desk: Desk) -> None:
    async with desk.website(client="formulieren") as forms:
        body = relocation(kenmerk="formulier-1")
        first = await forms.post(POST, json=body)
        assert first.status_code == 202
        assert (await forms.post(POST, json=body)).json() == first.json()
        other = await forms.post(POST, json=body, headers={"Idempotency-Key": "k"})
        assert other.json()["id"] != first.json()["id"], "the header comes first"
        problem = check_problem(await forms.post(POST, json=relocation()), 400)
        assert "/kenmerk" in problem["detail"]
    assert len(desk.rows()) == 2


async def test_the_field_of_one_client_is_not_anothers(website: httpx.AsyncClient) -> None:
    response = await website.post(POST, json=relocation(kenmerk="formulier-1"))
    check_problem(response, 400, "idempotency_key_required")


@pytest.mark.parametrize("key", ["", "x" * 300])
async def test_keys_without_shape(refused: httpx.AsyncClient, key: str) -> None:
    check_problem(await post(refused, relocation(), key), 400)


async def test_two_keys_are_none(website: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await website.post(POST, json=relocation(), headers=headers)
    check_problem(response, 400, "idempotency_key_required")


# --- sizes and types -----------------------------------------------------------------------------


async def test_a_body_up_to_the_cap_is_read_and_no_further(website: httpx.AsyncClient) -> None:
    taken = 0

    async def drip() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(64):
            taken += 1
            yield b" " * 64 * 1024

    response = await website.post(POST, content=drip(), headers={"Idempotency-Key": "k"})
    check_problem(response, 413, "too_large")
    assert taken < 10, "it was read on"
    padded = json.dumps(relocation()).encode().ljust(256 * 1024)
    response = await website.post(POST, content=padded, headers={"Idempotency-Key": "k"})
    assert response.status_code == 202
    response = await website.post(POST, content=padded + b" ", headers={"Idempotency-Key": "k"})
    check_problem(response, 413)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json; charset=UTF-8"}, 202),
        ({"Content-Type": "Application/JSON"}, 202),
        ({"Content-Type": 'application/json;charset="utf-8"'}, 202),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_content_types(
    website: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    content = json.dumps(relocation())
    response = await website.post(POST, content=content, headers={"Idempotency-Key": "k"} | headers)
    assert response.status_code == status
    if status == 415:
        check_problem(response, 415)


async def test_a_body_that_drips_is_ended(
    website: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.intake.body.READ_SECONDS", 0.0)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    response = await website.post(POST, content=stuck(), headers={"Idempotency-Key": "k"})
    check_problem(response, 408, "too_slow")


# --- trouble of our own --------------------------------------------------------------------------


async def test_kafka_away_is_a_503_and_the_repeat_a_202(
    desk: Desk, website: httpx.AsyncClient
) -> None:
    desk.producer.away = True
    response = await post(website, relocation())
    problem = check_problem(response, 503, "try_again")
    assert "dezelfde sleutel" in problem["detail"]
    assert int(response.headers["Retry-After"]) > 0
    (row,) = desk.rows()
    desk.producer.away = False
    again = await post(website, relocation())
    assert again.status_code == 202
    assert again.json()["id"] == row.id
    assert again.headers["Location"].endswith(row.reference)


async def test_a_database_away_is_a_503(
    desk: Desk, website: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_work: Any) -> None:
        raise StoreAway("sqlite: away")

    monkeypatch.setattr(desk.store, "awrite", away)
    check_problem(await post(website, relocation()), 503, "try_again")
    monkeypatch.setattr(desk.store, "aread", away)
    desk.api_keys._seen.clear()
    check_problem(await post(website, relocation()), 503, "try_again")


async def test_a_bug_is_a_500_that_says_nothing_of_the_request(
    desk: Desk,
    website: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def bug(*_args: Any) -> None:
        raise RuntimeError(f"cannot handle {CANARY}")

    monkeypatch.setattr(desk.admission, "admit", bug)
    response = await post(website, relocation())
    check_problem(response, 500, "internal_error")
    out = capsys.readouterr()
    assert "intake_failed" in out.out + out.err
    assert CANARY not in response.text + out.out + out.err


async def test_logs_and_answers_hold_nothing_personal(
    website: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [await post(website, relocation()), await post(website, report(), "k2")]
    answers.append(await post(website, relocation(**{"gegevens.verhuisdatum": "x"}), "k3"))
    said = capsys.readouterr()
    text = said.out + said.err + "".join(a.text + str(a.headers) for a in answers)
    assert "request_admitted" in text
    for secret in (SUN, MOON, "Boterdiep", "1011 ab", "1011AB", "zon@", "bank"):
        assert secret not in text
