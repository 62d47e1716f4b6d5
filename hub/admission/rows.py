"""Tables of admission, in the database of the key store: one transaction covers both.

A row of `admissions` lives as long as the status it answers for, at least 400 days. It holds
nothing readable of a person: HMACs, ids, and until Kafka has acked them the sealed bytes.
"""

from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from hub.keys import METADATA
from hub.store import UtcTime, insert_ignore, upsert


class AdmissionState(StrEnum):
    """`pending`: durable here, perhaps not in Kafka. `accepted`: Kafka has acked it."""

    PENDING = "pending"
    ACCEPTED = "accepted"


admissions: Final = sa.Table(
    "admissions",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("reference", sa.String(40), nullable=False, unique=True),
    sa.Column("origin", sa.String(6), nullable=False),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("key_mark", sa.LargeBinary(32), nullable=False),
    sa.Column("body_mark", sa.LargeBinary(32)),
    sa.Column("municipality_code", sa.String(6), nullable=False),
    sa.Column("service", sa.String(64), nullable=False),
    sa.Column("subject_ref", sa.String(36), nullable=False, index=True),
    sa.Column("admitted_at", UtcTime, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.UniqueConstraint("origin", "client", "key_mark"),
)
_IS_PENDING: Final = admissions.c.state == AdmissionState.PENDING.value
# Built once: building costs more than running.
_BY_KEY: Final = sa.select(admissions).where(
    admissions.c.origin == sa.bindparam("origin"),
    admissions.c.client == sa.bindparam("client"),
    admissions.c.key_mark == sa.bindparam("key_mark"),
)
_BY_REFERENCE: Final = sa.select(admissions).where(
    admissions.c.reference == sa.bindparam("reference")
)
_ACCEPT: Final = (
    sa.update(admissions)
    .where(admissions.c.id == sa.bindparam("event_id"))
    .values(state=AdmissionState.ACCEPTED.value, sealed=None)
)
sa.Index(
    "admissions_pending",
    admissions.c.admitted_at,
    sqlite_where=sa.text("state = 'pending'"),
    postgresql_where=sa.text("state = 'pending'"),
)

leases: Final = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(64), nullable=False),
    sa.Column("until", UtcTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class AdmissionRow:
    """What admission knows of a request.

    `key_mark` and `body_mark` are HMACs of the idempotency key and of the body; the second goes
    when the subject is erased. `sealed` is the encoded envelope, until the row is `accepted`.
    """

    id: str
    reference: str
    origin: str
    client: str
    municipality_code: str
    service: str
    subject_ref: str
    admitted_at: datetime
    state: AdmissionState
    key_mark: bytes = field(repr=False)
    body_mark: bytes | None = field(repr=False)
    sealed: bytes | None = field(repr=False)


def find_by_key(
    connection: Connection, origin: str, client: str, key_mark: bytes
) -> AdmissionRow | None:
    key = {"origin": origin, "client": client, "key_mark": key_mark}
    return _one(connection.execute(_BY_KEY, key))


def find_by_reference(connection: Connection, reference: str) -> AdmissionRow | None:
    """`reference` without dashes."""
    return _one(connection.execute(_BY_REFERENCE, {"reference": reference}))


def insert(connection: Connection, row: AdmissionRow) -> bool:
    """False if another process has put a row for this key there."""
    return insert_ignore(connection, admissions, {f.name: getattr(row, f.name) for f in _FIELDS})


def accept(connection: Connection, event_id: str) -> None:
    """Kafka has it: the sealed bytes go, so erasing a person leaves no copy here."""
    connection.execute(_ACCEPT, {"event_id": event_id})


def forget(connection: Connection, tenant: str, subject_ref: str) -> None:
    """Drop what a guess at a body could be tried on. What is pending still goes, unreadable."""
    connection.execute(
        sa.update(admissions)
        .where(
            (admissions.c.municipality_code == tenant) & (admissions.c.subject_ref == subject_ref)
        )
        .values(body_mark=None)
    )


def pending_since(connection: Connection, moment: datetime, limit: int) -> list[AdmissionRow]:
    """Rows that were admitted before `moment` and are still pending, oldest first."""
    found = connection.execute(
        sa.select(admissions)
        .where(_IS_PENDING, admissions.c.admitted_at < moment)
        .order_by(admissions.c.admitted_at)
        .limit(limit)
    )
    return [_row(row) for row in found]


def take_lease(
    connection: Connection, name: str, holder: str, now: datetime, until: datetime
) -> bool:
    """Hold `name` until `until` unless another holder's lease still runs. Wall clocks."""
    mine = sa.select(leases).where(leases.c.name == name).with_for_update()
    held = connection.execute(mine).first()
    if held is not None and held.holder != holder and held.until > now:
        return False
    upsert(connection, leases, {"name": name, "holder": holder, "until": until}, ["name"])
    return True


_FIELDS: Final = fields(AdmissionRow)


def _one(found: sa.CursorResult[Any]) -> AdmissionRow | None:
    row = found.first()
    return _row(row) if row is not None else None


def _row(row: Row[Any]) -> AdmissionRow:
    values = {f.name: getattr(row, f.name) for f in _FIELDS}
    return AdmissionRow(**values | {"state": AdmissionState(row.state)})
