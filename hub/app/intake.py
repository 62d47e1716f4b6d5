"""`hub intake`."""

from contextlib import ExitStack

from hub.admission import Admission, ApiKeys, Sweeper
from hub.app.base import key_store, load, open_store
from hub.broker import Producer
from hub.gazetteer import Gazetteer
from hub.intake import create_app, serve
from hub.outcome import METADATA as STATUS_TABLES
from hub.outcome import StatusStore
from hub.settings import Settings


def run_intake(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    base = load(settings)
    with ExitStack() as stack:
        store, keys = key_store(base, stack)
        status = StatusStore(open_store(settings, "status", STATUS_TABLES, stack))
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
