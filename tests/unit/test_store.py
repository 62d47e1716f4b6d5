"""Groups, savepoints, durability and failure policy of the one writer thread."""

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

import hub.store
from hub.errors import ConfigError, StoreAway
from hub.store import Store, UtcTime, ignore_statement, insert_ignore, upsert, upsert_statement

METADATA = sa.MetaData()
things = sa.Table(
    "things",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("text", sa.String),
    sa.Column("at", UtcTime),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    # A group ends when the queue is empty, not when the machine is busy.
    made = Store(f"sqlite:///{tmp_path}/db/x.db", METADATA, max_wait_seconds=60)
    yield made
    made.close()


def insert(number: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(sa.insert(things).values(id=number))
        return number

    return work


def ids(store: Store) -> list[int]:
    return list(store.read(lambda c: c.execute(sa.select(things.c.id).order_by("id")).scalars()))


class Gate:
    """A work that holds the writer thread inside its transaction until it is let go."""

    def __init__(self, store: Store) -> None:
        self._inside, self._go = threading.Event(), threading.Event()
        self.future: Future[None] = store.write(self._work)
        assert self._inside.wait(60)

    def _work(self, connection: Connection) -> None:
        del connection
        self._inside.set()
        assert self._go.wait(60)

    def let_go(self) -> None:
        self._go.set()
        self.future.result(60)


def one_group(store: Store, *works: Callable[[Connection], Any]) -> list[Future[Any]]:
    """Queue `works` so that they are certain to share a transaction."""
    gate = Gate(store)
    futures = [store.write(work) for work in works]
    gate.let_go()
    return futures


def test_a_result_is_durable_when_it_is_seen(store: Store, tmp_path: Path) -> None:
    assert store.write(insert(1)).result(60) == 1
    with sqlite3.connect(tmp_path / "db" / "x.db") as other:
        assert other.execute("SELECT id FROM things").fetchall() == [(1,)]
    other.close()


def test_no_future_resolves_before_the_commit_of_its_group(store: Store) -> None:
    seen: list[bool] = []
    futures: list[Future[Any]] = []

    def looks_back(connection: Connection) -> None:
        del connection
        seen.append(futures[0].done())

    gate = Gate(store)
    futures += [store.write(insert(1)), store.write(looks_back)]
    gate.let_go()
    futures[1].result(60)
    assert seen == [False]


def test_a_failing_work_fails_alone_and_leaves_nothing_half_done(store: Store) -> None:
    def half(connection: Connection) -> None:
        insert(2)(connection)
        raise LookupError("in the middle")

    first, second, third = one_group(store, insert(1), half, insert(3))
    assert (first.result(60), third.result(60)) == (1, 3)
    with pytest.raises(LookupError, match="in the middle"):
        second.result(60)
    assert ids(store) == [1, 3]


@given(st.lists(st.sampled_from(["works", "raises", "duplicates", "exits"]), max_size=30))
def test_whatever_the_mix_exactly_the_good_works_are_written(kinds: list[str]) -> None:
    def work(number: int, kind: str) -> Callable[[Connection], None]:
        def run(connection: Connection) -> None:
            insert(number)(connection)
            if kind == "duplicates":
                insert(number)(connection)
            if kind != "works":
                raise asyncio.CancelledError if kind == "exits" else ValueError

        return run

    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/x.db", METADATA, max_group=7)
        try:
            futures = [store.write(work(n, kind)) for n, kind in enumerate(kinds)]
            failed = [future.exception(60) is not None for future in futures]
            assert failed == [kind != "works" for kind in kinds]
            assert ids(store) == [n for n, kind in enumerate(kinds) if kind == "works"]
        finally:
            store.close()


def test_groups_are_at_most_max_group_long(store: Store) -> None:
    commits: list[int] = []
    count = [0]
    sa.event.listen(store._writer, "commit", lambda _c: commits.append(count[0]))

    def work(connection: Connection) -> None:
        del connection
        count[0] += 1

    for future in one_group(store, *[work] * 450):
        future.result(60)
    # The first commit is the gate's own.
    assert commits == [0, 200, 400, 450]


def test_a_locked_database_is_away_for_all_of_the_group_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.store, "_BUSY_SECONDS", 0.05)
    store = Store(f"sqlite:///{tmp_path}/x.db", METADATA)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        for future in [store.write(insert(n)) for n in (1, 2)]:
            with pytest.raises(StoreAway, match=r"x\.db: OperationalError \(database is locked\)"):
                future.result(60)
        other.execute("ROLLBACK")
        assert store.write(insert(3)).result(60) == 3
        assert ids(store) == [3]
    finally:
        other.close()
        store.close()


def test_a_full_disk_is_away_for_all_of_the_group(store: Store) -> None:
    def fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        connection.execute(sa.insert(things).values(id=2, text="x" * 1_000_000))

    for future in one_group(store, insert(1), fill, insert(3)):
        with pytest.raises(StoreAway, match="full"):
            future.result(60)
    assert ids(store) == []
    assert store.write(insert(4)).result(60) == 4


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
def test_a_transaction_ended_behind_our_back_confirms_nothing(store: Store, end: str) -> None:
    def ends(connection: Connection) -> None:
        connection.exec_driver_sql(end)

    for future in one_group(store, insert(1), ends, insert(3)):
        with pytest.raises(StoreAway):
            future.result(60)
    assert 3 not in ids(store)
    assert store.write(insert(4)).result(60) == 4


def test_a_lost_connection_is_away_and_the_next_group_opens_another(store: Store) -> None:
    def lose(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.close()

    for future in one_group(store, insert(1), lose):
        with pytest.raises(StoreAway):
            future.result(60)
    assert store.write(insert(2)).result(60) == 2
    assert ids(store) == [2]


def test_a_mistake_in_a_statement_is_not_called_away(store: Store) -> None:
    first, second = one_group(
        store, insert(1), lambda c: c.exec_driver_sql("SELECT * FROM no_such_table")
    )
    first.result(60)
    with pytest.raises(sa.exc.OperationalError, match="no such table"):
        second.result(60)
    with pytest.raises(sa.exc.OperationalError, match="no such table"):
        store.read(lambda c: c.exec_driver_sql("SELECT * FROM no_such_table"))


def test_errors_show_no_values(store: Store) -> None:
    def twice(connection: Connection) -> None:
        for _ in range(2):
            connection.execute(sa.insert(things).values(id=1, text="Jansen"))

    with pytest.raises(sa.exc.IntegrityError) as caught:
        store.write(twice).result(60)
    assert "Jansen" not in str(caught.value)


def test_a_reader_sees_a_snapshot_and_waits_for_no_writer(store: Store) -> None:
    store.write(insert(1)).result(60)
    gate = Gate(store)
    try:
        assert ids(store) == [1]
    finally:
        gate.let_go()


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(sa.exc.OperationalError, match="readonly"):
        store.read(insert(1))
    assert ids(store) == []


async def test_cancelling_who_waits_leaves_the_write_as_it_is(store: Store) -> None:
    gate = Gate(store)
    waiting = asyncio.create_task(store.awrite(insert(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.let_go()
    assert await store.awrite(insert(2)) == 2
    assert await store.aread(lambda c: c.execute(sa.select(sa.func.count("*"))).scalar()) == 1
    assert ids(store) == [1, 2]


async def test_many_tasks_write_at_once(store: Store) -> None:
    assert sorted(await asyncio.gather(*(store.awrite(insert(n)) for n in range(500)))) == list(
        range(500)
    )
    assert len(ids(store)) == 500


def test_close_finishes_what_is_queued_and_then_takes_no_more(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/x.db", METADATA)
    gate = Gate(store)
    futures = [store.write(insert(n)) for n in range(300)]
    closing = threading.Thread(target=store.close)
    closing.start()
    gate.let_go()
    closing.join(60)
    assert [future.result(0) for future in futures] == list(range(300))
    with pytest.raises(StoreAway, match="this process has closed it"):
        store.write(insert(1))
    store.close()


COUNT_UP = """
import sys
import sqlalchemy as sa
from hub.store import Store, insert_ignore
metadata = sa.MetaData()
columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer)
t = sa.Table("t", metadata, *columns)
print("ready", flush=True)
sys.stdin.readline()
store = Store(sys.argv[1], metadata)
def up(c):
    insert_ignore(c, t, {"id": 1, "n": 0})
    n = c.execute(sa.select(t.c.n)).scalar_one()
    c.execute(sa.update(t).values(n=n + 1))
for _ in range(20):
    for future in [store.write(up) for _ in range(5)]:
        future.result()
store.close()
"""


@pytest.mark.slow
def test_processes_share_a_file_from_its_first_moment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNT_UP, f"sqlite:///{tmp_path}/x.db"]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("go\n", timeout=60)
    assert [child.returncode for child in children] == [0, 0, 0]
    with sqlite3.connect(tmp_path / "x.db") as db:
        assert db.execute("SELECT n FROM t").fetchall() == [(300,)]
    db.close()


WRITE_ON = """
import itertools
import sys
import sqlalchemy as sa
from hub.store import Store
metadata = sa.MetaData()
t = sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True))
store = Store(sys.argv[1], metadata)
for start in itertools.count(0, 10):
    ids = range(start, start + 10)
    futures = [store.write(lambda c, n=n: c.execute(sa.insert(t).values(id=n))) for n in ids]
    for n, future in zip(ids, futures):
        future.result()
        print(n, flush=True)
"""


@pytest.mark.slow
def test_what_was_confirmed_survives_sigkill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_ON, f"sqlite:///{tmp_path}/x.db"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    confirmed = [int(child.stdout.readline()) for _ in range(205)]
    child.kill()
    rest, _ = child.communicate(timeout=60)
    # The last line may be cut off by the kill.
    confirmed += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    with sqlite3.connect(tmp_path / "x.db") as db:
        written = {number for (number,) in db.execute("SELECT id FROM t")}
    db.close()
    assert len(confirmed) >= 205
    assert set(confirmed) <= written


def test_the_file_is_durable_private_and_scrubbed(store: Store, tmp_path: Path) -> None:
    def pragmas(connection: Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "secure_delete", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert store.write(pragmas).result(60) == ["wal", 2, 1, 10_000]
    store.write(insert(1)).result(60)
    files = sorted((tmp_path / "db").iterdir())
    assert [file.name for file in files] == ["x.db", "x.db-shm", "x.db-wal"]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3


def test_purge_empties_the_log_unless_someone_reads(store: Store, tmp_path: Path) -> None:
    wal = tmp_path / "db" / "x.db-wal"
    store.write(insert(1)).result(60)
    assert wal.stat().st_size > 0
    assert store.purge()
    assert wal.stat().st_size == 0


def test_a_folder_that_cannot_be_made_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreAway, match=r"x\.db: cannot be made or written"):
        Store(f"sqlite:///{tmp_path}/file/x.db", METADATA)


def test_a_file_that_is_no_database_is_away(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database at all, and long enough to tell" * 50)
    with pytest.raises(StoreAway, match="not a database"):
        Store(f"sqlite:///{tmp_path}/x.db", METADATA)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite://", "is a file"),
        ("sqlite:///:memory:", "is a file"),
        ("mysql://localhost/x", "not mysql"),
        ("postgresql+pg8000://hub:secret@localhost/x", "driver is not installed"),
    ],
)
def test_urls_that_cannot_be_used(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        Store(url, METADATA)
    assert "secret" not in str(caught.value)


def test_times_keep_their_moment(store: Store) -> None:
    amsterdam = timezone(timedelta(hours=1))
    given_time = datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=amsterdam)
    row = {"id": 1, "at": given_time}
    store.write(lambda c: upsert(c, things, row, ["id"])).result(60)
    found = store.read(lambda c: c.execute(sa.select(things.c.at)).scalar_one())
    assert found == given_time
    assert found.tzinfo is UTC
    naive = {"id": 2, "at": datetime(2026, 11, 23)}  # noqa: DTZ001 - refused, that is the test
    with pytest.raises(sa.exc.StatementError, match="without a zone"):
        store.write(lambda c: upsert(c, things, naive, ["id"])).result(60)


def test_insert_ignore_tells_whether_it_inserted(store: Store) -> None:
    row = {"id": 1, "text": "first"}
    again = {"id": 1, "text": "second"}
    assert store.write(lambda c: insert_ignore(c, things, row)).result(60)
    assert not store.write(lambda c: insert_ignore(c, things, again)).result(60)
    assert store.read(lambda c: c.execute(sa.select(things.c.text)).scalar()) == "first"


def test_upsert_replaces_the_named_columns_only(store: Store) -> None:
    rows = [{"id": n, "text": "old", "at": datetime.now(UTC)} for n in (1, 2)]
    store.write(lambda c: upsert(c, things, rows, ["id"])).result(60)
    store.write(lambda c: upsert(c, things, {"id": 2, "text": "new"}, ["id"])).result(60)
    store.write(lambda c: upsert(c, things, {"id": 2}, ["id"])).result(60)
    store.write(lambda c: upsert(c, things, [], ["id"])).result(60)
    found = store.read(lambda c: c.execute(sa.select(things).order_by("id")).all())
    assert [(row.text, row.at is not None) for row in found] == [("old", True), ("new", True)]


def test_both_statements_are_postgresql_too() -> None:
    ignore = str(ignore_statement("postgresql", things).compile(dialect=postgresql.dialect()))
    assert ignore.endswith("ON CONFLICT DO NOTHING")
    statement = upsert_statement("postgresql", things, ("id", "text"), ("id",))
    text = str(statement.compile(dialect=postgresql.dialect(), column_keys=["id", "text"]))
    assert text.endswith("ON CONFLICT (id) DO UPDATE SET text = excluded.text")
    table = str(sa.schema.CreateTable(things).compile(dialect=postgresql.dialect()))
    assert "TIMESTAMP WITH TIME ZONE" in table
