"""A folder of schemas: its ids, its versions, and what is said when it cannot be used."""

import json
import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.contract import Contract
from hub.contract.check import check, main
from hub.contract.fingerprint import fingerprint
from hub.contract.library import default_folder
from hub.contract.lint import read
from hub.errors import ConfigError, Poison

NAME = "nl.midoffice.test.Thing"
COUNT = {"name": "count", "type": "int", "doc": "How many. NL: aantal."}
COLOUR = {
    "name": "colour",
    "type": {
        "type": "enum",
        "name": "Colour",
        "doc": "Which. NL: kleur.",
        "symbols": ["unknown", "red"],
        "default": "unknown",
    },
    "default": "red",
    "doc": "Which. NL: kleur.",
}
LABEL = {
    "name": "label",
    "type": ["null", "string"],
    "default": None,
    "doc": "Which. NL: etiket.",
}
BSN = {"name": "bsn", "type": "string", "hub.pii": "bsn", "doc": "Whose. NL: bsn."}


def schema(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    head = {"type": "record", "name": "Thing", "namespace": "nl.midoffice.test"}
    return {**head, "doc": "A thing. NL: ding.", "fields": list(fields), **more}


def mark(document: dict[str, Any]) -> str:
    record = read(json.dumps(document).encode()).record
    assert record is not None
    return fingerprint(record)


def write(folder: Path, files: dict[str, dict[str, Any]], lock: str | None = None) -> Path:
    """`files` in `folder`, with a lock line each unless `lock` is given."""
    for name, document in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1))
    lines = (f"{mark(document)} = {n}\n" for n, document in enumerate(files.values(), 1))
    (folder / "ids.lock").write_text("".join(lines) if lock is None else lock)
    return folder


def test_the_schemas_of_the_checkout_have_no_fault() -> None:
    assert check() == []
    assert check(default_folder()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Contract.load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no schema \(\*\.avsc\)"):
        Contract.load(write(tmp_path, {}))
    assert "nowhere" in check(tmp_path / "nowhere")[0]


def test_a_missing_lock_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"thing.v1.avsc": schema(COUNT)})
    (tmp_path / "ids.lock").unlink()
    with pytest.raises(ConfigError, match=r"ids\.lock:1: cannot be read"):
        Contract.load(tmp_path)


def test_a_schema_without_a_line_is_told_the_line_to_add(tmp_path: Path) -> None:
    write(tmp_path, {"thing.v1.avsc": schema(COUNT)}, lock="")
    (fault,) = check(tmp_path)
    line = f"{mark(schema(COUNT))} = 1  # {NAME} v1"
    assert f"{tmp_path}/thing.v1.avsc:1: no line in ids.lock" in fault
    assert f"`{line}`" in fault
    with pytest.raises(ConfigError, match=r"no line in ids\.lock"):
        Contract.load(tmp_path)
    (tmp_path / "ids.lock").write_text(line + "\n")
    assert check(tmp_path) == []


def test_two_new_schemas_are_told_two_ids(tmp_path: Path) -> None:
    other = schema(COUNT, name="Other")
    write(tmp_path, {"a/thing.v1.avsc": schema(COUNT), "b/other.v1.avsc": other}, lock="")
    assert [f" = {n}  #" in fault for n, fault in enumerate(check(tmp_path), 1)] == [True, True]


def test_an_edited_schema_is_noticed_both_ways(tmp_path: Path) -> None:
    write(tmp_path, {"thing.v1.avsc": schema(COUNT)})
    (tmp_path / "thing.v1.avsc").write_text(json.dumps(schema(COUNT, LABEL)))
    missing_line, missing_file = check(tmp_path)
    assert "no line in ids.lock" in missing_line
    assert "write a new version beside it" in missing_line
    assert "id 1" in missing_file
    assert "has no schema file" in missing_file


