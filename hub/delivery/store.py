"""What delivery keeps in SQL: parked rows, epochs, operators' commands.

Every write of an owner carries its epoch and is refused with Fenced where the store knows another
(protocol F2): the check and the write are one transaction, so a cut-off owner's late row can never
stand beside its successor's work.

Failure policy: StoreAway means that a write may or may not have happened; each one here can be
repeated as it is.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.delivery.effects import (
    CloseCommand,
    Command,
    CommandKind,
    DeleteRow,
    InsertRow,
    MarkRow,
    ParkReason,
    Row,
)
from hub.errors import Fenced, Refused
from hub.store import Store, UtcTime, insert_ignore, upsert

METADATA = sa.MetaData()

EPOCHS = sa.Table(
    "epochs",
    METADATA,
    sa.Column("queue", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)

PARKED = sa.Table(
    "parked",
    METADATA,
    sa.Column("queue", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("queue_offset", sa.BigInteger, nullable=False),
    sa.Column("lane", sa.Text, nullable=False),
    # None: it only stands behind another (protocol S5).
    sa.Column("reason", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("usable", sa.Boolean, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("reference", sa.Text, nullable=False),
    # The queue record as it was: what is personal in it stays sealed.
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("parked_at", UtcTime, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Index("parked_by_order", "queue", "queue_offset"),
    sa.Index("parked_by_event", "event_id"),
)

COMMANDS = sa.Table(
    "commands",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("asked_by", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("closed_at", UtcTime),
    # "done", or why it was refused.
    sa.Column("result", sa.Text),
    sa.Index("commands_open", "queue", "closed_at"),
    sqlite_autoincrement=True,
)

PROGRESS = sa.Table(
    # Intents of destinations that do not drop repeats by themselves (protocol S1). Configuration
    # takes no such destination yet, so nothing writes here until look-ups exist.
    "progress",
    METADATA,
    sa.Column("queue", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("intent_at", UtcTime, nullable=False),
    sa.Column("closed_at", UtcTime),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)

_DONE = "done"


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """What an operator sees of a parked record; `destination` is `GMxxxx/name`. Never its body."""

    destination: str
    event_id: str
    reference: str
    reason: str | None
    attempt: int
    code: str
    text: str
    status: int | None
    parked_at: datetime


class DeliveryStore:
    """The rows of `delivery.db`, for owners of queues and for operators."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def set_epoch(self, queue: str, epoch: int) -> None:
        """Refuse all older writers from now on. Raises Fenced if a later owner was here."""

        def work(connection: Connection) -> None:
            known = _epoch(connection, queue)
            if known is not None and known > epoch:
                raise Fenced(f"{queue}: epoch {known} has taken over from {epoch}")
            upsert(connection, EPOCHS, {"queue": queue, "epoch": epoch}, ["queue"])

        await self._store.awrite(work)

    async def read_parked(self, queue: str, epoch: int) -> list[Row]:
        """All rows of `queue` in log order. Only after `set_epoch`: then none can be added late."""

        def work(connection: Connection) -> list[Row]:
            _check(connection, queue, epoch)
            columns = (
                PARKED.c.event_id,
                PARKED.c.queue_offset,
                PARKED.c.lane,
                PARKED.c.reason,
                PARKED.c.attempt,
                PARKED.c.usable,
                PARKED.c.code,
            )
            rows = connection.execute(
                sa.select(*columns).where(PARKED.c.queue == queue).order_by(PARKED.c.queue_offset)
            )
            return [Row(r[0], r[1], r[2], ParkReason(r[3]) if r[3] else None, *r[4:]) for r in rows]

        return await self._store.aread(work)

    async def record_of(self, queue: str, event_id: str) -> bytes | None:
        """The queue record of a parked row; None if there is no such row (any more)."""
        query = sa.select(PARKED.c.record).where(
            PARKED.c.queue == queue, PARKED.c.event_id == event_id
        )
        return await self._store.aread(lambda connection: connection.scalar(query))

    async def insert(self, queue: str, asked: InsertRow, record: bytes, reference: str) -> None:
        """A row that is there already stays as it is: it was written before a kill."""
        row = asked.row
        values = {
            "queue": queue,
            "event_id": row.event_id,
            "queue_offset": row.offset,
            "lane": row.lane,
            "reason": row.reason,
            "attempt": row.attempt,
            "usable": row.usable,
            "code": asked.code,
            "text": asked.text,
            "status": asked.status,
            "reference": reference,
            "record": record,
            "parked_at": datetime.now(UTC),
            "epoch": asked.epoch,
        }

        def work(connection: Connection) -> None:
            _check(connection, queue, asked.epoch)
            insert_ignore(connection, PARKED, values)

        await self._store.awrite(work)

    async def delete(self, queue: str, asked: DeleteRow) -> None:
        """Row and commands in one: a command that is closed has had its effect, and once."""

        def work(connection: Connection) -> None:
            _check(connection, queue, asked.epoch)
            connection.execute(
                sa.delete(PARKED).where(
                    PARKED.c.queue == queue, PARKED.c.event_id == asked.event_id
                )
            )
            _close(connection, asked.commands, _DONE)

        await self._store.awrite(work)

    async def mark(self, queue: str, asked: MarkRow) -> None:
        def work(connection: Connection) -> None:
            _check(connection, queue, asked.epoch)
            connection.execute(
                sa.update(PARKED)
                .where(PARKED.c.queue == queue, PARKED.c.event_id == asked.event_id)
                .values(
                    reason=asked.reason,
                    attempt=asked.attempt,
                    code=asked.code,
                    text=asked.text,
                    status=asked.status,
                    epoch=asked.epoch,
                )
            )
            _close(connection, asked.commands, _DONE)

        await self._store.awrite(work)

    async def close_command(self, queue: str, asked: CloseCommand) -> None:
        def work(connection: Connection) -> None:
            _check(connection, queue, asked.epoch)
            _close(connection, (asked.command_id,), asked.refusal or _DONE)

        await self._store.awrite(work)

    async def open_commands(self, queues: Collection[str]) -> dict[str, list[Command]]:
        """Open commands of `queues` by queue, oldest first."""

        def work(connection: Connection) -> dict[str, list[Command]]:
            found: dict[str, list[Command]] = {}
            rows = connection.execute(
                sa.select(COMMANDS.c.queue, COMMANDS.c.id, COMMANDS.c.kind, COMMANDS.c.event_id)
                .where(COMMANDS.c.closed_at.is_(None))
                .order_by(COMMANDS.c.id)
            )
            for queue, number, kind, event_id in rows:
                if queue in queues:
                    command = Command(number, CommandKind(kind), event_id)
                    found.setdefault(queue, []).append(command)
            return found

        return await self._store.aread(work)

    def list_parked(
        self, destination: str | None = None, reference: str | None = None
    ) -> list[ParkedRow]:
        """What waits, in log order per destination; heads of lanes have a reason."""
        query = sa.select(
            PARKED.c.queue,
            *(PARKED.c[n] for n in ("event_id", "reference", "reason", "attempt", "code")),
            *(PARKED.c[n] for n in ("text", "status", "parked_at")),
        ).order_by(PARKED.c.queue, PARKED.c.queue_offset)
        if destination is not None:
            query = query.where(PARKED.c.queue == destination)
        if reference is not None:
            query = query.where(PARKED.c.reference == reference)
        return self._store.read(
            lambda connection: [ParkedRow(*row) for row in connection.execute(query)]
        )

    def request_command(
        self,
        kind: CommandKind,
        event_id: str,
        reason: str = "",
        by: str = "",
        destination: str | None = None,
    ) -> int:
        """Ask the owner of the queue to resend or skip a parked record; number of the command.

        Asking again while it is open gives the same one. Raises Refused: `not_parked`, or
        `which_destination` where the event stands parked at several and none is named.
        """

        def work(connection: Connection) -> int:
            query = sa.select(PARKED.c.queue).where(PARKED.c.event_id == event_id)
            if destination is not None:
                query = query.where(PARKED.c.queue == destination)
            queues = list(connection.scalars(query))
            if not queues:
                raise Refused("not_parked", f"{event_id} does not stand parked; see hub park list")
            if len(queues) > 1:
                raise Refused(
                    "which_destination",
                    f"{event_id} stands parked at {', '.join(queues)}; name one",
                    candidates=tuple(queues),
                )
            return _ask(connection, queues[0], kind, event_id, reason, by)

        return self._store.write(work).result()


