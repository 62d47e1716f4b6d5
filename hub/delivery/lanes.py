"""What a lane holds: records of the log, parked rows, and the one delivery in hand."""

import bisect
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hub.delivery import states
from hub.delivery.effects import Command, CommandKind, ParkReason, Row
from hub.outcome import OutcomeKind

FIRST_ROUND: Final = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What a delivery came to, as it is written down."""

    kind: OutcomeKind
    reason: ParkReason | None = None
    code: str = ""
    text: str = ""
    status: int | None = None


BEHIND: Final = Result(OutcomeKind.PARKED, code="behind")
"""It only stands behind another record of its lane."""


@dataclass(slots=True, eq=False)
class LogRecord:
    """A record taken from the queue whose done mark is not yet covered by a commit."""

    event_id: str
    offset: int
    lane: str
    appended_at: float
    size: int = 0
    usable: bool = True
    state: states.Record = states.Record.QUEUED
    result: Result = BEHIND
    attempt: int = FIRST_ROUND

    @property
    def in_hand(self) -> bool:
        return self.state is states.Record.HEAD


@dataclass(slots=True, eq=False)
class ParkedRow:
    """A durable row of `parked`."""

    event_id: str
    offset: int
    lane: str
    attempt: int
    reason: ParkReason | None
    usable: bool = True
    covered: bool = False
    """A commit that covers its offset is acked; before that it is not sent (D2)."""
    state: states.Row = states.Row.WAITING
    result: Result = BEHIND
    doubt_until: float = 0.0
    commands: list[int] = field(default_factory=list)
    """To be closed in the transaction that changes this row."""

    @property
    def in_hand(self) -> bool:
        return self.state is states.Row.HEAD

    @classmethod
    def of(cls, row: Row, *, covered: bool) -> "ParkedRow":
        told = Result(OutcomeKind.PARKED, row.reason, row.code)
        return cls(
            row.event_id,
            row.offset,
            row.lane,
            row.attempt,
            row.reason,
            row.usable,
            covered,
            result=told,
        )


@dataclass(slots=True, eq=False)
class Delivery:
    """A lane's delivery, from when it is chosen until its result is written down."""

    source: LogRecord | ParkedRow
    attempt: int
    """Round: 1 from the log, one more for each time out of park. Not burnt by an outage."""
    wells_seen: int
    tries: int = 0
    """Without a clear answer; the ceiling of the next wait grows with it."""
    strikes: int = 0
    """Of these, those with a success of another lane since the one before."""
    under_way_answers: int = 0
    turned_away: int = 0
    """Answers that speak of the destination, each after a success of another lane."""
    doubt_until: float = 0.0
    """Until then a try of this owner may still take effect (S2)."""
    due: float = 0.0
    told_sickness: int = 0


@dataclass(slots=True, eq=False)
class Lane:
    """One subject at this destination."""

    ref: str
    state: states.Lane = states.Lane.IDLE
    hand: Delivery | None = None
    queue: deque[LogRecord] = field(default_factory=deque)
    rows: list[ParkedRow] = field(default_factory=list)
    """By offset."""
    inserting: LogRecord | None = None
    """One at a time: rows become durable in the order of the log."""
    unsettled: int = 0
    """Records taken out of `queue` that no acked commit covers yet."""
    commands: deque[Command] = field(default_factory=deque)

    @property
    def parked(self) -> bool:
        """S5: live again when it has no row and no insert under way."""
        return bool(self.rows) or self.inserting is not None

    @property
    def empty(self) -> bool:
        return not (self.hand or self.queue or self.parked or self.unsettled)

    def add_row(self, row: ParkedRow) -> None:
        bisect.insort(self.rows, row, key=lambda r: r.offset)

    def upcoming(self) -> states.LaneEvent | None:
        """What the lane turns to when nothing is in hand; None: nothing."""
        if self.rows:
            return self._upcoming_row(self.rows[0])
        if self.inserting or self.unsettled:
            return states.LaneEvent.NOT_YET
        return states.LaneEvent.RECORD_NEXT if self.queue else None

    def _upcoming_row(self, head: ParkedRow) -> states.LaneEvent:
        earlier = self.inserting or (self.queue[0] if self.queue else None)
        if not head.covered or (earlier and earlier.offset < head.offset):
            return states.LaneEvent.NOT_YET
        return states.LaneEvent.ROW_HELD if head.reason else states.LaneEvent.ROW_NEXT

    def refusal(self, row: ParkedRow | None, command: Command) -> str:
        """Why `command` cannot be done, now or later; empty: it can."""
        if row is None:
            return "it is no longer parked"
        if row is not self.rows[0]:
            return f"it stands behind {self.rows[0].event_id} and follows by itself"
        if command.kind is CommandKind.SKIP and row.reason in {None, ParkReason.IN_DOUBT}:
            return "only what has definitely failed can be skipped; resend it first"
        return ""


@dataclass(slots=True, eq=False)
class Ticket:
    """A delivery given to the shell to send."""

    lane: Lane
    hand: Delivery
    sent_at: float | None = None
