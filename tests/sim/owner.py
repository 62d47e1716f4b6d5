"""A simulated process that owns the queue: a shell without I/O around the real engine.

Each effect takes time, lands in the world, and is reported later; a kill may fall between any two
of these. What was begun before a kill may still land.
"""

import random
from collections.abc import Callable
from typing import Any

from hub.connector import Verdict, VerdictKind
from hub.delivery.effects import (
    CloseCommand,
    Command,
    CommitOffsets,
    DeleteRow,
    Drained,
    Effect,
    Forget,
    InsertRow,
    MarkRow,
    PauseFetch,
    Publish,
    ReadBack,
    ReadParked,
    ResumeFetch,
    Row,
    Send,
    SetEpoch,
    Stop,
)
from hub.delivery.engine import QueueEngine
from hub.delivery.states import Owner as OwnerState
from tests.sim.world import PACE, Request, World

StoreWrite = SetEpoch | ReadParked | InsertRow | DeleteRow | MarkRow | CloseCommand


class SimOwner:
    def __init__(
        self,
        world: World,
        make: type[QueueEngine],
        name: str,
        on_gone: Callable[["SimOwner"], None],
    ) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.cut_off = False
        """From the broker; store and back-office still answer."""
        self.silent = False
        """Its poll loop hangs; commits, from another thread, go on."""
        self.engine = make("GM0000/sim", PACE, random.Random(world.rng.random()))
        self._on_gone = on_gone
        self._thaw_at = 0.0
        self._position = 0
        self._fetching = False
        self._wake_at = float("inf")
        self._bytes: set[int] = set()
        self._does: dict[type, Callable[[Any], None]] = {
            CommitOffsets: self._commit,
            Publish: self._publish,
            Send: self._send,
            ReadBack: self._read_back,
            Forget: lambda effect: self._bytes.discard(effect.offset),
            PauseFetch: lambda _: self._fetch(on=False),
            ResumeFetch: lambda _: self._fetch(on=True),
            Drained: self._drained,
            Stop: lambda effect: world.wrong(f"stopped: {effect.reason}"),
            SetEpoch: self._store,
            ReadParked: self._store,
            InsertRow: self._store,
            DeleteRow: self._store,
            MarkRow: self._store,
            CloseCommand: self._store,
        }

    # --- life ---

    def start(self) -> None:
        self._say("takes over")
        committed = self.world.committed
        self._position = committed.watermark if committed else 0
        self._tell(self.engine.take_over, committed, 0)
        self.world.after(0.5, self._turn, self._read_commands)

    def kill(self) -> None:
        self._say("KILLED")
        self.alive = False

    def freeze(self, seconds: float) -> None:
        self._say(f"frozen for {seconds:.1f} s")
        self._thaw_at = self.world.now + seconds

    def drain(self, seconds: float) -> None:
        self._say(f"drains for at most {seconds:.1f} s")
        self._turn(self._tell, self.engine.drain, self.world.now + seconds)

    def _drained(self, effect: Drained) -> None:
        """F4: a clean hand-over means that nothing can be under way, from whichever owner."""
        if effect.clean:
            self.world.counts["clean_hand_overs"] += 1
            if self.world.under_way:
                self.world.wrong(f"{self.name} says clean, {self.world.under_way} under way")

    def _say(self, text: str) -> None:
        self.world.note(f"{self.name} {text}")

    def _turn(self, do: Callable[..., None], *args: Any) -> None:
        """Run now, or at the thaw, or, if dead, never."""
        if not self.alive:
            return
        if self._thaw_at > self.world.now:
            self.world.after(self._thaw_at - self.world.now, self._turn, do, *args)
        else:
            do(*args)

    def _later(self, do: Callable[..., None], *args: Any) -> None:
        self.world.after(self.world.soon(), self._turn, do, *args)

    def _lands(self) -> bool:
        """What was begun by a process that was killed since may still reach its target."""
        return self.alive or self.world.rng.random() < 0.5

    def _tell(self, told: Callable[..., list[Effect]], *args: Any) -> None:
        """Give the engine an input and begin what it asks for."""
        if not self.silent:
            self.engine.polled(self.world.now)
        for effect in told(*args, self.world.now):
            if not self.alive:
                return
            if self.world.trace is not None:
                self._say(str(effect))
            self._does[type(effect)](effect)
        self._check_memory()
        self._set_alarm()
        if self.alive and self.engine.state is OwnerState.GONE:
            self.alive = False
            self._on_gone(self)

    def _check_memory(self) -> None:
        held = len(self.engine._held)
        if held != len(self._bytes) and self.engine.state is OwnerState.LIVE:
            self.world.wrong(f"{held} records are held, the bytes of {len(self._bytes)}")

    def _set_alarm(self) -> None:
        wake = max(self.world.now + 0.001, self.engine.next_wakeup(self.world.now))
        if wake < self._wake_at:
            self._wake_at = wake
            self.world.after(wake - self.world.now, self._turn, self._alarm, wake)

    def _alarm(self, wake: float) -> None:
        if wake == self._wake_at:
            self._wake_at = float("inf")
            self._tell(self.engine.tick)

    # --- broker ---

    def _commit(self, effect: CommitOffsets) -> None:
        self.world.after(self.world.soon(), self._commit_lands, effect)

    def _commit_lands(self, effect: CommitOffsets) -> None:
        world = self.world
        if not self._lands():
            return
        if self.cut_off or world.broker_away:
            self._later(self._tell, self.engine.commit_refused, effect.token)
        elif world.owner is not self:
            self._later(self._tell, self.engine.revoked)
        else:
            world.commit(effect.watermark, effect.metadata)
            lost = not world.calm and world.rng.random() < 0.02
            heard = self.engine.commit_refused if lost else self.engine.commit_acked
            self._later(self._tell, heard, effect.token)

    def _publish(self, effect: Publish) -> None:
        # The shell reads the event's bytes to write an outcome: they must still be there.
        if not effect.parked and effect.offset not in self._bytes:
            self.world.wrong(f"{effect.event_id}: an outcome after its bytes were forgotten")
        if effect.parked:
            self._later(self._read_row, effect)
        self.world.after(self.world.soon(), self._publish_lands, effect, self.world.now)

    def _read_row(self, effect: Publish) -> None:
        engine = self.engine
        ours = engine.state in {OwnerState.LIVE, OwnerState.DRAINING} and self.world.owner is self
        asked = ours and effect.token in engine._outbox._awaited
        if asked and effect.event_id not in self.world.rows:
            self.world.wrong(f"{effect.event_id}: an outcome, and its row is gone")

    def _publish_lands(self, effect: Publish, begun: float) -> None:
        if not self._lands():
            return
        away = self.world.broker_away or self.cut_off
        if not away:
            self.world.publish(effect, begun)
        unknown = not self.world.calm and self.world.rng.random() < 0.02
        heard = self.engine.failed if away or unknown else self.engine.durable
        self._later(self._tell, heard, effect.token)

    def _read_back(self, effect: ReadBack) -> None:
        self._later(self._read_back_done, effect.watermark)

    def _read_back_done(self, watermark: int) -> None:
        for offset, entry in enumerate(self.world.log[:watermark]):
            self.engine.seen(offset, entry.event_id, entry.appended_at)
        self._tell(self.engine.read_back_done)

    def _fetch(self, *, on: bool) -> None:
        if on and not self._fetching:
            self._later(self._take)
        self._fetching = on

    def _take(self) -> None:
        world = self.world
        for _ in range(world.rng.randint(1, 8)):
            if self._position >= len(world.log) or not self._fetching or not self.alive:
                break
            offset = self._position
            entry = world.log[offset]
            self._position += 1
            self._bytes.add(offset)
            take = (
                self.engine.arrived if world.plans[entry.event_id].usable else self.engine.unusable
            )
            self._tell(take, offset, entry.event_id, entry.lane, entry.appended_at)
        if self._fetching:
            world.after(world.rng.uniform(0.01, 0.2), self._turn, self._take)

    # --- store ---

    def _store(self, effect: StoreWrite) -> None:
        slow = self.world.rng.uniform(0, 2.0) if self.world.store_slow else 0.0
        self.world.after(self.world.soon() + slow, self._store_lands, effect)

    def _store_lands(self, effect: StoreWrite) -> None:
        world = self.world
        if not self._lands():
            return
        if world.store_away:
            self._later(self._tell, self.engine.failed, effect.token)
            return
        fits = (
            world.epoch <= effect.epoch if isinstance(effect, SetEpoch) else self._current(effect)
        )
        if not fits:
            self._later(self._tell, self.engine.fenced)
            return
        rows = self._write(effect)
        if not world.calm and world.rng.random() < 0.02:
            self._later(self._tell, self.engine.failed, effect.token)
        elif rows is not None:
            self._later(self._tell, self.engine.parked_read, effect.token, rows)
        else:
            self._later(self._tell, self.engine.durable, effect.token)

    def _current(self, effect: StoreWrite) -> bool:
        return self.world.epoch == effect.epoch

    def _write(self, effect: StoreWrite) -> list[Row] | None:
        world = self.world
        match effect:
            case SetEpoch():
                world.epoch = effect.epoch
            case ReadParked():
                return list(world.rows.values())
            case InsertRow():
                if effect.row.event_id in world.final:
                    world.wrong(f"{effect.row.event_id} is parked although final")
                world.rows.setdefault(effect.row.event_id, effect.row)
                world.on_parked(effect.row)
            case DeleteRow():
                world.rows.pop(effect.event_id, None)
                self._close(effect.commands, "")
            case MarkRow():
                row = world.rows[effect.event_id]
                world.rows[effect.event_id] = Row(
                    row.event_id, row.offset, row.lane, effect.reason, effect.attempt, row.usable
                )
                self._close(effect.commands, "")
            case CloseCommand():
                self._close((effect.command_id,), effect.refusal)
        return None

    def _close(self, commands: tuple[int, ...], result: str) -> None:
        for command_id in commands:
            command, closed = self.world.commands[command_id]
            if closed is None:
                self.world.commands[command_id] = (command, result)

    def _read_commands(self) -> None:
        if not self.world.store_away:
            found = [command for command, closed in self.world.commands.values() if closed is None]
            self._later(self._tell_commands, found)
        self.world.after(self.world.rng.uniform(0.01, 0.6), self._turn, self._read_commands)

    def _tell_commands(self, found: list[Command]) -> None:
        for command in sorted(found, key=lambda c: c.command_id):
            if self.alive:
                self._tell(self.engine.command, command)

    # --- back-office ---

    def _send(self, effect: Send) -> None:
        if not effect.parked and effect.offset not in self._bytes:
            self.world.wrong(f"{effect.event_id} is sent after its bytes were forgotten")
        self._later(self._open, effect)

    def _open(self, effect: Send) -> None:
        world, engine = self.world, self.engine
        plan = world.plans[effect.event_id]
        if world.keys_away:
            self._tell(engine.key_store_away, effect.ticket)
        elif world.now >= plan.erased_at:
            self._tell(engine.erased, effect.ticket)
        elif plan.unmappable or not plan.usable:
            self._tell(engine.mapping_failed, effect.ticket, "no such field")
        elif engine.may_send(effect.ticket, world.now):
            self._on_the_wire(effect)
        else:
            self._set_alarm()

    def _on_the_wire(self, effect: Send) -> None:
        world = self.world
        if world.owner is not self:
            world.wrong(f"{self.name} sends {effect.event_id} although it is ousted")
        world.check_turn(effect.event_id, effect.parked)
        answer = Answer(self, effect.ticket)
        if world.mood == "refusing":
            self._later(answer, Verdict(VerdictKind.NOT_SENT))
            return
        world.after(PACE.request_timeout, self._turn, answer, Verdict(VerdictKind.NO_ANSWER))
        fate = 1.0 if world.calm else world.rng.random()
        if fate < 0.06:
            self._later(answer, Verdict(VerdictKind.NO_ANSWER))
        slow = fate < 0.03 or world.mood in {"hanging", "slow"}
        travel = world.rng.uniform(0, 0.5 * PACE.request_timeout if slow else 0.02)
        silent = world.mood == "hanging" or 0.06 <= fate < 0.09
        request = Request(effect.event_id, _nobody_hears if silent else answer.on_its_way)
        world.under_way += 1
        world.after(travel, world.arrive, request)


class Answer:
    """Only the first answer counts: the response, a broken connection, or the timeout."""

    def __init__(self, owner: SimOwner, ticket: int) -> None:
        self._owner = owner
        self._ticket = ticket
        self._given = False

    def on_its_way(self, verdict: Verdict) -> None:
        self._owner._later(self, verdict)

    def __call__(self, verdict: Verdict) -> None:
        if not self._given:
            self._given = True
            self._owner._tell(self._owner.engine.answered, self._ticket, verdict)


def _nobody_hears(_verdict: Verdict) -> None:
    """The response is lost."""
