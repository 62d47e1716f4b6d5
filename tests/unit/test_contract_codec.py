"""Encoding names the field and never the value; decoding has one error, whatever the bytes."""

import io
import random
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import fastavro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.contract import (
    CO_MOVER,
    ENVELOPE,
    OUTCOME,
    QUARANTINED,
    RELOCATION_REPORTED,
    REPORT_SUBMITTED,
    Contract,
    Decoded,
)
from hub.errors import Poison
from hub.event import Attachment, Authentication, Envelope, Part, Payment
from hub.topics import RECORD_CAP_BYTES

CONTRACT = Contract.load()
NOW = datetime(2026, 11, 23, 9, 0, 0, 123456, tzinfo=UTC)
SECRET = "999993653"


def envelope() -> Envelope:
    return Envelope(
        id="0f8b6f3e-0000-8000-8000-000000000001",
        source="urn:nld:gemeente:GM0363:website",
        type="nl.midoffice.relocation.reported",
        time=NOW,
        reference="7K3M9QXA7K3M9QXAB",
        origin="GM0363",
        municipality_code="GM0599",
        service="relocation",
        product="http://standaarden.overheid.nl/owms/terms/verhuizing",
        subject_ref="5d2f5a0e-0000-4000-8000-000000000002",
        intake_channel="http",
        admitted_at=NOW,
        route_version="f" * 64,
        body_schema=CONTRACT.body_schema(RELOCATION_REPORTED),
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        authentication=Authentication("digid", "substantieel"),
        payment=Payment("not_needed"),
        attachments=(Attachment("a/1", "image/jpeg", 123, "0" * 64),),
        parts=(Part("5d2f5a0e-0000-4000-8000-000000000002", b"\x00sealed\xff"),),
        effective_date=date(2026, 12, 1),
    )


def relocation() -> dict[str, Any]:
    address = {"postcode": "3077AW", "house_number": 31, "street": "Boterdiep"}
    return {
        "effective_date": date(2026, 12, 1),
        "applicant": {"bsn": SECRET},
        "previous_address": None,
        "new_address": address,
        "residence_kind": "lodger",
        "main_occupant_consent": True,
        "contact": {"name": "J. Jansen", "email": None, "phone": None},
    }


def outcome() -> dict[str, Any]:
    return {
        "record_id": "a",
        "event_id": "b",
        "reference": "c",
        "origin": "GM0363",
        "municipality_code": "GM0363",
        "service": "relocation",
        "subject_ref": "d",
        "kind": "delivered",
        "attempt": 1,
        "time": NOW,
        "code": "",
        "text": "",
        "status": 201,
        "destinations": ("a", "b"),
        "traceparent": "",
    }


def report() -> dict[str, Any]:
    return {
        "category_main": "afval",
        "category_sub": "grofvuil",
        "text": "Bank op de stoep, é €",
        "location": {"latitude": 52.1, "longitude": 4.3},
        "observed_at": NOW,
        "reporter": None,
    }


def test_an_envelope_comes_back_equal() -> None:
    there = CONTRACT.encode(ENVELOPE, envelope().to_record())
    back = CONTRACT.decode(there, ENVELOPE)
    assert back.name == ENVELOPE
    assert Envelope.from_record(back.record) == envelope()


def test_the_wire_format_is_confluents() -> None:
    data = CONTRACT.encode(CO_MOVER, {"bsn": SECRET, "relation": "child"})
    magic, schema_id = struct.unpack(">bI", data[:5])
    assert (magic, schema_id) == (0, 5)  # by schemas/ids.lock: never changes
    assert data[5:] == b"\x12" + SECRET.encode() + b"\x04"


def test_absent_fields_get_their_default_and_a_time_comes_back_in_utc() -> None:
    record = outcome() | {"time": NOW.astimezone(timezone(timedelta(hours=2)))}
    back = CONTRACT.decode(CONTRACT.encode(OUTCOME, record)).record
    assert back["destination"] is None
    assert back["destinations"] == ["a", "b"]
    assert back["time"] == NOW
    assert back["time"].utcoffset() == timedelta(0)


@pytest.mark.parametrize("name", [RELOCATION_REPORTED, CO_MOVER, REPORT_SUBMITTED])
def test_the_body_schema_names_the_version_that_is_written(name: str) -> None:
    assert CONTRACT.body_schema(name) == f"{name}.v1"


