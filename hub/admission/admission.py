"""One function for every door: from a posted body to a durable, sealed event that Kafka has.

Order (rules 1 to 3): the admission row, keysets and sealed bytes in one transaction, state
`pending`; then produce and wait for the ack; then mark; then answer. A kill in between leaves a
pending row, which the next repeat or the sweeper brings to Kafka under the same id.

Failure policy: StoreAway and BrokerAway mean "unknown", the caller sends again with the same key.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from hub.admission import rows
from hub.admission.api_keys import Principal
from hub.admission.bodies import EVENT_KINDS, PartBody, effective_date_of, parts_of
from hub.admission.formats import MAX_DAYS_AHEAD, Rules
from hub.admission.handler import find_handler
from hub.admission.reading import AdmissionRequest, canonical, read
from hub.admission.requests import Request
from hub.admission.rows import AdmissionRow, AdmissionState
from hub.configuration import Configuration
from hub.contract import ENVELOPE, Contract
from hub.errors import InvalidField, Refused, StoreAway
from hub.event import Attachment, Authentication, Envelope, Minted, Part, Payment, length_prefixed
from hub.event import mint as mint_ids
from hub.faults import Faults
from hub.gazetteer import Gazetteer
from hub.keys import KeyStore
from hub.store import Store
from hub.topics import REQUESTS

_HERE: Final = ZoneInfo("Europe/Amsterdam")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_KEY: Final = 255


class KeyReused(Refused):
    """The idempotency key stands for another body (409)."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_reused",
            "Deze sleutel hoort bij een eerder verzoek met een andere inhoud. "
            "Gebruik voor een nieuw verzoek een nieuwe sleutel.",
        )


class SubjectErased(Refused):
    """A repeat of a request whose subject was erased since (410). `reference` without dashes."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            "subject_erased",
            "De gegevens van dit verzoek zijn op verzoek gewist; het is afgesloten.",
        )
        self.reference = reference


class Sends(Protocol):
    """What admission needs of a producer: back when Kafka has acked, else BrokerAway."""

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """Kafka has it. `reference` is without dashes; `repeat`: it had been posted before."""

    id: str
    reference: str
    repeat: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything about a new request that needs no database."""

    principal: Principal
    idempotency_key: str = field(repr=False)
    key_mark: bytes
    request: Request
    intake_channel: str
    handler: str
    bodies: tuple[tuple[PartBody, bytes], ...] = field(repr=False)
    traceparent: str
    admitted_at: datetime


