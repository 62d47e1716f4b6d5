"""The one wiring file: settings in, running processes and operators' commands out."""

import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from hub import agents, broker, faust_adapter
from hub.admission import METADATA as ADMISSION_TABLES
from hub.admission import Admission, ApiKeys, Sweeper, erase_subject, find_by_reference
from hub.broker import Producer
from hub.broker.admin import Admin
from hub.configuration import Configuration, accept_routes
from hub.connector import discover
from hub.contract import Contract
from hub.delivery.effects import CommandKind
from hub.delivery.service import DELIVERY_GROUP, DeliveryService
from hub.delivery.store import METADATA as DELIVERY_TABLES
from hub.delivery.store import DeliveryStore, ParkedRow
from hub.errors import ConfigError, Refused
from hub.event import read_reference
from hub.faults import Faults
from hub.gazetteer import Gazetteer
from hub.intake import create_app, serve
from hub.keys import KeyFile, KeyStore, SubjectKind
from hub.outcome import METADATA as STATUS_TABLES
from hub.outcome import Outcome, RequestStatus, StatusStore, fold
from hub.privacy import Bsn
from hub.quarantine import Quarantine
from hub.routing.step import RoutingStep
from hub.settings import Settings
from hub.store import Store
from hub.topics import CATALOGUE, queue_spec
from hub.worker import Supervisor, end_with_parent, instance_id

WAY_GROUP: Final = "hub-way"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class Base:
    """What every process of the hub has."""

    settings: Settings
    configuration: Configuration
    contract: Contract
    faults: Faults
    bootstrap: str


def load(settings: Settings) -> Base:
    """Raises ConfigError with file, line and remedy for whatever cannot be used."""
    accept_routes(settings.config, settings.home / "routes.accepted.toml")
    bootstrap = broker.bootstrap(settings)
    _refuse_faults_off_loopback(settings, bootstrap)
    return Base(
        settings,
        Configuration.load(settings.config, discover()),
        Contract.load(),
        Faults(settings.crash_at, settings.fault, settings.home),
        bootstrap,
    )


def _refuse_faults_off_loopback(settings: Settings, bootstrap: str) -> None:
    """Decision 30: faults are planted on this machine only, whatever the reason they are set."""
    if not (settings.fault or settings.crash_at):
        return
    hosts = [address.rsplit(":", 1)[0] for address in bootstrap.split(",")]
    for host in (*hosts, settings.intake_host):
        if host not in _LOOPBACK:
            raise ConfigError(
                f"HUB_FAULT and HUB_CRASH_AT are for tests on one machine, and {host} is not this "
                "one: unset them"
            )


def _store(settings: Settings, name: str, tables: sa.MetaData, stack: ExitStack) -> Store:
    store = Store(settings.database_url(name), tables)
    stack.callback(store.close)
    return store


def _key_file(settings: Settings, store: Store) -> KeyFile:
    """The key file; made only where nothing was ever sealed.

    Failure policy: a key file that has gone missing is not replaced. A new one would open nothing
    of what is under way, and whoever puts the old one back would lose what came since.
    """
    known = store.read(lambda c: c.execute(sa.text("SELECT 1 FROM keysets LIMIT 1")).first())
    return KeyFile.open(settings.key_file(), create=known is None)


def _key_store(base: Base, stack: ExitStack) -> tuple[Store, KeyStore]:
    store = _store(base.settings, "admission", ADMISSION_TABLES, stack)
    key_file = _key_file(base.settings, store)
    tenants = base.configuration.handlers() | set(base.configuration.tenants)
    for municipality_code in sorted(tenants - set(key_file.municipalities)):
        key_file.add_municipality(municipality_code)
    return store, KeyStore(store, key_file, base.faults)


# --- processes ------------------------------------------------------------------------------


