"""What operators write: routes, destinations and tenants, read and checked as a whole.

`routes.toml`, `destinations/GMxxxx/name.toml`, `tenants/GMxxxx.toml`: config/README.md has the
keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hub.configuration.accept import accept_routes
from hub.configuration.check import Reading
from hub.configuration.files import Client, Destination, Limits, Tenant
from hub.configuration.problem import ConfigProblem
from hub.configuration.routes import EVERY_MUNICIPALITY, Route, RouteTable
from hub.connector import Connector, discover
from hub.errors import ConfigError
from hub.gazetteer import Gazetteer
from hub.topics import QueueName

__all__ = [
    "EVERY_MUNICIPALITY",
    "Client",
    "ConfigProblem",
    "Configuration",
    "Destination",
    "Limits",
    "Route",
    "RouteTable",
    "Tenant",
    "accept_routes",
    "check",
]

Connectors = Mapping[str, type[Connector]]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration without problems. Immutable; processes take a new one by restarting."""

    routes: RouteTable
    destinations: Mapping[QueueName, Destination]
    tenants: Mapping[str, Tenant]

    @classmethod
    def load(
        cls,
        path: Path,
        connectors: Connectors | None = None,
        gazetteer: Gazetteer | None = None,
        now: datetime | None = None,
    ) -> "Configuration":
        """Raises ConfigError listing every problem, a line each: file, line, remedy.

        A secret that is missing is none: its destination waits, and intake needs no secrets.
        """
        reading = _read(path, connectors, gazetteer, now)
        if reading.problems:
            raise ConfigError("\n".join(str(problem) for problem in reading.problems))
        return cls(RouteTable(reading.routes), reading.destinations, reading.tenants)

    def handlers(self) -> frozenset[str]:
        """Municipalities that act on requests: those with a destination."""
        return frozenset(queue.municipality_code for queue in self.destinations)

    def route_for(self, service: str, handler: str, at: datetime) -> Route | None:
        """As `routes.choose`, for admission: None too where the handler lacks that destination.

        A row for `*` names a destination that not every municipality has. Routing itself asks the
        rows alone: what was admitted goes to its queue, also if the destination was removed since.
        """
        chosen = self.routes.choose(service, handler, at)
        return chosen if chosen and chosen.queue(handler) in self.destinations else None


def check(
    path: Path,
    connectors: Connectors | None = None,
    gazetteer: Gazetteer | None = None,
    now: datetime | None = None,
) -> list[ConfigProblem]:
    """All problems of the configuration under `path`, by file and line.

    `connectors` by name (default: those installed); `now` decides which rows are past.
    """
    reading = _read(path, connectors, gazetteer, now)
    return sorted(reading.problems + reading.waiting, key=_place)


def _read(
    path: Path, connectors: Connectors | None, gazetteer: Gazetteer | None, now: datetime | None
) -> Reading:
    reading = Reading(
        path,
        discover() if connectors is None else connectors,
        gazetteer or Gazetteer.load(),
        now or datetime.now(UTC),
    )
    reading.read()
    reading.problems.sort(key=_place)
    return reading


def _place(problem: ConfigProblem) -> tuple[str, int]:
    return str(problem.file), problem.line
