"""The contract as others see it: every example runs, every word is explained, every tag stands."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

import hub
from hub.contract import CO_MOVER, ENVELOPE, RELOCATION_REPORTED, REPORT_SUBMITTED, Contract
from hub.contract.library import default_folder, read_library
from hub.contract.model import Array, Enum, Optional, Plain, Record, Type
from hub.errors import Poison
from hub.event import SERVICES, Envelope, check_character

FOLDER = default_folder()
ROOT = Path(hub.__file__).parents[1]
CONTRACT = Contract.load()
LIBRARY = read_library(FOLDER)
NEWEST = {f.name: f.record for f in sorted(LIBRARY.files, key=lambda f: f.version)}
VALID = sorted(FOLDER.rglob("examples/valid/*.json"))
INVALID = sorted(FOLDER.rglob("examples/invalid/*.json"))


def _value(of: Type, value: Any) -> Any:
    """JSON as schemas/README.md writes examples; what does not fit stays as it is."""
    if isinstance(of, Record) and isinstance(value, dict):
        types = {f.name: f.type for f in of.fields}
        return {k: _value(types[k], v) if k in types else v for k, v in value.items()}
    if isinstance(of, Array) and isinstance(value, list):
        return [_value(of.items, item) for item in value]
    if isinstance(of, Optional):
        return None if value is None else _value(of.of, value)
    if isinstance(of, Plain) and isinstance(value, str):
        return _plain(of, value)
    return value


def _plain(of: Plain, value: str) -> Any:
    try:
        if of.name == "bytes":
            return base64.b64decode(value, validate=True)
        if of.logical == "date":
            return date.fromisoformat(value)
        if of.logical == "timestamp-micros":
            return datetime.fromisoformat(value)
    except ValueError:
        pass  # an invalid example: the codec has to notice
    return value


def _read(path: Path) -> tuple[str, Any, dict[str, Any]]:
    example = json.loads(path.read_text())
    name = example["schema"]
    return name, _value(NEWEST[name], example["record"]), example


def _fields(of: Type, path: str = "") -> Iterator[tuple[str, Type]]:
    if isinstance(of, Optional):
        yield from _fields(of.of, path)
    elif isinstance(of, Array):
        yield from _fields(of.items, f"{path}[]")
    elif isinstance(of, Record):
        for field in of.fields:
            yield f"{path}.{field.name}", field.type
            yield from _fields(field.type, f"{path}.{field.name}")


def _filled(of: Type, value: Any, path: str = "") -> Iterator[str]:
    if isinstance(of, Optional) and value is not None:
        yield from _filled(of.of, value, path)
    elif isinstance(of, Array):
        for item in value:
            yield from _filled(of.items, item, f"{path}[]")
    elif isinstance(of, Record):
        for field in of.fields:
            if value[field.name] is not None:
                yield f"{path}.{field.name}"
                yield from _filled(field.type, value[field.name], f"{path}.{field.name}")


@pytest.mark.parametrize("path", VALID, ids=lambda p: p.stem)
def test_a_valid_example_comes_back_equal(path: Path) -> None:
    name, record, _ = _read(path)
    assert CONTRACT.decode(CONTRACT.encode(name, record), name).record == record


@pytest.mark.parametrize("path", INVALID, ids=lambda p: p.stem)
def test_an_invalid_example_is_refused_where_it_is_wrong(path: Path) -> None:
    name, record, example = _read(path)
    assert example["wrong"]
    with pytest.raises(Poison) as refused:
        CONTRACT.encode(name, record)
    assert str(refused.value).startswith(f"{name}.{example['path']}: ")


@pytest.mark.parametrize("name", NEWEST)
def test_every_field_is_filled_in_some_valid_example(name: str) -> None:
    found = (_read(path) for path in VALID)
    filled = {p for n, record, _ in found if n == name for p in _filled(NEWEST[n], record)}
    assert {path for path, _ in _fields(NEWEST[name])} <= filled


@pytest.mark.parametrize("name", NEWEST)
def test_every_schema_has_invalid_examples(name: str) -> None:
    assert sum(_read(path)[0] == name for path in INVALID) >= 2


def test_an_envelope_example_is_an_envelope() -> None:
    for path in VALID:
        name, record, _ = _read(path)
        if name == ENVELOPE:
            envelope = Envelope.from_record(record)
            assert envelope.to_record() == record | {
                "attachments": envelope.to_record()["attachments"],
                "parts": envelope.to_record()["parts"],
            }
            assert check_character(envelope.reference[:-1]) == envelope.reference[-1]
            assert envelope.service in SERVICES


def test_the_envelope_has_the_fields_of_the_code() -> None:
    assert {f.name for f in NEWEST[ENVELOPE].fields} == set(Envelope.__dataclass_fields__)


ADDRESS = [
    "postcode",
    "house_number",
    "house_letter",
    "house_number_suffix",
    "street",
    "place",
    "address_object_id",
]
PERSONAL = {
    RELOCATION_REPORTED: {
        "bsn": [".applicant.bsn"],
        "name": [".contact.name"],
        "email": [".contact.email"],
        "phone": [".contact.phone"],
        "address": [
            f".{which}.{part}" for which in ("previous_address", "new_address") for part in ADDRESS
        ],
        "circumstance": [".residence_kind", ".main_occupant_consent"],
    },
    CO_MOVER: {"bsn": [".bsn"], "family": [".relation"]},
    REPORT_SUBMITTED: {
        "free_text": [".text"],
        "location": [".location.latitude", ".location.longitude"],
        "address": [f".location.{p}" for p in ("postcode", "house_number", "street", "place")],
        "bsn": [".reporter.bsn"],
        "kvk": [".reporter.kvk"],
        "name": [".reporter.name"],
        "email": [".reporter.email"],
        "phone": [".reporter.phone"],
    },
}


def _tags(of: Type, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(of, Optional):
        yield from _tags(of.of, path)
    elif isinstance(of, Array):
        yield from _tags(of.items, path)
    elif isinstance(of, Record):
        for field in of.fields:
            if field.pii:
                yield f"{path}.{field.name}", field.pii
            yield from _tags(field.type, f"{path}.{field.name}")


@pytest.mark.parametrize("name", NEWEST)
def test_the_personal_fields_are_tagged(name: str) -> None:
    """Written down twice on purpose: a tag that falls out of a schema is noticed here."""
    wanted = {(p, kind) for kind, paths in PERSONAL.get(name, {}).items() for p in paths}
    assert set(_tags(NEWEST[name])) == wanted


def _glossary_words() -> set[str]:
    """The words in the second column of the glossary's tables."""
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", (FOLDER / "GLOSSARY.md").read_text(), re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([A-Za-z_]+)`", row)}


