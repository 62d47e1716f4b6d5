"""Reads the configuration and finds all that is wrong with it, at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hub.configuration.files import (
    Client,
    Destination,
    DestinationFile,
    RoutesFile,
    Tenant,
    TenantFile,
)
from hub.configuration.problem import ConfigProblem, Source, did_you_mean, nearest, read
from hub.configuration.routes import EVERY_MUNICIPALITY, Route
from hub.connector import Connector, Kind, SecretMissing
from hub.errors import ConfigError
from hub.event import SERVICES
from hub.gazetteer import Gazetteer
from hub.topics import DESTINATION_NAME, MUNICIPALITY_CODE, QueueName

M = TypeVar("M", bound=BaseModel)

ROUTES_FILE = "routes.toml"
_CODES = "codes are GMxxxx, of hub/data/municipalities.csv"


@dataclass(slots=True)
class Reading:
    """The configuration under `path` as far as it can be read, and the problems found so far."""

    path: Path
    connectors: Mapping[str, type[Connector]]
    gazetteer: Gazetteer
    now: datetime
    routes: list[Route] = field(default_factory=list)
    destinations: dict[QueueName, Destination] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)
    waiting: list[ConfigProblem] = field(default_factory=list)
    """What keeps one destination waiting and no process from starting: secrets that are missing."""
    named: set[QueueName] = field(default_factory=set)
    """Queues that have a file, be it one that cannot be used."""

    def read(self) -> None:
        if not self.path.is_dir():
            self._say(self.path, "no such folder", "make it, or point HUB_CONFIG at yours")
            return
        routes = self._parse(self.path / ROUTES_FILE, RoutesFile)
        if routes:
            self.routes = rows_of(*routes)
        for file, code in self._toml_files(self.path / "tenants"):
            self._tenant(file, code)
        for folder in self._entries(self.path / "destinations"):
            self._municipality(folder)
        if routes:
            _Rows(self, routes[0]).check()

    def _say(self, file: Path, text: str, remedy: str) -> None:
        self.problems.append(ConfigProblem(file, 1, text, remedy))

    def _parse(self, file: Path, model: type[M]) -> tuple[Source, M] | None:
        source = read(file)
        if isinstance(source, ConfigProblem):
            self.problems.append(source)
            return None
        try:
            return source, model.model_validate(source.data)
        except ValidationError as error:
            self.problems += source.invalid(model, error)
            return None

    def _entries(self, folder: Path) -> list[Path]:
        """What lies in `folder`; hidden files and READMEs are no configuration."""
        if not folder.is_dir():
            return []
        return sorted(
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith(".") and entry.stem != "README"
        )

    def _toml_files(self, folder: Path) -> Iterator[tuple[Path, str]]:
        for entry in self._entries(folder):
            if entry.suffix == ".toml" and entry.is_file():
                yield entry, entry.stem
            else:
                self._say(entry, "not a .toml file", "rename it, or take it out of this folder")

    def _tenant(self, file: Path, code: str) -> None:
        if not self.gazetteer.known(code):
            self._say(file, f"no municipality has the code {code!r}", f"rename the file: {_CODES}")
            return
        if parsed := self._parse(file, TenantFile):
            clients = parsed[1].clients.items()
            self.tenants[code] = Tenant(
                code, {name: Client(name, table.idempotency_pointer) for name, table in clients}
            )

    def _municipality(self, folder: Path) -> None:
        code = folder.name
        if not folder.is_dir() or not MUNICIPALITY_CODE.fullmatch(code):
            self._say(folder, "not the folder of a municipality", f"rename it: {_CODES}")
        elif not self.gazetteer.known(code):
            self._say(folder, f"no municipality has the code {code!r}", f"rename it: {_CODES}")
        else:
            self._ended(folder, code)
            for file, name in self._toml_files(folder):
                self._destination(file, code, name)

    def _ended(self, folder: Path, code: str) -> None:
        """An ended municipality keeps a destination only for what was routed to it before."""
        ended = self.gazetteer.ended(code)
        if ended and not any(row.handler == code and _began(row) < ended for row in self.routes):
            self._say(folder, f"{code} ended on {ended}", heir(self.gazetteer, code))

    def _destination(self, file: Path, code: str, name: str) -> None:
        if not DESTINATION_NAME.fullmatch(name):
            self._say(
                file, f"not a destination name: {name!r}", "use a-z, 0-9 and dashes, at most 63"
            )
            return
        queue = QueueName(code, name)
        self.named.add(queue)
        if parsed := self._parse(file, DestinationFile):
            source, table = parsed
            self._connector(source, table)
            self.destinations[queue] = Destination(
                queue, table.connector, table.kind, table.settings, table.limits
            )

    def _connector(self, source: Source, table: DestinationFile) -> None:
        if table.kind is not Kind.KEY:
            # Decision 10: the others need intents and look-ups, which the engine does not have yet.
            text = f"kind {table.kind.value!r} is not built yet"
            remedy = 'deliver to a target that drops repeats of an Idempotency-Key: kind = "key"'
            self.problems.append(source.problem(("kind",), text, remedy))
        connector = self.connectors.get(table.connector)
        if connector is None:
            text = f"no connector {table.connector!r} is installed"
            remedy = did_you_mean(table.connector, self.connectors)
            self.problems.append(source.problem(("connector",), text, remedy))
            return
        try:
            connector(connector.Config.model_validate(table.settings))
        except ValidationError as error:
            self.problems += source.invalid(connector.Config, error, ("settings",))
        except SecretMissing as error:
            remedy = "or correct its name under [settings]"
            self.waiting.append(source.problem(("settings",), str(error), remedy))
        except ConfigError as error:
            remedy = "correct it under [settings]"
            self.problems.append(source.problem(("settings",), str(error), remedy))


def rows_of(source: Source, table: RoutesFile) -> list[Route]:
    """The rows of a routes file, in its order."""
    return [
        Route(**row.model_dump(), line=source.lines.of(("route", place)))
        for place, row in enumerate(table.route)
    ]


def heir(gazetteer: Gazetteer, code: str) -> str:
    successor = gazetteer.successor(code) or code
    return f"use its successor {successor} ({gazetteer.name(successor)})"


def _began(row: Route) -> date:
    """The first day on which `row` could be chosen: not before it was written down."""
    return max(row.valid_from, row.recorded_at).date()


class _Rows:
    """Checks of routes.toml against itself, the municipalities and the destinations."""

    def __init__(self, reading: Reading, source: Source) -> None:
        self._reading = reading
        self._source = source
        self._seen: dict[bytes, int] = {}

    def check(self) -> None:
        rows = self._reading.routes
        for place, row in enumerate(rows):
            self._service(place, row)
            if row.handler == EVERY_MUNICIPALITY or self._handler(place, row):
                self._declared(place, row)
            self._order(place, row)

    def _say(self, place: int, key: str, text: str, remedy: str) -> None:
        problem = self._source.problem(("route", place, key), text, remedy)
        self._reading.problems.append(problem)

    def _service(self, place: int, row: Route) -> None:
        if row.service not in SERVICES:
            remedy = did_you_mean(row.service, SERVICES)
            self._say(place, "service", f"unknown service {row.service!r}", remedy)

    def _handler(self, place: int, row: Route) -> bool:
        """Whether the handler is a municipality at all."""
        gazetteer = self._reading.gazetteer
        ended = gazetteer.ended(row.handler)
        if not gazetteer.known(row.handler):
            text = f"no municipality has the code {row.handler!r}"
            self._say(place, "handler", text, f'{_CODES}, or "*" for all')
        elif ended and _began(row) >= ended:
            text = f"{row.handler} ({gazetteer.name(row.handler)}) ended on {ended}"
            self._say(place, "handler", text, heir(gazetteer, row.handler))
        else:
            return True
        return False

    def _declared(self, place: int, row: Route) -> None:
        declared = self._reading.named
        if row.handler == EVERY_MUNICIPALITY:
            names = {queue.destination for queue in declared}
            where = "destinations/<GMxxxx>"
        else:
            names = {q.destination for q in declared if q.municipality_code == row.handler}
            where = f"destinations/{row.handler}"
        if row.destination in names or self._past(place, row):
            return
        text = f"destination {row.destination!r} is not declared"
        remedy = f"make {where}/{row.destination}.toml"
        if close := nearest(row.destination, names):
            remedy += f"; did you mean {close!r}?"
        self._say(place, "destination", text, remedy)

    def _past(self, place: int, row: Route) -> bool:
        """Whether `row` will never be chosen again: a destination may go, its rows may not."""
        now = self._reading.now
        ended = self._reading.gazetteer.ended(row.handler)
        return bool(ended and ended <= now.date()) or any(
            (other.service, other.handler) == (row.service, row.handler)
            and (row.valid_from, place) < (other.valid_from, later)
            and other.valid_from <= now
            for later, other in enumerate(self._reading.routes)
        )

    def _order(self, place: int, row: Route) -> None:
        said = row.canonical()
        above = self._reading.routes[place - 1] if place else row
        if said in self._seen:
            text = f"the same row as in line {self._seen[said]}"
            self._say(place, "service", text, "take it out")
        elif row.recorded_at < above.recorded_at:
            text = "recorded before the row above it"
            self._say(place, "recorded_at", text, "append rows at the end, with today's date")
        self._seen.setdefault(said, row.line)
