"""Admissions commit in groups, so that throughput is not one fsync each."""

import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from bench import Comparison, compare
from hub.store import Store

_ROWS = 1_000
_METADATA = sa.MetaData()
_TABLE = sa.Table(
    "bench", _METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.String)
)


def _rate(store: Store, at_once: int, first: int) -> float:
    """Insert rows with at most `at_once` waiting for their commit; rows per second."""
    started = time.perf_counter()
    waiting = []
    for number in range(first, first + _ROWS):
        row = {"id": number, "body": "x" * 600}
        waiting.append(store.write(lambda c, row=row: c.execute(sa.insert(_TABLE).values(row))))
        if len(waiting) == at_once:
            for future in waiting:
                future.result()
            waiting.clear()
    for future in waiting:
        future.result()
    return _ROWS / (time.perf_counter() - started)


def run(rounds: int) -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'bench.db'}", _METADATA)
        taken = iter(range(0, 10_000_000, _ROWS))
        try:
            return compare(
                "SQLite, full sync: rows of 600 bytes made durable",
                {
                    "one by one (baseline)": lambda: _rate(store, 1, next(taken)),
                    "20 requests at once": lambda: _rate(store, 20, next(taken)),
                    "200 requests at once": lambda: _rate(store, 200, next(taken)),
                },
                rounds,
            )
        finally:
            store.close()
