"""What a body may say: all faults at once, in the caller's words, and never a value."""

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.admission.formats import Rules
from hub.admission.reading import MAX_FIELDS, AdmissionRequest, canonical, read
from hub.errors import Refused
from hub.privacy import passes_eleven_test
from tests.desk import RELOCATION_BODY, changed, relocation, report

CATEGORIES = frozenset({("afval", "grofvuil")})


def rules() -> Rules:
    return Rules(date(2026, 12, 21), CATEGORIES)


def refusal(body: bytes | dict[str, Any], held_against: Rules | None = None) -> Refused:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refused) as caught:
        read(AdmissionRequest(raw), held_against or rules())
    return caught.value


def faults(body: dict[str, Any]) -> dict[str, str]:
    return {f.name: f.code for f in refusal(body).fields}


def test_both_services_are_read() -> None:
    moved = read(AdmissionRequest(json.dumps(relocation()).encode()), rules())
    seen = read(AdmissionRequest(json.dumps(report()).encode()), rules())
    assert (moved.service, seen.service) == ("relocation", "public_space_report")
    assert moved.content.new_address.postcode == "1011AB"
    assert seen.content.observed_at.isoformat() == "2026-11-23T09:00:00+00:00"


def test_all_faults_are_told_together_in_the_callers_words() -> None:
    body = relocation(
        **{
            "aanvrager.bsn": "123456789",
            "authenticatie.middel": "geen",
            "gegevens.verhuisdatum": "2027-01-01",
            "gegevens.nieuwAdres.postcode": "1011SS",
            "gegevens.nieuwAdres.huisnummer": 100000,
            "gegevens.soortBewoning": ...,
            "gegevens.meeverhuizers": [{"bsn": "1", "relatie": "oom"}],
            "gegevens.contact.email": "zon",
            "gegevens.vorigAdres.huisnummer": "31",
        }
    )
    assert faults(body) == {
        "aanvrager.bsn": "bsn_invalid",
        "authenticatie.middel": "digid_required",
        "gegevens.verhuisdatum": "date_too_far_ahead",
        "gegevens.nieuwAdres.postcode": "postcode_invalid",
        "gegevens.nieuwAdres.huisnummer": "out_of_range",
        "gegevens.soortBewoning": "required",
        "gegevens.meeverhuizers[0].bsn": "bsn_invalid",
        "gegevens.meeverhuizers[0].relatie": "not_a_choice",
        "gegevens.contact.email": "email_invalid",
        "gegevens.vorigAdres.huisnummer": "wrong_type",
    }


def test_all_faults_of_a_report() -> None:
    body = report(
        **{
            "aanvrager": {"bsn": "999993653", "kvk": "12345678"},
            "gegevens.categorie": {"hoofd": "afval", "sub": "draken"},
            "gegevens.omschrijving": "x" * 3001,
            "gegevens.locatie": {"postcode": "1011AB"},
            "gegevens.tijdstip": "1700000000",
            "bijlagen": [
                {
                    "referentie": "foto van Zon.jpg",
                    "mediatype": "plaatje",
                    "grootte": 0,
                    "sha256": "AB",
                }
            ],
        }
    )
    assert faults(body) == {
        "aanvrager": "applicant_ambiguous",
        "gegevens.categorie": "category_unknown",
        "gegevens.omschrijving": "too_long",
        "gegevens.locatie": "location_required",
        "gegevens.tijdstip": "time_invalid",
        "bijlagen[0].referentie": "ref_invalid",
        "bijlagen[0].mediatype": "media_type_invalid",
        "bijlagen[0].grootte": "out_of_range",
        "bijlagen[0].sha256": "sha256_invalid",
    }


def test_neither_point_nor_address_names_both() -> None:
    fields = refusal(report(**{"gegevens.locatie": {}})).fields
    assert "`punt`" in fields[0].reason
    assert "`postcode` en `huisnummer`" in fields[0].reason


@pytest.mark.parametrize("place", ["meeverhuizers[0].bsn", "meeverhuizers[1].bsn"])
def test_nobody_moves_twice(place: str) -> None:
    first = "999993653" if "[0]" in place else "999990627"
    people = [{"bsn": first, "relatie": "kind"}, {"bsn": "999990627", "relatie": "kind"}]
    assert faults(relocation(**{"gegevens.meeverhuizers": people})) == {
        f"gegevens.{place}": "person_twice"
    }


def test_a_person_is_found_twice_whatever_the_order_of_the_json() -> None:
    people = [{"bsn": "999993653", "relatie": "kind"}]
    body = relocation(**{"gegevens.meeverhuizers": people})
    assert list(faults(dict(reversed(body.items()))).values()) == ["person_twice"]


def test_so_many_move_along_and_no_more() -> None:
    people = [{"bsn": bsn, "relatie": "kind"} for bsn in valid_bsns(21)]
    twenty = relocation(**{"gegevens.meeverhuizers": people[:20]})
    assert len(read(AdmissionRequest(json.dumps(twenty).encode()), rules()).content.co_movers) == 20
    assert faults(relocation(**{"gegevens.meeverhuizers": people})) == {
        "gegevens.meeverhuizers": "too_many"
    }


def test_ten_attachments_and_no_more() -> None:
    photo = {"referentie": "a-1", "mediatype": "image/jpeg", "grootte": 5, "sha256": "a" * 64}
    read(AdmissionRequest(json.dumps(report(bijlagen=[photo] * 10)).encode()), rules())
    assert faults(report(bijlagen=[photo] * 11)) == {"bijlagen": "too_many"}
    named = photo | {"referentie": "scan-999993653"}
    assert faults(report(bijlagen=[named])) == {"bijlagen[0].referentie": "personal"}