class Admission:
    """Safe for many requests at once on one event loop."""

    def __init__(
        self,
        store: Store,
        keys: KeyStore,
        contract: Contract,
        configuration: Configuration,
        gazetteer: Gazetteer,
        producer: Sends,
        faults: Faults,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._keys = keys
        self._contract = contract
        self._configuration = configuration
        self._gazetteer = gazetteer
        self._producer = producer
        self._faults = faults
        self._now = now
        self._categories = frozenset(
            key for key, known in gazetteer.report_categories.items() if known.active
        )

    async def admit(
        self,
        principal: Principal,
        request: AdmissionRequest,
        idempotency_key: str,
        traceparent: str | None = None,
    ) -> Admitted:
        """Accept `request`, or find that it was accepted before; back once Kafka has it.

        Raises Refused (nothing was done; KeyReused, SubjectErased), StoreAway or BrokerAway.
        """
        key_mark = self._key_mark(principal, idempotency_key)
        try:
            plan = self._plan(principal, request, idempotency_key, key_mark, traceparent)
        except Refused:
            # Days, tables and routes change: what was accepted before is not refused now.
            known = await self._store.aread(
                lambda c: rows.find_by_key(c, principal.tenant, principal.client, key_mark)
            )
            if known is None:
                raise
            return await self._repeat(known, read(request, None))
        row, new = await self._store.awrite(lambda c: self._write(c, plan))
        if not new:
            return await self._repeat(row, plan.request)
        self._faults.crash("admission.after_commit")
        await self.publish(row)
        return Admitted(row.id, row.reference, repeat=False)

    async def publish(self, row: AdmissionRow) -> None:
        """Bring a pending row to Kafka, wait for the ack, mark it. Any repeat is harmless."""
        assert row.sealed is not None, "a pending row has its bytes"
        headers = self._headers(row.sealed)
        await self._producer.send(REQUESTS, row.subject_ref.encode(), row.sealed, headers)
        self._faults.crash("admission.after_produce")
        await self.mark(row)
        self._faults.crash("admission.after_mark")

    async def mark(self, row: AdmissionRow) -> None:
        """Kafka is known to have it."""
        await self._store.awrite(lambda c: rows.accept(c, row.id))

    async def find(self, principal: Principal, reference: str) -> AdmissionRow | None:
        """The row of `reference` (without dashes) if this origin posted it."""
        row = await self._store.aread(lambda c: rows.find_by_reference(c, reference))
        return row if row is not None and row.origin == principal.tenant else None

    def faults_of(self, posted: AdmissionRequest) -> tuple[InvalidField, ...]:
        """What is wrong with a body, for a door that has a fault of its own to report with it."""
        try:
            read(posted, self._rules(self._now()))
        except Refused as refused:
            return refused.fields
        return ()

    async def _repeat(self, row: AdmissionRow, request: Request) -> Admitted:
        """Rule 1: what is pending is produced again and acked before the answer."""
        erased = await asyncio.to_thread(self._keys.erased, row.municipality_code, row.subject_ref)
        if erased or row.body_mark is None:
            raise SubjectErased(row.reference)
        if self._body_mark(row.municipality_code, request) != row.body_mark:
            raise KeyReused
        if row.state is AdmissionState.PENDING:
            await self.publish(row)
        return Admitted(row.id, row.reference, repeat=True)

    def _plan(
        self,
        principal: Principal,
        posted: AdmissionRequest,
        idempotency_key: str,
        key_mark: bytes,
        traceparent: str | None,
    ) -> _Plan:
        now = self._now()
        request = read(posted, self._rules(now))
        handler = find_handler(self._gazetteer, request, principal.tenant)
        if self._configuration.route_for(request.service, handler, now) is None:
            raise Refused(
                "no_route",
                "De gemeente die dit moet behandelen, neemt deze dienst niet via deze weg aan.",
                candidates=(handler,),
            )
        bodies = tuple(
            (body, self._contract.encode(body.schema, body.record)) for body in parts_of(request)
        )
        trace = traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None
        return _Plan(
            principal,
            idempotency_key,
            key_mark,
            request,
            posted.intake_channel,
            handler,
            bodies,
            trace or _new_trace(),
            now,
        )

    def _rules(self, now: datetime) -> Rules:
        """Days are those of the Netherlands, whatever the clock of this machine is set to."""
        last_day = now.astimezone(_HERE).date() + timedelta(days=MAX_DAYS_AHEAD)
        return Rules(last_day, self._categories)

    def _write(self, connection: Connection, plan: _Plan) -> tuple[AdmissionRow, bool]:
        """The one transaction: the row of before, or ids, keysets, sealed bytes and a new row."""
        key = (plan.principal.tenant, plan.principal.client, plan.key_mark)
        known = rows.find_by_key(connection, *key)
        if known is not None:
            return known, False
        minted = mint_ids(
            self._keys.id_key, plan.principal.tenant, plan.principal.client, plan.idempotency_key
        )
        envelope = self._envelope(connection, plan, minted)
        row = AdmissionRow(
            id=minted.id,
            reference=minted.reference,
            origin=plan.principal.tenant,
            client=plan.principal.client,
            municipality_code=plan.handler,
            service=plan.request.service,
            subject_ref=envelope.subject_ref,
            admitted_at=plan.admitted_at,
            state=AdmissionState.PENDING,
            key_mark=plan.key_mark,
            body_mark=self._body_mark(plan.handler, plan.request),
            sealed=self._contract.encode(ENVELOPE, envelope.to_record()),
        )
        if not rows.insert(connection, row):
            # Another process was faster (PostgreSQL only); its row is committed by now.
            known = rows.find_by_key(connection, *key)
            if known is None:
                raise StoreAway(f"admission {minted.id}: its reference or id is taken; try again")
            return known, False
        self._faults.crash("admission.before_commit")
        return row, True

    def _envelope(self, connection: Connection, plan: _Plan, minted: Minted) -> Envelope:
        """Every part sealed under the keyset of its own subject, at the handler (decision 11)."""
        kind, request = EVENT_KINDS[plan.request.service], plan.request
        body_schema = self._contract.body_schema(plan.bodies[0][0].schema)
        parts = []
        for body, plaintext in plan.bodies:
            subject = self._keys.subject(
                connection, plan.handler, body.who.kind, body.who.identity or minted.id
            )
            sealed = self._keys.seal(
                connection, plan.handler, subject, body_schema, minted.id, plaintext
            )
            parts.append(Part(subject, sealed))
        return Envelope(
            id=minted.id,
            source=self._source(plan.principal),
            type=kind.type,
            time=plan.admitted_at,
            reference=minted.reference,
            origin=plan.principal.tenant,
            municipality_code=plan.handler,
            service=request.service,
            product=kind.product,
            subject_ref=parts[0].subject_ref,
            intake_channel=plan.intake_channel,
            admitted_at=plan.admitted_at,
            route_version=self._configuration.routes.version_at(plan.admitted_at),
            body_schema=body_schema,
            traceparent=plan.traceparent,
            authentication=Authentication(
                request.authentication.means, request.authentication.level
            ),
            payment=Payment("not_needed"),
            attachments=tuple(Attachment(**a.model_dump()) for a in request.attachments),
            parts=tuple(parts),
            effective_date=effective_date_of(request),
        )

    def _source(self, principal: Principal) -> str:
        """CloudEvents source: a URN of the poster by its OIN (NL GOV profile)."""
        code = self._gazetteer.successor(principal.tenant) or principal.tenant
        known = self._gazetteer.municipalities.get(code)
        owner = f"oin:{known.oin}" if known else f"gemeentecode:{code.removeprefix('GM')}"
        return f"urn:nld:{owner}:systeem:{principal.client}"

    def _headers(self, sealed: bytes) -> list[tuple[str, bytes]]:
        """CloudEvents attributes for readers that are not ours; the hub never reads them."""
        envelope = Envelope.from_record(self._contract.decode(sealed, ENVELOPE).record)
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": envelope.id,
            "ce_source": envelope.source,
            "ce_type": envelope.type,
            "ce_time": envelope.time.isoformat(),
            "traceparent": envelope.traceparent,
        }
        return [(name, value.encode()) for name, value in attributes.items()]

    def _key_mark(self, principal: Principal, idempotency_key: str) -> bytes:
        if not (0 < len(idempotency_key) <= _MAX_KEY and idempotency_key.isprintable()):
            raise Refused(
                "idempotency_key_invalid",
                f"Een sleutel tegen herhaling heeft 1 tot {_MAX_KEY} zichtbare tekens.",
            )
        words = length_prefixed("key", principal.client, idempotency_key)
        return self._keys.fingerprint(principal.tenant, words)

    def _body_mark(self, handler: str, request: Request) -> bytes:
        return self._keys.fingerprint(handler, b"body" + canonical(request))


def _new_trace() -> str:
    random = secrets.token_hex(24)
    return f"00-{random[:32]}-{random[32:]}-01"


def erase_subject(store: Store, keys: KeyStore, tenant: str, subject_ref: str) -> None:
    """Forget a subject for good: its keyset and what a guess at its bodies could be tried on.

    For commands: waits for the writer thread. Repeats do nothing more.
    """

    def work(connection: Connection) -> None:
        keys.forget(connection, tenant, subject_ref)
        rows.forget(connection, tenant, subject_ref)

    store.write(work).result()
    keys.drop(tenant, subject_ref)
