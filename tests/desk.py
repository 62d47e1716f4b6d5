"""A desk: admission and intake over a real SQLite file, with a producer that the test holds."""

import asyncio
import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from fastapi import FastAPI

from hub.admission import Admission, ApiKeys, Sweeper
from hub.admission.rows import AdmissionRow, admissions, find_by_reference
from hub.configuration import Client, Configuration, Destination, Limits, Route, RouteTable, Tenant
from hub.connector import Kind
from hub.contract import ENVELOPE, Contract
from hub.errors import BrokerAway
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION, Envelope
from hub.faults import NONE
from hub.gazetteer import Gazetteer
from hub.intake import create_app
from hub.keys import KeyStore
from hub.outcome import Outcome
from hub.store import Store
from hub.topics import REQUESTS, QueueName

AMSTERDAM, ROTTERDAM, BLARICUM, HUIZEN, LAREN = "GM0363", "GM0599", "GM0376", "GM0406", "GM0417"
SUN, MOON, STAR = "999993653", "999990627", "999994669"
START = datetime(2026, 11, 23, 12, tzinfo=UTC)

RELOCATION_BODY: dict[str, Any] = {
    "type": "verhuizing",
    "gemeente": None,
    "aanvrager": {"bsn": SUN},
    "authenticatie": {"middel": "digid", "niveau": "substantieel"},
    "gegevens": {
        "verhuisdatum": "2026-12-01",
        "vorigAdres": {"postcode": "3077AW", "huisnummer": 31, "straatnaam": "Boterdiep"},
        "nieuwAdres": {"postcode": "1011 ab", "huisnummer": 105, "woonplaats": "Amsterdam"},
        "soortBewoning": "hoofdbewoner",
        "meeverhuizers": [{"bsn": MOON, "relatie": "kind"}],
        "contact": {"email": "zon@voorbeeld.nl"},
    },
}
REPORT_BODY: dict[str, Any] = {
    "type": "melding-openbare-ruimte",
    "aanvrager": {},
    "gegevens": {
        "categorie": {"hoofd": "afval", "sub": "grofvuil"},
        "omschrijving": "Er ligt een bank op de stoep",
        "locatie": {"punt": {"lat": 52.3676, "lon": 4.9041}},
        "tijdstip": "2026-11-23T10:00:00+01:00",
    },
}


@dataclass
class Held:
    """A producer whose acks a test can withhold."""

    records: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    headers: list[dict[str, bytes]] = field(default_factory=list)
    away: bool = False
    acks: asyncio.Event | None = None
    """Set: acks come when the event is set."""

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        if self.away:
            raise BrokerAway(f"{topic}: no ack")
        self.records.append((topic, key, value))
        self.headers.append(dict(headers))
        if self.acks is not None:
            await self.acks.wait()


@dataclass
class Projection:
    """The status as far as outcomes have come in."""

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    async def asteps(self, key: str) -> list[Outcome]:
        return self.outcomes.get(key, [])


def changed(body: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of `body` with values set at dotted paths; `...` takes a field out."""
    new = copy.deepcopy(body)
    for path, value in changes.items():
        *way, last = path.split(".")
        place = new
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        last = int(last) if isinstance(place, list) else last
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return new


def relocation(**changes: Any) -> dict[str, Any]:
    return changed(RELOCATION_BODY, changes)


def report(**changes: Any) -> dict[str, Any]:
    return changed(REPORT_BODY, changes)


@dataclass
class Desk:
    """One installation with three municipalities that act; `now` is its clock."""

    folder: Path
    store: Store
    keys: KeyStore
    contract: Contract
    configuration: Configuration
    gazetteer: Gazetteer
    producer: Held = field(default_factory=Held)
    status: Projection = field(default_factory=Projection)
    now: datetime = START

    def __post_init__(self) -> None:
        self.api_keys = ApiKeys(self.store, now=lambda: self.now)
        self.admission = self.make_admission(self.producer)
        self.sweeper = Sweeper(self.admission, self.store, self.status, now=lambda: self.now)

    def make_admission(self, producer: Any) -> Admission:
        return Admission(
            self.store,
            self.keys,
            self.contract,
            self.configuration,
            self.gazetteer,
            producer,
            NONE,
            now=lambda: self.now,
        )

    def app(self) -> FastAPI:
        return create_app(
            self.admission, self.api_keys, self.status, self.configuration, self.gazetteer
        )

    def website(self, tenant: str = AMSTERDAM, client: str = "website") -> httpx.AsyncClient:
        """A client that holds a key of `tenant`."""
        secret = self.api_keys.create_key(tenant, client)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app()),
            base_url="http://hub",
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
        )

    def later(self, **span: float) -> None:
        self.now += timedelta(**span)

    def rows(self) -> list[Any]:
        return self.store.read(lambda c: c.execute(sa.select(admissions)).fetchall())

    def row(self, reference: str) -> AdmissionRow:
        found = self.store.read(lambda c: find_by_reference(c, reference.replace("-", "")))
        assert found is not None
        return found

    def envelopes(self) -> list[Envelope]:
        """What stands on `requests`."""
        return [
            Envelope.from_record(self.contract.decode(value, ENVELOPE).record)
            for topic, _, value in self.producer.records
            if topic == REQUESTS
        ]

    def opened(self, envelope: Envelope) -> list[dict[str, Any]]:
        """The parts in clear, each opened with the keyset of its own subject."""
        return [
            self.contract.decode(
                self.keys.open(
                    envelope.municipality_code,
                    part.subject_ref,
                    envelope.body_schema,
                    envelope.id,
                    part.ciphertext,
                )
            ).record
            for part in envelope.parts
        ]


def as_bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def configuration() -> Configuration:
    places = (AMSTERDAM, ROTTERDAM, BLARICUM, HUIZEN)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    routes = [
        Route(service, "*", "zaken", begin, begin) for service in (RELOCATION, PUBLIC_SPACE_REPORT)
    ]
    queues = [QueueName(place, "zaken") for place in places]
    clients = {
        "website": Client("website", None),
        "formulieren": Client("formulieren", "/kenmerk"),
    }
    return Configuration(
        RouteTable(routes),
        {queue: Destination(queue, "rest", Kind.KEY, {}, Limits()) for queue in queues},
        {place: Tenant(place, clients) for place in (*places, LAREN)},
    )
