"""What the queue reader tells, and to whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hub.delivery.claims import Claim
from hub.errors import HubError
from hub.topics import QueueName


class CommitResult(StrEnum):
    ACKED = "acked"
    REFUSED = "refused"
    """Perhaps not done; the queue may still be ours: try again, the lease is not renewed."""
    OVER = "over"
    """The queue is no longer ours."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A record of a queue; `appended_at` is the broker's, in seconds."""

    queue: QueueName
    offset: int
    key: bytes
    value: bytes
    appended_at: float


@dataclass(frozen=True, slots=True)
class Commit:
    """`owner` and `token` are the caller's, handed back with the result."""

    queue: QueueName
    owner: object
    token: int
    watermark: int
    metadata: str


class Listener(Protocol):
    """Whom the reader tells, in the event loop, in the order of events."""

    def claimed(self, claims: Sequence[Claim]) -> None:
        """These queues are ours; their records come from `read_from` of each on."""

    def taken(self, records: Sequence[Taken]) -> None: ...

    def committed(self, results: Sequence[tuple[Commit, CommitResult]]) -> None: ...

    def revoking(self, queues: Sequence[QueueName], seconds: float) -> None:
        """Hand over within `seconds` and call `released` for each; commits still go through."""

    def lost(self, queues: Sequence[QueueName]) -> None:
        """They are someone else's already; nothing can be committed."""

    def damaged(self, queue: QueueName, problem: str) -> None:
        """The log has no record where we read: retention or a person has deleted some."""

    def ended(self, error: HubError | None) -> None:
        """The thread is over; None after `stop`."""
