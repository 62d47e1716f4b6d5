"""The shell of one queue, with the real engine and store: what it does with what goes wrong."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hub.configuration import Destination, Limits
from hub.connector import (
    Deliverable,
    HttpAnswer,
    HttpRequest,
    Kind,
    MappingError,
    Verdict,
    VerdictKind,
)
from hub.contract import CO_MOVER, ENVELOPE, OUTCOME, Contract
from hub.delivery.claims import Bounds, Claim
from hub.delivery.effects import Committed, Pace
from hub.delivery.engine import QueueEngine
from hub.delivery.http import HttpClient
from hub.delivery.listener import Commit, CommitResult, Taken
from hub.delivery.owner import QueueOwner, Surroundings
from hub.delivery.sender import Line, Sender, make_line
from hub.delivery.store import METADATA, DeliveryStore
from hub.errors import BrokerAway, ConfigError, Erased, StoreAway
from hub.event import Authentication, Envelope, Part, Payment
from hub.faults import NONE
from hub.outcome import Outcome, OutcomeKind
from hub.store import Store
from hub.topics import QueueName

QUEUE = QueueName("GM0363", "zaken")
START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Settings(BaseModel):
    secret: str = "s"


class Plug:
    """A connector that does what the test says."""

    Config = Settings

    def __init__(self, config: Any) -> None:
        self.builds: Callable[[Deliverable], HttpRequest] = lambda event: HttpRequest(
            "PUT", event.envelope.product
        )
        self.classifies: Callable[[HttpAnswer], Verdict] = lambda answer: Verdict(
            VerdictKind.DELIVERED if answer.status < 300 else VerdictKind.RECORD_FAILED,
            "code",
            "text",
            status=answer.status,
        )

    def build(self, event: Deliverable) -> HttpRequest:
        return self.builds(event)

    def classify(self, answer: HttpAnswer) -> Verdict:
        return self.classifies(answer)


class Wire(HttpClient):
    """Instead of a socket: answers by a function, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[HttpRequest, dict[str, str]]] = []
        self.answers: Callable[[HttpRequest], HttpAnswer | Verdict] = lambda _: HttpAnswer(
            200, {}, b""
        )
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, request: HttpRequest, headers: Any) -> HttpAnswer | Verdict:
        self.asked.append((request, dict(headers)))
        await self.gate.wait()
        return self.answers(request)

    async def close(self) -> None: ...


