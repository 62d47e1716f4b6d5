"""The states of delivery as data: five small tables and the one function that walks them.

A table says for each state and event the next state and what to do, in order. What is not in a
table cannot happen: `step` raises, and the owner stops rather than guesses. The engine decides
which event an answer is (that needs times and counts); the tables decide what follows from it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar


class Owner(StrEnum):
    """How far this owner of the queue has come (protocol F2, F4)."""

    CLAIMING = "claiming"
    """Its first commit is under way: epoch raised, clean flag dropped."""
    FENCING = "fencing"
    """The store is told the epoch; older writers are refused from then on."""
    READING_PARKED = "reading_parked"
    READING_BACK = "reading_back"
    LIVE = "live"
    DRAINING = "draining"
    """Sends nothing new; writes down what came back."""
    LEAVING = "leaving"
    """Its last commit is under way."""
    GONE = "gone"
    STOPPED = "stopped"
    """A person must act; nothing is sent."""


class OwnerEvent(StrEnum):
    COMMITTED = "committed"
    EPOCH_SET = "epoch_set"
    PARKED_READ = "parked_read"
    READ_BACK = "read_back"
    DRAIN = "drain"
    EMPTIED = "emptied"
    LOST = "lost"
    UNREADABLE = "unreadable"


class Lane(StrEnum):
    """Whose turn it is in a lane: at most one delivery, from the log or from its parked rows."""

    IDLE = "idle"
    """Nothing to deliver, or the next is about to be chosen."""
    READY = "ready"
    """May be sent as soon as destination and lease allow."""
    SENDING = "sending"
    BACKOFF = "backoff"
    """No clear answer; waits, then is sent again."""
    ASKING = "asking"
    """A no came while an earlier try may be under way: waits that out, asks once more (S3)."""
    SETTLING = "settling"
    """Its result is being written down, or a covering commit or an insert is awaited (D2)."""
    PARKED = "parked"
    """Its head row waits for a person."""


class LaneEvent(StrEnum):
    RECORD_NEXT = "record_next"
    ROW_NEXT = "row_next"
    ROW_HELD = "row_held"
    NOT_YET = "not_yet"
    SEND = "send"
    UNUSABLE = "unusable"
    WITHHELD = "withheld"
    FINAL = "final"
    FAILED = "failed"
    DOUBTED_NO = "doubted_no"
    UNCLEAR = "unclear"
    TARGET_AWAY = "target_away"
    DUE = "due"
    RESEND = "resend"
    SKIP = "skip"
    SETTLED = "settled"


class Record(StrEnum):
    """A record of the log between watermark and newest taken."""

    QUEUED = "queued"
    HEAD = "head"
    """Its lane's delivery."""
    CLOSING = "closing"
    """Its final outcome is being written."""
    INSERTING = "inserting"
    """Its row is being inserted."""
    REPORTING = "reporting"
    """Its row is durable; `parked` is being written to outcomes."""
    DONE = "done"
    """D1. The next commit says so."""
    COVERED = "covered"
    """The commit that says so is acked."""


class RecordEvent(StrEnum):
    CHOSEN = "chosen"
    LANE_PARKED = "lane_parked"
    STANDS_PARKED = "stands_parked"
    COPY = "copy"
    FINAL = "final"
    FAILED = "failed"
    WRITTEN = "written"
    COVERED = "covered"


class Row(StrEnum):
    """A row of `parked`, from when it is durable."""

    WAITING = "waiting"
    """Behind another, or for a person."""
    HEAD = "head"
    """Its lane's delivery: out of park for one more round."""
    CLOSING = "closing"
    """Its final outcome is being written."""
    REMOVING = "removing"
    REPORTING = "reporting"
    """It failed again; `parked` is being written to outcomes."""
    MARKING = "marking"
    GONE = "gone"


class RowEvent(StrEnum):
    CHOSEN = "chosen"
    FINAL = "final"
    FAILED = "failed"
    WRITTEN = "written"


class Destination(StrEnum):
    WELL = "well"
    SICK = "sick"
    """The queue pauses; the log is the buffer."""
    PROBING = "probing"
    """One delivery is out to see."""


class DestinationEvent(StrEnum):
    AWAY = "away"
    """It speaks of the destination: not sent, throttled, credentials, key store, three lanes."""
    UNCLEAR = "unclear"
    ANSWERED = "answered"
    PROBE = "probe"
    PROBE_FAILED = "probe_failed"
    PROBE_ANSWERED = "probe_answered"
    PROBE_WITHHELD = "probe_withheld"
    """The probe never reached it: lease over, record erased or not mapped."""


