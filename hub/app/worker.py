"""`hub worker`: prepares, then supervises."""

from contextlib import ExitStack

from hub.app.base import Base, key_store, load
from hub.broker.admin import Admin
from hub.errors import ConfigError
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


def run_worker(settings: Settings) -> int:
    """Supervise the way and delivery until SIGTERM or SIGINT."""
    base = prepare(settings)

    def remove_members(slot: int) -> None:
        with Admin(base.bootstrap) as admin:
            for group in (WAY_GROUP, DELIVERY_GROUP):
                admin.remove_group_members(group, [instance_id(group, slot)])

    return Supervisor(settings.home, settings.worker_slot, remove_members).run()
