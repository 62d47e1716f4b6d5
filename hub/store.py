"""SQL: one writer thread per process and database, works committed in groups, reads beside it.

A group of works is one transaction, so many small admissions share one fsync. Each work stands in
its own savepoint: one that raises neither fails nor half-commits another. A future resolves after
COMMIT only, so whoever holds a result holds something durable.

Failure policy: trouble of the database itself (locked, full, gone) is StoreAway for every work of
the group. StoreAway means "unknown": a connection lost in COMMIT may have committed. Works must
therefore be safe to repeat.
"""

import asyncio
import functools
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPICursor

from hub.errors import ConfigError, StoreAway

T = TypeVar("T")
Work = Callable[[Connection], T]
"""What to do inside a transaction. It neither commits nor rolls back, and hides no SQL error."""

_BUSY_SECONDS: Final = 10.0
_QUIET_SECONDS: Final = 0.0002
"""A group is closed early when nobody came for so long: a lone writer need not wait in full."""
_READERS: Final = 4
_SCHEMA_LOCK: Final = 0x68756231
"""Any number that nobody else locks in PostgreSQL."""
_AWAY_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
"""SQLite's primary result codes that speak of the database, not of the statement."""


class UtcTime(sa.TypeDecorator[datetime]):
    """A moment: aware datetime in, UTC datetime out, in a column of either dialect."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Work[T]
    future: "Future[T]"
    result: Any = None
    error: BaseException | None = None


class Store:
    """One database. Makes its file (0600) and the missing tables of `metadata`."""

    def __init__(
        self,
        url: str,
        metadata: sa.MetaData,
        max_group: int = 200,
        max_wait_seconds: float = 0.005,
    ) -> None:
        self.url = make_url(url).render_as_string(hide_password=True)
        self._max_group = max_group
        self._max_wait_seconds = max_wait_seconds
        self._writer = _engine(url, begin="BEGIN IMMEDIATE", connections=1)
        self._reader = _engine(url, begin="BEGIN", connections=_READERS)
        # Not a SimpleQueue: its get(timeout=...) can wait for ever (pyproject.toml says when).
        self._jobs: queue.Queue[_Job[Any] | None] = queue.Queue()
        self._closed = False
        self._closing = threading.Lock()
        try:
            _make_tables(self._writer, metadata)
        except exc.DBAPIError as error:
            raise self._away(error) from error
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")
        self._thread = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._thread.start()

    def write(self, work: Work[T]) -> "Future[T]":
        """Queue `work`; the future resolves after COMMIT. It cannot be cancelled.

        Never wait for the future inside another work: both need the one writer thread.
        """
        future: Future[T] = Future()
        # "Running" from the start: a caller that goes away must not unmake an admission.
        future.set_running_or_notify_cancel()
        with self._closing:
            if self._closed:
                raise StoreAway(f"{self.url}: this process has closed it; it is ending")
            self._jobs.put(_Job(work, future))
        return future

    async def awrite(self, work: Work[T]) -> T:
        """As `write`. Cancelling the waiting task leaves the write as it is."""
        return await asyncio.wrap_future(self.write(work))

    def read(self, work: Work[T]) -> T:
        """Run `work` now on a connection of its own: a snapshot, never blocked by a writer."""
        try:
            with self._reader.connect() as connection, connection.begin():
                return work(connection)
        except exc.TimeoutError as error:
            raise StoreAway(f"{self.url}: no free connection to read; try again") from error
        except exc.DBAPIError as error:
            if _speaks_of_database(error):
                raise self._away(error) from error
            raise

    async def aread(self, work: Work[T]) -> T:
        """As `read`, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.read, work)

    def purge(self) -> bool:
        """Bring deleted rows out of SQLite's log file too; False if a reader was in the way.

        Failure policy: after False the bytes go with the next automatic checkpoint.
        """
        if self._writer.dialect.name != "sqlite":
            return True
        raw = self._reader.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            row = cursor.fetchone()
            return row is not None and row[0] == 0
        except sqlite3.Error:
            return False
        finally:
            raw.close()

    def close(self) -> None:
        """Finish what is queued, then end. A second call does nothing."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()
        self._threads.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._gather()
            if group:
                self._commit(group)

    def _gather(self) -> tuple[list[_Job[Any]], bool]:
        """The next group, and whether the store closes after it."""
        job = self._jobs.get()
        deadline = time.monotonic() + self._max_wait_seconds
        group: list[_Job[Any]] = []
        while job is not None:
            group.append(job)
            left = deadline - time.monotonic()
            if len(group) >= self._max_group:
                return group, False
            try:
                if left > 0:
                    job = self._jobs.get(timeout=min(left, _QUIET_SECONDS))
                else:
                    return group, False
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: Sequence[_Job[Any]]) -> None:
        try:
            self._transact(group)
        except BaseException as error:  # noqa: BLE001 - this thread must outlive whatever comes
            for job in group:
                away = self._away(error)
                away.__cause__ = error
                job.future.set_exception(away)
            return
        for job in group:
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    def _transact(self, group: Sequence[_Job[Any]]) -> None:
        with self._writer.connect() as connection:
            try:
                with connection.begin():
                    cursor = connection.connection.cursor()
                    for job in group:
                        _attempt(connection, cursor, job)
                    cursor.close()
            except BaseException:
                # Nobody knows what state this connection is in.
                connection.invalidate()
                raise

    def _away(self, error: BaseException) -> StoreAway:
        # The driver's text is left out where it may quote values (PostgreSQL does).
        cause = getattr(error, "orig", None) or error
        text = f" ({cause})" if isinstance(cause, sqlite3.Error) else ""
        return StoreAway(
            f"{self.url}: {type(cause).__name__}{text}; nothing is known to be written, try again"
        )


def _attempt(connection: Connection, cursor: DBAPICursor, job: _Job[Any]) -> None:
    """Run one work in its savepoint; raises only for trouble that concerns the whole group.

    The savepoints go by the driver: through SQLAlchemy they cost more than the works.
    """
    cursor.execute("SAVEPOINT work")
    try:
        job.result = job.work(connection)
    except BaseException as error:
        # Handed to whoever waits for this work, unless the database itself is the trouble.
        if isinstance(error, exc.DBAPIError) and _speaks_of_database(error):
            raise
        job.error = error
        cursor.execute("ROLLBACK TO SAVEPOINT work")
    # Raises if SQLite rolled the transaction back by itself under a work that hid it.
    cursor.execute("RELEASE SAVEPOINT work")


def _speaks_of_database(error: exc.DBAPIError) -> bool:
    """Whether `error` is about the database being away, and not about the statement."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _AWAY_CODES
    return error.connection_invalidated or isinstance(
        error, exc.OperationalError | exc.InterfaceError
    )