@pytest.mark.parametrize(
    ("lock", "because"),
    [
        ("{a} = 2\n{b} = 1\n", "id 2 where 1 is due"),
        ("{a} = 1\n{b} = 3\n", "id 3 where 2 is due"),
        ("{a} = 1\n{b} = 1\n", "id 1 where 2 is due"),
        ("{a} = 1\n{a} = 2\n{b} = 3\n", "a fingerprint twice"),
        ("{a} = 1\n{b} = two\n", "not `<fingerprint> = <id>`"),
        ("{a} = 1\n{b} = 2\nabc = 3\n", "not `<fingerprint> = <id>`"),
    ],
)
def test_a_lock_that_was_tampered_with_is_refused(tmp_path: Path, lock: str, because: str) -> None:
    first, second = schema(COUNT), schema(COUNT, name="Other")
    files = {"thing.v1.avsc": first, "other.v1.avsc": second}
    write(tmp_path, files, lock.format(a=mark(first), b=mark(second)))
    assert any(because in fault and "ids.lock:" in fault for fault in check(tmp_path))
    with pytest.raises(ConfigError):
        Contract.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "because"),
    [
        ({"thing.v2.avsc": schema(COUNT)}, "versions do not count from 1"),
        ({"thing.avsc": schema(COUNT), "thing.v3.avsc": schema(COUNT, LABEL)}, "versions do not"),
        (
            {"thing.v1.avsc": schema(COUNT), "thing.v2.avsc": schema(COUNT, LABEL, name="Item")},
            "the record's name changed",
        ),
        ({"a/thing.v1.avsc": schema(COUNT), "b/thing.v1.avsc": schema(LABEL)}, "another file's"),
        (
            {"thing.v1.avsc": schema(COUNT), "thing.v2.avsc": schema(COUNT, doc="B. NL: ding.")},
            "equal to an earlier version",
        ),
    ],
)
def test_versions_that_do_not_fit_are_refused(
    tmp_path: Path, files: dict[str, dict[str, Any]], because: str
) -> None:
    write(tmp_path, files)
    assert any(because in fault for fault in check(tmp_path))


def test_an_unreadable_file_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"thing.v1.avsc": schema(COUNT), "Thing-2.avsc": schema(LABEL)})
    assert any("not a schema's file name" in fault for fault in check(tmp_path))


def test_a_fault_inside_a_schema_names_file_and_line(tmp_path: Path) -> None:
    untagged = {key: value for key, value in BSN.items() if key != "hub.pii"}
    path = tmp_path / "thing.v1.avsc"
    path.write_text(json.dumps(schema(COUNT, untagged), indent=1))
    (tmp_path / "ids.lock").write_text("")
    (fault,) = check(tmp_path)
    assert fault.startswith(f"{path}:")
    line = int(fault.split(":")[1])
    assert '"bsn"' in path.read_text().splitlines()[line - 1]


def test_the_fingerprint_knows_what_counts() -> None:
    base = schema(COUNT, COLOUR, BSN)
    same = schema(COUNT | {"doc": "Other. NL: getal."}, COLOUR, BSN, doc="Other. NL: ander.")
    assert mark(base) == mark(same)
    colour_type: dict[str, Any] = COLOUR["type"]  # type: ignore[assignment]  # it is the enum above
    others = [
        schema(COUNT | {"type": "long"}, COLOUR, BSN),
        schema(COUNT | {"type": {"type": "int", "logicalType": "date"}}, COLOUR, BSN),
        schema(COUNT | {"default": 0}, COLOUR, BSN),
        schema(COUNT, COLOUR | {"default": "unknown"}, BSN),
        schema(COUNT, COLOUR | {"type": colour_type | {"symbols": ["unknown", "red", "b"]}}, BSN),
        schema(COUNT, COLOUR, BSN | {"hub.pii": "name"}),
        schema(COUNT, COLOUR, BSN | {"hub.pii": "none"}),
        schema(COLOUR, COUNT, BSN),
        schema(COUNT, COLOUR),
    ]  # fmt: skip
    assert len({mark(other) for other in [base, *others]}) == len(others) + 1


V1 = schema(COUNT, LABEL)
V2 = schema(COUNT, COLOUR, LABEL)


def test_a_record_of_an_older_version_is_read_as_the_newest(tmp_path: Path) -> None:
    old = Contract.load(write(tmp_path / "old", {"thing.v1.avsc": V1}))
    new = Contract.load(write(tmp_path / "new", {"thing.v1.avsc": V1, "thing.v2.avsc": V2}))
    data = old.encode(NAME, {"count": 3, "label": "x"})
    assert new.decode(data, NAME).record == {"count": 3, "colour": "red", "label": "x"}
    assert new.encode(NAME, {"count": 3})[1:5] == b"\x00\x00\x00\x02"
    assert (old.body_schema(NAME), new.body_schema(NAME)) == (f"{NAME}.v1", f"{NAME}.v2")
    with pytest.raises(Poison, match="schema id 2 is not in"):
        old.decode(new.encode(NAME, {"count": 3}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=60))
