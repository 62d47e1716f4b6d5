"""One seed: a queue under load, kills and faults, until all is quiet; and many of them."""

import time
from dataclasses import dataclass, field
from typing import Any

from hub.delivery.effects import Command, CommandKind, Row
from hub.delivery.engine import QueueEngine
from tests.sim.owner import SimOwner
from tests.sim.world import LONGEST_POLL, NEVER, SESSION, Plan, World

KILLS_A_SEED = 20
MOODS = ("refusing", "failing", "throttling", "credentials", "hanging", "slow")
AWAY = ("store_away", "store_slow", "broker_away", "keys_away")
LONGEST_QUIET = 900.0
"""Seconds of simulated time in which everything must come to rest once faults end."""


@dataclass
class Report:
    kills: int = 0
    events: int = 0
    records: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    """`seed <n>: <what>`; replay with `python -m tests.sim --replay <n>`."""

    def figures(self) -> dict[str, Any]:
        lost = sum("lost" in line for line in self.violations)
        inversions = sum("inversion" in line for line in self.violations)
        return {
            "kills": self.kills,
            "events": self.events,
            "records": self.records,
            "lost": lost,
            "inversions": inversions,
            "twice": sum("done mark" in line for line in self.violations),
            "violations": len(self.violations),
            "repeats": self.counts.get("repeats", 0),
            **{name: self.counts.get(name, 0) for name in sorted(self.counts)},
            "seconds": round(self.seconds, 1),
        }