class Keys:
    """Opens what is not sealed, unless told otherwise."""

    error: Exception | None = None

    def open(self, _tenant: str, _ref: str, _schema: str, _id: str, ciphertext: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        return ciphertext


class Reading:
    """A reader whose commits are acked at once, unless held."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.result = CommitResult.ACKED
        self.paused: list[bool] = []
        self.ours = True
        self.owner: QueueOwner | None = None

    @property
    def last_poll(self) -> float:
        return time.monotonic()

    def owns(self, _queue: QueueName) -> bool:
        return self.ours

    def commit(self, commit: Commit) -> None:
        self.commits.append(commit)
        assert self.owner is not None
        loop = asyncio.get_running_loop()
        loop.call_soon(self.owner.committed, commit, self.result)

    def resume(self, _queue: QueueName) -> None:
        self.paused.append(False)

    def pause(self, _queue: QueueName) -> None:
        self.paused.append(True)


class Told:
    """A producer."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.outcomes: list[Outcome] = []
        self.away = 0

    async def send(self, _topic: str, _key: bytes, value: bytes) -> None:
        if self.away:
            self.away -= 1
            raise BrokerAway("no ack")
        self.outcomes.append(Outcome.from_record(self._contract.decode(value, OUTCOME).record))

    def kinds(self) -> list[OutcomeKind]:
        return [outcome.kind for outcome in self.outcomes]


class Bench:
    """An owner and all around it."""

    def __init__(self, contract: Contract, store: DeliveryStore) -> None:
        self.contract, self.store = contract, store
        self.wire, self.keys, self.reading = Wire(), Keys(), Reading()
        self.told = Told(contract)
        self.bugs: list[BaseException] = []
        self.plug = Plug(None)
        destination = Destination(QUEUE, "plug", Kind.KEY, {}, Limits())
        self.line = Line(QUEUE, destination, self.plug, self.wire)
        keys: Any = self.keys
        self.sender = Sender(contract, keys, NONE)
        self.owner = self.made(Claim(QUEUE, None, Bounds(0, 100), 0))
        self.count = 0

    def made(self, claim: Claim) -> QueueOwner:
        pace = Pace(backoff=0.01, pause=0.01, commit_group=0.001, request_timeout=0.05)
        around = Surroundings(
            self.reading, self.store, self.sender, self.told, self.contract, NONE,
            time.monotonic, self.bugs.append,
        )  # fmt: skip
        engine = QueueEngine(str(QUEUE), pace, random.Random(1))
        self.owner = self.reading.owner = QueueOwner(claim, self.line, engine, around)
        return self.owner

    def envelope(self, number: int, **changes: Any) -> Envelope:
        body = self.contract.encode(CO_MOVER, {"bsn": "999993653", "relation": "child"})
        made = Envelope(
            id=f"018f3f4e-0000-8000-8000-{number:012d}",
            source="urn:test",
            type="t",
            time=START,
            reference=f"REF{number}",
            origin="GM0363",
            municipality_code="GM0363",
            service="relocation",
            product=f"http://x/{number}",
            subject_ref="lane",
            intake_channel="api",
            admitted_at=START,
            route_version="v",
            body_schema=f"{CO_MOVER}.v1",
            traceparent="00-trace",
            authentication=Authentication("none"),
            payment=Payment("not_needed"),
            attachments=(),
            parts=(Part("lane", body),),
        )
        return replace(made, **changes)

    def record(self, offset: int, lane: str = "lane", **changes: Any) -> Taken:
        value = self.contract.encode(ENVELOPE, self.envelope(offset, **changes).to_record())
        return Taken(QUEUE, offset, lane.encode(), value, 1000.0 + offset)

    async def live(self) -> None:
        self.owner.start()
        await until(lambda: bool(self.reading.paused) and not self.reading.paused[-1])

    async def rows(self) -> list[Any]:
        return await asyncio.to_thread(self.store.list_parked)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


@pytest.fixture
async def bench(tmp_path: Path, contract: Contract) -> AsyncIterator[Bench]:
    store = Store(f"sqlite:///{tmp_path}/delivery.db", METADATA)
    made = Bench(contract, DeliveryStore(store))
    yield made
    await made.owner.close()
    made.sender.close()
    store.close()
    assert made.bugs == []


async def test_an_event_is_sent_with_its_headers_told_and_committed(bench: Bench) -> None:
    await bench.live()
    bench.owner.taken(bench.record(0))
    await until(lambda: bench.owner.watermark == 1)
    ((request, headers),) = bench.wire.asked
    assert request.url == "http://x/0"
    assert headers == {
        "Idempotency-Key": "018f3f4e-0000-8000-8000-000000000000",
        "traceparent": "00-trace",
        "X-Delivery-Epoch": "1",
        "X-Hub-Reference": "REF0",
    }
    (outcome,) = bench.told.outcomes
    assert (outcome.kind, outcome.reference) == (OutcomeKind.DELIVERED, "REF0")
    assert (outcome.destination, outcome.status) == ("GM0363/zaken", 200)


async def test_nothing_is_committed_before_kafka_has_the_outcome(bench: Bench) -> None:
    await bench.live()
    bench.told.away = 3
    bench.owner.taken(bench.record(0))
    await until(lambda: bench.owner.watermark == 1)
    assert bench.told.kinds() == [OutcomeKind.DELIVERED]
    assert bench.told.away == 0
    assert len(bench.wire.asked) == 1


async def test_records_that_come_before_the_engine_wants_them_are_kept(bench: Bench) -> None:
    for offset in range(3):
        bench.owner.taken(bench.record(offset))
    await bench.live()
    await until(lambda: bench.owner.watermark == 3)
    assert [r.url for r, _ in bench.wire.asked] == ["http://x/0", "http://x/1", "http://x/2"]


async def test_what_is_fetched_again_is_taken_once_and_a_hole_stops_the_queue(
    bench: Bench,
) -> None:
    await bench.live()
    for offset in (0, 1, 0, 1):
        bench.owner.taken(bench.record(offset))
    await until(lambda: bench.owner.watermark == 2)
    bench.owner.taken(bench.record(3))
    await asyncio.wait_for(bench.owner.drained.wait(), 20)
    assert bench.reading.paused[-1]
    assert len(bench.wire.asked) == 2


async def test_ids_read_back_are_not_sent_again(bench: Bench) -> None:
    claim = Claim(QUEUE, Committed(2, "1:4:c:"), Bounds(0, 100), 0)
    bench.made(claim)
    bench.owner.start()
    for offset in (0, 1):
        bench.owner.taken(bench.record(offset))
    copy = replace(bench.record(1), offset=2)
    bench.owner.taken(copy)
    bench.owner.taken(bench.record(3))
    await until(lambda: bench.owner.watermark == 4)
    assert [r.url for r, _ in bench.wire.asked] == ["http://x/3"]
    assert bench.wire.asked[0][1]["X-Delivery-Epoch"] == "5"


@pytest.mark.parametrize(
    "claim",
    [
        Claim(QUEUE, None, Bounds(5, 9), 9),
        Claim(QUEUE, Committed(3, "1:1:c:"), Bounds(5, 9), 9),
        Claim(QUEUE, Committed(12, "1:1:c:"), Bounds(5, 9), 9),
        Claim(QUEUE, Committed(6, "not ours"), Bounds(5, 9), 5),
    ],
)
async def test_a_damaged_queue_stops_and_commits_nothing(bench: Bench, claim: Claim) -> None:
    bench.made(claim)
    bench.owner.start()
    assert bench.owner.drained.is_set()
    assert bench.reading.commits == []


async def test_bytes_that_are_no_event_park_under_an_id_of_their_own(bench: Bench) -> None:
    await bench.live()
    bench.owner.taken(Taken(QUEUE, 0, b"\xff\x00", b"nonsense", 1000.0))
    bench.owner.taken(bench.record(1))
    await until(lambda: bench.owner.watermark == 2)
    (row,) = await bench.rows()
    assert (row.reason, row.reference) == ("record", "")
    assert bench.told.kinds() == [OutcomeKind.DELIVERED]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"municipality_code": "GM0599"}, "an event of GM0599 on GM0363/zaken"),
        ({"parts": (Part("lane", b"\x00junk"),)}, "schema id"),
    ],
)
async def test_what_must_not_or_cannot_be_sent_parks(
    bench: Bench, change: dict[str, Any], text: str
) -> None:
    await bench.live()
    bench.owner.taken(bench.record(0, **change))
    await until(lambda: bench.owner.watermark == 1)
    (row,) = await bench.rows()
    assert text in row.text
    assert bench.wire.asked == []


