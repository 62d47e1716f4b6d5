"""What outlives a process: log, committed offset, store, outcomes, and the back-office.

Every rule is checked where it would break: when a commit lands, when an effect is applied, when a
request is written. A violation is a line of text; `World.violations` must stay empty.
"""

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hub.connector import Verdict, VerdictKind
from hub.delivery.effects import Command, Committed, Pace, ParkReason, Publish, Row
from hub.delivery.progress import read_metadata
from hub.outcome import FINAL, OutcomeKind

PACE = Pace(
    concurrency=4,
    request_timeout=3.0,
    poll_silence=3.0,
    backoff=0.2,
    backoff_cap=4.0,
    pause=0.2,
    pause_cap=3.0,
    retry_after_cap=5.0,
)
SESSION = 6.0
LONGEST_POLL = 4.0
"""`max.poll.interval.ms`: a poll loop silent for longer loses the queue, whatever it commits."""
NEVER = float("inf")


@dataclass(slots=True)
class Plan:
    """What the back-office thinks of one event, fixed when it is appended."""

    lane: str
    usable: bool = True
    bad_until: float = 0.0
    """4xx until then."""
    failing: bool = False
    """Always 500, until the end of faults."""
    deaf: bool = False
    """Applied, and yet always 500, until the end of faults."""
    rejected: bool = False
    unmappable: bool = False
    erased_at: float = NEVER


@dataclass(slots=True)
class Entry:
    event_id: str
    lane: str
    appended_at: float


@dataclass(slots=True)
class Request:
    event_id: str
    answer: Callable[[Verdict], None]


