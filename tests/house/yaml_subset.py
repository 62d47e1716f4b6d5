"""Reads the YAML that docker-compose.yml needs, strictly: what is not understood is an error.

Block mappings and lists, one-line lists, quoted and plain scalars (all as text), comments, anchors
on mappings, and merges of them. No YAML library is among our dependencies, for one file.
"""

import json
import re
from typing import Any, Final

_KEY: Final = re.compile(r"(?P<key>[A-Za-z_<][\w<.-]*):(?: +(?P<rest>\S.*))?")
_NODE: Final = re.compile(r"(?:&(?P<anchor>[\w-]+))?(?: *(?P<value>\S.*))?")


class Unreadable(ValueError):
    """Line number and what is wrong with it."""


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines: list[tuple[int, int, str]] = []
        self._at = 0
        self._anchors: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            bare = line.strip()
            if bare and not bare.startswith("#"):
                if "\t" in line:
                    raise Unreadable(f"line {number}: a tab")
                self._lines.append((number, len(line) - len(bare), bare))

    def document(self) -> dict[str, Any]:
        found = self._block(0)
        if self._at < len(self._lines) or not isinstance(found, dict):
            number = self._lines[self._at][0] if self._at < len(self._lines) else 1
            raise Unreadable(f"line {number}: this does not belong here")
        return found

    def _block(self, indent: int) -> Any:
        if self._lines[self._at][2].startswith("- "):
            return self._list(indent)
        return self._mapping(indent)

    def _list(self, indent: int) -> list[Any]:
        found: list[Any] = []
        while self._at < len(self._lines) and self._lines[self._at][1] == indent:
            number, _, line = self._lines[self._at]
            if not line.startswith("- "):
                raise Unreadable(f"line {number}: not an element of the list above")
            self._at += 1
            found.append(_scalar(line[2:].strip(), number))
        return found

    def _mapping(self, indent: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while self._at < len(self._lines) and self._lines[self._at][1] == indent:
            number, _, line = self._lines[self._at]
            match = _KEY.fullmatch(line)
            if match is None:
                raise Unreadable(f"line {number}: not `key: value`")
            self._at += 1
            if match["key"] == "<<":
                merged |= self._merged(match["rest"] or "", number)
            elif match["key"] in found:
                raise Unreadable(f"line {number}: {match['key']} stands here twice")
            else:
                found[match["key"]] = self._value(match["rest"] or "", indent, number)
        return merged | found

    def _merged(self, name: str, number: int) -> dict[str, Any]:
        if name.removeprefix("*") not in self._anchors:
            raise Unreadable(f"line {number}: no anchor {name}")
        return self._anchors[name.removeprefix("*")]

    def _value(self, rest: str, indent: int, number: int) -> Any:
        match = _NODE.fullmatch(rest)
        assert match
        if match["value"]:
            if match["anchor"]:
                raise Unreadable(f"line {number}: an anchor on a value; only mappings have one")
            return _scalar(match["value"], number)
        deeper = self._at < len(self._lines) and self._lines[self._at][1] > indent
        value = self._block(self._lines[self._at][1]) if deeper else None
        if match["anchor"]:
            self._anchors[match["anchor"]] = value
        return value


def _scalar(text: str, number: int) -> Any:
    if text[0] in '"[':
        try:
            return json.loads(text)
        except ValueError:
            raise Unreadable(f"line {number}: quotes or brackets that do not close") from None
    if text[0] in "'{}|>&*!%@`#" or " #" in text or ": " in text:
        raise Unreadable(f"line {number}: more YAML than is read here; write it plainer")
    return text


def read(text: str) -> dict[str, Any]:
    """The document; numbers and booleans stay text. Raises Unreadable with the line."""
    return _Reader(text).document()
