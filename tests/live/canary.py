"""Looks for tokens that must never be in clear, in every shape a leak could have.

The search is one pass of each place for all patterns together: their first six bytes are hashed
into a table, and only where that hits is compared in full. So thousands of tokens in hundreds of
megabytes cost seconds, and no token needs to be left out to keep the test short.
"""

import base64
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_HEAD = 6
"""Bytes of a pattern that are hashed; the shortest shape of a token of six characters."""
_MASK = np.uint64((1 << 8 * _HEAD) - 1)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 24
# Their groups have fixed lengths, so digits that stand beside one are never taken for a part of it.
_ID = re.compile(
    rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
)
_LONGEST_ID = 55
_SHIFT = np.uint64(64 - _TABLE_BITS)


def shapes(token: str) -> dict[str, bytes]:
    """`token` as bytes in each encoding: plain, UTF-16, hex, base64 in its three alignments.

    Of base64 only the characters that depend on the token alone are kept, so that it is found
    whatever stands before and behind it.
    """
    raw = token.encode()
    found = {
        "plain": raw,
        "utf-16-le": token.encode("utf-16-le"),
        "utf-16-be": token.encode("utf-16-be"),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
    }
    for shift in range(3):
        whole = (len(raw) + shift) * 8 // 6
        for name, encode in (
            ("base64", base64.standard_b64encode),
            ("base64url", base64.urlsafe_b64encode),
        ):
            text = encode(b"\0" * shift + raw)
            found[f"{name}+{shift}"] = text[-(-shift * 8 // 6) : whole]
    return found


def leaks(token: str) -> dict[str, bytes]:
    """How `token` would stand in a leak, by the name of the shape; not made from `shapes`."""
    text = f"burger={token};"
    found = {
        "plain": text.encode(),
        "utf-16-le": text.encode("utf-16-le"),
        "utf-16-be": text.encode("utf-16-be"),
        "hex": text.encode().hex().encode(),
        "HEX": text.encode().hex().upper().encode(),
    }
    for before in range(3):
        whole = ("burger:"[before:] + token + "}").encode()
        found[f"base64, {7 - before} before"] = base64.b64encode(whole)
        found[f"base64url, {7 - before} before"] = base64.urlsafe_b64encode(whole)
    return found


def number_shapes(number: float) -> dict[str, bytes]:
    """A double: its shortest text in each encoding, and its eight bytes in both orders."""
    return shapes(repr(number)) | {
        "double-le": struct.pack("<d", number),
        "double-be": struct.pack(">d", number),
    }


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A token in clear. `label` says which field it is of; the token itself is not repeated."""

    place: str
    label: str
    shape: str

    def __str__(self) -> str:
        return f"{self.place}: {self.label} as {self.shape}"


class Search:
    """Finds tokens, each with a label. A float is looked for as text and as a double.

    Digits inside a UUID or a traceparent are no finding: among thousands of random ids some hold
    the eight or nine digits of a token by chance.
    """

    def __init__(self, tokens: Mapping[str | float, str]) -> None:
        self._by_head: dict[bytes, dict[bytes, tuple[str, str]]] = defaultdict(dict)
        for token, label in tokens.items():
            found = number_shapes(token) if isinstance(token, float) else shapes(token)
            for name, pattern in found.items():
                if len(pattern) < _HEAD:
                    raise ValueError(f"{label}: {name} of it is too short to be told from chance")
                # Where two shapes are the same bytes, the first name speaks for both.
                self._by_head[pattern[:_HEAD]].setdefault(pattern, (label, name))
        self._lengths = {
            head: sorted({len(pattern) for pattern in patterns})
            for head, patterns in self._by_head.items()
        }
        heads = b"".join(head + b"\0" * (8 - _HEAD) for head in self._by_head)
        self._table = np.zeros(1 << _TABLE_BITS, dtype=bool)
        self._table[_hashed(np.frombuffer(heads, dtype="<u8"))] = True

    def find(self, places: Iterable[tuple[str, bytes]]) -> list[Finding]:
        """Each place, label and shape once, sorted."""
        return sorted(
            {
                Finding(place, label, shape)
                for place, data in places
                for label, shape in self._within(data)
            }
        )

    def _within(self, data: bytes) -> set[tuple[str, str]]:
        return {self._by_head[pattern[:_HEAD]][pattern] for pattern in set(self._patterns(data))}

    def _patterns(self, data: bytes) -> Iterator[bytes]:
        # Kafka reserves its index files in whole, as zeros; no pattern is longer than 1 kB.
        data = data.rstrip(b"\0") + b"\0" * 1024
        for start in range(8):
            count = (len(data) - start) // 8
            words = np.frombuffer(data, dtype="<u8", count=count, offset=start)
            for hit in np.flatnonzero(self._table[_hashed(words)]):
                at = start + 8 * int(hit)
                head = data[at : at + _HEAD]
                for length in self._lengths.get(head, ()):
                    pattern = data[at : at + length]
                    if pattern in self._by_head[head] and not _within_an_id(data, at, pattern):
                        yield pattern


def _within_an_id(data: bytes, at: int, pattern: bytes) -> bool:
    if not pattern.isdigit():
        return False
    end = at + len(pattern)
    around = _ID.finditer(data, max(0, at - _LONGEST_ID), end + _LONGEST_ID)
    return any(found.start() < end and at < found.end() for found in around)


def _hashed(words: Any) -> Any:
    return ((words & _MASK) * _FACTOR) >> _SHIFT


def files(root: Path, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Every file under `root` with its bytes, except those under a folder of `but`.

    A folder of `but` that is not there is a mistake: then something else was meant, and what was
    meant is searched or, worse, lies elsewhere.
    """
    excluded = [path.resolve(strict=True) for path in but]
    for path in sorted(root.rglob("*")):
        real = path.resolve()
        if not path.is_file() or any(real.is_relative_to(e) for e in excluded):
            continue
        try:
            yield str(path.relative_to(root)), path.read_bytes()
        except FileNotFoundError:
            continue  # A log that is checkpointed or a segment that is deleted ends as we look.