class Scenario:
    def __init__(
        self,
        seed: int,
        make: type[QueueEngine] = QueueEngine,
        own: type[SimOwner] = SimOwner,
        *,
        kills: int = KILLS_A_SEED,
        trace: bool = False,
    ) -> None:
        self.world = World(seed, trace=trace)
        self._rng = self.world.rng
        self._make = make
        self._own = own
        self._kills = kills
        self._owners = 0
        self._changing = False
        """The queue has no owner, or one that is on its way out."""
        self._next_blow = 0
        self._records = 6 * kills
        self._command_id = 0
        self.world.on_parked = self._eager_operator

    # --- the run ---

    def run(self) -> World:
        world = self.world
        self._new_owner()
        self._append()
        self._operator()
        self._weather()
        try:
            while world.counts["kills"] < self._kills or len(world.log) < self._records:
                self._blow_if_due()
                world.step()
                if len(world.violations) > 10:
                    return world
            self._calm()
            ends = world.now + LONGEST_QUIET
            while not (world.idle() and not self._changing) and world.now < ends:
                world.step()
            if world.now >= ends:
                world.wrong(f"stuck: {self._what_is_open()}")
            late = world.now + 2 * SESSION
            while world.now < late:
                world.step()
        except Exception as bug:
            # NoSuchTransition, an assertion: in the shell it ends the process.
            world.wrong(f"bug: {bug!r}")
        world.settle_accounts()
        return world

    def _what_is_open(self) -> str:
        world = self.world
        return (
            f"committed {world.committed}, log ends at {len(world.log)}, rows {world.rows}, "
            f"open commands {[c for c, closed in world.commands.values() if closed is None]}"
        )

    # --- load ---

    def _append(self) -> None:
        """What routing writes; after a crash of its own it writes the last records of some lanes
        again, before any later one of these lanes."""
        world, rng = self.world, self._rng
        if rng.random() < 0.04 and world.log:
            lane = rng.choice(world.log).lane
            again = [entry.event_id for entry in world.log if entry.lane == lane]
            for event_id in again[-rng.randint(1, 3) :]:
                world.append(event_id, world.plans[event_id])
        else:
            event_id = f"e{len(world.plans)}"
            world.append(event_id, self._plan(f"L{rng.randint(0, 15)}"))
        if len(world.log) < self._records or world.counts["kills"] < self._kills:
            world.after(rng.expovariate(5.0), self._append)

    def _plan(self, lane: str) -> Plan:
        rng = self._rng
        fate = rng.random()
        plan = Plan(lane)
        if fate < 0.05:
            plan.bad_until = self.world.now + rng.choice((1.0, 3.0, 10.0, NEVER))
        elif fate < 0.055:
            plan.failing = True
        elif fate < 0.065:
            plan.deaf = True
        elif fate < 0.09:
            plan.rejected = True
        elif fate < 0.095:
            plan.unmappable = True
        elif fate < 0.1:
            plan.usable = False
        elif fate < 0.12:
            plan.erased_at = self.world.now + rng.uniform(0, 20)
        return plan

    def _operator(self) -> None:
        world, rng = self.world, self._rng
        if not world.calm:
            world.after(rng.expovariate(2.0), self._operator)
            rows = [row for row in world.rows.values() if row.reason or rng.random() < 0.05]
            if rows and not world.store_away:
                self._order(rng.choice(rows))

    def _eager_operator(self, row: Row) -> None:
        """One who has the list of parked records open."""
        if row.reason and not self.world.calm and self._rng.random() < 0.2:
            self._order(row)

    def _order(self, row: Row) -> None:
        self._command_id += 1
        kind = CommandKind.RESEND if self._rng.random() < 0.6 else CommandKind.SKIP
        self.world.note(f"operator: {kind} {row.event_id}")
        command = Command(self._command_id, kind, row.event_id)
        self.world.commands[self._command_id] = (command, None)

    # --- faults ---

    def _weather(self) -> None:
        """Now and then the back-office, the store, Kafka or the key store is away."""
        world, rng = self.world, self._rng
        world.mood = "well"
        world.store_away = world.store_slow = world.broker_away = world.keys_away = False
        if world.calm:
            return
        if rng.random() < 0.4:
            what = rng.choice((*MOODS, *AWAY))
            world.note(f"weather: {what}")
            if what in MOODS:
                world.mood = what
            else:
                setattr(world, what, True)
            world.after(rng.uniform(0.2, 6.0), self._weather)
        else:
            world.after(rng.uniform(1.0, 8.0), self._weather)

    def _calm(self) -> None:
        self.world.note("calm")
        self.world.calm = True
        self._weather()
        if isinstance(self.world.owner, SimOwner):
            self.world.owner.cut_off = False

    def _blow_if_due(self) -> None:
        """Blows fall between any two events, often in a take-over that is not finished yet."""
        world = self.world
        if world.events < self._next_blow or self._changing:
            return
        calm = self._rng.choice((3, 20, 100, 300, 500))
        self._next_blow = world.events + calm + self._rng.randint(0, 9)
        owner = world.owner
        assert isinstance(owner, SimOwner)
        blow = self._rng.random()
        if world.counts["kills"] >= self._kills:
            return
        self._changing = True
        if blow < 0.7:
            world.counts["kills"] += 1
            world.counts[f"killed_{owner.engine.state}"] += 1
            owner.kill()
            quick = self._rng.random() < 0.6
            self._replace(self._rng.uniform(0.01, 0.5) if quick else self._silence())
        elif blow < 0.82:
            world.counts["hand_overs"] += 1
            seconds = self._rng.uniform(0.2, 8.0)
            owner.drain(seconds)
            world.after(seconds + SESSION, self._gave_no_answer, owner)
        elif blow < 0.85:
            world.counts["silences"] += 1
            owner.silent = True
            world.after(LONGEST_POLL, self._give_away, owner)
        elif blow < 0.92:
            world.counts["freezes"] += 1
            owner.freeze(self._rng.uniform(0.5, 12.0))
            world.after(self._silence(), self._oust_if_silent, owner)
        else:
            world.counts["cut_offs"] += 1
            owner.cut_off = True
            world.after(self._rng.uniform(0.5, 12.0), self._back, owner)
            world.after(self._silence(), self._oust_if_silent, owner)

    def _silence(self) -> float:
        """Until the broker gives the queue to another: the session counts from the last contact."""
        return max(0.0, self.world.last_contact + SESSION - self.world.now) + 0.01

    def _give_away(self, owner: SimOwner) -> None:
        """The owner is alive and does not know."""
        if self.world.owner is owner and owner.alive:
            self._new_owner()

    def _oust_if_silent(self, owner: SimOwner) -> None:
        if self.world.owner is not owner or not owner.alive:
            return
        if self._silence() > 0.01:
            self._changing = False
        else:
            self._new_owner()

    def _back(self, owner: SimOwner) -> None:
        owner.cut_off = False

    def _gave_no_answer(self, owner: SimOwner) -> None:
        """The supervisor ends a child that did not drain in time."""
        if self.world.owner is owner and owner.alive:
            owner.kill()
            self._replace(0.01)

    def _gone(self, owner: SimOwner) -> None:
        """It let go by itself, drained or ousted."""
        if self.world.owner is owner:
            self._changing = True
            self._replace(self._rng.uniform(0.01, 0.5))

    def _replace(self, delay: float) -> None:
        self.world.after(delay, self._take_turn, self._owners)

    def _take_turn(self, of: int) -> None:
        if of == self._owners:
            self._new_owner()

    def _new_owner(self) -> None:
        self._owners += 1
        owner = self._own(self.world, self._make, f"W{self._owners}", self._gone)
        self.world.owner = owner
        self.world.last_contact = self.world.now
        self._changing = False
        owner.start()


def run(
    kills: int = 2000,
    seed: int = 1,
    make: type[QueueEngine] = QueueEngine,
    own: type[SimOwner] = SimOwner,
    *,
    stop_at_first: bool = False,
) -> Report:
    """Seeds from `seed` on until so many kills are done."""
    report = Report()
    began = time.perf_counter()
    while report.kills < kills:
        world = Scenario(seed, make, own, kills=min(KILLS_A_SEED, kills - report.kills)).run()
        report.kills += world.counts["kills"]
        report.events += world.events
        report.records += len(world.log)
        for name, count in world.counts.items():
            if name != "kills":
                report.counts[name] = report.counts.get(name, 0) + count
        report.violations += [f"seed {seed}: {line}" for line in world.violations]
        if world.violations and stop_at_first:
            break
        seed += 1
    report.seconds = time.perf_counter() - began
    return report
