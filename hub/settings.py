"""Every knob of a process: its unit in its name, its variable `HUB_` + the name in capitals."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.errors import ConfigError

INTERNAL: Final = frozenset({"HUB_PARENT", "HUB_SINGLE_STEP", "HUB_POISON", "HUB_FAULT_SINCE"})
"""Variables between our own processes; nobody sets them by hand."""


class Settings(BaseModel):
    """Knobs of this process. Relative paths are relative to the working directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Path(".hub")
    """State of this installation: databases, our own Kafka, key file, logs of children."""
    cache: Path = Path.home() / ".cache" / "hub-kafka"
    """Kafka's jars, shared by all installations of this user."""
    config: Path = Path("config")
    """Routes, destinations and tenants."""
    keys: Path | None = None
    """Key file (0600) with the municipality keys; default `<home>/keys.json`."""
    kafka: str | None = None
    """`host:port,...` of a cluster; default is our own, from `<home>/kafka/endpoint.json`."""
    kafka_heap_mb: int = Field(default=512, ge=256)
    """Heap of each broker of our own Kafka. Thirty queues need 384 MB, 4,000 queues 1,536 MB."""
    admission_db: str | None = None
    """SQLAlchemy URL; default SQLite `<home>/db/admission.db`. Holds the key store too."""
    delivery_db: str | None = None
    status_db: str | None = None
    intake_host: str = "127.0.0.1"
    intake_port: int = 8080
    intake_behind_tls_proxy: bool = False
    """Off loopback intake refuses plain HTTP; true says that a TLS proxy stands before it."""
    session_timeout_seconds: float = Field(default=6.0, ge=6.0)
    """Kafka group session; the broker's floor is 6 s."""
    produce_timeout_seconds: float = Field(default=8.0, gt=0)
    """A produce without an ack for so long counts as unknown: 503 at intake."""
    retry_in_place_seconds: float = Field(default=30.0, gt=0)
    """How long a Faust agent tries again before its process ends unacknowledged (rule 5)."""
    drain_seconds: float = Field(default=2.0, ge=0)
    worker_slot: int = Field(default=0, ge=0)
    """First slot this supervisor tries to take; slots give the static Kafka instance ids."""
    log_level: str = "info"
    fault: str | None = None
    """`keys:60`: the key store is away for so many seconds. Loopback only."""
    crash_at: str | None = None
    """`<point>` or `<point>:<n>`: end with exit 137 there. Loopback only."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read `HUB_*`. Raises ConfigError naming each variable that cannot be used.

        A name that is almost one of ours is refused too: read as nothing, it would be a setting
        that somebody believes in. Other names may be secrets that a destination asks for.
        """
        fields = {name: f"HUB_{name.upper()}" for name in cls.model_fields}
        ours = set(fields.values()) | INTERNAL
        for variable in sorted(v for v in environ if v.startswith("HUB_") and v not in ours):
            near = difflib.get_close_matches(variable, sorted(fields.values()), 1, 0.85)
            if near:
                raise ConfigError(f"{variable}: no such setting; did you mean {near[0]}?")
        values = {name: environ[var] for name, var in fields.items() if environ.get(var)}
        try:
            return cls.model_validate(values)
        except ValidationError as bad:
            lines = [
                f"HUB_{'_'.join(str(p) for p in e['loc']).upper()}: {e['msg']}"
                for e in bad.errors(include_input=False, include_url=False)
            ]
            raise ConfigError("environment: " + "; ".join(lines)) from None

    def key_file(self) -> Path:
        return self.keys or self.home / "keys.json"

    def database_url(self, name: str) -> str:
        """URL of `admission`, `delivery` or `status`."""
        given: str | None = getattr(self, f"{name}_db")
        if given:
            return given
        return f"sqlite:///{(self.home / 'db' / f'{name}.db').absolute()}"
