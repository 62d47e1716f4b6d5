"""A world for delivery alone: a back-office on loopback, sealed records on queues, services."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web
from confluent_kafka import Consumer, TopicPartition

from hub.admission import METADATA as ADMISSION_TABLES
from hub.broker import Producer
from hub.broker.admin import Admin
from hub.configuration import Configuration, Destination, Limits, RouteTable
from hub.connector import Kind, discover
from hub.contract import CO_MOVER, ENVELOPE, OUTCOME, Contract
from hub.delivery.service import EXIT_AGAIN, DeliveryService
from hub.delivery.store import METADATA as DELIVERY_TABLES
from hub.delivery.store import DeliveryStore
from hub.event import Authentication, Envelope, Part, Payment, mint
from hub.faults import NONE, Faults
from hub.keys import KeyFile, KeyStore, SubjectKind
from hub.outcome import Outcome
from hub.settings import Settings
from hub.store import Store
from hub.topics import CATALOGUE, OUTCOMES, QueueName, queue_spec

PERSON = "999993653"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the back-office saw it."""

    queue: str
    key: str
    lane: str
    number: int
    epoch: int
    body: dict[str, object]


@dataclass
class BackOffice:
    """Records every request; `answers` decides. Effects: first 2xx per key."""

    answers: Callable[[Seen], int] = lambda _: 201
    pause_seconds: float = 0.0
    requests: list[Seen] = field(default_factory=list)
    applied: dict[tuple[str, str], Seen] = field(default_factory=dict)
    under_way: int = 0
    most_under_way: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        seen = Seen(
            request.match_info["queue"],
            request.headers["Idempotency-Key"],
            body["lane"],
            int(body["number"]),
            int(request.headers["X-Delivery-Epoch"]),
            body,
        )
        self.requests.append(seen)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)
            status = self.answers(seen)
        finally:
            self.under_way -= 1
        if status < 300:
            self.applied.setdefault((seen.queue, seen.key), seen)
        self.changed.set()
        return web.json_response({}, status=status)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            # Also looked at now and then: not everything that is awaited shows here.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 0.1)

    def numbers(self, queue: QueueName, lane: str) -> list[int]:
        """Of one lane, in the order of effect."""
        name = queue.topic
        return [s.number for s in self.applied.values() if (s.queue, s.lane) == (name, lane)]

    def repeats(self) -> int:
        return len(self.requests) - len({(s.queue, s.key) for s in self.requests})