async def test_a_bug_in_build_parks_this_record_and_tells_nothing_of_it(bench: Bench) -> None:
    def broken(event: Deliverable) -> HttpRequest:
        raise KeyError(event.parts[0]["bsn"])

    bench.plug.builds = broken
    await bench.live()
    bench.owner.taken(bench.record(0))
    await until(lambda: bench.owner.watermark == 1)
    (row,) = await bench.rows()
    assert row.text == "the connector failed on this record (KeyError)"


async def test_texts_of_a_connector_are_made_fit_for_others(bench: Bench) -> None:
    def unfit(_event: Deliverable) -> HttpRequest:
        raise MappingError("bsn 999993653 \x00 \ud800 " + "x" * 500)

    bench.plug.builds = unfit
    await bench.live()
    bench.owner.taken(bench.record(0))
    await until(lambda: bench.owner.watermark == 1)
    (row,) = await bench.rows()
    assert row.text.startswith("bsn ********* ? ? xxx")
    assert len(row.text) == 200


async def test_a_bug_in_classify_is_no_verdict(bench: Bench) -> None:
    tries = 0

    def broken(answer: HttpAnswer) -> Verdict:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ZeroDivisionError
        return Verdict(VerdictKind.DELIVERED, status=answer.status)

    bench.plug.classifies = broken
    await bench.live()
    bench.owner.taken(bench.record(0))
    await until(lambda: bench.owner.watermark == 1)
    assert bench.told.kinds()[-1] is OutcomeKind.DELIVERED
    assert len({headers["Idempotency-Key"] for _, headers in bench.wire.asked}) == 1
    assert await bench.rows() == []


