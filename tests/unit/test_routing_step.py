"""The steps of the way in memory: what each leaves behind, in which order, and on a retry."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub.agents import Way, _Named, _Projection
from hub.contract import ENVELOPE, OUTCOME, QUARANTINED, Contract
from hub.errors import Away, BrokerAway, Poison, StoreAway
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION, Authentication, Envelope, Payment
from hub.faults import Faults
from hub.outcome import METADATA, Outcome, OutcomeKind, StatusStore
from hub.quarantine import Quarantine
from hub.routing import Route, RouteTable
from hub.routing.step import RoutingStep
from hub.store import Store
from hub.topics import OUTCOMES, QUARANTINE, REQUESTS, LogRecord, QueueName

T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)
TABLE = RouteTable([Route(RELOCATION, "GM0505", "burgerzaken", T0, T0)])
QUEUE = QueueName("GM0505", "burgerzaken").topic
ANN, BEN = "8d7a3f0e-1111-4222-8333-444455556666", "8d7a3f0e-1111-4222-8333-777788889999"
GARBAGE = b"\x00\xff\xff\xff\xffnot a request"


def envelope(number: int, subject: str = ANN) -> Envelope:
    return Envelope(
        id=f"5b8f5f0e-6f0e-8c1d-9a55-{number:012x}",
        source="urn:nld:oin:1:systeem:website",
        type="nl.midoffice.relocation.reported.v1",
        time=T0,
        reference=f"7K3M9QXA2B4C{number:05d}",
        origin="GM0501",
        municipality_code="GM0505",
        service=RELOCATION,
        product="",
        subject_ref=subject,
        intake_channel="api",
        admitted_at=T0,
        route_version=TABLE.version_at(T0),
        body_schema="nl.midoffice.relocation.RelocationReported.v1",
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        authentication=Authentication("digid"),
        payment=Payment("not_needed"),
        attachments=(),
        parts=(),
    )


class Kafka:
    """Takes what is sent; a test can hold acks back per key, or refuse them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes]] = []
        self.acked: list[tuple[str, bytes, bytes]] = []
        self.held: dict[bytes, asyncio.Event] = {}
        self.refuse: Callable[[str, bytes], bool] = lambda topic, key: False

    async def send(self, topic: str, key: bytes, value: bytes) -> None:
        self.sent.append((topic, key, value))
        if key in self.held:
            await self.held[key].wait()
        await asyncio.sleep(0)
        if self.refuse(topic, key):
            raise BrokerAway(f"{topic}: no ack")
        self.acked.append((topic, key, value))

    def values(self, topic: str) -> list[bytes]:
        return [value for name, _, value in self.acked if name == topic]


class Seals:
    """Of the key store what quarantine needs."""

    away = False

    def seal_quarantined(self, data: bytes, record_id: str) -> bytes:
        if self.away:
            raise StoreAway("keys: away")
        return b"sealed:" + record_id.encode() + data[::-1]


class Bench:
    def __init__(self, contract: Contract, folder: Path) -> None:
        self.contract = contract
        self.kafka = Kafka()
        self.seals = Seals()
        self.store = Store(f"sqlite:///{folder}/status.db", METADATA)
        faults = Faults(None, None, folder)
        quarantine = Quarantine(contract, self.seals, self.kafka.send)  # type: ignore[arg-type]
        self.step = RoutingStep(contract, TABLE, self.kafka.send, quarantine, faults)
        self.status = StatusStore(self.store)
        self.way = Way(contract, self.step, self.status, quarantine, faults)
        self._offset = 0

    def record(self, value: bytes | Envelope, key: str = ANN, topic: str = REQUESTS) -> LogRecord:
        if isinstance(value, Envelope):
            key = value.subject_ref
            value = self.contract.encode(ENVELOPE, value.to_record())
        self._offset += 1
        return LogRecord(topic, 0, self._offset, key.encode(), value)

    def outcomes(self) -> list[Outcome]:
        found = self.kafka.values(OUTCOMES)
        return [Outcome.from_record(self.contract.decode(v, OUTCOME).record) for v in found]

    def set_aside(self) -> list[dict[str, Any]]:
        found = self.kafka.values(QUARANTINE)
        return [self.contract.decode(v, QUARANTINED).record for v in found]

    def queued(self) -> list[str]:
        found = self.kafka.values(QUEUE)
        return [Envelope.from_record(self.contract.decode(v, ENVELOPE).record).id for v in found]


