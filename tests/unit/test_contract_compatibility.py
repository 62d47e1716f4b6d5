"""Versions of a schema read each other, or the gate says which field keeps them apart."""

import io
import json
from itertools import permutations
from typing import Any

import fastavro
import pytest

from hub.contract.compatibility import conflicts
from hub.contract.lint import read
from hub.contract.model import Record

DOC = "What. NL: iets."


def field(name: str, of: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": of, "doc": DOC, **more}


def record(*fields: dict[str, Any], name: str = "Thing") -> dict[str, Any]:
    head = {"type": "record", "name": name, "namespace": "nl.midoffice.test", "doc": DOC}
    return {**head, "fields": list(fields)}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "Word", "doc": DOC, "symbols": list(symbols), **more}


def inner(*fields: dict[str, Any], name: str = "Inner") -> dict[str, Any]:
    return {"type": "record", "name": name, "doc": DOC, "fields": list(fields)}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def logical(base: str, unit: str) -> dict[str, Any]:
    return {"type": base, "logicalType": unit}


def parsed(document: dict[str, Any]) -> Record:
    reading = read(json.dumps(document).encode())
    assert reading.record is not None, [str(p) for p in reading.problems]
    return reading.record


N = field("n", "int")
OPTIONAL = field("o", ["null", "string"], default=None)
TAGGED = field("bsn", "string", **{"hub.pii": "bsn"})

FIT: dict[str, list[dict[str, Any]]] = {
    "the same": [record(N), record(N)],
    "optional field added": [record(N), record(N, OPTIONAL)],
    "optional field removed": [record(N, OPTIONAL), record(N)],
    "field with default added": [record(N), record(N, field("m", "string", default=""))],
    "list with default added": [
        record(N),
        record(N, field("all", {"type": "array", "items": "string"}, default=[])),
    ],
    "order changed": [record(N, OPTIONAL), record(OPTIONAL, N)],
    "default changed": [record(N, field("m", "int", default=1)), record(N, field("m", "int"))],
    "symbol added behind a default": [
        record(field("e", enum("unknown", "a", default="unknown"))),
        record(field("e", enum("unknown", "a", "b", default="unknown"))),
    ],
    "symbol removed behind a default": [
        record(field("e", enum("unknown", "a", "b", default="unknown"))),
        record(field("e", enum("unknown", "a", default="unknown"))),
    ],
    "tag added": [
        record(field("bsn", "string", **{"hub.pii": "none"})),
        record(TAGGED),
    ],
    "optional field added deep inside": [
        record(field("all", {"type": "array", "items": inner(N)})),
        record(field("all", {"type": "array", "items": inner(N, OPTIONAL)})),
    ],
    "three versions": [record(N), record(N, OPTIONAL), record(N)],
}

