"""The real engine under thousands of kills; and engines with one rule less, which must fail."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Verdict, VerdictKind
from hub.delivery.effects import Effect, InsertRow, ParkReason
from hub.delivery.engine import QueueEngine
from hub.delivery.lane_engine import LaneEngine
from hub.delivery.lanes import Lane, LogRecord
from hub.delivery.states import RecordEvent
from tests.sim.owner import SimOwner
from tests.sim.scenario import run
from tests.sim.world import NEVER, Plan, World

CHUNK = 500


@pytest.mark.parametrize("seed", [1000, 2000, 3000, 4000])
def test_nothing_is_lost_or_reordered_by_two_thousand_kills(seed: int) -> None:
    report = run(CHUNK, seed)
    assert report.violations == [], "replay: python -m tests.sim --replay <seed>"
    assert report.kills == CHUNK
    # The run met what it is about: else its silence would mean nothing.
    for met in ("killed_live", "killed_claiming", "hand_overs", "freezes", "cut_offs", "silences"):
        assert report.counts[met] > 0, met
    assert report.counts["requests"] > 10 * CHUNK
    assert report.counts["repeats"] > 0
    assert report.counts["under_way"] > 0
    assert report.counts["clean_hand_overs"] > 0


# --- planted mistakes: each leaves out one rule ---


class DoneBeforeDurable(LaneEngine):
    """D1: marks done when the outcome is on its way, not when it is durable."""

    def _tell_of_record(self, record: LogRecord) -> None:
        self.writer.publish(record, record.attempt, lambda: None)
        self._fire_record(record, RecordEvent.WRITTEN)


class LaneNotParked(LaneEngine):
    """A record failure writes its row, and its lane goes on."""

    def _add_row(self, record: LogRecord) -> None:
        self._lanes[record.lane].inserting = None
        self._early.pop(record.event_id)


class AdvancesBeforeTheCommit(LaneEngine):
    """D2: the next record goes when the one before is done, though no commit says so."""

    def _mark_done(self, record: LogRecord) -> None:
        super()._mark_done(record)
        self._as_if_settled(self._lanes[record.lane])

    def _as_if_settled(self, lane: Lane) -> None:
        lane.unsettled -= 1
        self._moved(lane)
        self._lanes.setdefault(lane.ref, lane).unsettled += 1


class SendsUncoveredRows(LaneEngine):
    """D2: a parked row is sent before the commit that covers its offset."""

    def _add_row(self, record: LogRecord) -> None:
        super()._add_row(record)
        self._rows[record.event_id].covered = True


class LiveWhileInserting(AdvancesBeforeTheCommit):
    """S5: a lane looks empty while its first row is being inserted."""

    def _mark_done(self, record: LogRecord) -> None:
        LaneEngine._mark_done(self, record)

    def _park(self, lane: Lane) -> None:
        super()._park(lane)
        if lane.inserting is not None:
            lane.inserting = lane.hand = None
            self._as_if_settled(lane)


class ParksTwice(LaneEngine):
    """S5: does not look whether an id stands in `parked` already."""

    def _insert_next(self, lane: Lane) -> None:
        known, self._rows = self._rows, {}
        super()._insert_next(lane)
        self._rows = known | self._rows


class ParksAtOnce(LaneEngine):
    """S3: a 4xx parks even while an earlier try may be under way."""

    def answered(self, ticket: int, verdict: Verdict, now: float) -> None:
        self.judge.unclean_until = 0.0
        if ticket in self._tickets:
            self._tickets[ticket].hand.doubt_until = 0.0
        super().answered(ticket, verdict, now)


class UnderWayIsDelivered(LaneEngine):
    """S4: reads a 409 as delivered."""

    def answered(self, ticket: int, verdict: Verdict, now: float) -> None:
        if verdict.kind is VerdictKind.UNDER_WAY:
            verdict = Verdict(VerdictKind.DELIVERED)
        super().answered(ticket, verdict, now)


class DoubtIsAFailure(LaneEngine):
    """S6: parks what is in doubt as if it had definitely failed."""

    def _park(self, lane: Lane) -> None:
        assert lane.hand is not None
        source = lane.hand.source
        source.result = dataclasses.replace(source.result, reason=ParkReason.RECORD)
        super()._park(lane)


class WithoutLease(QueueEngine):
    """F3: does not look at the lease before the socket."""

    def may_send(self, ticket: int, now: float) -> bool:
        return self.lanes.sending(ticket, now)


class DeafToPollSilence(QueueEngine):
    """F3: the lease is fresh while the poll loop is silent."""

    def _leased(self, now: float) -> bool:
        self._polled_at = now
        return super()._leased(now)


class RefusedIsAcked(QueueEngine):
    """Decision 1: a refused commit counts, and renews the lease."""

    def commit_refused(self, token: int, now: float) -> list[Effect]:
        return self.commit_acked(token, now)


class CleanWhileWaiting(QueueEngine):
    """F4: hands over as clean without waiting for what may still travel."""

    def _free_at(self) -> float:
        return 0.0


class ReadsBackNothing(SimOwner):
    """D3: takes over without the ids below the watermark."""

    def _read_back_done(self, watermark: int) -> None:
        self._tell(self.engine.read_back_done)


class LateRow(SimOwner):
    """Killed while its first row is on its way to the store, where it comes five seconds late."""

    def _store(self, effect: Any) -> None:
        if isinstance(effect, InsertRow):
            self.kill()
            self.world.after(5.0, self._store_lands, effect)
        else:
            super()._store(effect)

    def _lands(self) -> bool:
        return True


class LateRowWithoutFence(LateRow):
    """F2: the store takes writes of an older epoch."""

    def _current(self, effect: Any) -> bool:
        return True


def with_lanes(lanes: type[LaneEngine]) -> type[QueueEngine]:
    return type(lanes.__name__, (QueueEngine,), {"lane_engine": lanes})


@pytest.mark.parametrize(
    ("lanes", "found"),
    [
        (DoneBeforeDurable, "lost"),
        (LaneNotParked, "inversion"),
        (AdvancesBeforeTheCommit, "before a commit covers"),
        (SendsUncoveredRows, "before a commit covers"),
        (LiveWhileInserting, ""),
        (ParksTwice, ""),
        (ParksAtOnce, "applied"),
        (UnderWayIsDelivered, "lost"),
        (DoubtIsAFailure, "although applied"),
    ],
)
def test_a_mistake_in_the_lanes_is_caught(lanes: type[LaneEngine], found: str) -> None:
    report = run(2000, 1, with_lanes(lanes), stop_at_first=True)
    assert any(found in line for line in report.violations), report.violations


@pytest.mark.parametrize(
    ("engine", "owner", "found"),
    [
        (WithoutLease, SimOwner, "although it is ousted"),
        (DeafToPollSilence, SimOwner, "although it is ousted"),
        (RefusedIsAcked, SimOwner, ""),
        (CleanWhileWaiting, SimOwner, "says clean"),
        (QueueEngine, ReadsBackNothing, "after its done mark"),
    ],
)
def test_a_mistake_of_the_owner_is_caught(
    engine: type[QueueEngine], owner: type[SimOwner], found: str
) -> None:
    report = run(2000, 1, engine, owner, stop_at_first=True)
    assert report.violations
    assert any(found in line for line in report.violations), report.violations


@pytest.mark.parametrize(("owner", "refused"), [(LateRow, True), (LateRowWithoutFence, False)])
def test_a_late_row_of_an_earlier_owner_is_refused(owner: type[SimOwner], refused: bool) -> None:
    world = World(1)
    world.calm = True
    plan = Plan("L0", bad_until=NEVER)
    world.append("e0", plan)
    first = owner(world, QueueEngine, "W1", lambda _: None)
    world.owner = first
    first.start()
    while first.alive and world.now < 60.0:
        world.step()
    plan.bad_until = 0.0
    second = SimOwner(world, QueueEngine, "W2", lambda _: None)
    world.owner = second
    world.after(0.5, second.start)
    while world.now < 90.0:
        world.step()
    assert "e0" in world.final
    assert ("e0" not in world.rows) is refused
    assert (world.violations == []) is refused


def test_a_seed_replays_exactly() -> None:
    first, again = run(20, 7), run(20, 7)
    assert (first.events, first.counts) == (again.events, again.counts)


def test_figures_are_written_with_commit_and_seed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.sim", "--kills", "20", "--seed", "3"]
    root = Path(__file__).parents[2]
    subprocess.run([*command, "--results", tmp_path], cwd=root, check=True, capture_output=True)
    written = json.loads((tmp_path / "simulator.json").read_text())
    assert written["seed"] == 3
    assert len(written["commit"]) == 40
    figures = written["figures"]
    assert figures["kills"] == 20
    assert (figures["lost"], figures["inversions"], figures["twice"]) == (0, 0, 0)
