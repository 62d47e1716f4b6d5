"""The delivery process without a broker: what is told to it, and how it ends."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from hub.configuration import Destination, Limits
from hub.connector import Connector, Kind
from hub.contract import Contract
from hub.delivery import service as service_module
from hub.delivery.claims import Bounds, Claim
from hub.delivery.listener import Commit
from hub.delivery.service import EXIT_BUG, DeliveryService
from hub.delivery.store import METADATA, DeliveryStore
from hub.faults import NONE
from hub.settings import Settings
from hub.store import Store
from hub.topics import QueueName

A, B = QueueName("GM0001", "a"), QueueName("GM0001", "b")


class Reader:
    """Does nothing, and ends when told, unless it hangs."""

    hangs: ClassVar[bool] = False

    def __init__(self, _config: Any, _logs: Any, listener: Any, *_more: Any) -> None:
        self._listener = listener
        self.last_poll = 0.0
        self.steered: list[tuple[str, QueueName]] = []

    def start(self) -> None: ...

    def stop(self) -> None:
        if not self.hangs:
            asyncio.get_running_loop().call_soon(self._listener.ended, None)

    def commit(self, _commit: Commit) -> None: ...

    def pause(self, queue: QueueName) -> None:
        self.steered.append(("pause", queue))


class Nothing(BaseModel):
    """No settings."""


class Whole:
    Config: ClassVar[type[BaseModel]] = Nothing

    def __init__(self, config: Any) -> None: ...

    def build(self, event: Any) -> Any: ...

    def classify(self, answer: Any) -> Any: ...


class Broken(Whole):
    def __init__(self, config: Any) -> None:
        raise OSError("no such file")


Make = Callable[[], DeliveryService]


@pytest.fixture
def make(tmp_path: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(service_module, "QueueReader", Reader)
    store = Store(f"sqlite:///{tmp_path}/delivery.db", METADATA)
    destinations = {
        queue: Destination(queue, name, Kind.KEY, {}, Limits())
        for queue, name in ((A, "broken"), (B, "whole"))
    }
    connectors: dict[str, type[Connector]] = {"broken": Broken, "whole": Whole}
    nothing: Any = None
    configuration: Any = SimpleNamespace(destinations=destinations)

    def made() -> DeliveryService:
        return DeliveryService(
            settings=Settings(home=tmp_path),
            configuration=configuration,
            connectors=connectors,
            bootstrap="127.0.0.1:1",
            store=DeliveryStore(store),
            keys=nothing,
            contract=contract,
            producer=nothing,
            faults=NONE,
            instance_id="test-0",
        )

    yield made
    store.close()


async def test_a_destination_that_cannot_be_made_keeps_no_other_waiting(make: Make) -> None:
    service = make()
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    service.claimed([Claim(queue, None, Bounds(0, 0), 0) for queue in (A, B)])
    assert set(service._owners) == {B}
    assert set(service._waiting) == {A}
    service.lost([A, B])
    service.stop()
    assert await running == 0


async def test_a_bug_ends_the_process(make: Make) -> None:
    service = make()
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    service._fail(ZeroDivisionError())
    assert await running == EXIT_BUG


async def test_a_bug_ends_the_process_also_where_the_consumer_does_not_close(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeats would keep the queues, and nobody would deliver them."""
    ends: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(Reader, "hangs", True)
    monkeypatch.setattr(service_module, "_CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(os, "_exit", ends.set_result)
    service = make()
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    service._fail(ZeroDivisionError())
    assert await ends == EXIT_BUG
    service.ended(None)
    await running
