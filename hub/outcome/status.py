"""The read model of `outcomes`: one row per record id, in status.db."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from hub.outcome.record import Outcome, latest_of_each
from hub.store import Store, UtcTime, upsert

METADATA = sa.MetaData()

_OUTCOMES = sa.Table(
    "outcomes",
    METADATA,
    sa.Column("record_id", sa.String(36), primary_key=True),
    sa.Column("event_id", sa.String(36), nullable=False, index=True),
    sa.Column("reference", sa.String(40), nullable=False, index=True),
    sa.Column("origin", sa.String(6), nullable=False),
    sa.Column("municipality_code", sa.String(6), nullable=False),
    sa.Column("service", sa.String(64), nullable=False),
    sa.Column("subject_ref", sa.String(36), nullable=False),
    sa.Column("destination", sa.String(80)),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("reason", sa.String(16)),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("text", sa.String(200), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("destinations", sa.JSON, nullable=False),
    sa.Column("traceparent", sa.String(64), nullable=False),
)


class StatusStore:
    """Outcomes by event id or reference. Erasure leaves them: nothing in them is personal."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def project(self, outcomes: Sequence[Outcome]) -> None:
        """Write `outcomes` in one transaction; back once durable. Any repeat is harmless.

        Raises StoreAway: nothing is known to be written, project them again.
        """
        self._store.write(lambda connection: _write(connection, outcomes)).result()

    async def aproject(self, outcomes: Sequence[Outcome]) -> None:
        """As `project`."""
        await self._store.awrite(lambda connection: _write(connection, outcomes))

    def steps(self, key: str) -> list[Outcome]:
        """Outcomes of an event id, or of a reference without dashes; oldest first."""
        return self._store.read(lambda connection: _read(connection, key))

    async def asteps(self, key: str) -> list[Outcome]:
        """As `steps`."""
        return await self._store.aread(lambda connection: _read(connection, key))


def _write(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    given = latest_of_each(outcomes)
    stored = connection.execute(sa.select(_OUTCOMES).where(_OUTCOMES.c.record_id.in_(list(given))))
    # A repeat that arrives late must not overwrite a younger one. Read then write is safe: all
    # outcomes of a request lie in one partition, which one process projects.
    merged = latest_of_each([*given.values(), *map(_from_row, stored)])
    upsert(connection, _OUTCOMES, [_to_row(o) for o in merged.values()], ["record_id"])


def _read(connection: Connection, key: str) -> list[Outcome]:
    found = connection.execute(
        sa.select(_OUTCOMES)
        .where(sa.or_(_OUTCOMES.c.event_id == key, _OUTCOMES.c.reference == key))
        .order_by(_OUTCOMES.c.time, _OUTCOMES.c.record_id)
    )
    return [_from_row(row) for row in found]


def _to_row(outcome: Outcome) -> dict[str, Any]:
    return outcome.to_record()


def _from_row(row: Row[Any]) -> Outcome:
    return Outcome.from_record({f.name: getattr(row, f.name) for f in fields(Outcome)})