def _set(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *way, last = path.split(".")
    target = record
    for step in way:
        target = target[step]
    target[last] = value
    return record


WRONG: list[tuple[Callable[[], dict[str, Any]], str, str, Any]] = [
    (relocation, RELOCATION_REPORTED, "applicant.bsn", int(SECRET)),
    (relocation, RELOCATION_REPORTED, "applicant.bsn", SECRET.encode()),
    (relocation, RELOCATION_REPORTED, "applicant.bsn", None),
    (relocation, RELOCATION_REPORTED, "applicant.bsn", SECRET + "\ud800"),
    (relocation, RELOCATION_REPORTED, "applicant", SECRET),
    (relocation, RELOCATION_REPORTED, "applicant", [("bsn", SECRET)]),
    (relocation, RELOCATION_REPORTED, "residence_kind", SECRET),
    (relocation, RELOCATION_REPORTED, "effective_date", "2026-12-01"),
    (relocation, RELOCATION_REPORTED, "effective_date", datetime(2026, 12, 1, tzinfo=UTC)),
    (relocation, RELOCATION_REPORTED, "effective_date", 20_000),
    (relocation, RELOCATION_REPORTED, "new_address.house_number", "31"),
    (relocation, RELOCATION_REPORTED, "new_address.house_number", True),
    (relocation, RELOCATION_REPORTED, "new_address.house_number", 31.0),
    (relocation, RELOCATION_REPORTED, "new_address.house_number", 1 << 31),
    (relocation, RELOCATION_REPORTED, "main_occupant_consent", 1),
    (relocation, RELOCATION_REPORTED, "contact.naam", SECRET),
    (report, REPORT_SUBMITTED, "location.latitude", float("nan")),
    (report, REPORT_SUBMITTED, "location.longitude", float("inf")),
    (report, REPORT_SUBMITTED, "location.latitude", "52.1"),
    (report, REPORT_SUBMITTED, "observed_at", datetime(2026, 11, 23, 10, 0)),  # noqa: DTZ001 - no zone
    (report, REPORT_SUBMITTED, "observed_at", 1_700_000_000),
    (outcome, OUTCOME, "destinations", "a"),
    (outcome, OUTCOME, "destinations", None),
    (outcome, OUTCOME, "attempt", None),
]


@pytest.mark.parametrize(("make", "name", "path", "value"), WRONG)
def test_a_wrong_value_is_refused_by_path_and_not_shown(
    make: Callable[[], dict[str, Any]], name: str, path: str, value: Any
) -> None:
    CONTRACT.encode(name, make())
    with pytest.raises(Poison) as refused:
        CONTRACT.encode(name, _set(make(), path, value))
    assert str(refused.value).startswith(f"{name}.{path}: ")
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_an_item_is_named_by_its_place() -> None:
    with pytest.raises(Poison, match=r"destinations\[1\]: expected text"):
        CONTRACT.encode(OUTCOME, outcome() | {"destinations": ["a", 1]})


def test_a_missing_field_is_named() -> None:
    record = relocation()
    del record["new_address"]["postcode"]
    with pytest.raises(Poison, match=r"\.new_address\.postcode: missing"):
        CONTRACT.encode(RELOCATION_REPORTED, record)


def test_an_unknown_key_that_could_be_data_is_not_shown() -> None:
    with pytest.raises(Poison) as refused:
        CONTRACT.encode(RELOCATION_REPORTED, relocation() | {SECRET: 1})
    assert str(refused.value) == f"{RELOCATION_REPORTED}.?: unknown field"


def test_an_unknown_schema_is_refused_on_both_sides() -> None:
    for use in (CONTRACT.body_schema, lambda name: CONTRACT.encode(name, {})):
        with pytest.raises(Poison, match="no schema"):
            use("nl.midoffice.Nothing")
    with pytest.raises(Poison, match="schema id 999 is not in"):
        CONTRACT.decode(b"\x00\x00\x00\x03\xe7abc")


def test_a_schema_that_is_not_expected_is_refused() -> None:
    data = CONTRACT.encode(CO_MOVER, {"bsn": SECRET, "relation": "child"})
    assert CONTRACT.decode(data, ENVELOPE, CO_MOVER).name == CO_MOVER
    with pytest.raises(Poison, match=f"{CO_MOVER} where {ENVELOPE} or {OUTCOME} is expected"):
        CONTRACT.decode(data, ENVELOPE, OUTCOME)


def test_the_size_is_capped_both_ways() -> None:
    record = report() | {"text": "x" * RECORD_CAP_BYTES}
    with pytest.raises(Poison, match="more than"):
        CONTRACT.encode(REPORT_SUBMITTED, record)
    with pytest.raises(Poison, match="more than"):
        CONTRACT.decode(b"\x00" * (RECORD_CAP_BYTES + 1))
    largest = report() | {"text": "x" * (RECORD_CAP_BYTES - 100)}
    data = CONTRACT.encode(REPORT_SUBMITTED, largest)
    assert CONTRACT.decode(data).record["text"] == largest["text"]


def test_bytes_behind_the_end_are_refused() -> None:
    data = CONTRACT.encode(REPORT_SUBMITTED, report())
    with pytest.raises(Poison, match="1 bytes behind the end"):
        CONTRACT.decode(data + b"\x00")


def test_every_truncation_is_poison() -> None:
    data = CONTRACT.encode(ENVELOPE, envelope().to_record())
    for length in range(len(data)):
        with pytest.raises(Poison):
            CONTRACT.decode(data[:length])


def head(name: str) -> bytes:
    records = {CO_MOVER: {"bsn": "", "relation": "child"}, OUTCOME: outcome()}
    return CONTRACT.encode(name, records[name])[:5]


def _outcome_with(count_of_destinations: bytes, items: bytes = b"") -> bytes:
    whole = CONTRACT.encode(OUTCOME, outcome() | {"destinations": []})
    return whole[:-2] + count_of_destinations + items


HUGE = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # zigzag of 2^63 - 1
SHAPES = {
    "no value (tombstone)": None,
    "text": "abc",
    "nothing": b"",
    "magic only": b"\x00",
    "other magic": b"\x01" + head(CO_MOVER)[1:] + b"\x00\x02",
    "length of 2^63": head(CO_MOVER) + HUGE,
    "negative length": head(CO_MOVER) + b"\x01",
    "not UTF-8": head(CO_MOVER) + b"\x04\xff\xfe\x02",
    "symbol out of range": head(CO_MOVER) + b"\x00\x7e",
    "symbol below zero": head(CO_MOVER) + b"\x00\x09",
    "varint without end": head(CO_MOVER) + b"\x80" * 1_000_000,
    "array of 2^63 items": _outcome_with(HUGE),
    "array in a negative block": _outcome_with(b"\x03\xfe\xff\x7f\x00"),
    "avro container file": b"Obj\x01" + b"\x00" * 40,
}


@pytest.mark.parametrize("case", SHAPES)
def test_crafted_bytes_are_poison(case: str) -> None:
    with pytest.raises(Poison) as refused:
        CONTRACT.decode(SHAPES[case])  # type: ignore[arg-type]  # Kafka gives None for no value
    assert refused.value.__cause__ is None


def test_a_time_that_no_calendar_has_is_poison() -> None:
    data = CONTRACT.encode(REPORT_SUBMITTED, report())
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {"type": "long"}, 2**62)
    micros = io.BytesIO()
    fastavro.schemaless_writer(micros, {"type": "long"}, int(NOW.timestamp() * 1_000_000))
    assert data.count(micros.getvalue()) == 1
    with pytest.raises(Poison):
        CONTRACT.decode(data.replace(micros.getvalue(), out.getvalue()))


