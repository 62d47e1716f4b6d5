"""What is done and what was seen: the watermark with its bitmap, the commit metadata, known ids."""

import base64
import binascii
import re
from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 4096
"""At most so many offsets between watermark and newest taken."""
FETCH_RESERVE: Final = 512
"""Room kept for records already fetched when fetching pauses."""
METADATA_CAP: Final = 4095
READ_BACK_SECONDS: Final = 3600.0
READ_BACK_RECORDS: Final = 10_000

_METADATA: Final = re.compile(r"1:(\d{1,18}):([cu]):([A-Za-z0-9_-]*)")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a commit's metadata says. Bit i of `bits`: the offset watermark + i is done."""

    epoch: int
    clean: bool
    bits: int


def write_metadata(mark: Mark) -> str:
    raw = mark.bits.to_bytes((mark.bits.bit_length() + 7) // 8, "little")
    bitmap = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    text = f"1:{mark.epoch}:{'c' if mark.clean else 'u'}:{bitmap}"
    assert len(text) <= METADATA_CAP, "the window is wider than a commit can say"
    return text


def read_metadata(text: str) -> Mark:
    """Raises ValueError for anything this engine did not write."""
    found = _METADATA.fullmatch(text.rstrip("\0"))
    if not found:
        raise ValueError("commit metadata is not of the form 1:<epoch>:<c|u>:<bitmap>")
    epoch, flag, bitmap = found.groups()
    try:
        raw = base64.urlsafe_b64decode(bitmap + "=" * (-len(bitmap) % 4))
    except binascii.Error:
        raise ValueError("the bitmap of the commit metadata is not base64url") from None
    if len(raw) * 8 > WINDOW:
        raise ValueError(f"the bitmap of the commit metadata is wider than {WINDOW} offsets")
    return Mark(int(epoch), flag == "c", int.from_bytes(raw, "little"))


class Progress:
    """Done offsets above the low watermark. Offsets that the log skips count as done."""

    def __init__(self, watermark: int, bits: int = 0) -> None:
        self.watermark = watermark
        self.bits = bits
        self.newest = watermark - 1
        """Highest offset taken."""
        self._advance()

    @property
    def span(self) -> int:
        return max(0, self.newest + 1 - self.watermark)

    def take(self, offset: int) -> None:
        """Raises ValueError for an offset out of order or beyond the window."""
        if offset <= self.newest:
            raise ValueError(f"offset {offset} was taken before; the newest is {self.newest}")
        if offset - self.watermark >= WINDOW:
            raise ValueError(
                f"offset {offset} is beyond the window of {WINDOW} from {self.watermark}; "
                "stop taking when told to pause"
            )
        for skipped in range(max(self.newest + 1, self.watermark), offset):
            self.bits |= 1 << (skipped - self.watermark)
        self.newest = offset
        self._advance()

    def is_done(self, offset: int) -> bool:
        return offset < self.watermark or bool(self.bits >> (offset - self.watermark) & 1)

    def done(self, offset: int) -> None:
        if not self.is_done(offset):
            self.bits |= 1 << (offset - self.watermark)
            self._advance()

    def _advance(self) -> None:
        ones = (~self.bits & (self.bits + 1)).bit_length() - 1
        self.bits >>= ones
        self.watermark += ones


class SeenIds:
    """Ids of the queue from the read-back window below the watermark up to the newest (D3).

    Memory: some 150 bytes an id, an hour of traffic or READ_BACK_RECORDS, whichever is more.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._by_age: deque[tuple[int, float, str]] = deque()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, offset: int, appended_at: float, event_id: str) -> None:
        """Offsets rise; the first of two equal ids is the one that counts."""
        if event_id not in self._ids:
            self._ids.add(event_id)
            self._by_age.append((offset, appended_at, event_id))

    def forget_before(self, watermark: int, appended_at: float) -> None:
        """`appended_at`: of the record at the watermark, or earlier."""
        while self._by_age:
            offset, age, event_id = self._by_age[0]
            if offset >= watermark - READ_BACK_RECORDS or age >= appended_at - READ_BACK_SECONDS:
                return
            self._by_age.popleft()
            self._ids.discard(event_id)