APART: dict[str, tuple[list[dict[str, Any]], str]] = {
    "field added without default": ([record(N), record(N, field("m", "int"))], "m: added"),
    "field removed without default": ([record(N, field("m", "int")), record(N)], "m: removed"),
    "field renamed": (
        [record(field("old", "int")), record(field("new", "int"))],
        "old: removed",
    ),
    "int to long": ([record(N), record(field("n", "long"))], "n: int became long"),
    "long to double": (
        [record(field("n", "long")), record(field("n", "double"))],
        "long became double",
    ),
    "string to bytes": (
        [record(field("n", "string")), record(field("n", "bytes"))],
        "string became bytes",
    ),
    "made optional": (
        [record(N), record(field("n", ["null", "int"], default=None))],
        "int became optional",
    ),
    "made required": (
        [record(OPTIONAL), record(field("o", "string"))],
        "optional became string",
    ),
    "one to many": (
        [record(field("n", "string")), record(field("n", {"type": "array", "items": "string"}))],
        "string became array",
    ),
    "decimal scale": (
        [record(field("d", decimal(9, 2))), record(field("d", decimal(9, 3)))],
        "decimal(9, 2) became decimal(9, 3)",
    ),
    "decimal precision": (
        [record(field("d", decimal(9, 2))), record(field("d", decimal(12, 2)))],
        "decimal(9, 2) became decimal(12, 2)",
    ),
    "time unit": (
        [
            record(field("t", logical("long", "timestamp-millis"))),
            record(field("t", logical("long", "timestamp-micros"))),
        ],
        "timestamp-millis became timestamp-micros",
    ),
    "unit dropped": (
        [record(field("t", logical("int", "date"))), record(field("t", "int"))],
        "date became no unit",
    ),
    "unit given": (
        [record(field("t", "int")), record(field("t", logical("int", "date")))],
        "no unit became date",
    ),
    "tag removed": (
        [record(TAGGED), record(field("bsn", "string", **{"hub.pii": "none"}))],
        "tag hub.pii bsn became none",
    ),
    "tag changed": (
        [record(TAGGED), record(field("bsn", "string", **{"hub.pii": "kvk"}))],
        "tag hub.pii bsn became kvk",
    ),
    "tag removed deep inside": (
        [
            record(field("all", {"type": "array", "items": inner(TAGGED)})),
            record(
                field(
                    "all",
                    {
                        "type": "array",
                        "items": inner(field("bsn", "string", **{"hub.pii": "none"})),
                    },
                )
            ),
        ],
        "all[].bsn: tag",
    ),
    "symbol added without default": (
        [record(field("e", enum("a"))), record(field("e", enum("a", "b")))],
        "a symbol added",
    ),
    "symbol removed without default": (
        [record(field("e", enum("a", "b"))), record(field("e", enum("a")))],
        "a symbol removed",
    ),
    "inner type renamed": (
        [record(field("r", inner(N))), record(field("r", inner(N, name="Other")))],
        "type nl.midoffice.test.Inner became nl.midoffice.test.Other",
    ),
    "record renamed": ([record(N), record(N, name="Item")], "became nl.midoffice.test.Item"),
    "transitive: the same name back as another type": (
        [record(N, OPTIONAL), record(N), record(N, field("o", ["null", "int"], default=None))],
        "v1 to v3: nl.midoffice.test.Thing.o: string became int",
    ),
}


@pytest.mark.parametrize("case", FIT)
def test_versions_that_fit(case: str) -> None:
    assert conflicts([parsed(document) for document in FIT[case]]) == []


@pytest.mark.parametrize("case", APART)
def test_versions_that_do_not_fit(case: str) -> None:
    documents, because = APART[case]
    found = conflicts([parsed(document) for document in documents])
    assert any(because in text for text in found), found


SAMPLE = {
    "n": 1,
    "o": "x",
    "m": 2,
    "all": [],
    "e": "a",
    "bsn": "",
}


@pytest.mark.parametrize("case", FIT)
def test_what_the_gate_lets_through_avro_can_read_both_ways(case: str) -> None:
    """The gate's own reading of Avro, against fastavro's."""
    for writer, reader in permutations(FIT[case], 2):
        value = {f["name"]: _sample(f) for f in writer["fields"]}
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(writer, {}), value)
        out.seek(0)
        back = fastavro.schemaless_reader(
            out, fastavro.parse_schema(writer, {}), fastavro.parse_schema(reader, {})
        )
        assert isinstance(back, dict)
        assert set(back) == {f["name"] for f in reader["fields"]}


def _sample(of: dict[str, Any]) -> Any:
    if of["name"] == "m":
        return "x" if of["type"] == "string" else 2
    if of["name"] == "e":
        return of["type"]["symbols"][-1]  # the newest symbol, unknown to the other side
    if of["name"] == "all" and isinstance(of["type"]["items"], dict):
        return [{f["name"]: SAMPLE[f["name"]] for f in of["type"]["items"]["fields"]}]
    return SAMPLE[of["name"]]
