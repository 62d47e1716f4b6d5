"""`hub worker`: prepares, then supervises."""

import time
from collections.abc import Callable
from contextlib import ExitStack

from hub import telemetry
from hub.app.base import Base, key_store, load
from hub.broker.admin import Admin
from hub.errors import Away, ConfigError
from hub.settings import Settings
from hub.topics import CATALOGUE, DELIVERY_GROUP, WAY_GROUP, queue_spec
from hub.worker import Supervisor, instance_id


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
        key_store(base, stack)
    return base


def prepare_patiently(
    settings: Settings, pause_seconds: float = 2.0, sleep: Callable[[float], None] = time.sleep
) -> Base:
    """As `prepare`; while Kafka or a store is away, say so and try again.

    After a power cut Kafka and the worker start together: a worker that gave up would have to be
    started by hand on a Sunday.
    """
    while True:
        try:
            return prepare(settings)
        except Away as away:
            telemetry.logger().warning("worker_waits", error=str(away), seconds=pause_seconds)
            sleep(pause_seconds)


def run_worker(settings: Settings) -> int:
    """Supervise the way and delivery until SIGTERM or SIGINT."""
    base = prepare_patiently(settings)

    def remove_members(slot: int) -> None:
        with Admin(base.bootstrap) as admin:
            for group in (WAY_GROUP, DELIVERY_GROUP):
                admin.remove_group_members(group, [instance_id(group, slot)])

    return Supervisor(settings.home, settings.worker_slot, remove_members).run()
