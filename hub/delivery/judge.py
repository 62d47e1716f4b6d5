"""What an answer means for a lane: which event it is, and what must be waited for."""

import random
from typing import Final

from hub.connector import Verdict, VerdictKind
from hub.delivery.effects import Pace, ParkReason
from hub.delivery.health import KEYS_AWAY, Health, full_jitter
from hub.delivery.lanes import Delivery, Result
from hub.delivery.states import LaneEvent
from hub.outcome import OutcomeKind

AMBIGUOUS_TRIES: Final = 5
"""So many strikes park a delivery as in doubt; see `Delivery.strikes`."""
UNDER_WAY_TRIES: Final = 30
"""A 409 is never a failure, yet after so many, while others succeed, a person should look: else
one record that the target never finishes would fill the window and stop everybody."""
AWAY_TRIES: Final = 30
"""The same for what speaks of the destination and yet comes to one record alone: a 403, a key."""

_AWAY: Final = {VerdictKind.NOT_SENT, VerdictKind.THROTTLED, VerdictKind.CREDENTIALS}
_KEYS = Verdict(VerdictKind.NOT_SENT, code=KEYS_AWAY, text="the key store does not answer")


class Judge:
    """Sets the result and the waits of the delivery in hand, and tells `health` what it heard."""

    def __init__(self, pace: Pace, rng: random.Random, health: Health) -> None:
        self._pace = pace
        self._rng = rng
        self._health = health
        self.unclean_until = 0.0
        """F5: until then a try of an earlier owner may still take effect."""
        self.open_until = 0.0
        """Until then a try of this owner may still take effect, whatever became of its record."""

    def answer(
        self, ticket: int, lane: str, hand: Delivery, verdict: Verdict, sent_at: float, now: float
    ) -> LaneEvent:
        kind, health = verdict.kind, self._health
        if kind in _AWAY:
            health.away(ticket, kind.value, verdict.retry_after_seconds, now)
            return self._away(hand, verdict, sent_at)
        if kind in {VerdictKind.AMBIGUOUS, VerdictKind.NO_ANSWER}:
            self._doubt(hand, sent_at + self._pace.request_timeout)
            if health.unclear(ticket, lane, now):
                return self._waiting(hand, verdict)
            return self._unclear(hand, verdict, now)
        if kind is VerdictKind.UNDER_WAY:
            # S4: it says itself that a try is under way now, whoever sent it.
            self._doubt(hand, now + self._pace.request_timeout)
            health.answered(ticket, now, well=False)
            return self._unclear(hand, verdict, now)
        health.answered(ticket, now, well=True)
        return self._clear(hand, verdict, sent_at)

    def not_mapped(self, ticket: int, hand: Delivery, text: str, now: float) -> LaneEvent:
        self._health.not_asked(ticket, now, opened=True)
        verdict = Verdict(VerdictKind.RECORD_FAILED, code="mapping", text=text)
        return self._clear(hand, verdict, now)

    def key_store_away(self, ticket: int, hand: Delivery, now: float) -> LaneEvent:
        self._health.away(ticket, KEYS_AWAY, None, now)
        return self._away(hand, _KEYS, now)

    def erased(self, ticket: int, hand: Delivery, now: float) -> LaneEvent:
        self._health.not_asked(ticket, now, opened=True)
        doubt = max(hand.doubt_until, self.unclean_until)
        if now < doubt:
            # S2: a try from before may yet be applied, and the lane must not go on ahead of it.
            hand.due = doubt
            return LaneEvent.DOUBTED_NO
        hand.source.result = Result(OutcomeKind.ERASED)
        return LaneEvent.FINAL

    def _doubt(self, hand: Delivery, until: float) -> None:
        """S2: no answer is not a no; the try counts as under way until its request timeout."""
        hand.doubt_until = max(hand.doubt_until, until)
        self.open_until = max(self.open_until, until)

    def _waiting(self, hand: Delivery, verdict: Verdict) -> LaneEvent:
        """It speaks of the destination: no attempt is burnt."""
        hand.source.result = _result(OutcomeKind.WAITING, verdict)
        return LaneEvent.TARGET_AWAY

    def _away(self, hand: Delivery, verdict: Verdict, sent_at: float) -> LaneEvent:
        """Waits, unless only this record is ever answered so; then it parks as not applied."""
        hand.turned_away += self._others_succeed(hand)
        if hand.turned_away >= AWAY_TRIES:
            return self._clear(hand, verdict, sent_at)
        return self._waiting(hand, verdict)

    def _others_succeed(self, hand: Delivery) -> bool:
        """Since the last try of this delivery."""
        before, hand.wells_seen = hand.wells_seen, self._health.wells
        return hand.wells_seen > before

    def _unclear(self, hand: Delivery, verdict: Verdict, now: float) -> LaneEvent:
        others_succeed = self._others_succeed(hand)
        hand.tries += 1
        if verdict.kind is VerdictKind.UNDER_WAY:
            hand.under_way_answers += 1
            give_up = others_succeed and hand.under_way_answers >= UNDER_WAY_TRIES
        else:
            hand.strikes += others_succeed
            give_up = hand.strikes >= AMBIGUOUS_TRIES
        if give_up:
            hand.source.result = _result(OutcomeKind.PARKED, verdict, ParkReason.IN_DOUBT)
            return LaneEvent.FAILED
        wait = full_jitter(self._rng, self._pace.backoff, self._pace.backoff_cap, hand.tries)
        asked = min(verdict.retry_after_seconds or 0.0, self._pace.retry_after_cap)
        hand.due = now + max(wait, asked)
        return LaneEvent.UNCLEAR

    def _clear(self, hand: Delivery, verdict: Verdict, sent_at: float) -> LaneEvent:
        if verdict.kind is VerdictKind.DELIVERED:
            hand.source.result = _result(OutcomeKind.DELIVERED, verdict)
            return LaneEvent.FINAL
        doubt = max(hand.doubt_until, self.unclean_until)
        if sent_at < doubt:
            # S3. Failure policy: parking now, while an earlier try may yet be applied, could let
            # a later record of the citizen pass it. It costs one more request after the doubt.
            hand.due = doubt
            return LaneEvent.DOUBTED_NO
        if verdict.kind is VerdictKind.REJECTED:
            hand.source.result = _result(OutcomeKind.REJECTED, verdict)
            return LaneEvent.FINAL
        hand.source.result = _result(OutcomeKind.PARKED, verdict, ParkReason.RECORD)
        return LaneEvent.FAILED


def _result(kind: OutcomeKind, verdict: Verdict, reason: ParkReason | None = None) -> Result:
    code = verdict.code or verdict.kind.value
    return Result(kind, reason, code, verdict.text, verdict.status)
