"""A shell for one engine in tests: time stands still unless told, and effects are done at once."""

import random
from collections.abc import Iterable
from typing import Any

from hub.connector import Verdict, VerdictKind
from hub.delivery.effects import (
    Command,
    CommandKind,
    CommitOffsets,
    Committed,
    Drained,
    Effect,
    Forget,
    Pace,
    PauseFetch,
    Publish,
    ReadBack,
    ReadParked,
    ResumeFetch,
    Row,
    Send,
    Stop,
)
from hub.delivery.engine import QueueEngine
from hub.outcome import OutcomeKind

PACE = Pace(request_timeout=10.0)


class Desk:
    """`held`: kinds of effect that are not answered until `release`."""

    def __init__(self, pace: Pace = PACE, seed: int = 1) -> None:
        self.engine = QueueEngine("GM0000/test", pace, random.Random(seed))
        self.now = 1000.0
        self.log: list[Effect] = []
        self._sends: list[Send] = []
        self._last_send: dict[str, Send] = {}
        self.held: set[type] = set()
        self.waiting: list[Any] = []
        self.rows: dict[str, Row] = {}
        self.seen: list[tuple[int, str]] = []

    # --- the queue ---

    def live(
        self,
        committed: Committed | None = None,
        rows: Iterable[Row] = (),
        seen: Iterable[tuple[int, str]] = (),
    ) -> "Desk":
        self.rows = {row.event_id: row for row in rows}
        self.seen = list(seen)
        self.do(self.engine.take_over(committed, 0, self.now))
        return self

    def arrive(self, *records: tuple[int, str, str]) -> None:
        for offset, event_id, lane in records:
            self.do(self.engine.arrived(offset, event_id, lane, self.now, self.now))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.log.append(effect)
            if isinstance(effect, Send):
                self._sends.append(effect)
                self._last_send[effect.event_id] = effect
            if type(effect) in self.held:
                self.waiting.append(effect)
            else:
                self._answer(effect)

    def _answer(self, effect: Any) -> None:
        match effect:
            case CommitOffsets():
                self.do(self.engine.commit_acked(effect.token, self.now))
            case ReadParked():
                self.do(self.engine.parked_read(effect.token, self.rows.values(), self.now))
            case ReadBack():
                for offset, event_id in self.seen:
                    self.engine.seen(offset, event_id, self.now)
                self.do(self.engine.read_back_done(self.now))
            case Send() | Forget() | PauseFetch() | ResumeFetch() | Stop() | Drained():
                pass
            case _:
                self.do(self.engine.durable(effect.token, self.now))

    def hold(self, *kinds: type) -> None:
        self.held |= set(kinds)

    def release(self) -> None:
        """Answer what was held, and from now on at once."""
        waiting, self.waiting, self.held = self.waiting, [], set()
        for effect in waiting:
            self._answer(effect)

    # --- answers ---

    def sends(self) -> list[Send]:
        return self._sends.copy()

    def sent(self) -> list[str]:
        return [send.event_id for send in self.sends()]

    def open_send(self, event_id: str) -> Send:
        return self._last_send[event_id]

    def answer(self, event_id: str, kind: VerdictKind, after: float = 0.0, **said: Any) -> None:
        """The last try of `event_id` goes on the wire now and is answered `after` seconds."""
        send = self.open_send(event_id)
        assert self.engine.may_send(send.ticket, self.now), f"{event_id} may not be sent"
        if after:
            self.wait(after)
        self.do(self.engine.answered(send.ticket, Verdict(kind, **said), self.now))

    def order(self, number: int, kind: CommandKind, event_id: str) -> None:
        self.do(self.engine.command(Command(number, kind, event_id), self.now))

    def said(self, event_id: str) -> list[OutcomeKind]:
        return [p.kind for p in self.all_of(Publish) if p.event_id == event_id]

    def all_of(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.log if isinstance(effect, kind)]

    # --- time ---

    def wait(self, seconds: float) -> None:
        """Let time pass as a shell would: a tick whenever the engine asks for one."""
        end = self.now + seconds
        while self.now < end:
            wake = max(self.engine.next_wakeup(self.now), self.now + 0.001)
            self.now = min(end, wake)
            self.engine.polled(self.now)
            self.do(self.engine.tick(self.now))

    def wait_for_send(self, event_id: str, within: float = 120.0) -> Send:
        """Until one more try of it is asked for."""
        before, end = len(self._sends), self.now + within
        while all(send.event_id != event_id for send in self._sends[before:]):
            assert self.now < end, f"{event_id} is not sent again"
            self.wait(0.05)
        return self.open_send(event_id)
