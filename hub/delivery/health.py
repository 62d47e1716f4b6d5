"""Is the destination well: what speaks of it, how long to pause, when to send one to see."""

import random
from collections import deque
from typing import Final

from hub.delivery.effects import Pace
from hub.delivery.states import DESTINATION, Destination, DestinationEvent, Do, step

KEYS_AWAY: Final = "keys"
"""Cause of a pause that is not the destination's: the sealed parts cannot be opened."""
_LANES_THAT_SPEAK: Final = 3


def full_jitter(rng: random.Random, base: float, cap: float, tries: int) -> float:
    """Between nothing and a doubling ceiling: many that failed at once do not return at once."""
    return rng.uniform(0, min(cap, base * 2.0 ** min(tries, 30)))


class Health:
    """One destination. `ticket` says whose answer it is: only that of the probe ends a pause."""

    def __init__(self, pace: Pace, rng: random.Random) -> None:
        self._pace = pace
        self._rng = rng
        self.state = Destination.WELL
        self.sickness = 0
        """Counts them: `waiting` is told once for each."""
        self.cause = ""
        self.until = 0.0
        """While sick: no probe before this time."""
        self.wells = 0
        """Deliveries that the destination took or refused for a reason of their own."""
        self.wells_before = 0
        """The same, when it was last sick."""
        self._probe: int | None = None
        self._level = 0
        self._unclear: deque[str] = deque(maxlen=_LANES_THAT_SPEAK)
        self._asked_to_wait = 0.0

    def lets_go(self, now: float) -> bool:
        """May one more be sent? While sick only a probe, one at a time."""
        if self.state is Destination.SICK:
            return now >= self.until
        return self.state is Destination.WELL

    def sent(self, ticket: int) -> None:
        if self.state is Destination.SICK:
            self._probe = ticket
            self._fire(DestinationEvent.PROBE, 0.0)

    def away(self, ticket: int, cause: str, retry_after: float | None, now: float) -> None:
        """An answer that speaks of the destination at once."""
        self._asked_to_wait = min(retry_after or 0.0, self._pace.retry_after_cap)
        if self.state is Destination.WELL or ticket == self._probe:
            self.cause = cause
        self._judge(ticket, DestinationEvent.AWAY, DestinationEvent.PROBE_FAILED, now)

    def unclear(self, ticket: int, lane: str, now: float) -> bool:
        """A 5xx or no answer. True: it speaks of the destination (it is sick, or the last three
        came from as many lanes); False: it may be the record."""
        self._asked_to_wait = 0.0
        self._unclear.append(lane)
        if self.state is Destination.WELL and len(set(self._unclear)) == _LANES_THAT_SPEAK:
            self.cause = "three_lanes"
            self._fire(DestinationEvent.AWAY, now)
            return True
        self._judge(ticket, DestinationEvent.UNCLEAR, DestinationEvent.PROBE_FAILED, now)
        return self.state is not Destination.WELL

    def answered(self, ticket: int, now: float, *, well: bool) -> None:
        """`well`: it took or refused the delivery; else it said that one is under way."""
        if well:
            self.wells += 1
            self._unclear.clear()
        self._judge(ticket, DestinationEvent.ANSWERED, DestinationEvent.PROBE_ANSWERED, now)

    def not_asked(self, ticket: int, now: float, *, opened: bool = False) -> None:
        """Nothing was sent after all. `opened`: the key store at least did answer."""
        if ticket == self._probe:
            heals = opened and self.cause == KEYS_AWAY
            event = DestinationEvent.PROBE_ANSWERED if heals else DestinationEvent.PROBE_WITHHELD
            self._judge(ticket, event, event, now)

    def _judge(
        self, ticket: int, event: DestinationEvent, as_probe: DestinationEvent, now: float
    ) -> None:
        if ticket == self._probe:
            self._probe = None
            event = as_probe
        self._fire(event, now)

    def _fire(self, event: DestinationEvent, now: float) -> None:
        self.state, does = step(DESTINATION, self.state, event)
        for do in does:
            if do is Do.PAUSE:
                self.sickness += 1
                self.wells_before = self.wells
                self._level = 0
                self._pause(now)
            elif do is Do.PAUSE_LONGER:
                self._level += 1
                self._pause(now)
            elif do is Do.HONOUR:
                self.until = max(self.until, now + self._asked_to_wait)
            elif do is Do.RESUME:
                self._unclear.clear()
                self.cause = ""

    def _pause(self, now: float) -> None:
        wait = full_jitter(self._rng, self._pace.pause, self._pace.pause_cap, self._level)
        self.until = now + max(wait, self._asked_to_wait)
