"""Opened keysets of subjects, kept for a minute: an erasure elsewhere must take hold (R6)."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from hub.keys.sealing import Aead

SECONDS: Final = 60.0
SIZE: Final = 20_000
"""67 MiB of resident memory when full."""

Key = tuple[str, str]


class KeysetCache:
    """Least recently used goes first; an entry dies `seconds` after its row was read."""

    def __init__(
        self,
        seconds: float = SECONDS,
        size: int = SIZE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._seconds = seconds
        self._size = size
        self._entries: OrderedDict[Key, tuple[float, Aead]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Aead | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            read_at, keyset = entry
            if self.clock() - read_at >= self._seconds:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return keyset

    def put(self, key: Key, keyset: Aead, read_at: float) -> None:
        """`read_at`: the clock from before the row was read, so that age counts from there."""
        with self._lock:
            self._entries[key] = (read_at, keyset)
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def drop(self, key: Key) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)