def _decodes_or_poison(data: bytes, *expected: str) -> None:
    text = ""
    try:
        assert isinstance(CONTRACT.decode(data, *expected), Decoded)
    except Poison as refused:
        text = str(refused)
    assert SECRET not in text
    assert len(text) < 300


SAMPLES = (
    CONTRACT.encode(ENVELOPE, envelope().to_record()),
    CONTRACT.encode(OUTCOME, outcome()),
    CONTRACT.encode(RELOCATION_REPORTED, relocation()),
    CONTRACT.encode(REPORT_SUBMITTED, report()),
)


@settings(max_examples=4 * settings.default.max_examples)
@given(st.integers(1, 6), st.binary(max_size=400))
@example(1, b"\x00" * 100)
def test_any_bytes_behind_a_known_id(schema_id: int, body: bytes) -> None:
    _decodes_or_poison(b"\x00" + schema_id.to_bytes(4, "big") + body)


@settings(max_examples=2 * settings.default.max_examples)
@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    _decodes_or_poison(data)
    _decodes_or_poison(data, ENVELOPE)


def test_mutations_of_real_records() -> None:
    rng = random.Random(20261123)
    edges = [0x00, 0x01, 0x02, 0x7F, 0x80, 0xFE, 0xFF]
    for _ in range(200 * settings.default.max_examples):
        data = bytearray(rng.choice(SAMPLES))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(5, len(data))
            what = rng.randrange(4)
            if what == 0:
                data[place] = rng.choice(edges)
            elif what == 1:
                data[place] ^= 1 << rng.randrange(8)
            elif what == 2:
                del data[place : place + rng.randint(1, 9)]
            else:
                data[place:place] = rng.randbytes(rng.randint(1, 9))
            if len(data) <= 5:
                break
        _decodes_or_poison(bytes(data))


def test_a_quarantined_record_holds_its_bytes() -> None:
    record = {
        "record_id": "x",
        "source_topic": "requests",
        "partition": 3,
        "offset": 1 << 40,
        "reason": "poison",
        "code": "not_decodable",
        "text": "",
        "sealed": bytes(range(256)),
        "time": NOW,
    }
    back = CONTRACT.decode(CONTRACT.encode(QUARANTINED, record), QUARANTINED).record
    assert back == record | {"event_id": None, "reference": None}