class Do(StrEnum):
    """What a transition asks of the engine; each is one method there."""

    SET_EPOCH = "set_epoch"
    READ_PARKED = "read_parked"
    READ_BACK = "read_back"
    GO_LIVE = "go_live"
    HOLD = "hold"
    LAST_COMMIT = "last_commit"
    SAY_DRAINED = "say_drained"
    DROP_ALL = "drop_all"
    SEND = "send"
    SEND_AGAIN_LATER = "send_again_later"
    WAIT_OUT = "wait_out"
    SAY_WAITING = "say_waiting"
    TAKE_RECORD = "take_record"
    START_ROUND = "start_round"
    CLOSE = "close"
    PARK = "park"
    SKIP = "skip"
    CHOOSE = "choose"
    TELL_FINAL = "tell_final"
    INSERT_ROW = "insert_row"
    ADD_ROW = "add_row"
    TELL_PARKED = "tell_parked"
    MARK_DONE = "mark_done"
    ADVANCE = "advance"
    DELETE_ROW = "delete_row"
    MARK_ROW = "mark_row"
    DROP_ROW = "drop_row"
    HOLD_ROW = "hold_row"
    PAUSE = "pause"
    PAUSE_LONGER = "pause_longer"
    HONOUR = "honour"
    RESUME = "resume"


S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)
Table = Mapping[tuple[S, E], tuple[S, tuple[Do, ...]]]

_O, _OE = Owner, OwnerEvent
OWNER: Final[Table[Owner, OwnerEvent]] = {
    (_O.CLAIMING, _OE.COMMITTED): (_O.FENCING, (Do.SET_EPOCH,)),
    (_O.FENCING, _OE.EPOCH_SET): (_O.READING_PARKED, (Do.READ_PARKED,)),
    (_O.READING_PARKED, _OE.PARKED_READ): (_O.READING_BACK, (Do.READ_BACK,)),
    (_O.READING_BACK, _OE.READ_BACK): (_O.LIVE, (Do.GO_LIVE,)),
    # Its epoch may not be committed, so it may commit nothing more; it has sent nothing.
    (_O.CLAIMING, _OE.DRAIN): (_O.GONE, (Do.SAY_DRAINED,)),
    (_O.FENCING, _OE.DRAIN): (_O.LEAVING, (Do.LAST_COMMIT,)),
    (_O.READING_PARKED, _OE.DRAIN): (_O.LEAVING, (Do.LAST_COMMIT,)),
    (_O.READING_BACK, _OE.DRAIN): (_O.LEAVING, (Do.LAST_COMMIT,)),
    (_O.LIVE, _OE.DRAIN): (_O.DRAINING, (Do.HOLD,)),
    (_O.DRAINING, _OE.DRAIN): (_O.DRAINING, ()),
    (_O.LEAVING, _OE.DRAIN): (_O.LEAVING, ()),
    (_O.DRAINING, _OE.EMPTIED): (_O.LEAVING, (Do.LAST_COMMIT,)),
    # Asked for before the hand-over began.
    (_O.LEAVING, _OE.EPOCH_SET): (_O.LEAVING, ()),
    (_O.LEAVING, _OE.PARKED_READ): (_O.LEAVING, ()),
    (_O.LEAVING, _OE.COMMITTED): (_O.GONE, (Do.SAY_DRAINED,)),
    (_O.CLAIMING, _OE.UNREADABLE): (_O.STOPPED, (Do.DROP_ALL,)),
    **{(state, _OE.LOST): (_O.GONE, (Do.DROP_ALL,)) for state in Owner if state is not _O.STOPPED},
    (_O.STOPPED, _OE.LOST): (_O.STOPPED, ()),
    (_O.STOPPED, _OE.DRAIN): (_O.GONE, (Do.SAY_DRAINED,)),
    (_O.GONE, _OE.DRAIN): (_O.GONE, (Do.SAY_DRAINED,)),
}

_L, _LE = Lane, LaneEvent
LANE: Final[Table[Lane, LaneEvent]] = {
    (_L.IDLE, _LE.RECORD_NEXT): (_L.READY, (Do.TAKE_RECORD,)),
    (_L.IDLE, _LE.ROW_NEXT): (_L.READY, (Do.START_ROUND,)),
    (_L.IDLE, _LE.ROW_HELD): (_L.PARKED, ()),
    (_L.IDLE, _LE.NOT_YET): (_L.SETTLING, ()),
    (_L.READY, _LE.SEND): (_L.SENDING, (Do.SEND,)),
    (_L.READY, _LE.UNUSABLE): (_L.SETTLING, (Do.PARK,)),
    (_L.SENDING, _LE.WITHHELD): (_L.READY, ()),
    (_L.SENDING, _LE.FINAL): (_L.SETTLING, (Do.CLOSE,)),
    (_L.SENDING, _LE.FAILED): (_L.SETTLING, (Do.PARK,)),
    (_L.SENDING, _LE.DOUBTED_NO): (_L.ASKING, (Do.WAIT_OUT,)),
    (_L.SENDING, _LE.UNCLEAR): (_L.BACKOFF, (Do.SEND_AGAIN_LATER,)),
    # No attempt is burnt: it goes back to where it stood, behind the other lanes.
    (_L.SENDING, _LE.TARGET_AWAY): (_L.READY, (Do.SAY_WAITING,)),
    (_L.BACKOFF, _LE.DUE): (_L.READY, ()),
    (_L.ASKING, _LE.DUE): (_L.READY, ()),
    (_L.SETTLING, _LE.SETTLED): (_L.IDLE, (Do.CHOOSE,)),
    (_L.PARKED, _LE.RESEND): (_L.READY, (Do.START_ROUND,)),
    (_L.PARKED, _LE.SKIP): (_L.SETTLING, (Do.SKIP,)),
}