class World:
    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self.trace: deque[str] | None = deque(maxlen=20_000) if trace else None
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        # The broker.
        self.log: list[Entry] = []
        self.plans: dict[str, Plan] = {}
        self.first: dict[str, int] = {}
        self.committed: Committed | None = None
        self.owner: object | None = None
        self.last_contact = 0.0
        self.checked: set[int] = set()
        """Offsets that a commit which landed says are done."""
        self._all_checked = 0
        self.lanes: dict[str, deque[int]] = defaultdict(deque)
        """Of each lane the offsets not checked yet, without second copies."""
        self.outcomes: dict[str, list[tuple[int, float, int, Publish]]] = defaultdict(list)
        self.final: dict[str, OutcomeKind] = {}
        # The store.
        self.on_parked: Callable[[Row], None] = lambda _row: None
        self.epoch = 0
        self.rows: dict[str, Row] = {}
        self.commands: dict[int, tuple[Command, str | None]] = {}
        # The back-office, of kind `key`: it drops repeats.
        self.mood = "well"
        self.calm = False
        """No more faults: what is healed by itself, heals."""
        self.store_away = self.store_slow = self.broker_away = self.keys_away = False
        self.applied: dict[str, float] = {}
        self.in_process: Counter[str] = Counter()
        self.under_way = 0
        """Requests written and not yet decided by the back-office."""
        self.furthest: dict[str, int] = {}

    # --- time ---

    def after(self, delay: float, do: Callable[..., None], *args: Any) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.now + delay, self._number, do, args))

    def step(self) -> None:
        self.now, _, do, args = heapq.heappop(self._heap)
        self.events += 1
        do(*args)

    def note(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now:10.4f} {text}")

    def wrong(self, text: str) -> None:
        self.note(f"VIOLATION {text}")
        self.violations.append(f"{self.now:.4f} {text}")

    def soon(self) -> float:
        """A latency in seconds: mostly milliseconds, now and then much longer."""
        return self.rng.uniform(0.5, 3.0) if self.rng.random() < 0.01 else self.rng.uniform(0, 0.02)

    # --- the log ---

    def append(self, event_id: str, plan: Plan) -> None:
        self.plans[event_id] = plan
        if event_id not in self.first:
            self.first[event_id] = len(self.log)
            self.lanes[plan.lane].append(len(self.log))
        self.note(f"append {event_id} of {plan.lane} at {len(self.log)}")
        self.log.append(Entry(event_id, plan.lane, self.now))

    def commit(self, watermark: int, metadata: str) -> None:
        """P5: a done mark only on a done record."""
        mark = read_metadata(metadata)
        self.committed = Committed(watermark, metadata)
        self.last_contact = self.now
        while self._all_checked in self.checked:
            self._all_checked += 1
        end = min(watermark + mark.bits.bit_length(), len(self.log))
        for offset in range(self._all_checked, end):
            done = offset < watermark or mark.bits >> (offset - watermark) & 1
            if done and offset not in self.checked:
                self.checked.add(offset)
                event_id = self.log[offset].event_id
                if self.first[event_id] == offset and not self.is_done(event_id):
                    self.wrong(f"lost: {event_id} at {offset} is committed as done and is not")

    def check_turn(self, event_id: str, parked: bool) -> None:
        """D2, P4: all earlier records of its lane are covered by a commit, and it is not final."""
        offset, ahead = self.first[event_id], self.lanes[self.plans[event_id].lane]
        while ahead and ahead[0] in self.checked:
            ahead.popleft()
        if ahead and (ahead[0] < offset or (parked and ahead[0] == offset)):
            self.wrong(f"{event_id} is sent before a commit covers offset {ahead[0]} of its lane")
        if event_id in self.final and offset in self.checked and event_id not in self.rows:
            self.wrong(f"{event_id} is sent after its done mark")

    def is_done(self, event_id: str) -> bool:
        # What cannot be decoded has no reference, so no outcome: its row is all there is.
        return event_id in self.final or event_id in self.rows or not self.plans[event_id].usable

    def publish(self, said: Publish, begun: float) -> None:
        self._number += 1
        self.outcomes[said.event_id].append((said.attempt, begun, self._number, said))
        if said.kind is OutcomeKind.DELIVERED and not said.parked and said.event_id in self.rows:
            self.wrong(f"{said.event_id} is delivered from the log although it stands parked")
        if said.kind in FINAL:
            before = self.final.setdefault(said.event_id, said.kind)
            # Erased after it was delivered, told by the owner who found no done mark: both true.
            if before is not said.kind and OutcomeKind.ERASED not in {before, said.kind}:
                self.wrong(f"{said.event_id} is {before} and {said.kind}")
            if said.kind is OutcomeKind.REJECTED and said.event_id in self.applied:
                self.wrong(f"{said.event_id} is rejected although applied")
            if said.kind is OutcomeKind.DELIVERED and said.event_id not in self.applied:
                self.wrong(f"lost: {said.event_id} is delivered and was never applied")

    def latest(self, event_id: str) -> Publish | None:
        """As the status folds it: the highest attempt, then the youngest."""
        told = self.outcomes.get(event_id)
        return max(told, key=lambda one: one[:3])[3] if told else None

    # --- the back-office ---

    def arrive(self, request: Request) -> None:
        self.counts["requests"] += 1
        self.under_way -= 1
        event_id = request.event_id
        plan = self.plans[event_id]
        verdict = self._mood_says()
        if verdict is not None:
            request.answer(verdict)
        elif plan.deaf and event_id in self.applied and not self.calm:
            request.answer(Verdict(VerdictKind.AMBIGUOUS, status=500))
        elif event_id in self.applied:
            self.counts["repeats"] += 1
            request.answer(Verdict(VerdictKind.DELIVERED))
        elif self.in_process[event_id]:
            self.counts["under_way"] += 1
            request.answer(Verdict(VerdictKind.UNDER_WAY))
        elif plan.failing and not self.calm:
            request.answer(Verdict(VerdictKind.AMBIGUOUS, status=500))
        elif plan.rejected:
            request.answer(Verdict(VerdictKind.REJECTED, status=422))
        elif self.now < plan.bad_until or (not self.calm and self.rng.random() < 0.03):
            request.answer(Verdict(VerdictKind.RECORD_FAILED, status=400))
        else:
            self.in_process[event_id] += 1
            self.under_way += 1
            slow = self.rng.random() < 0.2
            work = self.rng.uniform(0, 0.4 * PACE.request_timeout if slow else 0.01)
            self.after(work, self.finish, request)

    def _mood_says(self) -> Verdict | None:
        if self.mood == "throttling":
            return Verdict(VerdictKind.THROTTLED, retry_after_seconds=self.rng.uniform(0, 9))
        if self.mood == "credentials":
            return Verdict(VerdictKind.CREDENTIALS, status=401)
        if self.mood == "failing":
            return Verdict(VerdictKind.AMBIGUOUS, status=503)
        return None

    def finish(self, request: Request) -> None:
        event_id = request.event_id
        self.in_process[event_id] -= 1
        self.under_way -= 1
        chance = 1.0 if self.calm else self.rng.random()
        if chance < 0.02:
            request.answer(Verdict(VerdictKind.AMBIGUOUS, status=500))
            return
        self.apply(event_id)
        unheard = chance < 0.04 or (self.plans[event_id].deaf and not self.calm)
        kind = VerdictKind.AMBIGUOUS if unheard else VerdictKind.DELIVERED
        request.answer(Verdict(kind))

    def apply(self, event_id: str) -> None:
        """P2: the first effects of a lane follow the log."""
        lane, offset = self.plans[event_id].lane, self.first[event_id]
        self.note(f"APPLIED {event_id} of {lane}")
        self.applied[event_id] = self.now
        if self.furthest.get(lane, -1) > offset:
            self.wrong(f"inversion: {event_id} of {lane} is applied after a later one")
        self.furthest[lane] = max(offset, self.furthest.get(lane, -1))
        if self.final.get(event_id) is OutcomeKind.REJECTED:
            self.wrong(f"{event_id} is applied although rejected")

    # --- the end ---

    def idle(self) -> bool:
        """All is final, or waits for a person."""
        if self.committed is None or self.committed.watermark < len(self.log):
            return False
        if any(closed is None for _, closed in self.commands.values()):
            return False
        heads: dict[str, Row] = {}
        for row in sorted(self.rows.values(), key=lambda r: r.offset):
            heads.setdefault(row.lane, row)
        return all(row.reason for row in heads.values())

    def settle_accounts(self) -> None:
        """After the end: every event is final or parked, and what that says is true (P1, P7)."""
        for event_id, plan in self.plans.items():
            row = self.rows.get(event_id)
            open_end = row is None and event_id not in self.final
            if open_end and (plan.usable or not self._skipped(event_id)):
                self.wrong(f"lost: {event_id} is neither final nor parked")
            if row is not None:
                self._check_row(row)

    def _skipped(self, event_id: str) -> bool:
        return any(c.event_id == event_id and done == "" for c, done in self.commands.values())

    def _check_row(self, row: Row) -> None:
        if row.event_id in self.final:
            self.wrong(f"{row.event_id} is {self.final[row.event_id]} and stands parked")
        if row.event_id in self.applied and row.reason is not ParkReason.IN_DOUBT:
            self.wrong(f"{row.event_id} stands parked ({row.reason}) although applied")
        latest = self.latest(row.event_id)
        if row.usable and (
            latest is None
            or latest.kind is not OutcomeKind.PARKED
            or latest.reason is not row.reason
        ):
            self.wrong(f"{row.event_id} stands parked ({row.reason}), its outcomes say {latest}")
