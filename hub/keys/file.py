"""The key file: the hub's own keys, and per municipality what wraps, indexes and compares.

JSON, mode 0600, replaced by rename under a lock. Whoever has it and the databases can read
everything; whoever loses it can read nothing: it belongs in a backup of its own.
"""

import base64
import fcntl
import json
import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hub.errors import ConfigError, StoreAway
from hub.keys import sealing
from hub.topics import MUNICIPALITY_CODE

_VERSION: Final = 1
_KEY_BYTES: Final = 32
_DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, sealing.CannotOpen)
"""What reading a file raises that is not ours, or not whole. Never chained: it may quote a key."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class MunicipalityKeys:
    """One municipality's: `wrapping` seals keysets of subjects, `index` hides who they are."""

    wrapping: sealing.Aead
    index: sealing.Prf
    fingerprint: bytes = field(repr=False)


class KeyFile:
    """The keys of one installation, read once; read again when a municipality is new to it.

    `installation` is no secret: a database remembers it, and refuses the keys of another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._load()

    def _load(self) -> None:
        content, self._stamp = _read(self.path)
        try:
            self.installation = str(uuid.UUID(content["installation"]))
            self.id_key = _bytes(content["id_key"])
            self.quarantine = sealing.aead_of(sealing.from_json(content["quarantine"]))
            self._municipalities = dict(content["municipalities"])
        except _DAMAGE:
            raise _damaged(self.path) from None
        self._parsed: dict[str, MunicipalityKeys] = {}

    @classmethod
    def open(cls, path: Path, create: bool = False) -> "KeyFile":
        """Raises ConfigError if it is missing (unless `create`), readable by others or damaged."""
        if create:
            with _locked(path):
                if not path.exists():
                    _replace(path, _new_content())
        return cls(path)

    @property
    def municipalities(self) -> tuple[str, ...]:
        return tuple(sorted(self._municipalities))

    def add_municipality(self, municipality_code: str) -> bool:
        """Make its keys unless it has them; True if made. Known keys are never changed."""
        if not MUNICIPALITY_CODE.fullmatch(municipality_code):
            raise ConfigError(f"not a municipality code (GMxxxx): {municipality_code!r}")
        with _locked(self.path):
            content, _ = _read(self.path)
            new = municipality_code not in content["municipalities"]
            if new:
                content["municipalities"][municipality_code] = {
                    "wrapping": sealing.to_json(sealing.new_aead_keyset()),
                    "index": sealing.to_json(sealing.new_prf_keyset()),
                    "fingerprint": _text(secrets.token_bytes(_KEY_BYTES)),
                }
                _replace(self.path, content)
            self._load()
        return new

    def keys_of(self, municipality_code: str) -> MunicipalityKeys:
        """Raises StoreAway if the file, as it is now, has no keys for it.

        Failure policy: nothing is refused for good over a key file that lags behind; requests of
        this municipality wait until an operator adds it.
        """
        found = self._parsed.get(municipality_code)
        if found is None:
            if municipality_code not in self._municipalities:
                self._read_again()
            found = self._parse(municipality_code)
            self._parsed[municipality_code] = found
        return found

    def _read_again(self) -> None:
        try:
            if _stamp(self.path.stat()) != self._stamp:
                self._load()
        except (ConfigError, OSError) as error:
            raise StoreAway(f"key file away: {error}") from error

    def _parse(self, municipality_code: str) -> MunicipalityKeys:
        raw = self._municipalities.get(municipality_code)
        if raw is None:
            raise StoreAway(
                f"{self.path}: no keys for {municipality_code}; add the municipality to this key "
                "file, or put back the file that has it"
            )
        try:
            return MunicipalityKeys(
                wrapping=sealing.aead_of(sealing.from_json(raw["wrapping"])),
                index=sealing.prf_of(sealing.from_json(raw["index"])),
                fingerprint=_bytes(raw["fingerprint"]),
            )
        except _DAMAGE:
            raise StoreAway(
                f"{self.path}: the keys of {municipality_code} are damaged; put the key file back "
                "from its backup"
            ) from None


def _new_content() -> dict[str, Any]:
    return {
        "version": _VERSION,
        "installation": str(uuid.uuid4()),
        "id_key": _text(secrets.token_bytes(_KEY_BYTES)),
        "quarantine": sealing.to_json(sealing.new_aead_keyset()),
        "municipalities": {},
    }


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> tuple[dict[str, Any], _Stamp]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no key file; put it back from its backup (without it nothing sealed can be "
            "read), or name it in HUB_KEYS"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: the key file cannot be read ({error.strerror})") from error
    if status.st_mode & 0o077:
        raise ConfigError(
            f"{path}: others on this machine may read or write the key file; run: chmod 600 {path}"
        )
    try:
        content: dict[str, Any] = json.loads(raw)
        version = content["version"]
    except _DAMAGE:
        raise _damaged(path) from None
    if version != _VERSION:
        raise ConfigError(f"{path}: a key file of version {version!r}; this hub reads {_VERSION}")
    return content, _stamp(status)


def _damaged(path: Path) -> ConfigError:
    return ConfigError(f"{path}: damaged, not a key file of the hub; put it back from its backup")


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Write all of it or nothing, and have it on disk before anyone uses a key from it."""
    new = path.with_name(f".{path.name}.new")
    # Left by a process that was killed here; the lock says it is nobody's now.
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time. The lock is a file beside it: the key file itself is replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        os.close(descriptor)