def run_intake(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    base = load(settings)
    with ExitStack() as stack:
        store, keys = _key_store(base, stack)
        status = StatusStore(_store(settings, "status", STATUS_TABLES, stack))
        producer = Producer(base.bootstrap, "hub-intake", settings.produce_timeout_seconds)
        gazetteer = Gazetteer.load()
        admission = Admission(
            store, keys, base.contract, base.configuration, gazetteer, producer, base.faults
        )
        app = create_app(
            admission,
            ApiKeys(store),
            status,
            base.configuration,
            gazetteer,
            sweeper=Sweeper(admission, store, status),
            close=producer.close,
        )
        serve(settings, app)


def prepare(settings: Settings) -> Base:
    """What must hold before a worker starts: cluster fit, topics there, keys made.

    Topics first: a Faust consumer ignores for good what is missing at its start.
    """
    base = load(settings)
    with Admin(base.bootstrap) as admin:
        queues = sorted(base.configuration.destinations)
        admin.ensure_topics([*CATALOGUE, *map(queue_spec, queues)])
        problems = admin.check_cluster()
    if problems:
        raise ConfigError("; ".join(f"{p.text}: {p.remedy}" for p in problems))
    with ExitStack() as stack:
        _key_store(base, stack)
    return base


def run_worker(settings: Settings) -> int:
    """Supervise the way and delivery until SIGTERM or SIGINT."""
    base = prepare(settings)

    def remove_members(slot: int) -> None:
        with Admin(base.bootstrap) as admin:
            for group in (WAY_GROUP, DELIVERY_GROUP):
                admin.remove_group_members(group, [instance_id(group, slot)])

    return Supervisor(settings.home, settings.worker_slot, remove_members).run()


def run_way(settings: Settings, slot: int) -> None:
    """The Faust process; its exit codes are those of hub/faust_adapter.py."""
    end_with_parent()
    base = load(settings)
    app = faust_adapter.make_app(
        WAY_GROUP,
        base.bootstrap,
        instance_id(WAY_GROUP, slot),
        settings.home / "way" / f"data-{slot}",
        settings.session_timeout_seconds,
    )
    send = faust_adapter.Sender(app, settings.produce_timeout_seconds)
    with ExitStack() as stack:
        _, keys = _key_store(base, stack)
        quarantine = Quarantine(base.contract, keys, send)
        way = agents.Way(
            base.contract,
            RoutingStep(base.contract, base.configuration.routes, send, quarantine, base.faults),
            StatusStore(_store(settings, "status", STATUS_TABLES, stack)),
            quarantine,
            base.faults,
        )
        agents.define(app, way, settings.retry_in_place_seconds, _single_step())
        faust_adapter.run(app)


def _single_step() -> faust_adapter.SingleStep | None:
    """Set by the supervisor after two unexpected deaths in a row (decision 28)."""
    place = os.environ.get("HUB_SINGLE_STEP")
    if not place:
        return None
    named = json.loads(os.environ.get("HUB_POISON", "null"))
    return faust_adapter.SingleStep(Path(place), tuple(named) if named else None)


def run_delivery(settings: Settings, slot: int) -> int:
    """The delivery process. Returns its exit code."""
    end_with_parent()
    base = load(settings)

    async def deliver() -> int:
        with ExitStack() as stack:
            _, keys = _key_store(base, stack)
            producer = Producer(base.bootstrap, "hub-delivery", settings.produce_timeout_seconds)
            service = DeliveryService(
                settings=settings,
                configuration=base.configuration,
                connectors=discover(),
                bootstrap=base.bootstrap,
                store=DeliveryStore(_store(settings, "delivery", DELIVERY_TABLES, stack)),
                keys=keys,
                contract=base.contract,
                producer=producer,
                faults=base.faults,
                instance_id=instance_id(DELIVERY_GROUP, slot),
            )
            try:
                return await service.run()
            finally:
                await producer.close()

    return asyncio.run(deliver())


# --- operators' commands --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """One request as staff see it: its status, and every outcome behind it."""

    reference: str
    event_id: str
    handler: str
    status: RequestStatus
    outcomes: tuple[Outcome, ...]


def request_report(settings: Settings, written: str) -> Report:
    """Raises Refused for a reference that is misread or not ours."""
    reference = _reference(written)
    with ExitStack() as stack:
        store = _store(settings, "admission", ADMISSION_TABLES, stack)
        row = store.read(lambda c: find_by_reference(c, reference))
        if row is None:
            raise Refused("unknown_reference", f"{written}: no request of this hub")
        status = StatusStore(_store(settings, "status", STATUS_TABLES, stack))
        outcomes = status.steps(row.id)
        return Report(reference, row.id, row.municipality_code, fold(outcomes), tuple(outcomes))


def parked(settings: Settings, destination: str | None) -> list[ParkedRow]:
    """What stands parked, in log order per destination."""
    with ExitStack() as stack:
        store = DeliveryStore(_store(settings, "delivery", DELIVERY_TABLES, stack))
        return store.list_parked(destination)


def command(settings: Settings, kind: CommandKind, event_id: str, reason: str, by: str) -> int:
    """Ask the owner of a parked record's queue; raises Refused `not_parked`."""
    with ExitStack() as stack:
        store = DeliveryStore(_store(settings, "delivery", DELIVERY_TABLES, stack))
        return store.request_command(kind, event_id, reason, by)


def erase(
    settings: Settings, written: str | None, bsn: str | None, municipality_code: str | None
) -> int:
    """Forget the subject of a request, or a person by BSN; returns how many subjects that were.

    Raises Refused where neither or both are given, or nobody is known.
    """
    if (written is None) == (bsn is None):
        raise Refused("who", "give a reference, or --bsn-stdin with the BSN on standard input")
    with ExitStack() as stack:
        store = _store(settings, "admission", ADMISSION_TABLES, stack)
        key_file = _key_file(settings, store)
        keys = KeyStore(store, key_file, Faults(None, None, settings.home))
        if written is not None:
            found = [_subject_of(store, written)]
        else:
            tenants = [municipality_code] if municipality_code else key_file.municipalities
            found = _subjects_of(keys, bsn or "", tenants)
        for tenant, subject_ref in found:
            erase_subject(store, keys, tenant, subject_ref)
        return len(found)


def _subject_of(store: Store, written: str) -> tuple[str, str]:
    row = store.read(lambda c: find_by_reference(c, _reference(written)))
    if row is None:
        raise Refused("unknown_reference", f"{written}: no request of this hub")
    return row.municipality_code, row.subject_ref


def _subjects_of(keys: KeyStore, bsn: str, tenants: Iterable[str]) -> list[tuple[str, str]]:
    try:
        person = Bsn(bsn).reveal()
    except ValueError as error:
        raise Refused("bsn", str(error)) from None
    found = [(t, keys.find(t, SubjectKind.PERSON, person)) for t in tenants]
    known = [(t, subject_ref) for t, subject_ref in found if subject_ref]
    if not known:
        raise Refused("unknown_person", "nobody with this BSN is known there")
    return known


def create_api_key(settings: Settings, municipality_code: str, client: str) -> str:
    """A new secret for a client that the configuration names. Raises ConfigError, Refused."""
    configuration = Configuration.load(settings.config, discover())
    tenant = configuration.tenants.get(municipality_code)
    if tenant is None or client not in tenant.clients:
        file = settings.config / "tenants" / f"{municipality_code}.toml"
        raise ConfigError(f"{file} names no client {client!r}: add the line [clients.{client}]")
    with ExitStack() as stack:
        store = _store(settings, "admission", ADMISSION_TABLES, stack)
        return ApiKeys(store).create_key(municipality_code, client)


def _reference(written: str) -> str:
    try:
        return read_reference(written)
    except ValueError as error:
        raise Refused("reference", f"{written}: {error}") from None
