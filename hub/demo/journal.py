"""What one demo back-office wrote down: every arrival, and every decision in its order.

SQLite in WAL mode with `synchronous=NORMAL`: a commit survives SIGKILL of the process, which is
the fault that the demo plants; it does not promise to survive power loss.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

APPLIED: Final = "applied"
REJECTED: Final = "rejected"

_TABLES: Final = """
create table if not exists arrivals (
    seq integer primary key autoincrement,
    at real not null,
    destination text not null,
    reference text not null,
    key text not null,
    lane text not null,
    answer integer
);
create index if not exists arrivals_of_reference on arrivals (reference);
create table if not exists decisions (
    seq integer primary key autoincrement,
    at real not null,
    destination text not null,
    reference text not null,
    key text not null,
    lane text not null,
    lane_seq integer not null,
    verdict text not null
);
create index if not exists decisions_of_key on decisions (destination, key);
create index if not exists decisions_of_lane on decisions (destination, lane);
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that came in, whatever became of it; `answer` None: none was given."""

    destination: str
    reference: str
    key: str
    lane: str
    at: float = 0.0
    answer: int | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """An effect: applied, or finally refused. `seq` counts the back-office, `lane_seq` the lane."""

    destination: str
    reference: str
    key: str
    lane: str
    verdict: str
    seq: int
    lane_seq: int = 0
    at: float = 0.0


class Journal:
    """The writing side, owned by the back-office. Every call is a transaction."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute("pragma synchronous=normal")
        self._connection.executescript(_TABLES)

    def arrived(self, arrival: Arrival) -> int:
        """Write the arrival down before anything is done with it. Returns its number."""
        row = self._connection.execute(
            "insert into arrivals (at, destination, reference, key, lane) values (?, ?, ?, ?, ?)",
            (time.time(), arrival.destination, arrival.reference, arrival.key, arrival.lane),
        )
        return int(row.lastrowid or 0)

    def answered(self, seq: int, status: int) -> None:
        self._connection.execute("update arrivals set answer = ? where seq = ?", (status, seq))

    def decided(self, destination: str, key: str) -> str | None:
        """The verdict already given under this Idempotency-Key, if any."""
        row = self._connection.execute(
            "select verdict from decisions where destination = ? and key = ? limit 1",
            (destination, key),
        ).fetchone()
        return str(row[0]) if row else None

    def decide(self, arrival: Arrival, verdict: str) -> None:
        """Take effect: one row, with the next number of the back-office and of the lane."""
        self._connection.execute(
            """
            insert into decisions (at, destination, reference, key, lane, lane_seq, verdict)
            values (?, ?, ?, ?, ?,
                (select count(*) + 1 from decisions where destination = ? and lane = ?), ?)
            """,
            (
                time.time(),
                arrival.destination,
                arrival.reference,
                arrival.key,
                arrival.lane,
                arrival.destination,
                arrival.lane,
                verdict,
            ),
        )

    def close(self) -> None:
        self._connection.close()


class JournalReader:
    """The harness's side: reads on from where it was, also after the back-office was killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decision = 0
        self._arrival = 0

    def decisions(self) -> list[Decision]:
        """Decisions written since the last call, in their order."""
        rows = self._rows(
            "select destination, reference, key, lane, verdict, seq, lane_seq, at"
            " from decisions where seq > ? order by seq",
            self._decision,
        )
        found = [Decision(*row) for row in rows]
        self._decision = found[-1].seq if found else self._decision
        return found

    def arrivals(self) -> list[Arrival]:
        """Arrivals written since the last call, in their order."""
        rows = self._rows(
            "select destination, reference, key, lane, at, answer, seq"
            " from arrivals where seq > ? order by seq",
            self._arrival,
        )
        found = [Arrival(*row) for row in rows]
        self._arrival = found[-1].seq if found else self._arrival
        return found

    def _rows(self, query: str, after: int) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        with closing(sqlite3.connect(self._path, timeout=10)) as connection:
            return connection.execute(query, (after,)).fetchall()


def count_by_reference(arrivals: Iterable[Arrival]) -> Counter[str]:
    """How often each reference arrived."""
    return Counter(arrival.reference for arrival in arrivals)