@pytest.fixture
def bench(contract: Contract, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(contract, tmp_path)
    yield made
    made.store.close()


async def _settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def _ids(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.record_id for outcome in outcomes]


async def test_a_request_goes_on_unchanged_and_its_outcome_says_where(bench: Bench) -> None:
    record = bench.record(envelope(1))
    await bench.step.handle([record])
    assert bench.kafka.sent[0] == (QUEUE, ANN.encode(), record.value)
    (outcome,) = bench.outcomes()
    assert (outcome.kind, outcome.destinations) == (OutcomeKind.ROUTED, ("GM0505/burgerzaken",))
    assert bench.kafka.sent[1][1] == envelope(1).reference.encode()


async def test_a_citizen_waits_for_his_own_ack_and_for_nobody_elses(bench: Bench) -> None:
    batch = [bench.record(e) for e in (envelope(1), envelope(2), envelope(3, BEN))]
    bench.kafka.held[ANN.encode()] = asyncio.Event()
    handling = asyncio.create_task(bench.step.handle(batch))
    await _settle()
    under_way = [(topic, key) for topic, key, _ in bench.kafka.sent if topic == QUEUE]
    assert under_way == [(QUEUE, ANN.encode()), (QUEUE, BEN.encode())]
    assert bench.queued() == [envelope(3).id], "another citizen does not wait"
    bench.kafka.held[ANN.encode()].set()
    await handling
    assert bench.queued() == [envelope(n).id for n in (3, 1, 2)]


async def test_after_a_failed_send_nothing_of_that_citizen_follows(bench: Bench) -> None:
    bench.kafka.refuse = lambda topic, key: key == ANN.encode()
    with pytest.raises(BrokerAway):
        await bench.step.handle([bench.record(envelope(1)), bench.record(envelope(2))])
    assert len(bench.kafka.sent) == 1, "the second must not pass the first"


async def test_away_is_told_only_when_no_send_is_under_way(bench: Bench) -> None:
    ben = BEN.encode()
    bench.kafka.held[ben] = asyncio.Event()
    bench.kafka.refuse = lambda topic, key: key == ANN.encode()
    handling = asyncio.create_task(
        bench.step.handle([bench.record(envelope(1)), bench.record(envelope(2, BEN))])
    )
    await _settle()
    assert not handling.done(), "a send of this batch is still under way"
    bench.kafka.held[ben].set()
    with pytest.raises(BrokerAway):
        await handling
    assert bench.queued() == [envelope(2).id]


async def test_a_retry_repeats_under_the_same_ids(bench: Bench) -> None:
    batch = [bench.record(envelope(1)), bench.record(GARBAGE), bench.record(envelope(2, BEN))]
    bench.kafka.refuse = lambda topic, key: key == envelope(1).reference.encode()
    with pytest.raises(BrokerAway):
        await bench.step.handle(batch)
    bench.kafka.refuse = lambda topic, key: False
    await bench.step.handle(batch)
    await bench.step.handle(batch)
    assert set(bench.queued()) == {envelope(1).id, envelope(2).id}
    assert len(set(_ids(bench.outcomes()))) == 2
    assert len({row["record_id"] for row in bench.set_aside()}) == 1
    assert {key for topic, key, _ in bench.kafka.acked if topic == QUARANTINE} == {
        bench.set_aside()[0]["record_id"].encode()
    }


async def test_garbage_is_set_aside_sealed_and_the_flow_goes_on(bench: Bench) -> None:
    record = bench.record(GARBAGE)
    await bench.step.handle([record, bench.record(envelope(1))])
    (row,) = bench.set_aside()
    assert (row["source_topic"], row["partition"], row["offset"]) == (REQUESTS, 0, record.offset)
    assert row["reason"] == "poison"
    assert GARBAGE not in row["sealed"]
    assert bench.queued() == [envelope(1).id], "behind it under the same key"
    assert [o.kind for o in bench.outcomes()] == [OutcomeKind.ROUTED]


async def test_another_record_than_a_request_is_poison(bench: Bench) -> None:
    await bench.step.handle([bench.record(envelope(1))])
    value = bench.kafka.values(OUTCOMES)[0]
    await bench.step.handle([bench.record(value)])
    assert [row["reason"] for row in bench.set_aside()] == ["poison"]


async def test_a_request_whose_id_is_none_is_poison_and_ends_no_process(bench: Bench) -> None:
    """Every process that met it would die, also the one that is told to set it aside."""
    odd = bench.record(replace(envelope(1), id="request-1"))
    await bench.step.handle([odd, bench.record(envelope(2))])
    assert [row["reason"] for row in bench.set_aside()] == ["poison"]
    assert bench.queued() == [envelope(2).id]
    await _Named(bench.way).request(odd)


async def test_a_request_without_a_route_is_set_aside_and_the_citizen_hears(bench: Bench) -> None:
    await bench.step.handle([bench.record(replace(envelope(1), service=PUBLIC_SPACE_REPORT))])
    (row,) = bench.set_aside()
    assert (row["reason"], row["code"]) == ("refused", "no_route")
    (outcome,) = bench.outcomes()
    assert (outcome.kind, outcome.code) == (OutcomeKind.QUARANTINED, "no_route")
    assert outcome.reference == envelope(1).reference
    assert bench.queued() == []
    await bench.step.handle([bench.record(replace(envelope(1), service=PUBLIC_SPACE_REPORT))])
    assert len(set(_ids(bench.outcomes()))) == 1


async def test_a_version_of_the_routes_that_is_unknown_here_waits(bench: Bench) -> None:
    with pytest.raises(Away):
        await bench.step.handle([bench.record(replace(envelope(1), route_version="f" * 64))])
    assert bench.kafka.sent == []


@pytest.mark.parametrize("where", ["keys", "quarantine", "outcomes"])
async def test_nothing_counts_as_set_aside_before_it_is(bench: Bench, where: str) -> None:
    bench.seals.away = where == "keys"
    bench.kafka.refuse = lambda topic, key: topic == where
    batch = [bench.record(replace(envelope(1), service=PUBLIC_SPACE_REPORT))]
    with pytest.raises(Away):
        await bench.step.handle(batch)
    assert bench.outcomes() == []
    bench.seals.away = False
    bench.kafka.refuse = lambda topic, key: False
    await bench.step.handle(batch)
    assert len({row["record_id"] for row in bench.set_aside()}) == 1
    assert [o.kind for o in bench.outcomes()] == [OutcomeKind.QUARANTINED]


async def test_a_bug_comes_out_as_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr("hub.routing.step.route", broken)
    with pytest.raises(ZeroDivisionError):
        await bench.step.handle([bench.record(envelope(1))])
    assert bench.kafka.sent == [], "a bug of ours sends nobody's request to quarantine"


# --- projection -------------------------------------------------------------------------------


async def _routed(bench: Bench, *envelopes: Envelope) -> list[LogRecord]:
    """Outcomes of routing, as records of their topic."""
    await bench.step.handle([bench.record(e) for e in envelopes])
    return [bench.record(value, topic=OUTCOMES) for value in bench.kafka.values(OUTCOMES)]


async def test_outcomes_are_projected_once_however_often_they_come(bench: Bench) -> None:
    records = await _routed(bench, envelope(1), envelope(2, BEN))
    for batch in (records, records[::-1], records[:1]):
        await _Projection(bench.way).handle(batch)
    for number in (1, 2):
        (step,) = bench.status.steps(envelope(number).id)
        assert step.kind is OutcomeKind.ROUTED


async def test_an_outcome_that_cannot_be_read_stops_no_other(bench: Bench) -> None:
    records = await _routed(bench, envelope(1))
    await _Projection(bench.way).handle([bench.record(GARBAGE, topic=OUTCOMES), *records])
    assert [row["source_topic"] for row in bench.set_aside()] == [OUTCOMES]
    assert len(bench.status.steps(envelope(1).id)) == 1


async def test_without_quarantine_no_outcome_is_projected(bench: Bench) -> None:
    records = await _routed(bench, envelope(1))
    bench.kafka.refuse = lambda topic, key: topic == QUARANTINE
    with pytest.raises(BrokerAway):
        await _Projection(bench.way).handle([*records, bench.record(GARBAGE, topic=OUTCOMES)])
    assert bench.status.steps(envelope(1).id) == []


# --- a record that the supervisor named -------------------------------------------------------


async def test_a_named_request_is_set_aside_and_the_citizen_hears(bench: Bench) -> None:
    await _Named(bench.way).request(bench.record(envelope(1)))
    (row,) = bench.set_aside()
    assert row["reason"] == "poison"
    (outcome,) = bench.outcomes()
    assert outcome.kind is OutcomeKind.QUARANTINED
    assert bench.queued() == []


async def test_a_named_request_that_cannot_be_decoded_is_set_aside(bench: Bench) -> None:
    await _Named(bench.way).request(bench.record(GARBAGE))
    assert len(bench.set_aside()) == 1
    assert bench.outcomes() == []


async def test_a_named_request_that_was_routed_is_not_quarantined_too(bench: Bench) -> None:
    records = await _routed(bench, envelope(1))
    await _Projection(bench.way).handle(records)
    await _Named(bench.way).request(bench.record(envelope(1)))
    assert bench.set_aside() == []


async def test_a_named_request_that_a_queue_has_is_not_quarantined_too(bench: Bench) -> None:
    """Its `routed` outcome never came, for the process died in between; delivery's did."""
    place = QueueName("GM0505", "burgerzaken")
    said = Outcome.of(envelope(1), OutcomeKind.DELIVERED, time=T0, destination=place, attempt=1)
    bench.status.project([said])
    await _Named(bench.way).request(bench.record(envelope(1)))
    assert bench.set_aside() == []


async def test_a_named_outcome_is_set_aside(bench: Bench) -> None:
    (record,) = await _routed(bench, envelope(1))
    await _Named(bench.way).outcome(record)
    assert [row["source_topic"] for row in bench.set_aside()] == [OUTCOMES]
    assert bench.set_aside()[0]["offset"] == record.offset
    with pytest.raises(Poison):
        bench.step.event_id(bench.record(GARBAGE))
