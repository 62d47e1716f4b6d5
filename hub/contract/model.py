"""A schema as the hub reads it: the part of Avro that we allow, as plain values.

Records, enums, arrays, `["null", X]` and primitives; no maps, no other unions, no recursion. Every
value takes at least one byte on the wire, so what a message can make us hold is bounded by its
length. `hub.contract.lint` makes these from the text of a schema and refuses all else.
"""

from dataclasses import dataclass
from typing import Any, Final

NO_DEFAULT: Final = object()


@dataclass(frozen=True, slots=True)
class Plain:
    """A primitive, with its logical type; precision and scale belong to `decimal` only."""

    name: str
    logical: str | None = None
    precision: int | None = None
    scale: int | None = None


@dataclass(frozen=True, slots=True)
class Enum:
    """`default` is what a reader sees of a symbol that it does not know."""

    name: str
    symbols: tuple[str, ...]
    default: str | None


@dataclass(frozen=True, slots=True)
class Array:
    items: "Type"


@dataclass(frozen=True, slots=True)
class Optional:
    """`["null", X]`."""

    of: "Type"


@dataclass(frozen=True, slots=True)
class Field:
    """`pii` is the kind of personal data, None where the field holds none."""

    name: str
    type: "Type"
    default: Any
    pii: str | None


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    fields: tuple[Field, ...]


Type = Plain | Enum | Array | Optional | Record