async def test_an_erased_person_ends_the_delivery(bench: Bench) -> None:
    bench.keys.error = Erased("gone")
    await bench.live()
    bench.owner.taken(bench.record(0))
    await until(lambda: bench.owner.watermark == 1)
    assert bench.told.kinds() == [OutcomeKind.ERASED]
    assert bench.wire.asked == []


async def test_keys_that_are_away_only_delay(bench: Bench) -> None:
    bench.keys.error = StoreAway("keys")
    await bench.live()
    bench.owner.taken(bench.record(0))
    await until(lambda: bench.told.kinds() == [OutcomeKind.WAITING])
    assert bench.wire.asked == []
    bench.keys.error = None
    await until(lambda: bench.owner.watermark == 1)
    assert (len(bench.wire.asked), await bench.rows()) == (1, [])


async def test_a_lost_queue_sends_writes_and_commits_nothing_more(bench: Bench) -> None:
    await bench.live()
    bench.wire.gate.clear()
    bench.owner.taken(bench.record(0))
    await until(lambda: len(bench.wire.asked) == 1)
    commits = len(bench.reading.commits)
    bench.owner.lost()
    bench.wire.gate.set()
    bench.owner.taken(bench.record(1))
    await bench.owner.close()
    assert len(bench.reading.commits) == commits
    assert bench.told.outcomes == []
    assert len(bench.wire.asked) == 1


async def test_a_queue_that_the_group_took_away_is_not_sent_to_before_the_loop_hears_it(
    bench: Bench,
) -> None:
    await bench.live()
    bench.reading.ours = False
    bench.owner.taken(bench.record(0))
    bench.owner.drain(0.0)
    await asyncio.wait_for(bench.owner.drained.wait(), 20)
    assert bench.wire.asked == []


async def test_an_offset_that_was_set_back_stops_the_queue_aloud(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other owner will come, so silence would last for ever."""
    await bench.store.set_epoch(str(QUEUE), 57)
    bench.owner.start()
    await asyncio.wait_for(bench.owner.drained.wait(), 20)
    said = "".join(capsys.readouterr())
    assert "queue_stopped" in said
    assert "metadata 1:<epoch of the store>:u:" in said
    assert "57" in said
    assert bench.wire.asked == []


async def test_an_owner_whom_the_store_knows_to_be_late_drops_everything(bench: Bench) -> None:
    await bench.live()
    await bench.store.set_epoch(str(QUEUE), 99)
    bench.wire.answers = lambda _: HttpAnswer(400, {}, b"")
    bench.owner.taken(bench.record(0))
    await asyncio.wait_for(bench.owner.drained.wait(), 20)
    assert await bench.rows() == []
    assert OutcomeKind.PARKED not in bench.told.kinds()


async def test_a_hand_over_waits_for_what_is_under_way_and_says_clean(bench: Bench) -> None:
    await bench.live()
    bench.wire.gate.clear()
    bench.owner.taken(bench.record(0))
    await until(lambda: len(bench.wire.asked) == 1)
    bench.owner.drain(20.0)
    bench.owner.taken(bench.record(1))
    bench.wire.gate.set()
    await asyncio.wait_for(bench.owner.drained.wait(), 20)
    last = bench.reading.commits[-1]
    assert (last.watermark, last.metadata) == (1, "1:1:c:")
    assert len(bench.wire.asked) == 1


@pytest.mark.parametrize(
    ("destination", "connector", "word"),
    [
        (None, None, "destinations/GM0363/zaken.toml"),
        (Destination(QUEUE, "gone", Kind.KEY, {}, Limits()), None, "'gone'"),
        (Destination(QUEUE, "plug", Kind.KEY, {"secret": ["s3cret"]}, Limits()), Plug, "settings"),
    ],
)
def test_a_queue_that_cannot_be_delivered_says_what_to_do(
    destination: Destination | None, connector: Any, word: str
) -> None:
    with pytest.raises(ConfigError) as bad:
        make_line(QUEUE, destination, connector)
    assert word in str(bad.value)
    assert "s3cret" not in str(bad.value)
