"""What people ask by command: one request, what is parked, erasure, keys of websites."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from hub.admission import METADATA as ADMISSION_TABLES
from hub.admission import ApiKey, ApiKeys, erase_subject, find_by_reference
from hub.app.base import key_file_of, open_store
from hub.configuration import Configuration
from hub.connector import discover
from hub.delivery.effects import CommandKind
from hub.delivery.store import METADATA as DELIVERY_TABLES
from hub.delivery.store import DeliveryStore, ParkedRow
from hub.errors import ConfigError, Refused
from hub.event import read_reference
from hub.faults import Faults
from hub.keys import KeyStore, SubjectKind
from hub.outcome import METADATA as STATUS_TABLES
from hub.outcome import Outcome, RequestStatus, StatusStore, fold
from hub.privacy import Bsn
from hub.settings import Settings
from hub.store import Store


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
        store = open_store(settings, "admission", ADMISSION_TABLES, stack)
        row = store.read(lambda c: find_by_reference(c, reference))
        if row is None:
            raise Refused("unknown_reference", f"{written}: no request of this hub")
        status = StatusStore(open_store(settings, "status", STATUS_TABLES, stack))
        outcomes = status.steps(row.id)
        return Report(reference, row.id, row.municipality_code, fold(outcomes), tuple(outcomes))


def parked(settings: Settings, destination: str | None) -> list[ParkedRow]:
    """What stands parked, in log order per destination."""
    with ExitStack() as stack:
        store = DeliveryStore(open_store(settings, "delivery", DELIVERY_TABLES, stack))
        return store.list_parked(destination)


def resend(settings: Settings, event_id: str, by: str) -> None:
    """Ask the owner of a parked record's queue to send it again. Raises Refused `not_parked`."""
    _command(settings, CommandKind.RESEND, event_id, "", by)


def skip(settings: Settings, event_id: str, reason: str, by: str) -> None:
    """Ask the owner of a parked record's queue to give it up. Raises Refused `not_parked`."""
    _command(settings, CommandKind.SKIP, event_id, reason, by)


def _command(settings: Settings, kind: CommandKind, event_id: str, reason: str, by: str) -> None:
    with ExitStack() as stack:
        store = DeliveryStore(open_store(settings, "delivery", DELIVERY_TABLES, stack))
        store.request_command(kind, event_id, reason, by)


def erase(
    settings: Settings, written: str | None, bsn: str | None, municipality_code: str | None
) -> int:
    """Forget the subject of a request, or a person by BSN; returns how many subjects that were.

    Raises Refused where neither or both are given, or nobody is known.
    """
    if (written is None) == (bsn is None):
        raise Refused("who", "give a reference, or --bsn-stdin with the BSN on standard input")
    with ExitStack() as stack:
        store = open_store(settings, "admission", ADMISSION_TABLES, stack)
        key_file = key_file_of(settings, store)
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
        store = open_store(settings, "admission", ADMISSION_TABLES, stack)
        return ApiKeys(store).create_key(municipality_code, client)


def api_keys(settings: Settings, municipality_code: str) -> list[ApiKey]:
    """The keys of a tenant, the dead ones too, oldest first."""
    with ExitStack() as stack:
        store = open_store(settings, "admission", ADMISSION_TABLES, stack)
        return ApiKeys(store).keys_of(municipality_code)


def revoke_api_key(settings: Settings, municipality_code: str, key_id: str) -> None:
    """End a key; every process refuses it within 5 seconds. Raises Refused `unknown_key`."""
    with ExitStack() as stack:
        store = open_store(settings, "admission", ADMISSION_TABLES, stack)
        if not ApiKeys(store).revoke(municipality_code, key_id):
            raise Refused("unknown_key", f"{municipality_code} has no living key {key_id}")


def _reference(written: str) -> str:
    try:
        return read_reference(written)
    except ValueError as error:
        raise Refused("reference", f"{written}: {error}") from None