def _engine(url: str, begin: str, connections: int) -> Engine:
    """An engine that shows no parameters in its errors; SQLite gets our own BEGIN."""
    parsed = make_url(url)
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": connections,
        "pool_timeout": _BUSY_SECONDS,
    }
    if parsed.get_backend_name() != "sqlite":
        _check_dialect(parsed.get_backend_name())
        try:
            return sa.create_engine(parsed, pool_pre_ping=True, **options)
        except ModuleNotFoundError as missing:
            raise ConfigError(
                f"{parsed.render_as_string()}: its driver is not installed "
                f"(pip install {missing.name})"
            ) from missing
    if parsed.database in {None, "", ":memory:"}:
        raise ConfigError("a SQLite database of the hub is a file: processes share it")
    _make_file(Path(str(parsed.database)))
    engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS}, **options)

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own BEGIN is plain, and a plain one that turns to writing is refused at once.
        connection.isolation_level = None
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        # Deleted keys are overwritten with zeros, not only unlinked.
        connection.execute("PRAGMA secure_delete=ON")
        if begin == "BEGIN":
            connection.execute("PRAGMA query_only=ON")

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite would make it readable for all; its -wal and -shm take over the mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreAway(f"{path}: cannot be made or written ({error.strerror})") from error


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Two processes doing so at once are refused without waiting: wait here."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _make_tables(engine: Engine, metadata: sa.MetaData) -> None:
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # SQLite's BEGIN IMMEDIATE already lets one process at a time look and create.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        metadata.create_all(connection)


def insert_ignore(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one of the same key is there; True if it was inserted."""
    statement = ignore_statement(connection.dialect.name, table)
    return connection.execute(statement, dict(values)).rowcount == 1


def upsert(
    connection: Connection,
    table: sa.Table,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    keys: Sequence[str],
) -> None:
    """Insert one row or several of the same columns; where `keys` exist, the rest is replaced."""
    rows = [dict(values)] if isinstance(values, Mapping) else [dict(row) for row in values]
    if rows:
        columns = tuple(rows[0])
        statement = upsert_statement(connection.dialect.name, table, columns, tuple(keys))
        connection.execute(statement, rows)


# Building a statement costs more than running it; tables and column sets are few.
@functools.cache
def ignore_statement(dialect: str, table: sa.Table) -> sa.Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


@functools.cache
def upsert_statement(
    dialect: str, table: sa.Table, columns: tuple[str, ...], keys: tuple[str, ...]
) -> sa.Insert:
    insert = _insert(dialect, table)
    rest = {name: insert.excluded[name] for name in columns if name not in keys}
    if not rest:
        return insert.on_conflict_do_nothing(index_elements=list(keys))
    return insert.on_conflict_do_update(index_elements=list(keys), set_=rest)


def _insert(dialect: str, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
    _check_dialect(dialect)
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _check_dialect(name: str) -> None:
    if name not in {"sqlite", "postgresql"}:
        raise ConfigError(f"databases of the hub are SQLite or PostgreSQL, not {name}")
