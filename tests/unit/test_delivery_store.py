"""Rows, epochs and commands of delivery.db: fenced, repeatable, closed together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.delivery.effects import (
    CloseCommand,
    CommandKind,
    DeleteRow,
    InsertRow,
    MarkRow,
    ParkReason,
    Row,
)
from hub.delivery.store import COMMANDS, METADATA, PARKED, DeliveryStore
from hub.errors import Fenced, Refused
from hub.store import Store

QUEUE = "GM0363/burgerzaken"
OTHER = "GM0599/burgerzaken"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/delivery.db", METADATA)
    yield opened
    opened.close()


@pytest.fixture
def delivery(store: Store) -> DeliveryStore:
    return DeliveryStore(store)


def row(name: str, offset: int, reason: ParkReason | None = ParkReason.RECORD) -> Row:
    return Row(name, offset, "lane", reason, 1, code="http_400")


async def insert(delivery: DeliveryStore, epoch: int, *rows: Row, queue: str = QUEUE) -> None:
    for each in rows:
        asked = InsertRow(1, epoch, each, "http_400", "HTTP 400 Bad Request", 400)
        await delivery.insert(queue, asked, f"sealed {each.event_id}".encode(), "REF")


async def test_rows_come_back_in_log_order_with_their_bytes(delivery: DeliveryStore) -> None:
    await delivery.set_epoch(QUEUE, 1)
    await insert(delivery, 1, row("b", 7, None), row("a", 3))
    found = await delivery.read_parked(QUEUE, 1)
    assert found == [row("a", 3), row("b", 7, None)]
    assert await delivery.record_of(QUEUE, "b") == b"sealed b"
    assert await delivery.record_of(QUEUE, "nobody") is None
    assert await delivery.record_of(OTHER, "b") is None


async def test_a_row_that_is_there_already_stays_as_it_is(delivery: DeliveryStore) -> None:
    await delivery.set_epoch(QUEUE, 1)
    await insert(delivery, 1, row("a", 3))
    await delivery.set_epoch(QUEUE, 2)
    await insert(delivery, 2, row("a", 9, None))
    assert await delivery.read_parked(QUEUE, 2) == [row("a", 3)]


async def test_every_write_of_an_older_epoch_is_refused_and_changes_nothing(
    delivery: DeliveryStore, store: Store
) -> None:
    await delivery.set_epoch(QUEUE, 1)
    await insert(delivery, 1, row("a", 3))
    number = delivery.request_command(CommandKind.RESEND, "a")
    await delivery.set_epoch(QUEUE, 2)
    before = store.read(lambda c: [tuple(r) for r in c.execute(PARKED.select())])
    late = [
        delivery.set_epoch(QUEUE, 1),
        insert(delivery, 1, row("late", 4)),
        delivery.delete(QUEUE, DeleteRow(1, 1, "a", (number,))),
        delivery.mark(QUEUE, MarkRow(1, 1, "a", ParkReason.IN_DOUBT, 2, (number,))),
        delivery.close_command(QUEUE, CloseCommand(1, 1, number, "no")),
        delivery.read_parked(QUEUE, 1),
    ]
    for write in late:
        with pytest.raises(Fenced):
            await write
    assert store.read(lambda c: [tuple(r) for r in c.execute(PARKED.select())]) == before
    assert [c.command_id for c in (await delivery.open_commands({QUEUE}))[QUEUE]] == [number]


async def test_a_writer_that_never_set_its_epoch_is_refused(delivery: DeliveryStore) -> None:
    with pytest.raises(Fenced):
        await insert(delivery, 1, row("a", 3))


async def test_epochs_of_queues_do_not_touch_each_other(delivery: DeliveryStore) -> None:
    await delivery.set_epoch(QUEUE, 5)
    await delivery.set_epoch(OTHER, 1)
    await insert(delivery, 1, row("a", 3), queue=OTHER)
    await delivery.set_epoch(QUEUE, 5)  # a repeat after an unknown commit
    assert await delivery.read_parked(QUEUE, 5) == []
    assert await delivery.read_parked(OTHER, 1) == [row("a", 3)]


async def test_a_command_is_closed_in_the_transaction_of_its_row(
    delivery: DeliveryStore, store: Store
) -> None:
    await delivery.set_epoch(QUEUE, 1)
    await insert(delivery, 1, row("a", 3), row("b", 4))
    resend = delivery.request_command(CommandKind.RESEND, "a", by="kim")
    skip = delivery.request_command(CommandKind.SKIP, "b", "double", "kim")
    await delivery.delete(QUEUE, DeleteRow(1, 1, "a", (resend,)))
    await delivery.mark(QUEUE, MarkRow(2, 1, "b", ParkReason.IN_DOUBT, 3, (), "timeout"))
    assert [c.command_id for c in (await delivery.open_commands({QUEUE}))[QUEUE]] == [skip]
    await delivery.close_command(QUEUE, CloseCommand(3, 1, skip, "not while it is in doubt"))
    assert await delivery.open_commands({QUEUE}) == {}
    results = store.read(lambda c: dict(c.execute(COMMANDS.select()).fetchall()[1]._mapping))
    assert results["result"] == "not while it is in doubt"
    assert results["closed_at"] is not None
    assert await delivery.read_parked(QUEUE, 1) == [
        Row("b", 4, "lane", ParkReason.IN_DOUBT, 3, code="timeout")
    ]


async def test_a_command_needs_a_parked_row_and_one_place(delivery: DeliveryStore) -> None:
    await delivery.set_epoch(QUEUE, 1)
    await delivery.set_epoch(OTHER, 1)
    with pytest.raises(Refused, match="not_parked"):
        delivery.request_command(CommandKind.RESEND, "a")
    await insert(delivery, 1, row("a", 3))
    await insert(delivery, 1, row("a", 5), queue=OTHER)
    with pytest.raises(Refused, match="which_destination") as which:
        delivery.request_command(CommandKind.RESEND, "a")
    assert set(which.value.candidates) == {QUEUE, OTHER}
    first = delivery.request_command(CommandKind.RESEND, "a", destination=OTHER)
    assert delivery.request_command(CommandKind.RESEND, "a", destination=OTHER) == first
    assert delivery.request_command(CommandKind.SKIP, "a", destination=OTHER) != first
    found = await delivery.open_commands({QUEUE, OTHER})
    assert [c.kind for c in found[OTHER]] == [CommandKind.RESEND, CommandKind.SKIP]
    assert QUEUE not in found


async def test_operators_see_reasons_and_no_bodies(delivery: DeliveryStore) -> None:
    await delivery.set_epoch(QUEUE, 1)
    await insert(delivery, 1, row("a", 3), row("b", 4, None))
    listed = delivery.list_parked(QUEUE)
    assert [(r.event_id, r.reason, r.code, r.status) for r in listed] == [
        ("a", "record", "http_400", 400),
        ("b", None, "http_400", 400),
    ]
    assert "sealed" not in repr(listed)
    assert delivery.list_parked(OTHER) == []
    assert len(delivery.list_parked(reference="REF")) == 2
