"""The route table: dated rows, only ever appended. Pure.

Which rows count at a moment is itself recorded: `version_at` goes into each envelope at admission,
and routing finds the same rows again by it. So neither a later row nor one that is dated back
changes where an admitted request goes, however often it is replayed.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

from hub.topics import QueueName

EVERY_MUNICIPALITY: Final = "*"


@dataclass(frozen=True, slots=True)
class Route:
    """A row. `handler` is GMxxxx or `*`; `destination` a queue of the handler. Times carry a zone.

    `line` is where the row begins in the file; it is no part of what the row says.
    """

    service: str
    handler: str
    destination: str
    valid_from: datetime
    recorded_at: datetime
    line: int = field(default=0, compare=False)

    def queue(self, handler: str) -> QueueName:
        """The queue that a request of `handler` goes to by this row."""
        return QueueName(handler, self.destination)

    def canonical(self) -> bytes:
        """What the row says, as bytes: equal for equal rows, however they are written."""
        moments = (t.astimezone(UTC).isoformat() for t in (self.valid_from, self.recorded_at))
        return json.dumps([self.service, self.handler, self.destination, *moments]).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class _Counting:
    """The rows that count at some moment."""

    rows: tuple[Route, ...]
    version: str
    best: Mapping[tuple[str, str], Route]

    @classmethod
    def of(cls, rows: Sequence[Route]) -> "_Counting":
        digest = sha256()
        best: dict[tuple[str, str], Route] = {}
        for row in rows:
            digest.update(row.canonical())
            key = (row.service, row.handler)
            if key not in best or best[key].valid_from <= row.valid_from:
                best[key] = row
        return cls(tuple(rows), digest.hexdigest(), best)

    def choose(self, service: str, handler: str) -> Route | None:
        return self.best.get((service, handler)) or self.best.get((service, EVERY_MUNICIPALITY))


class RouteTable:
    """Rows in the order of the file. Immutable; threads may share it."""

    def __init__(self, rows: Iterable[Route]) -> None:
        self.rows: Final[tuple[Route, ...]] = tuple(rows)
        # From one of these moments to the next the same rows count.
        self._moments = sorted({row.valid_from for row in self.rows})
        self._counting = lru_cache(maxsize=None)(self._counting_since)
        self._recalled = lru_cache(maxsize=1024)(self._recall)

    def choose(self, service: str, handler: str, at: datetime) -> Route | None:
        """The row that counts at `at`: the one valid last, of equals the one further down.

        A row for this handler goes before one for `*`, whatever their dates. None: no route.
        """
        return self._counting(bisect_right(self._moments, at)).choose(service, handler)

    def version_at(self, at: datetime) -> str:
        """sha256 (hex) of the rows that count at `at`."""
        return self._counting(bisect_right(self._moments, at)).version

    def recall(self, version: str, service: str, handler: str, at: datetime) -> Route | None:
        """What `choose` said at `at`, by the table whose version was `version` then.

        Raises LookupError if this table never had that version at `at`.
        """
        return self._recalled(version, bisect_right(self._moments, at)).choose(service, handler)

    def _counting_since(self, interval: int) -> _Counting:
        begun = set(self._moments[:interval])
        return _Counting.of([row for row in self.rows if row.valid_from in begun])

    def _recall(self, version: str, interval: int) -> _Counting:
        now = self._counting(interval)
        if now.version == version:
            return now
        # Rows are appended only: what counted then are the first so many of what counts now.
        digest = sha256()
        for count, row in enumerate(now.rows):
            if digest.hexdigest() == version:
                return _Counting.of(now.rows[:count])
            digest.update(row.canonical())
        raise LookupError(version)
