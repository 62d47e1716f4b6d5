"""The demo and the hub understand each other: what it posts is admitted and reaches its office."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hub.admission import METADATA, Admission, AdmissionRequest, Principal
from hub.admission.formats import MAX_DAYS_AHEAD, Rules
from hub.admission.reading import read
from hub.configuration import Configuration
from hub.connector import Deliverable, discover
from hub.contract import ENVELOPE, Contract
from hub.demo.backoffice import MARK_REFUSED, MARK_UNREADABLE
from hub.demo.installation import write_configuration
from hub.demo.loader import CLIENT
from hub.demo.people import load_places
from hub.demo.requests import DemoRequest, generate, spoil, today
from hub.event import Envelope
from hub.faults import NONE
from hub.gazetteer import Gazetteer
from hub.keys import KeyFile, KeyStore
from hub.store import Store
from hub.topics import QueueName


class Office:
    """Admission with the demo's configuration, and its connectors at the other end."""

    def __init__(self, folder: Path, contract: Contract, gazetteer: Gazetteer) -> None:
        places = load_places(gazetteer)
        write_configuration(folder / "config", places, {place.code: 20_000 for place in places})
        self.configuration = Configuration.load(folder / "config")
        file = KeyFile.open(folder / "keys.json", create=True)
        for place in places:
            for website in place.websites:
                file.add_municipality(website)
        self.store = Store(f"sqlite:///{folder}/admission.db", METADATA)
        self._keys = KeyStore(self.store, file, NONE)
        self._contract = contract
        self._sent: list[bytes] = []
        self._rest = discover()["rest"]
        self._admission = Admission(
            self.store, self._keys, contract, self.configuration, gazetteer, self, NONE
        )

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        self._sent.append(value)

    async def admit(self, request: DemoRequest) -> Envelope:
        body = AdmissionRequest(json.dumps(request.body).encode())
        await self._admission.admit(Principal(request.origin, CLIENT), body, request.key)
        return Envelope.from_record(self._contract.decode(self._sent[-1], ENVELOPE).record)

    def message(self, envelope: Envelope, destination: str) -> str:
        """What the back-office gets."""
        parts = [
            self._contract.decode(
                self._keys.open(
                    envelope.municipality_code,
                    part.subject_ref,
                    envelope.body_schema,
                    envelope.id,
                    part.ciphertext,
                )
            ).record
            for part in envelope.parts
        ]
        queue = QueueName(envelope.municipality_code, destination)
        settings = self.configuration.destinations[queue].settings
        connector = self._rest(self._rest.Config.model_validate(settings))
        return connector.build(Deliverable(envelope, tuple(parts))).body.decode()


@pytest.fixture
def office(tmp_path: Path, contract: Contract, gazetteer: Gazetteer) -> Iterator[Office]:
    made = Office(tmp_path, contract, gazetteer)
    yield made
    made.store.close()


async def test_every_request_is_admitted_for_the_handler_that_the_harness_expects(
    office: Office,
) -> None:
    subjects: dict[str, set[str]] = {}
    for request in generate(11, 150, today()):
        envelope = await office.admit(request)
        assert envelope.municipality_code == request.handler
        subjects.setdefault(f"{request.handler}/{request.subject}", set()).add(envelope.subject_ref)
        message = json.loads(office.message(envelope, request.destination))
        assert message["referentie"] == envelope.reference
        assert message["burger"] == request.body["aanvrager"].get("bsn")
    # The harness counts order per subject: it must mean what the hub means by it.
    assert all(len(refs) == 1 for refs in subjects.values())
    assert len(set.union(*subjects.values())) == len(subjects)


def test_a_long_stream_is_as_the_door_wants_it(gazetteer: Gazetteer) -> None:
    day = today()
    latest = day + timedelta(days=MAX_DAYS_AHEAD)
    categories = gazetteer.report_categories
    # So many that every test person takes part, with the oddest address of the set.
    for request in generate(1, 6000, day):
        body = AdmissionRequest(json.dumps(request.body).encode())
        read(body, Rules(latest, categories))


async def test_planned_marks_reach_the_back_office(office: Office) -> None:
    requests = generate(12, 40, today())
    chosen = {request.service: request for request in requests}
    assert len(chosen) == 2
    for request in chosen.values():
        for status, mark in ((400, MARK_UNREADABLE), (422, MARK_REFUSED)):
            spoiled = replace(spoil(request, status), key=f"{request.key}-{status}")
            envelope = await office.admit(spoiled)
            assert mark in office.message(envelope, request.destination)
