"""The routing step: requests in; queue record, `routed` outcome or quarantine out."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from hub.contract import ENVELOPE, OUTCOME, Contract
from hub.errors import Poison, Problem, Refused
from hub.event import Envelope
from hub.faults import Faults
from hub.outcome import Outcome, OutcomeKind
from hub.quarantine import Quarantine
from hub.routing import RouteTable, route
from hub.topics import OUTCOMES, LogRecord, QueueName

Send = Callable[[str, bytes, bytes], Awaitable[None]]


class RoutingStep:
    """Sends each request to the queues that the route table names; never opens a sealed part."""

    def __init__(
        self,
        contract: Contract,
        routes: RouteTable,
        send: Send,
        quarantine: Quarantine,
        faults: Faults,
    ) -> None:
        self._contract = contract
        self._routes = routes
        self._send = send
        self._quarantine = quarantine
        self._faults = faults

    async def handle(self, batch: Sequence[LogRecord]) -> None:
        """Route `batch`: one unacknowledged produce per citizen (rule 3), citizens side by side.

        Raises Away if one could not be finished; by then no produce of this batch is under way,
        so handling it again can not let a later event of a citizen pass an earlier one.
        """
        lanes: dict[bytes | None, list[LogRecord]] = defaultdict(list)
        for record in batch:
            lanes[record.key].append(record)
        self._faults.crash("routing.before_produce")
        ends = await asyncio.gather(
            *(self._lane(lane) for lane in lanes.values()), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def event_id(self, record: LogRecord) -> str:
        """Raises Poison if `record` is not a request that can be decoded."""
        return self._read(record).id

    async def refuse(self, record: LogRecord) -> None:
        """Quarantine a record that killed the process again and again while alone in hand."""
        problem = Poison("three processes in a row died while they handled this record")
        await self._set_aside(record, problem)

    async def _lane(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            try:
                envelope = self._read(record)
                queues = route(envelope, self._routes)
            except (Poison, Refused) as problem:
                await self._set_aside(record, problem)
            else:
                await self._deliver(record, envelope, queues)

    def _read(self, record: LogRecord) -> Envelope:
        try:
            return Envelope.from_record(self._contract.decode(record.value, ENVELOPE).record)
        except ValueError:
            raise Poison(f"{ENVELOPE}: an id that is no UUID") from None

    async def _deliver(
        self, record: LogRecord, envelope: Envelope, queues: Sequence[QueueName]
    ) -> None:
        key = envelope.subject_ref.encode()
        for queue in queues:
            await self._send(queue.topic, key, record.value)
        self._faults.crash("routing.after_produce")
        await self._report(envelope, OutcomeKind.ROUTED, [str(q) for q in queues])
        self._faults.crash("routing.after_outcome")

    async def _set_aside(self, record: LogRecord, problem: Problem) -> None:
        await self._quarantine.put(record, problem)
        try:
            envelope = self._read(record)
        except Poison:
            return  # no id, no reference: the quarantine record alone tells of it
        await self._report(envelope, OutcomeKind.QUARANTINED, [], problem)

    async def _report(
        self,
        envelope: Envelope,
        kind: OutcomeKind,
        destinations: Sequence[str],
        problem: Problem | None = None,
    ) -> None:
        outcome = Outcome.of(
            envelope,
            kind,
            time=datetime.now(UTC),
            destinations=tuple(destinations),
            code=getattr(problem, "code", type(problem).__name__.lower()) if problem else "",
        )
        await self._send(
            OUTCOMES,
            envelope.reference.encode(),
            self._contract.encode(OUTCOME, outcome.to_record()),
        )
