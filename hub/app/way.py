"""`hub run way`: the Faust process of a worker."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

from hub import agents, faust_adapter
from hub.app.base import key_store, load, open_store
from hub.outcome import METADATA as STATUS_TABLES
from hub.outcome import StatusStore
from hub.quarantine import Quarantine
from hub.routing.step import RoutingStep
from hub.settings import Settings
from hub.topics import WAY_GROUP
from hub.worker import end_with_parent, instance_id


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
        _, keys = key_store(base, stack)
        quarantine = Quarantine(base.contract, keys, send)
        way = agents.Way(
            base.contract,
            RoutingStep(base.contract, base.configuration.routes, send, quarantine, base.faults),
            StatusStore(open_store(settings, "status", STATUS_TABLES, stack)),
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
