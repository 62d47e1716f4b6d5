"""What goes into the delivery engine and what it asks for. Data only; offsets and ids, no payloads.

The shell does each effect and reports back by its token or ticket. Times are seconds of one
monotonic clock of the shell. The engine gives effects in the order in which they must be begun;
those with a token may then run beside each other: the engine waits wherever order matters.
"""

from dataclasses import dataclass
from enum import StrEnum

from hub.outcome import OutcomeKind


class ParkReason(StrEnum):
    """Why a record stands parked; None in its place: it only stands behind another."""

    RECORD = "record"
    """The target refused it, or it could not be mapped; it was certainly not applied."""
    IN_DOUBT = "in_doubt"
    """Nobody knows whether it was applied."""
    OPERATOR = "operator"


class CommandKind(StrEnum):
    RESEND = "resend"
    SKIP = "skip"


# --- what the shell gives -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed:
    """The group's committed offset of this queue (the next to take) with its metadata."""

    watermark: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `parked`, without its sealed bytes. `offset` gives the order within a lane."""

    event_id: str
    offset: int
    lane: str
    reason: ParkReason | None
    attempt: int
    usable: bool = True
    """False for queue bytes that could not be decoded: never sent from the log, and nothing is told
    of it in `outcomes`, for it has no reference."""
    code: str = ""
    """What the outcome said; told again with it (S5)."""


@dataclass(frozen=True, slots=True)
class Command:
    """An open row of `commands`. All open ones are told in the order of their ids, again and again
    if that is easier: telling one twice does no harm."""

    command_id: int
    kind: CommandKind
    event_id: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Knobs of one queue, in seconds unless said otherwise."""

    concurrency: int = 4
    """Requests under way at once."""
    request_timeout: float = 30.0
    """The target's processing bound: so long may a try without an answer still take effect."""
    lease: float = 4.5
    """Decision 3: session timeout - connect timeout - 0.5."""
    poll_silence: float = 240.0
    """`max.poll.interval.ms` less a margin: nothing is sent when `polled` is older than this."""
    commit_group: float = 0.03
    commit_every: float = 1.0
    """Commits renew the lease, so they go on when nothing is new."""
    backoff: float = 0.5
    backoff_cap: float = 30.0
    """Full jitter: try n waits between nothing and min(cap, backoff * 2**n)."""
    pause: float = 0.5
    pause_cap: float = 15.0
    """The same for the pauses between probes of a sick destination."""
    retry_after_cap: float = 300.0
    held_bytes: int = 32_000_000
    """Bytes of undone records beyond which fetching pauses."""


# --- what the engine asks for ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """Commit `watermark` with `metadata` (ASCII). Answer: `commit_acked` or `commit_refused`.

    `last`: the owner's last; nothing is sent after it.
    """

    token: int
    watermark: int
    metadata: str
    last: bool = False


@dataclass(frozen=True, slots=True)
class SetEpoch:
    """Raise the store's epoch of this queue to `epoch`; a higher one there means `fenced`.

    Answer: `durable`, `failed` or `fenced`.
    """

    token: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ReadParked:
    """Read all rows of this queue. Answer: `parked_read`, `failed` or `fenced`."""

    token: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Read the queue from before `watermark` up to it: all records appended in the `seconds`
    before the record at the watermark, and at least `records` of them (or from the log's start).

    Answer: `seen` for each, rising offsets, then `read_back_done`; then `arrived` from `watermark`.
    """

    watermark: int
    seconds: float
    records: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send one event. Call `may_send(ticket)` as the very last statement before the socket.

    Answer: `answered`, `mapping_failed`, `key_store_away` or `erased`; none if `may_send` said no.
    `parked`: its bytes are those of its row in `parked`, else those taken at `offset`.
    `attempt` counts rounds: 1 from the log, one more for each time it comes out of park.
    """

    ticket: int
    event_id: str
    offset: int
    parked: bool
    lane: str
    attempt: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Append to `outcomes`. Answer: `durable` after the ack, or `failed`.

    `parked` as in Send; its row stands until all Publish of it are answered.
    `attempt` as in Send, so a repeat after a kill has the same record id.
    """

    token: int
    kind: OutcomeKind
    event_id: str
    offset: int
    parked: bool
    attempt: int
    reason: ParkReason | None = None
    code: str = ""
    text: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class InsertRow:
    """Insert `row` into `parked` with the bytes taken at its offset; there already: that is well.

    Answer, as for all four that follow: `durable`, `failed`, or `fenced` if the store's epoch is
    not `epoch` (to be checked in the same transaction).
    """

    token: int
    epoch: int
    row: Row
    code: str = ""
    text: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteRow:
    """Delete the row and close `commands` as done, in one transaction; no such row: well."""

    token: int
    epoch: int
    event_id: str
    commands: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkRow:
    """It failed again: set reason and attempt, and close `commands` as done, in one transaction."""

    token: int
    epoch: int
    event_id: str
    reason: ParkReason
    attempt: int
    commands: tuple[int, ...] = ()
    code: str = ""
    text: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class CloseCommand:
    """Close one command without any change of a row; `refusal` tells the operator why."""

    token: int
    epoch: int
    command_id: int
    refusal: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The bytes taken at `offset` are needed no more."""

    offset: int


@dataclass(frozen=True, slots=True)
class PauseFetch:
    """Take no more from this queue. Up to FETCH_RESERVE records already fetched may still come."""

    why: str


@dataclass(frozen=True, slots=True)
class ResumeFetch:
    """Take records; until the first one, none are wanted."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The last commit is acked and this owner is done; `clean` is what that commit says (F4)."""

    clean: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing is delivered from this queue until a person has acted; `reason` says what to do."""

    reason: str


Effect = (
    CommitOffsets
    | SetEpoch
    | ReadParked
    | ReadBack
    | Send
    | Publish
    | InsertRow
    | DeleteRow
    | MarkRow
    | CloseCommand
    | Forget
    | PauseFetch
    | ResumeFetch
    | Drained
    | Stop
)