def _ask(
    connection: Connection, queue: str, kind: CommandKind, event_id: str, reason: str, by: str
) -> int:
    known = connection.scalar(
        sa.select(COMMANDS.c.id).where(
            COMMANDS.c.queue == queue,
            COMMANDS.c.event_id == event_id,
            COMMANDS.c.kind == kind,
            COMMANDS.c.closed_at.is_(None),
        )
    )
    if known is not None:
        return int(known)
    added = connection.execute(
        sa.insert(COMMANDS).values(
            queue=queue,
            event_id=event_id,
            kind=kind,
            reason=reason,
            asked_by=by,
            created_at=datetime.now(UTC),
        )
    )
    assert added.inserted_primary_key is not None
    return int(added.inserted_primary_key[0])


def _epoch(connection: Connection, queue: str) -> int | None:
    # The lock lasts to the end of the transaction: no new owner comes between check and write.
    # SQLite, which has one writer at a time, knows no such clause and SQLAlchemy leaves it out.
    query = sa.select(EPOCHS.c.epoch).where(EPOCHS.c.queue == queue)
    return connection.scalar(query.with_for_update())


def _check(connection: Connection, queue: str, epoch: int) -> None:
    known = _epoch(connection, queue)
    if known != epoch:
        raise Fenced(f"{queue}: the store is at epoch {known}, this owner at {epoch}")


def _close(connection: Connection, commands: Sequence[int], result: str) -> None:
    if commands:
        connection.execute(
            sa.update(COMMANDS)
            .where(COMMANDS.c.id.in_(commands), COMMANDS.c.closed_at.is_(None))
            .values(closed_at=datetime.now(UTC), result=result)
        )
