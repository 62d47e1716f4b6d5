"""Checks a record before it is encoded, and names the field that does not fit, never its value.

fastavro alone is too kind: it writes True as a number, reads a time without zone as local time, and
its error texts repeat the value. One checker per schema, made once; about 5 us for an envelope.
"""

import math
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from hub.contract.model import NO_DEFAULT, Array, Enum, Optional, Plain, Record, Type

Check = Callable[[Any], str | None]
"""None, or what is wrong as `.<path>: <expectation>`."""

_WORD: Final = re.compile(r"[a-z][a-z_]{0,39}")
_INT: Final = 1 << 31
_LONG: Final = 1 << 63


def checker(of: Type) -> Check:
    """A checker for values of `of`."""
    if isinstance(of, Record):
        return _record(of)
    if isinstance(of, Array):
        return _array(checker(of.items))
    if isinstance(of, Optional):
        inner = checker(of.of)
        return lambda value: None if value is None else inner(value)
    if isinstance(of, Enum):
        return _enum(frozenset(of.symbols))
    return _PLAIN[of.logical or of.name](of)


def _record(of: Record) -> Check:
    fields = [(f.name, checker(f.type), f.default is NO_DEFAULT) for f in of.fields]
    names = frozenset(f.name for f in of.fields)

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return ": expected a record"
        for name, inner, required in fields:
            if name in value:
                wrong = inner(value[name])
                if wrong is not None:
                    return f".{name}{wrong}"
            elif required:
                return f".{name}: missing"
        if not names.issuperset(value):
            return _unknown(value, names)
        return None

    return check


def _unknown(value: dict[Any, Any], names: frozenset[str]) -> str:
    """A key is shown only if it looks like a field's name: it could be data."""
    first = next(key for key in value if key not in names)
    shown = first if isinstance(first, str) and _WORD.fullmatch(first) else "?"
    return f".{shown}: unknown field"


def _array(inner: Check) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, list | tuple):
            return ": expected a list"
        for place, item in enumerate(value):
            wrong = inner(item)
            if wrong is not None:
                return f"[{place}]{wrong}"
        return None

    return check


def _enum(symbols: frozenset[str]) -> Check:
    known = ", ".join(sorted(symbols))

    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and value in symbols else f": expected one of {known}"

    return check


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return ": expected text"
    # A lone surrogate has no UTF-8, and the codec's own error would repeat the whole text.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return ": expected text without lone surrogates"
    return None


def _whole(limit: int) -> Check:
    def check(value: Any) -> str | None:
        if type(value) is int and -limit <= value < limit:
            return None
        return f": expected a whole number of {limit.bit_length()} bits"

    return check


def _fraction(value: Any) -> str | None:
    return None if type(value) is float and math.isfinite(value) else ": expected a fraction"


def _truth(value: Any) -> str | None:
    return None if isinstance(value, bool) else ": expected true or false"


def _bytes(value: Any) -> str | None:
    return None if isinstance(value, bytes) else ": expected bytes"


def _date(value: Any) -> str | None:
    return None if type(value) is date else ": expected a date"


def _moment(value: Any) -> str | None:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return None
    return ": expected a time with its zone"


def _decimal(of: Plain) -> Check:
    precision, scale = of.precision or 0, of.scale or 0

    def check(value: Any) -> str | None:
        if not isinstance(value, Decimal) or not value.is_finite():
            return ": expected a decimal"
        _, digits, exponent = value.as_tuple()
        places = int(exponent)
        if -places <= scale and len(digits) + places + scale <= precision:
            return None
        return f": expected a decimal of {precision} digits, {scale} after the point"

    return check


_PLAIN: Final[dict[str, Callable[[Plain], Check]]] = {
    "string": lambda _: _text,
    "bytes": lambda _: _bytes,
    "boolean": lambda _: _truth,
    "int": lambda _: _whole(_INT),
    "long": lambda _: _whole(_LONG),
    "double": lambda _: _fraction,
    "date": lambda _: _date,
    "timestamp-millis": lambda _: _moment,
    "timestamp-micros": lambda _: _moment,
    "decimal": _decimal,
}
