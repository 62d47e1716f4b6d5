"""A fresh installation of the hub for one demo: its folder, its configuration, its keys."""

import fcntl
import os
import shutil
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import IO, Final

from hub.demo.loader import CLIENT
from hub.demo.people import Place
from hub.demo.plan import REQUEST_TIMEOUT_SECONDS
from hub.demo.requests import DESTINATIONS
from hub.errors import ConfigError

_MARK: Final = ".made-by-hub-demo"
_ROUTE: Final = """\
[[route]]
service = "{service}"
handler = "*"
destination = "{destination}"
valid_from = 2026-01-01T00:00:00+01:00
recorded_at = 2026-01-01T00:00:00+01:00
"""


class Folder:
    """The folder of one demo. Held by one process at a time; what an earlier demo left is erased.

    Never erases a folder that is not a demo's: it must be new, empty, or carry our mark.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self._lock: IO[str] | None = None

    def take(self) -> None:
        """Raises ConfigError when another demo runs here, or the folder is someone else's."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        lock = (self.home.parent / f".{self.home.name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise ConfigError(
                f"{self.home}: another demo is running here; end it, or set another HUB_HOME"
            ) from None
        self._lock = lock
        if self.home.exists() and any(self.home.iterdir()) and not (self.home / _MARK).exists():
            self.release()
            raise ConfigError(
                f"{self.home}: holds something that is not a demo's; move it, or set another "
                "HUB_HOME"
            )

    def empty(self) -> None:
        """Erase what an earlier demo left. Its processes must be dead."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        (self.home / _MARK).touch()

    def release(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None

    @property
    def config(self) -> Path:
        return self.home / "config"

    def office_db(self, code: str) -> Path:
        return self.home / "backoffice" / f"{code}.db"

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"


def write_configuration(config: Path, places: Iterable[Place], ports: Mapping[str, int]) -> None:
    """Routes, tenants and destinations; `ports`: of each municipality's back-office."""
    config.mkdir(parents=True)
    routes = (_ROUTE.format(service=s, destination=d) for s, d in DESTINATIONS.items())
    (config / "routes.toml").write_text("\n".join(routes))
    (config / "tenants").mkdir()
    for place in places:
        for website in place.websites:
            (config / "tenants" / f"{website}.toml").write_text(f"[clients.{CLIENT}]\n")
        folder = config / "destinations" / place.code
        folder.mkdir(parents=True)
        for destination in DESTINATIONS.values():
            text = files("hub.demo").joinpath(f"{destination}.toml").read_text()
            text = text.replace("@URL@", f"http://127.0.0.1:{ports[place.code]}")
            text = text.replace("@TIMEOUT@", str(REQUEST_TIMEOUT_SECONDS))
            (folder / f"{destination}.toml").write_text(text)


def environment(home: Path, config: Path, port: int, cache: Path) -> dict[str, str]:
    """Of the hub's processes: ours alone, nothing of the caller's HUB_* but the cache."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return {
        **inherited,
        "HUB_HOME": str(home),
        "HUB_CONFIG": str(config),
        "HUB_CACHE": str(cache.absolute()),
        "HUB_INTAKE_PORT": str(port),
        "HUB_LOG_LEVEL": os.environ.get("HUB_LOG_LEVEL", "info"),
    }