@pytest.mark.parametrize(
    ("day", "code"),
    [
        ("2026-12-21", None),
        ("2026-12-22", "date_too_far_ahead"),
        ("1950-01-01", None),
        ("1899-12-31", "out_of_range"),
        ("21-12-2026", "date_invalid"),
        ("2026-12-21T00:00:00", "date_invalid"),
        (20261221, "date_invalid"),
    ],
)
def test_dates(day: Any, code: str | None) -> None:
    body = relocation(**{"gegevens.verhuisdatum": day})
    if code is None:
        read(AdmissionRequest(json.dumps(body).encode()), rules())
    else:
        assert faults(body) == {"gegevens.verhuisdatum": code}


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-11-23",
        "2026-11-23T10:00:00",
        5,
    ],
)
def test_moments_without_meaning_are_refused(moment: Any) -> None:
    assert list(faults(report(**{"gegevens.tijdstip": moment}))) == ["gegevens.tijdstip"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"verhuizing"',
        b'{"type": "verhuizing"',
        b'{"type": NaN}',
        b'{"type": Infinity}',
        b'{"type": "\\ud800"}',
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"a": ' + b"1" * 5_000 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused_as_such(body: bytes) -> None:
    assert refusal(body).code == "json_invalid"


def test_an_unknown_field_is_not_repeated_but_a_near_one_is_named() -> None:
    body = relocation(**{"gegevens.nieuwAdress": 1, "999993653": 2, "x" * 100_000: 3})
    fields = {f.name: f for f in refusal(body).fields}
    assert fields["gegevens"].reason.endswith("Bedoelt u `nieuwAdres`?")
    assert fields["$"].code == "unknown_field"
    assert "999993653" not in str(fields)
    assert "xxx" not in str(fields)


def test_the_list_of_faults_has_an_end() -> None:
    people = {"gegevens.nieuwAdres." + str(n): n for n in range(5_000)}
    assert len(refusal(relocation(**people)).fields) == 1
    attachments = [{str(n): n} for n in range(10)]
    assert len(refusal(report(bijlagen=attachments)).fields) <= MAX_FIELDS


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_refused_in_our_own_words(body: bytes) -> None:
    refusal(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
PATHS = (
    "gemeente", "aanvrager", "aanvrager.bsn", "authenticatie.middel", "gegevens",
    "gegevens.verhuisdatum", "gegevens.nieuwAdres", "gegevens.nieuwAdres.huisnummer",
    "gegevens.meeverhuizers", "gegevens.meeverhuizers.0", "gegevens.toestemmingHoofdbewoner",
)  # fmt: skip


@settings(max_examples=2 * settings.default.max_examples)
@given(path=st.sampled_from(PATHS), value=JSON)
def test_any_value_anywhere_is_read_or_refused(path: str, value: Any) -> None:
    body = changed(RELOCATION_BODY, {path: value})
    code, fields = "", ()
    try:
        read(AdmissionRequest(json.dumps(body).encode()), rules())
    except Refused as refused:
        code, fields = refused.code, refused.fields
    assert bool(fields) == (code == "invalid_request")
    assert all(f.code and f.reason.endswith((".", "?")) for f in fields)


def test_days_and_tables_do_not_count_for_a_repeat() -> None:
    body = relocation(**{"gegevens.verhuisdatum": "2027-06-01"})
    assert read(AdmissionRequest(json.dumps(body).encode()), None).content.co_movers


def mark(body: dict[str, Any]) -> bytes:
    return canonical(read(AdmissionRequest(json.dumps(body).encode()), rules()))


def test_the_same_meaning_has_the_same_bytes() -> None:
    plain = relocation()
    assert mark(plain) == mark(dict(reversed(plain.items())))
    assert mark(plain) == mark(relocation(gemeente=...))
    assert mark(plain) == mark(relocation(**{"gegevens.nieuwAdres.postcode": "1011AB"}))
    assert mark(plain) == mark(relocation(bijlagen=[]))
    others = [
        relocation(gemeente="GM0363"),
        relocation(**{"gegevens.verhuisdatum": "2026-12-02"}),
        relocation(**{"gegevens.meeverhuizers": []}),
        relocation(**{"gegevens.toestemmingHoofdbewoner": False}),
    ]
    assert len({mark(plain), *map(mark, others)}) == 5
    assert mark(report(**{"gegevens.tijdstip": "2026-11-23T09:00:00Z"})) == mark(report())


def test_a_body_shows_nothing_of_itself() -> None:
    posted = AdmissionRequest(json.dumps(relocation()).encode())
    request = read(posted, rules())
    for shown in (repr(posted), str(posted), repr(request), str(request), repr(request.content)):
        assert "999993653" not in shown
        assert "1011" not in shown


def test_a_key_is_lifted_out_of_the_body() -> None:
    posted = AdmissionRequest(b'{"a": {"b/c": "k"}, "d": 1}')
    rest, key = posted.lift("/a/b~1c")
    assert (key, json.loads(rest.body)) == ("k", {"a": {}, "d": 1})
    for pointer in ("/d", "/e", "/a/b", "/d/x", "/a"):
        assert posted.lift(pointer) == (posted, None)
    with pytest.raises(Refused):
        AdmissionRequest(b"[]").lift("/a")


def valid_bsns(count: int) -> list[str]:
    found = (f"{n:09d}" for n in range(100_000_000, 100_001_000))
    return [digits for digits in found if passes_eleven_test(digits)][:count]