_R, _RE = Record, RecordEvent
RECORD: Final[Table[Record, RecordEvent]] = {
    (_R.QUEUED, _RE.COPY): (_R.DONE, (Do.MARK_DONE,)),
    (_R.QUEUED, _RE.CHOSEN): (_R.HEAD, ()),
    (_R.QUEUED, _RE.LANE_PARKED): (_R.INSERTING, (Do.INSERT_ROW,)),
    (_R.QUEUED, _RE.STANDS_PARKED): (_R.REPORTING, (Do.TELL_PARKED,)),
    (_R.HEAD, _RE.FINAL): (_R.CLOSING, (Do.TELL_FINAL,)),
    (_R.HEAD, _RE.FAILED): (_R.INSERTING, (Do.INSERT_ROW,)),
    (_R.CLOSING, _RE.WRITTEN): (_R.DONE, (Do.MARK_DONE,)),
    (_R.INSERTING, _RE.WRITTEN): (_R.REPORTING, (Do.ADD_ROW, Do.TELL_PARKED)),
    (_R.REPORTING, _RE.WRITTEN): (_R.DONE, (Do.MARK_DONE,)),
    (_R.DONE, _RE.COVERED): (_R.COVERED, (Do.ADVANCE,)),
}

_W, _WE = Row, RowEvent
ROW: Final[Table[Row, RowEvent]] = {
    (_W.WAITING, _WE.CHOSEN): (_W.HEAD, ()),
    (_W.WAITING, _WE.FINAL): (_W.CLOSING, (Do.TELL_FINAL,)),
    (_W.HEAD, _WE.FINAL): (_W.CLOSING, (Do.TELL_FINAL,)),
    # Outcome before row: a kill in between leaves the row's duty open, and the next owner's
    # outcomes have the same record ids.
    (_W.HEAD, _WE.FAILED): (_W.REPORTING, (Do.TELL_PARKED,)),
    (_W.CLOSING, _WE.WRITTEN): (_W.REMOVING, (Do.DELETE_ROW,)),
    (_W.REMOVING, _WE.WRITTEN): (_W.GONE, (Do.DROP_ROW,)),
    (_W.REPORTING, _WE.WRITTEN): (_W.MARKING, (Do.MARK_ROW,)),
    (_W.MARKING, _WE.WRITTEN): (_W.WAITING, (Do.HOLD_ROW,)),
}

_D, _DE = Destination, DestinationEvent
DESTINATION: Final[Table[Destination, DestinationEvent]] = {
    (_D.WELL, _DE.AWAY): (_D.SICK, (Do.PAUSE,)),
    (_D.WELL, _DE.UNCLEAR): (_D.WELL, ()),
    (_D.WELL, _DE.ANSWERED): (_D.WELL, ()),
    (_D.SICK, _DE.PROBE): (_D.PROBING, ()),
    (_D.PROBING, _DE.PROBE_FAILED): (_D.SICK, (Do.PAUSE_LONGER,)),
    (_D.PROBING, _DE.PROBE_ANSWERED): (_D.WELL, (Do.RESUME,)),
    (_D.PROBING, _DE.PROBE_WITHHELD): (_D.SICK, ()),
    # What was sent before it fell sick tells nothing new, whatever the answer.
    **{
        (state, event): (state, (Do.HONOUR,) if event is _DE.AWAY else ())
        for state in (_D.SICK, _D.PROBING)
        for event in (_DE.AWAY, _DE.UNCLEAR, _DE.ANSWERED)
    },
}

TABLES: Final[Mapping[str, Table[Any, Any]]] = {
    "owner": OWNER,
    "lane": LANE,
    "record": RECORD,
    "row": ROW,
    "destination": DESTINATION,
}


class NoSuchTransition(Exception):
    """A bug: the engine met a state and event that no table knows."""


def step(table: Table[S, E], state: S, event: E) -> tuple[S, tuple[Do, ...]]:
    """The one transition function."""
    try:
        return table[state, event]
    except KeyError:
        raise NoSuchTransition(
            f"{type(state).__name__} {state.value!r} knows no event {event.value!r}"
        ) from None
