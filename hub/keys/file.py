"""The key file: the hub's own keys, and per municipality what wraps, indexes and compares.

JSON, mode 0600, replaced by rename under a lock. Whoever has it and the databases can read
everything; whoever loses it can read nothing: it belongs in a backup of its own.
"""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hub.errors import ConfigError, StoreAway
from hub.keys import sealing
from hub.topics import MUNICIPALITY_CODE

_VERSION: Final = 1
_KEY_BYTES: Final = 32
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class MunicipalityKeys:
    """One municipality's: `wrapping` seals keysets of subjects, `index` hides who they are."""

    wrapping: sealing.Aead
    index: sealing.Prf
    fingerprint: bytes


class KeyFile:
    """The keys of one installation, read once; read again when a municipality is new to it."""

    def __init__(self, path: Path, content: dict[str, Any], stamp: _Stamp) -> None:
        self.path = path
        self._load(content, stamp)

    def _load(self, content: dict[str, Any], stamp: _Stamp) -> None:
        self._stamp = stamp
        self._municipalities: dict[str, Any] = content["municipalities"]
        self._parsed: dict[str, MunicipalityKeys] = {}
        self.id_key = _bytes(content["id_key"])
        self.quarantine = sealing.aead_of(sealing.from_json(json.dumps(content["quarantine"])))

    @classmethod
    def open(cls, path: Path, create: bool = False) -> "KeyFile":
        """Raises ConfigError if it is missing (unless `create`), readable by others or damaged."""
        if create:
            with _locked(path):
                if not path.exists():
                    _replace(path, _new_content())
        return cls(path, *_read(path))

    @property
    def municipalities(self) -> tuple[str, ...]:
        return tuple(sorted(self._municipalities))

    def add_municipality(self, municipality_code: str) -> bool:
        """Make its keys unless it has them; True if made. Known keys are never changed."""
        if not MUNICIPALITY_CODE.fullmatch(municipality_code):
            raise ConfigError(f"not a municipality code (GMxxxx): {municipality_code!r}")
        with _locked(self.path):
            content, stamp = _read(self.path)
            new = municipality_code not in content["municipalities"]
            if new:
                content["municipalities"][municipality_code] = {
                    "wrapping": json.loads(sealing.to_json(sealing.new_aead_keyset())),
                    "index": json.loads(sealing.to_json(sealing.new_prf_keyset())),
                    "fingerprint": _text(secrets.token_bytes(_KEY_BYTES)),
                }
                _replace(self.path, content)
                content, stamp = _read(self.path)
            self._load(content, stamp)
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
                self._load(*_read(self.path))
        except (ConfigError, OSError) as error:
            raise StoreAway(f"key file away: {error}") from error

    def _parse(self, municipality_code: str) -> MunicipalityKeys:
        try:
            raw = self._municipalities[municipality_code]
        except KeyError:
            raise StoreAway(
                f"{self.path}: no keys for {municipality_code}; add the municipality to this key "
                "file, or put back the file that has it"
            ) from None
        return MunicipalityKeys(
            wrapping=sealing.aead_of(sealing.from_json(json.dumps(raw["wrapping"]))),
            index=sealing.prf_of(sealing.from_json(json.dumps(raw["index"]))),
            fingerprint=_bytes(raw["fingerprint"]),
        )


def _new_content() -> dict[str, Any]:
    return {
        "version": _VERSION,
        "id_key": _text(secrets.token_bytes(_KEY_BYTES)),
        "quarantine": json.loads(sealing.to_json(sealing.new_aead_keyset())),
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
        if content["version"] != _VERSION:
            raise ConfigError(f"{path}: a key file of another version; this hub reads {_VERSION}")
        for name in ("id_key", "quarantine", "municipalities"):
            content[name]
    except (ValueError, KeyError, TypeError):
        # The cause is left out: it could quote a key.
        raise ConfigError(
            f"{path}: damaged, not a key file of the hub; put it back from its backup"
        ) from None
    return content, _stamp(status)


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Write all of it or nothing, and have it on disk before anyone uses a key from it."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
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
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
