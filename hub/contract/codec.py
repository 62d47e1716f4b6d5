"""Records to bytes and back, in the Confluent wire format: 0x00, schema id (4 bytes), Avro."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fastavro

from hub.contract.library import SchemaFile, default_folder, library_faults, read_library
from hub.contract.shape import Check, checker
from hub.errors import ConfigError, Poison
from hub.topics import RECORD_CAP_BYTES

_HEADER_BYTES: Final = 5
_MAGIC: Final = b"\x00"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record in the newest version of its schema; `name` is the schema's full name.

    Times are aware datetimes in UTC, dates are dates, bytes are bytes, enums are text.
    """

    name: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Writer:
    """The newest version of a schema: what is written, and what older versions are read as."""

    header: bytes
    schema: Any
    version: int
    check: Check


@dataclass(frozen=True, slots=True)
class _Stored:
    """A version that may stand in the log; `resolve_to` is None where it is the newest."""

    name: str
    schema: Any
    resolve_to: Any


class Contract:
    """Every schema of a folder, parsed once. Safe to share between threads."""

    def __init__(self, writers: dict[str, _Writer], stored: dict[int, _Stored]) -> None:
        self._writers = writers
        self._stored = stored

    @classmethod
    def load(cls, schemas: Path | None = None) -> "Contract":
        """Read `schemas` (default: beside the package). Raises ConfigError listing every fault."""
        folder = schemas or default_folder()
        library = read_library(folder)
        faults = library_faults(library, folder)
        if faults:
            raise ConfigError("schemas cannot be used:\n" + "\n".join(map(str, faults)))
        ids = {line.mark: line.id for line in library.lines}
        newest: dict[str, SchemaFile] = {}
        for file in sorted(library.files, key=lambda file: file.version):
            newest[file.name] = file
        writers = {name: _writer(file, ids[file.mark]) for name, file in newest.items()}
        stored = {ids[file.mark]: _stored(file, writers[file.name]) for file in library.files}
        return cls(writers, stored)

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """`record` in the newest version of schema `name`.

        A field with a default may be absent. Raises Poison naming the field, never its value.
        """
        writer = self._writers.get(name)
        if writer is None:
            raise Poison(f"no schema {name!r}; see schemas/README.md")
        value = dict(record)
        wrong = writer.check(value)
        if wrong is not None:
            raise Poison(f"{name}{wrong}")
        out = io.BytesIO()
        out.write(writer.header)
        try:
            fastavro.schemaless_writer(out, writer.schema, value)
        except Exception as bad:  # noqa: BLE001 - its text may hold the value: only its kind goes on
            raise Poison(f"{name}: cannot be encoded ({type(bad).__name__})") from None
        if out.tell() > RECORD_CAP_BYTES:
            raise Poison(f"{name}: {out.tell()} bytes, more than {RECORD_CAP_BYTES}")
        return out.getvalue()

    def decode(self, data: bytes, *expected: str) -> Decoded:
        """The record in `data`; `expected` are the schemas allowed, none given: any.

        Raises Poison, and nothing else, for any bytes whatsoever: too long, no schema of ours, a
        schema not expected, cut off, something behind the end, values that make no sense.
        """
        stored = self._schema_of(data)
        if expected and stored.name not in expected:
            raise Poison(f"{stored.name} where {' or '.join(expected)} is expected")
        source = io.BytesIO(data)
        source.seek(_HEADER_BYTES)
        try:
            record: Any = fastavro.schemaless_reader(source, stored.schema, stored.resolve_to)
        except Exception as bad:  # noqa: BLE001 - whatever it is, these bytes are at fault
            raise Poison(f"{stored.name}: cannot be decoded ({type(bad).__name__})") from None
        behind = len(data) - source.tell()
        if behind:
            raise Poison(f"{stored.name}: {behind} bytes behind the end of the record")
        return Decoded(stored.name, record)

    def body_schema(self, name: str) -> str:
        """`<name>.v<N>` of the version that `encode` writes, as it stands in the envelope."""
        if name not in self._writers:
            raise Poison(f"no schema {name!r}; see schemas/README.md")
        return f"{name}.v{self._writers[name].version}"

    def _schema_of(self, data: bytes) -> _Stored:
        if not isinstance(data, bytes):
            # A Kafka record without a value gives None.
            raise Poison(f"no bytes but {type(data).__name__}")
        if len(data) > RECORD_CAP_BYTES:
            raise Poison(f"{len(data)} bytes, more than {RECORD_CAP_BYTES}")
        if len(data) < _HEADER_BYTES or data[:1] != _MAGIC:
            raise Poison("does not begin with 0x00 and a schema id")
        schema_id = int.from_bytes(data[1:_HEADER_BYTES], "big")
        stored = self._stored.get(schema_id)
        if stored is None:
            raise Poison(f"schema id {schema_id} is not in schemas/ids.lock")
        return stored


def _writer(file: SchemaFile, schema_id: int) -> _Writer:
    header = _MAGIC + schema_id.to_bytes(4, "big")
    schema = fastavro.parse_schema(json.loads(file.text), named_schemas={})
    return _Writer(header, schema, file.version, checker(file.record))


def _stored(file: SchemaFile, newest: _Writer) -> _Stored:
    if file.version == newest.version:
        return _Stored(file.name, newest.schema, None)
    schema = fastavro.parse_schema(json.loads(file.text), named_schemas={})
    return _Stored(file.name, schema, newest.schema)