@contextlib.asynccontextmanager
async def back_office() -> AsyncIterator[BackOffice]:
    office = BackOffice()
    app = web.Application()
    app.router.add_route("PUT", "/{queue}/{reference}", office.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    office.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield office
    finally:
        await runner.cleanup()


class World:
    """Everything around delivery, on one bootstrap."""

    def __init__(
        self, folder: Path, bootstrap: str, office: BackOffice, group: str | None = None
    ) -> None:
        self.bootstrap, self.office = bootstrap, office
        self.group = group or f"delivery-{uuid.uuid4()}"
        self.pattern = rf"^deliveries\..*-{self.group[-8:]}$"
        """This world's queues only: others on the same broker would be shared out with them."""
        self.settings = Settings(home=folder, drain_seconds=10.0)
        self.contract = Contract.load()
        self.admission = Store(self.settings.database_url("admission"), ADMISSION_TABLES)
        self.delivery = Store(self.settings.database_url("delivery"), DELIVERY_TABLES)
        self.rows = DeliveryStore(self.delivery)
        key_file = KeyFile.open(folder / "keys.json", create=True)
        for place in ("GM0363", "GM0599"):
            key_file.add_municipality(place)
        self.keys = KeyStore(self.admission, key_file, NONE)
        self.producer = Producer(bootstrap, "test", 20.0, linger_ms=1.0)
        self.destinations: dict[QueueName, Destination] = {}
        self.limits = Limits(request_timeout_seconds=5.0)
        self._count = 0

    def queue(self, name: str, municipality_code: str = "GM0363", **more: object) -> QueueName:
        """A new queue with a configured destination; `more` goes to its settings."""
        return self.deliver_to(QueueName(municipality_code, f"{name}-{self.group[-8:]}"), **more)

    def deliver_to(self, queue: QueueName, **more: object) -> QueueName:
        settings = {
            "method": "PUT",
            "url": f"{self.office.url}/{queue.topic}/{{envelope.reference}}",
            "body": {
                "lane": "{envelope.product}",
                "number": "{envelope.traceparent}",
                "bsn": "{parts.0.bsn}",
            },
            **more,
        }
        self.destinations[queue] = Destination(queue, "rest", Kind.KEY, settings, self.limits)
        return queue

    def make_topics(self) -> None:
        with Admin(self.bootstrap) as admin:
            admin.ensure_topics([*CATALOGUE, *map(queue_spec, self.destinations)])

    def event(self, queue: QueueName, lane: str, number: int) -> tuple[Envelope, bytes]:
        """A sealed event; the connector reads lane and number from fields nobody else needs."""
        self._count += 1
        minted = mint(b"k" * 32, queue.municipality_code, str(queue), str(self._count))
        place, schema = queue.municipality_code, f"{CO_MOVER}.v1"
        body = self.contract.encode(CO_MOVER, {"bsn": PERSON, "relation": "child"})

        def seal(connection: object) -> tuple[str, bytes]:
            subject = self.keys.subject(connection, place, SubjectKind.PERSON, lane)  # type: ignore[arg-type]
            sealed = self.keys.seal(connection, place, subject, schema, minted.id, body)  # type: ignore[arg-type]
            return subject, sealed

        subject, sealed = self.admission.write(seal).result()
        now = datetime.now(UTC)
        envelope = Envelope(
            id=minted.id,
            source="urn:test",
            type="nl.midoffice.test",
            time=now,
            reference=minted.reference,
            origin=place,
            municipality_code=place,
            service="relocation",
            product=lane,
            subject_ref=subject,
            intake_channel="api",
            admitted_at=now,
            route_version="test",
            body_schema=schema,
            traceparent=str(number),
            authentication=Authentication("none"),
            payment=Payment("not_needed"),
            attachments=(),
            parts=(Part(subject, sealed),),
        )
        return envelope, self.contract.encode(ENVELOPE, envelope.to_record())

    async def put(
        self, queue: QueueName, lanes: Sequence[str], first: int, count: int
    ) -> list[Envelope]:
        """`count` events, numbered from `first`, over `lanes` in turn; in the log in this order."""
        made = [self.event(queue, lanes[n % len(lanes)], n) for n in range(first, first + count)]
        sends = [
            self.producer.send(queue.topic, e.subject_ref.encode(), value) for e, value in made
        ]
        await asyncio.gather(*sends)
        return [envelope for envelope, _ in made]

    def service(self, producer: Producer, slot: int = 0, faults: Faults = NONE) -> DeliveryService:
        return DeliveryService(
            settings=self.settings,
            configuration=Configuration(RouteTable([]), self.destinations, {}),
            connectors=discover(),
            bootstrap=self.bootstrap,
            store=self.rows,
            keys=self.keys,
            contract=self.contract,
            producer=producer,
            faults=faults,
            instance_id=f"{self.group}-{slot}",
            group=self.group,
            pattern=self.pattern,
        )

    @contextlib.asynccontextmanager
    async def delivering(self, slot: int = 0) -> AsyncIterator[DeliveryService]:
        """A service with a producer of its own, stopped as by SIGTERM."""
        producer = Producer(self.bootstrap, f"delivery-{slot}", 8.0)
        service = self.service(producer, slot)
        running = asyncio.create_task(service.run())
        try:
            yield service
        finally:
            service.stop()
            code = await running
            await producer.close()
        assert code == 0, code

    @contextlib.asynccontextmanager
    async def supervised(self, slot: int = 0) -> AsyncIterator[None]:
        """As `delivering`, and started again where it asks for that, as the supervisor does.

        After a broker restart a static member may be fenced by its own second join; it ends with
        75 then, and only a new process (here: a new service) delivers again.
        """
        running: list[DeliveryService] = []

        async def run() -> int:
            while True:
                producer = Producer(self.bootstrap, f"delivery-{slot}", 8.0)
                running.append(self.service(producer, slot))
                code = await running[-1].run()
                await producer.close()
                if code != EXIT_AGAIN:
                    return code

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            running[-1].stop()
            code = await task
        assert code == 0, code

    def outcomes(self, expected: int) -> list[Outcome]:
        """At least `expected` outcomes of this world's events, read from the start of the topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "test-outcomes",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.assign([TopicPartition(OUTCOMES, p, 0) for p in range(12)])
        ours = {str(queue) for queue in self.destinations}
        found: list[Outcome] = []
        try:
            while len(found) < expected:
                message = consumer.poll(20.0)
                assert message is not None, f"{len(found)} outcomes of {expected}"
                assert message.error() is None, message.error()
                record = self.contract.decode(message.value() or b"", OUTCOME).record
                outcome = Outcome.from_record(record)
                if outcome.destination in ours:
                    found.append(outcome)
        finally:
            consumer.close()
        return found

    async def close(self) -> None:
        await self.producer.close()
        self.admission.close()
        self.delivery.close()
