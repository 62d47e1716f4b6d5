"""Lines of keys and tables in TOML text that is known to be valid: for error messages only."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

Path = tuple[str | int, ...]

_KEY: Final = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'[^']*'")


class Lines:
    """Where in a text a path such as `("route", 2, "handler")` stands. Lines count from 1.

    Keys of inline tables are not looked for: their line is that of the key they belong to.
    """

    def __init__(self, text: str) -> None:
        self._found: dict[Path, int] = {}
        self._arrays: Counter[Path] = Counter()
        self._table: Path = ()
        self._until: str | None = None
        """Delimiter of the multi-line string that is open."""
        self._depth = 0
        """Brackets of the array or inline table that are open."""
        for number, line in enumerate(text.splitlines(), start=1):
            self._take(line, number)

    def of(self, path: Sequence[str | int]) -> int:
        """Line of `path`, else of the nearest thing around it, else 1.

        Parts that the text does not have are passed over: pydantic puts the tag of a union there.
        """
        known: Path = ()
        for part in path:
            if (*known, part) in self._found:
                known = (*known, part)
        return self._found.get(known, 1)

    def _take(self, line: str, number: int) -> None:
        bare = line.strip()
        if self._until or self._depth:
            self._skip_value(line)
        elif bare.startswith("[["):
            path = self._inside_arrays(_keys(bare[2:]))
            self._table = (*path, self._arrays[path])
            self._arrays[path] += 1
            self._note(self._table, number)
        elif bare.startswith("["):
            self._table = self._inside_arrays(_keys(bare[1:]))
            self._note(self._table, number)
        elif bare and not bare.startswith("#"):
            keys, value = _key_and_value(line)
            self._note((*self._table, *keys), number)
            self._skip_value(value)

    def _inside_arrays(self, keys: tuple[str, ...]) -> Path:
        """`keys` with the number of the last table put behind each array of tables on the way."""
        path: Path = ()
        for place, key in enumerate(keys, start=1):
            path = (*path, key)
            if path in self._arrays and place < len(keys):
                path = (*path, self._arrays[path] - 1)
        return path

    def _note(self, path: Path, number: int) -> None:
        for length in range(1, len(path) + 1):
            self._found.setdefault(path[:length], number)

    def _skip_value(self, text: str) -> None:
        """Go through (the rest of) a value on one line; remember what stays open."""
        place = 0
        while place < len(text):
            if self._until:
                place = self._skip_long_string(text, place)
            elif text.startswith(('"""', "'''"), place):
                self._until = text[place : place + 3]
                place += 3
            elif string := _STRING.match(text, place):
                place = string.end()
            elif text[place] == "#":
                return
            else:
                self._depth += (text[place] in "[{") - (text[place] in "]}")
                place += 1

    def _skip_long_string(self, text: str, place: int) -> int:
        assert self._until is not None
        if text[place] == "\\" and self._until == '"""':
            return place + 2
        if not text.startswith(self._until, place):
            return place + 1
        place += 3
        # Up to two quotes may stand right before the closing three.
        while text[place : place + 1] == self._until[0]:
            place += 1
        self._until = None
        return place


def _keys(text: str) -> tuple[str, ...]:
    """The dotted keys at the start of `text`."""
    return _key_and_value(text)[0]


def _key_and_value(text: str) -> tuple[tuple[str, ...], str]:
    keys: list[str] = []
    place = 0
    while found := _KEY.match(text, place):
        keys.append(next(group for group in found.groups() if group is not None))
        place = found.end()
        if text[place : place + 1] != ".":
            break
        place += 1
    return tuple(keys), text[place + 1 :]
