"""The agents of the way: topic in, step, topic out. They decide nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import faust

from hub.contract import OUTCOME, Contract
from hub.errors import Poison
from hub.faults import Faults
from hub.faust_adapter import SingleStep, Step, add_agent
from hub.outcome import Outcome, StatusStore
from hub.quarantine import Quarantine
from hub.routing.step import RoutingStep
from hub.topics import OUTCOMES, REQUESTS, LogRecord


@dataclass(frozen=True, slots=True)
class Way:
    """What the agents need; wired in hub/app/way.py."""

    contract: Contract
    routing: RoutingStep
    status: StatusStore
    quarantine: Quarantine
    faults: Faults


def define(
    app: faust.App, way: Way, retry_seconds: float, single: SingleStep | None = None
) -> None:
    """Give `app` the agents of the way."""
    steps = (
        Step(
            REQUESTS,
            way.routing.handle,
            _Named(way).request,
            lambda: way.faults.crash("routing.after_ack"),
        ),
        Step(OUTCOMES, _Projection(way).handle, _Named(way).outcome, lambda: None),
    )
    for step in steps:
        add_agent(app, step, retry_seconds, single)


class _Projection:
    """Outcomes into the read model that the status API asks."""

    def __init__(self, way: Way) -> None:
        self._way = way

    async def handle(self, batch: Sequence[LogRecord]) -> None:
        outcomes = []
        for record in batch:
            try:
                decoded = self._way.contract.decode(record.value, OUTCOME)
                outcomes.append(Outcome.from_record(decoded.record))
            except Poison as problem:
                await self._way.quarantine.put(record, problem)
        self._way.faults.crash("projection.before_store")
        await self._way.status.aproject(outcomes)
        self._way.faults.crash("projection.after_store")


class _Named:
    """A record that the supervisor named: it killed the process, alone in hand, three times."""

    def __init__(self, way: Way) -> None:
        self._way = way

    async def request(self, record: LogRecord) -> None:
        """Quarantine it, unless anything came of it already: then it would be both (rule 5)."""
        try:
            event_id = self._way.routing.event_id(record)
        except Poison:
            event_id = None
        steps = await self._way.status.asteps(event_id) if event_id else []
        if not steps:
            await self._way.routing.refuse(record)

    async def outcome(self, record: LogRecord) -> None:
        problem = Poison("three processes in a row died while they projected this record")
        await self._way.quarantine.put(record, problem)
