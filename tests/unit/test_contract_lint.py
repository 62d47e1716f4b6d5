"""Schemas that kill a process or let personal data slip are refused before they are parsed."""

import json
import random
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.contract.lint import DEPTH_CAP, SIZE_CAP_BYTES, read

DOC = "What it is. NL: iets."


def record(*fields: Any, name: str = "Thing", **more: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "namespace": "nl.midoffice.test",
        "doc": DOC,
        "fields": list(fields),
        **more,
    }


def field(name: str, of: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": of, "doc": DOC, **more}


def inner(name: str, *fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "doc": DOC, "fields": list(fields)}


def enum(*symbols: Any, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "Word", "doc": DOC, "symbols": list(symbols), **more}


def texts(schema: Any) -> str:
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    reading = read(text)
    assert (reading.record is None) == bool(reading.problems)
    return " | ".join(f"{p.text}; {p.remedy}" for p in reading.problems)


def chain(length: int, first: Any, per_level: int = 1) -> dict[str, Any]:
    """Flat in the text, deep through names: T1 holds T0, T2 holds T1, ..."""
    fields, of = [field("f0", inner("T0", first))], "T0"
    for n in range(1, length):
        fields.append(
            field(f"f{n}", inner(f"T{n}", *(field(f"x{k}", of) for k in range(per_level))))
        )
        of = f"T{n}"
    return record(*fields)


LINKED = record(
    field("value", "int"), field("next", ["null", "nl.midoffice.test.Thing"], default=None)
)
MUTUAL = record(field("a", inner("A", field("b", inner("B", field("a", ["null", "A"]))))))
TWICE = '{"type":"record","name":"T","namespace":"nl.x","doc":"d NL: i.","fields":[%s],"fields":[]}'

HOSTILE: dict[str, tuple[Any, str]] = {
    # The two shapes that let a message of five bytes kill a process.
    "recursive record": (LINKED, "contains itself"),
    "array of null": (record(field("a", {"type": "array", "items": "null"})), "no byte"),
    "array of empty record": (
        record(field("a", {"type": "array", "items": inner("Empty")})),
        "no byte",
    ),
    "recursive through an array": (
        record(field("all", {"type": "array", "items": "Thing"})),
        "contains itself",
    ),
    "recursive through another record": (MUTUAL, "contains itself"),
    "array of a record of null": (
        record(field("a", {"type": "array", "items": inner("Hollow", field("n", "null"))})),
        "no byte",
    ),
    "array of empty fixed": (
        record(
            field("a", {"type": "array", "items": {"type": "fixed", "name": "Nil", "size": 0}})
        ),
        "not a kind of type",
    ),
    "map of null": (record(field("m", {"type": "map", "values": "null"})), "a map"),
    "map of empty record": (record(field("m", {"type": "map", "values": inner("E")})), "a map"),
    "huge fixed": (
        record(field("f", {"type": "fixed", "name": "Big", "size": 1 << 40})),
        "not a kind of type",
    ),
    "null as a field": (record(field("n", "null")), "no byte"),
    "empty record outermost": (record(), "no byte"),
    "doubling of nothing": (chain(15, field("n", "null"), per_level=9), "no byte"),
    "deep through names": (chain(DEPTH_CAP + 1, field("n", "int")), "deeper"),
    "deep brackets": (b"[" * 60_000, "nested deeper"),
    "deep arrays": (
        b'{"type":"array","items":' * 2000 + b'"int"' + b"}" * 2000,
        "nested deeper",
    ),
    "too long": (b" " * (SIZE_CAP_BYTES + 1), "more than"),
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b'{"type":"record","name":"\xff"}', "not JSON"),
    "NaN as default": (b'{"default": NaN}', "not JSON"),
    "number of 5000 digits": (b'{"default": ' + b"9" * 5000 + b"}", "not JSON"),
    "a key twice": ((TWICE % json.dumps(field("n", "int"))).encode(), "not JSON"),
    "nothing": (b"", "not JSON"),
    "outermost array": ({"type": "array", "items": "int"}, "not a record"),
    "outermost union": (["null", "int"], "not a record"),
    "outermost word": ("string", "not a record"),
    "fields not a list": (record(fields={}), "no byte"),
    "field not an object": (record("bsn"), "without a name"),
    "field name not text": (record(field(["n"], "int")), "without a name"),  # type: ignore[arg-type]  # hostile on purpose
    "field twice": (record(field("n", "int"), field("n", "int")), "twice"),
    "field in camelCase": (record(field("firstValue", "int")), "snake_case"),
    "field without type": (record({"name": "n", "doc": DOC}), "not a type"),
    "type a number": (record(field("n", 7)), "not a type"),
    "type of type": (record(field("n", {"type": {"type": "int"}})), "not a kind of type"),
    "unknown type": (record(field("n", "Elsewhere")), "unknown type"),
    "type used before it is defined": (
        record(field("a", "Later"), field("b", inner("Later", field("n", "int")))),
        "unknown type",
    ),
    "type defined twice": (
        record(field("a", inner("A", field("n", "int"))), field("b", inner("A"))),
        "defined twice",
    ),
    "wide union": (record(field("n", ["null", "int", "string"])), "a union other"),
    "union without null": (record(field("n", ["int", "string"])), "a union other"),
    "union in a union": (record(field("n", ["null", ["null", "int"]])), "a union other"),
    "optional null": (record(field("n", ["null", "null"])), "no byte"),
    "alias on a field": (record(field("n", "int", aliases=["bsn"])), "aliases"),
    "alias on a type": (record(field("n", "int"), aliases=["Other"]), "aliases"),
    "namespace with a path": (record(field("n", "int"), namespace="../.."), "namespace"),
    "no namespace": (record(field("n", "int"), namespace=""), "namespace"),
    "name of a primitive": (record(field("n", "int"), name="int"), "usable name"),
    "enum without symbols": (record(field("e", enum())), "without symbols"),
    "enum with a symbol twice": (record(field("e", enum("a", "a"))), "twice"),
    "enum with a number": (record(field("e", enum("a", 1))), "no snake_case word"),
    "enum default elsewhere": (record(field("e", enum("a", default="b"))), "not a symbol"),
    "unknown logical type": (
        record(field("u", {"type": "string", "logicalType": "uuid"})),
        "logical type",
    ),
    "logical type on the wrong base": (
        record(field("u", {"type": "string", "logicalType": "date"})),
        "logical type",
    ),
    "logical type not text": (
        record(field("u", {"type": "int", "logicalType": ["date"]})),
        "logical type",
    ),
    "decimal without precision": (
        record(field("d", {"type": "bytes", "logicalType": "decimal"})),
        "precision",
    ),
    "decimal of a million digits": (
        record(field("d", {"type": "bytes", "logicalType": "decimal", "precision": 1_000_000})),
        "precision",
    ),
    "default of another type": (record(field("n", "int", default="0")), "default"),
    "default true for a number": (record(field("n", "int", default=True)), "default"),
    "default that is no null": (record(field("n", ["null", "int"], default=0)), "default"),
    "default of a record": (record(field("r", inner("R", field("n", "int")), default={})), "defau"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_schema_is_refused(case: str) -> None:
    schema, because = HOSTILE[case]
    assert because in texts(schema)


def test_there_are_many_hostile_schemas() -> None:
    assert len(HOSTILE) >= 25


PERSONAL = """
    bsn applicant_bsn burgerservicenummer kvk name first_name lastname surname achternaam email
    email_address e_mail phone phone_number mobile telefoonnummer birth_date birthdate
    geboortedatum street straatnaam postcode post_code huisnummer house_number address
    home_address latitude text free_text remarks description toelichting
"""


@pytest.mark.parametrize("name", PERSONAL.split())
def test_a_field_that_sounds_personal_needs_a_tag(name: str) -> None:
    assert "has no hub.pii" in texts(record(field(name, ["null", "string"], default=None)))
    assert texts(record(field(name, "string", **{"hub.pii": "name"}))) == ""
    assert texts(record(field(name, "string", **{"hub.pii": "none"}))) == ""


@pytest.mark.parametrize(
    "name", ["context", "next", "media_type", "municipality_code", "place_count"]
)
def test_a_field_that_does_not_sound_personal_needs_none(name: str) -> None:
    assert texts(record(field(name, "string"))) == ""


@pytest.mark.parametrize("kind", ["nme", "", None, 3, ["bsn"], {"bsn": 1}])
def test_an_unknown_tag_is_refused(kind: Any) -> None:
    assert "unknown kind" in texts(record(field("bsn", "string", **{"hub.pii": kind})))


def test_a_record_that_travels_unsealed_holds_nothing_personal() -> None:
    tagged = field("bsn", "string", **{"hub.pii": "bsn"})
    clear = record(tagged, namespace="nl.midoffice")
    assert "not sealed" in texts(clear)
    hidden = {**inner("Hidden", tagged), "namespace": "nl.midoffice.elsewhere"}
    assert "not sealed" in texts(record(field("thing", hidden), namespace="nl.midoffice"))


@pytest.mark.parametrize("doc", [None, "", "A thing.", "A thing. NL: .", "A thing. NL: ding", 3])
def test_a_doc_without_its_dutch_term_is_refused(doc: Any) -> None:
    assert "Dutch term" in texts(record(field("n", "int", doc=doc)))
    assert "Dutch term" in texts(record(field("n", "int"), doc=doc))
    assert "Dutch term" in texts(record(field("e", enum("a") | {"doc": doc})))


def test_all_problems_come_together_each_with_its_line() -> None:
    schema = record(field("bsn", "string"), field("n", "int", doc="x"))
    reading = read(json.dumps(schema, indent=1).encode())
    lines = json.dumps(schema, indent=1).splitlines()
    assert [p.path for p in reading.problems] == ["bsn", "n"]
    for problem in reading.problems:
        assert f'"{problem.path}"' in lines[problem.line - 1]


def test_depth_up_to_the_cap_is_allowed() -> None:
    # The outermost record and a leaf are levels too.
    assert texts(chain(DEPTH_CAP - 2, field("n", "int"))) == ""
    assert "deeper" in texts(chain(DEPTH_CAP - 1, field("n", "int")))


def test_brackets_in_a_doc_do_not_count_as_nesting() -> None:
    assert texts(record(field("n", "int", doc='"' + "[" * 40 + '" \\ NL: haken.'))) == ""


@given(st.binary(max_size=300))
def test_reading_never_raises_on_bytes(text: bytes) -> None:
    assert read(text).record is None


def test_reading_never_raises_on_mutations_of_a_real_schema() -> None:
    text = json.dumps(
        record(
            field("a", ["null", inner("A", field("n", {"type": "int", "logicalType": "date"}))]),
            field("e", {"type": "array", "items": enum("x", "y", default="x")}),
            field("bsn", "string", **{"hub.pii": "bsn"}),
        )
    )
    assert texts(text.encode()) == ""
    values: list[Any] = [None, 7, "", "null", [], {}, ["null"], {"type": "record"}, [[]], True]
    rng = random.Random(4)
    for _ in range(30 * settings.default.max_examples):
        schema = json.loads(text)
        _mutate(schema, rng, values)
        if read(json.dumps(schema).encode()).record is not None:
            fastavro.parse_schema(schema)  # what we accept, it accepts


def _mutate(node: Any, rng: random.Random, values: list[Any]) -> None:
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.2:
            node[key] = rng.choice(values)
            return
        node = node[key]
