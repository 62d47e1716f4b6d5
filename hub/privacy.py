"""What may never leak: the BSN as a type, and redaction of text that may hold one."""

import re
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

# Ids of ours first, so that they stay whole: by chance one event id in 700 holds nine such digits.
_IDS = (
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}|[0-9a-f]{32}"
    r"|[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(?![0-9A-Za-z])"
)
# Eight digits too (systems that hold it as a number drop the zero), also right behind %20.
_NUMBER = r"(?:(?<![0-9])|(?<=%[0-9A-Fa-f][0-9]))[0-9]{8,9}(?![0-9])"
_ID_OR_NUMBER = re.compile(f"(?P<id>{_IDS})|{_NUMBER}")


def passes_eleven_test(digits: str) -> bool:
    """The 11-test of BSN and RSIN: nine digits, not all zero, 9a+8b+...+2h-1i divisible by 11."""
    if len(digits) != 9 or not digits.isascii() or not digits.isdigit() or digits == "000000000":
        return False
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    return sum(w * int(d) for w, d in zip(weights, digits, strict=True)) % 11 == 0


class Bsn:
    """A burgerservicenummer. `str` and `repr` are masked; `reveal()` is the one way to read it."""

    __slots__ = ("_digits",)

    def __init__(self, digits: str) -> None:
        padded = digits.zfill(9) if len(digits) == 8 else digits
        if not passes_eleven_test(padded):
            raise ValueError("not a valid BSN (nine digits that pass the 11-test)")
        self._digits = padded

    def reveal(self) -> str:
        return self._digits

    def __repr__(self) -> str:
        return "Bsn(*********)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bsn) and other._digits == self._digits

    def __hash__(self) -> int:
        return hash(self._digits)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(min_length=8, max_length=9, pattern=r"^\d+$"),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda b: b.reveal()),
        )


def redact(text: str) -> str:
    """`text` with every number that could be a BSN masked. For text that others wrote.

    Not found: a BSN with blanks or dots between its digits, or inside a longer number.
    """
    return _ID_OR_NUMBER.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    if found["id"] is not None or not passes_eleven_test(found[0].zfill(9)):
        return found[0]
    return "*" * 9
