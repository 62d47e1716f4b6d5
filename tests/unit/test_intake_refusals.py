"""The HTTP door against bodies that are wrong on purpose: a problem each, nothing repeated."""

import json
from typing import Any

import httpx
import pytest

from tests.desk import BLARICUM, HUIZEN, LAREN, MOON, SUN, Desk, changed, relocation, report
from tests.unit.test_intake import CANARY, POST, check_problem, post, refused, website

__all__ = ["refused", "website"]  # fixtures


async def test_candidates_are_named_for_the_citizen(website: httpx.AsyncClient) -> None:
    body = relocation(**{"gegevens.nieuwAdres.postcode": "1261AA"})
    problem = check_problem(await post(website, body), 400, "municipality_ambiguous")
    assert {"gemeente": BLARICUM, "naam": "Blaricum"} in problem["kandidaten"]
    assert problem["invalidParams"][0]["name"] == "gegevens.nieuwAdres.postcode"
    taken = await post(website, body | {"gemeente": HUIZEN})
    assert taken.status_code == 202


async def test_a_municipality_without_a_route(website: httpx.AsyncClient) -> None:
    body = relocation(**{"gegevens.nieuwAdres.postcode": "1251AA"})
    problem = check_problem(await post(website, body), 400, "no_route")
    assert problem["kandidaten"] == [{"gemeente": LAREN, "naam": "Laren"}]


NASTY: list[tuple[str, Any]] = [
    ("", None),
    ("", []),
    ("", CANARY),
    ("type", CANARY),
    ("type", None),
    ("type", ["verhuizing"]),
    ("gemeente", CANARY),
    ("gemeente", 363),
    ("gemeente", "GM٠٣٦٣"),
    ("aanvrager", CANARY),
    ("aanvrager", {}),
    ("aanvrager.bsn", CANARY),
    ("aanvrager.bsn", 999993653),
    ("aanvrager.bsn", "٩٩٩٩٩٣٦٥٣"),
    ("aanvrager.bsn", "000000000"),
    ("aanvrager.naam", CANARY),
    ("aanvrager.__proto__", CANARY),
    ("authenticatie", ...),
    ("authenticatie.middel", "geen"),
    ("authenticatie.middel", CANARY),
    ("authenticatie.niveau", CANARY),
    ("gegevens", ...),
    ("gegevens", [CANARY]),
    ("gegevens.verhuisdatum", CANARY),
    ("gegevens.verhuisdatum", "2026-02-30"),
    ("gegevens.verhuisdatum", 0),
    ("gegevens.verhuisdatum", "2099-01-01"),
    ("gegevens.vorigAdres", CANARY),
    ("gegevens.nieuwAdres", None),
    ("gegevens.nieuwAdres.postcode", CANARY),
    ("gegevens.nieuwAdres.postcode", "1011"),
    ("gegevens.nieuwAdres.postcode", "1011AB\n"),
    ("gegevens.nieuwAdres.huisnummer", CANARY),
    ("gegevens.nieuwAdres.huisnummer", 0),
    ("gegevens.nieuwAdres.huisnummer", -1),
    ("gegevens.nieuwAdres.huisnummer", 1.5),
    ("gegevens.nieuwAdres.huisnummer", 10**400),
    ("gegevens.nieuwAdres.huisnummer", True),
    ("gegevens.nieuwAdres.huisletter", CANARY),
    ("gegevens.nieuwAdres.huisnummertoevoeging", CANARY),
    ("gegevens.nieuwAdres.straatnaam", CANARY * 20),
    ("gegevens.nieuwAdres.straatnaam", f"{CANARY}\u0000"),
    ("gegevens.nieuwAdres.straatnaam", ""),
    ("gegevens.nieuwAdres.adresseerbaarObjectIdentificatie", CANARY),
    ("gegevens.soortBewoning", CANARY),
    ("gegevens.toestemmingHoofdbewoner", CANARY),
    ("gegevens.meeverhuizers", CANARY),
    ("gegevens.meeverhuizers", [CANARY]),
    ("gegevens.meeverhuizers", [{}] * 2_000),
    ("gegevens.meeverhuizers.0.bsn", CANARY),
    ("gegevens.meeverhuizers.0.bsn", SUN),
    ("gegevens.meeverhuizers.0.relatie", CANARY),
    ("gegevens.contact.email", CANARY),
    ("gegevens.contact.telefoon", CANARY),
    ("gegevens.contact.naam", CANARY * 100),
    ("bijlagen", CANARY),
    ("bijlagen", [{"referentie": f"{CANARY}.jpg"}]),
    ("bijlagen", [None] * 11),
    (CANARY, 1),
    (f"gegevens.{CANARY}", {"a": [CANARY]}),
]


@pytest.mark.parametrize(("path", "value"), NASTY)
async def test_hostile_bodies_get_a_problem_that_repeats_nothing(
    lasting_desk: Desk, refused: httpx.AsyncClient, path: str, value: Any
) -> None:
    body = changed(relocation(), {path: value}) if path else value
    response = await post(refused, body)
    problem = check_problem(response, 400)
    assert problem["code"] in ("invalid_request", "json_invalid")
    assert (problem["code"] == "invalid_request") == bool(problem.get("invalidParams"))
    for secret in (CANARY, SUN, MOON, "zon@", "Traceback", "pydantic"):
        assert secret not in response.text + str(response.headers)
    assert lasting_desk.rows() == []


async def test_a_hostile_report_too(website: httpx.AsyncClient) -> None:
    for changes in (
        {"gegevens.locatie": {"punt": {"lat": float("nan"), "lon": 5}}},
        {"gegevens.locatie": {"punt": {"lat": 1e999, "lon": 5}}},
        {"gegevens.omschrijving": CANARY * 400},
        {"gegevens.categorie": {"hoofd": CANARY, "sub": "../../etc"}},
        {"gegevens.tijdstip": CANARY},
    ):
        content = json.dumps(report(**changes))
        response = await website.post(POST, content=content, headers={"Idempotency-Key": "k"})
        check_problem(response, 400)
        assert CANARY not in response.text
