"""Route rows are recorded for good: each start compares them with the copy of the start before."""

import fcntl
import os
from pathlib import Path

from pydantic import ValidationError

from hub.configuration.check import ROUTES_FILE, rows_of
from hub.configuration.files import RoutesFile
from hub.configuration.problem import ConfigProblem, Source, read
from hub.configuration.routes import Route
from hub.errors import ConfigError


def accept_routes(config_path: Path, accepted_path: Path) -> None:
    """Keep `<config_path>/routes.toml` as the accepted copy, if every row of the last one stands.

    Raises ConfigError naming file, line and row where one was edited, moved or taken out; the
    accepted copy is left as it was. Several processes may call this at once.
    """
    source, rows = _read(config_path / ROUTES_FILE)
    accepted_path.parent.mkdir(parents=True, exist_ok=True)
    with accepted_path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if accepted_path.exists():
            accepted, recorded = _read(accepted_path)
            _compare(source, rows, accepted_path, recorded)
            if accepted.text == source.text:
                return
        _write(accepted_path, source.text)


def _read(file: Path) -> tuple[Source, list[Route]]:
    source = read(file)
    if isinstance(source, ConfigProblem):
        raise ConfigError(str(source))
    try:
        return source, rows_of(source, RoutesFile.model_validate(source.data))
    except ValidationError as error:
        problems = source.invalid(RoutesFile, error)
        raise ConfigError("\n".join(str(problem) for problem in problems)) from None


def _compare(source: Source, rows: list[Route], copy: Path, recorded: list[Route]) -> None:
    for place, before in enumerate(recorded):
        after = rows[place] if place < len(rows) else None
        if after is not None and after.canonical() == before.canonical():
            continue
        line = after.line if after else max(1, len(source.text.splitlines()))
        raise ConfigError(
            f"{source.file}:{line}: row {place + 1} was recorded as "
            f"{before.service} of {before.handler} to {before.destination} from "
            f"{before.valid_from.isoformat()} (line {before.line} of {copy}) and is edited, moved "
            "or gone; requests were admitted by it: put it back as it was and append a new row "
            "with a later valid_from at the end"
        )


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and still there after a power cut."""
    fresh = path.with_suffix(f".{os.getpid()}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