def test_the_glossary_explains_every_word_of_the_schemas() -> None:
    folders = {path.parent.name for path in FOLDER.rglob("*.avsc")} - {FOLDER.name}
    records = {record.name.rsplit(".", 1)[1] for record in NEWEST.values()}
    symbols = {
        symbol
        for record in NEWEST.values()
        for _, of in _fields(record)
        if isinstance(of, Enum)
        for symbol in of.symbols
    } - {"unknown"}
    missing = (set(SERVICES) | folders | records | symbols) - _glossary_words()
    assert not missing, f"schemas/GLOSSARY.md does not explain: {', '.join(sorted(missing))}"


def test_the_glossary_has_no_word_that_nobody_uses() -> None:
    code = [*ROOT.glob("hub/**/*.py"), *ROOT.glob("connectors/**/*.py"), *FOLDER.rglob("*.avsc")]
    used = "\n".join(path.read_text() for path in code)
    unused = {w for w in _glossary_words() if not re.search(rf"(?<![A-Za-z]){w}s?(?![a-z])", used)}
    assert not unused, f"schemas/GLOSSARY.md has words that are not in use: {sorted(unused)}"


def test_the_services_have_a_folder_each() -> None:
    assert {p.name for p in FOLDER.iterdir() if p.is_dir()} - {"examples"} == set(SERVICES)