def test_any_bytes_of_an_older_version(tmp_path: Path, body: bytes) -> None:
    if not (tmp_path / "ids.lock").exists():
        write(tmp_path, {"thing.v1.avsc": V1, "thing.v2.avsc": V2})
    contract = Contract.load(tmp_path)
    try:
        found = contract.decode(b"\x00\x00\x00\x00\x01" + body).record
    except Poison:
        return
    assert set(found) == {"count", "colour", "label"}


def test_an_incompatible_version_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, {"thing.v1.avsc": V1, "thing.v2.avsc": schema(COUNT | {"type": "long"}, LABEL)})
    (fault,) = check(tmp_path)
    assert f"{tmp_path}/thing.v2.avsc:1: v1 to v2: {NAME}.count: int became long" in fault


@pytest.mark.slow
def test_a_released_line_cannot_be_rewritten(tmp_path: Path) -> None:
    assert shutil.which("git"), "this test makes a repository: install git"
    folder = write(tmp_path / "schemas", {"thing.v1.avsc": V1})

    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    write(folder, {"thing.v1.avsc": V2})
    assert check(folder) == []  # not released yet: may still change
    git("tag", "v1.0.0")
    (fault,) = check(folder)
    assert f"the released line `{mark(V1)} = 1` is gone" in fault


def test_the_command_prints_the_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"thing.v1.avsc": schema(COUNT)}, lock="")
    monkeypatch.setattr("sys.argv", ["check", str(tmp_path)])
    assert main() == 1
    assert "no line in ids.lock" in capsys.readouterr().err
    (tmp_path / "ids.lock").write_text(f"{mark(schema(COUNT))} = 1\n")
    assert main() == 0
    assert capsys.readouterr().err == ""


def _typed(of: Any, doc: str = "What. NL: iets.") -> dict[str, Any]:
    return {"type": of, "doc": doc}


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
EVERYTHING = schema(
    {"name": "a", **_typed("boolean")},
    {"name": "b", **_typed("long")},
    {"name": "c", **_typed("double")},
    {"name": "d", **_typed("string")},
    {"name": "e", **_typed("bytes")},
    {"name": "f", **_typed({"type": "int", "logicalType": "date"})},
    {"name": "g", **_typed({"type": "long", "logicalType": "timestamp-micros"})},
    {"name": "h", **_typed({"type": "long", "logicalType": "timestamp-millis"})},
    {"name": "i", **_typed(DECIMAL)},
    {"name": "j", **_typed(["null", {"type": "array", "items": ["null", "int"]}])},
    COLOUR,
)
CENTS = st.integers(-99_999, 99_999).map(lambda cents: Decimal(cents).scaleb(-2))
ANYTHING = st.fixed_dictionaries(
    {
        "a": st.booleans(),
        "b": st.integers(-(1 << 63), (1 << 63) - 1),
        "c": st.floats(allow_nan=False, allow_infinity=False),
        "d": st.text(),
        "e": st.binary(),
        "f": st.dates(),
        "g": st.datetimes(timezones=st.just(UTC)),
        "h": st.datetimes(timezones=st.just(UTC)).map(
            lambda moment: moment - timedelta(microseconds=moment.microsecond % 1000)
        ),
        "i": CENTS,
        "j": st.none() | st.lists(st.none() | st.integers(-(1 << 31), (1 << 31) - 1)),
        "colour": st.sampled_from(["unknown", "red"]),
    }
)


@settings(
    max_examples=2 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(record=ANYTHING)
def test_whatever_is_encoded_comes_back_equal(tmp_path: Path, record: dict[str, Any]) -> None:
    if not (tmp_path / "ids.lock").exists():
        write(tmp_path, {"thing.v1.avsc": EVERYTHING})
    contract = Contract.load(tmp_path)
    assert contract.decode(contract.encode(NAME, record), NAME).record == record


@pytest.mark.parametrize("value", ["1.234", "12345", "1E+4", "NaN", 1.5, 1])
def test_a_decimal_out_of_its_digits_is_refused(tmp_path: Path, value: Any) -> None:
    contract = Contract.load(write(tmp_path, {"thing.v1.avsc": EVERYTHING}))
    good: dict[str, Any] = {
        "a": True,
        "b": 1,
        "c": 0.5,
        "d": "",
        "e": b"",
        "f": date(2026, 1, 1),
        "g": datetime(2026, 1, 1, tzinfo=UTC),
        "h": datetime(2026, 1, 1, tzinfo=UTC),
        "i": Decimal("1.2"),
        "j": None,
    }
    contract.encode(NAME, good)
    wrong = Decimal(value) if isinstance(value, str) else value
    with pytest.raises(Poison, match=r"\.i: expected a decimal"):
        contract.encode(NAME, good | {"i": wrong})
