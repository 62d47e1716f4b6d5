"""Who must act: found, or asked back with the candidates; never guessed."""

import json
from typing import Any

import pytest

from hub.admission.handler import find_handler
from hub.admission.reading import AdmissionRequest, read
from hub.errors import Refused
from hub.gazetteer import Gazetteer
from tests.desk import relocation, report

AMSTERDAM, BLARICUM, HUIZEN, EEMNES = "GM0363", "GM0376", "GM0406", "GM0317"


def handler(gazetteer: Gazetteer, body: dict[str, Any], origin: str = AMSTERDAM) -> str:
    request = read(AdmissionRequest(json.dumps(body).encode()), None)
    return find_handler(gazetteer, request, origin)


def refusal(gazetteer: Gazetteer, body: dict[str, Any], origin: str = AMSTERDAM) -> Refused:
    with pytest.raises(Refused) as caught:
        handler(gazetteer, body, origin)
    return caught.value


def moved_to(postcode: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = relocation(**{"gegevens.nieuwAdres.postcode": postcode} | more)
    return body


def seen_at(latitude: float, longitude: float, **more: Any) -> dict[str, Any]:
    place = {"punt": {"lat": latitude, "lon": longitude}}
    body: dict[str, Any] = report(**{"gegevens.locatie": place} | more)
    return body


def test_the_new_address_decides_and_not_who_posts(gazetteer: Gazetteer) -> None:
    assert handler(gazetteer, moved_to("1011AB"), origin="GM0599") == AMSTERDAM
    assert handler(gazetteer, moved_to("3077AW"), origin=AMSTERDAM) == "GM0599"


def test_a_mixed_postcode_is_asked_back(gazetteer: Gazetteer) -> None:
    refused = refusal(gazetteer, moved_to("1261AA"), origin=BLARICUM)
    assert refused.code == "municipality_ambiguous"
    assert refused.candidates == (BLARICUM, EEMNES, HUIZEN)
    assert refused.fields[0].name == "gegevens.nieuwAdres.postcode"


def test_a_candidate_decides_and_no_other(gazetteer: Gazetteer) -> None:
    for candidate in refusal(gazetteer, moved_to("1261AA")).candidates:
        assert handler(gazetteer, moved_to("1261AA", gemeente=candidate)) == candidate
    refused = refusal(gazetteer, moved_to("1261AA", gemeente=AMSTERDAM))
    assert refused.code == "municipality_not_a_candidate"
    assert BLARICUM in refused.candidates


def test_a_choice_against_a_certain_postcode_is_refused(gazetteer: Gazetteer) -> None:
    refused = refusal(gazetteer, moved_to("1011AB", gemeente="GM0599"))
    assert (refused.code, refused.candidates) == ("municipality_not_a_candidate", (AMSTERDAM,))
    assert handler(gazetteer, moved_to("1011AB", gemeente=AMSTERDAM)) == AMSTERDAM


def test_an_ended_municipality_stands_for_its_successor(gazetteer: Gazetteer) -> None:
    """Weesp (GM0457) is Amsterdam since 2022."""
    assert handler(gazetteer, moved_to("1381AA", gemeente="GM0457")) == AMSTERDAM


@pytest.mark.parametrize(
    ("postcode", "code"), [("1000AA", "po_box"), ("1004AA", "municipality_unknown")]
)
def test_where_nobody_can_live(gazetteer: Gazetteer, postcode: str, code: str) -> None:
    refused = refusal(gazetteer, moved_to(postcode))
    assert (refused.code, refused.candidates) == (code, ())
    assert refused.fields[0].name == "gegevens.nieuwAdres.postcode"


def border(gazetteer: Gazetteer) -> tuple[float, float, tuple[str, ...]]:
    """A point between Blaricum and Huizen where the boundaries do not decide."""
    for step in range(400):
        latitude, longitude = 52.2900, 5.2200 + step * 0.0005
        candidates = gazetteer.by_point(latitude, longitude).candidates
        if len(candidates) == 2:
            return latitude, longitude, candidates
    raise AssertionError("no border on this line: the search is broken")


def test_on_a_border_the_poster_has_it_if_it_is_one_of_the_two(gazetteer: Gazetteer) -> None:
    latitude, longitude, candidates = border(gazetteer)
    for candidate in candidates:
        assert handler(gazetteer, seen_at(latitude, longitude), origin=candidate) == candidate


def test_on_a_border_elsewhere_the_candidates_are_named(gazetteer: Gazetteer) -> None:
    latitude, longitude, candidates = border(gazetteer)
    refused = refusal(gazetteer, seen_at(latitude, longitude))
    assert (refused.code, refused.candidates) == ("municipality_ambiguous", candidates)
    assert refused.fields[0].name == "gegevens.locatie.punt"
    for candidate in candidates:
        chosen = seen_at(latitude, longitude, gemeente=candidate)
        assert handler(gazetteer, chosen) == candidate
        # Also against the poster's own claim to it.
        assert handler(gazetteer, chosen, origin=candidates[0]) == candidate


def test_a_point_in_the_sea_is_nowhere(gazetteer: Gazetteer) -> None:
    assert refusal(gazetteer, seen_at(53.5, 4.0)).code == "municipality_unknown"


def test_a_report_by_address(gazetteer: Gazetteer) -> None:
    place = {"postcode": "3077AW", "huisnummer": 31}
    assert handler(gazetteer, report(**{"gegevens.locatie": place})) == "GM0599"
    refused = refusal(gazetteer, report(**{"gegevens.locatie": place | {"postcode": "1004AA"}}))
    assert refused.fields[0].name == "gegevens.locatie.postcode"
