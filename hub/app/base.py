"""What every process starts from: configuration, contract, faults, keys."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from hub import broker
from hub.configuration import Configuration, accept_routes
from hub.connector import discover
from hub.contract import Contract
from hub.errors import ConfigError
from hub.faults import Faults
from hub.keys import METADATA as KEY_TABLES
from hub.keys import KeyFile, KeyStore
from hub.settings import Settings
from hub.store import Store

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


def open_store(settings: Settings, name: str, tables: sa.MetaData, stack: ExitStack) -> Store:
    store = Store(settings.database_url(name), tables)
    stack.callback(store.close)
    return store


def key_file_of(settings: Settings, store: Store) -> KeyFile:
    """The key file; made only where nothing was ever sealed.

    Failure policy: a key file that has gone missing is not replaced. A new one would open nothing
    of what is under way, and whoever puts the old one back would lose what came since.
    """
    known = store.read(lambda c: c.execute(sa.text("SELECT 1 FROM keysets LIMIT 1")).first())
    return KeyFile.open(settings.key_file(), create=known is None)


def key_store(base: Base, stack: ExitStack) -> tuple[Store, KeyStore]:
    store = open_store(base.settings, "admission", KEY_TABLES, stack)
    key_file = key_file_of(base.settings, store)
    tenants = base.configuration.handlers() | set(base.configuration.tenants)
    for municipality_code in sorted(tenants - set(key_file.municipalities)):
        key_file.add_municipality(municipality_code)
    return store, KeyStore(store, key_file, base.faults)
