"""The supervisor of a worker's processes: the way (Faust) and delivery (no Faust).

They are separate because a crash of one must not cut the other's sends in flight. A child ends
with its supervisor, and the next one in its place starts only when it is known dead, so that its
static Kafka instance id is never in use twice (protocol F1).
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Final

from hub import telemetry

WAY: Final = "way"
DELIVERY: Final = "delivery"
CHILDREN: Final = (WAY, DELIVERY)

# Ends that a record can cause. Every other one says nothing about it: kills, a store that is away
# at the start (1), Faust giving up on a Kafka that is away (1).
_OF_A_RECORD: Final = {70, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS}
_DEATHS_BEFORE_SINGLE_STEP: Final = 2
_DEATHS_BEFORE_POISON: Final = 3
_HEALTHY_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0


class Slot:
    """A number that one supervisor holds by an flock; the kernel frees it at its death."""

    def __init__(self, home: Path, first: int) -> None:
        folder = home / "slots"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + 64):
            lock = (folder / f"{number}.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            self.number = number
            self._lock = lock
            return
        raise RuntimeError(f"all 64 worker slots from {first} are taken; see {folder}")

    def release(self) -> None:
        self._lock.close()


def instance_id(group: str, slot: int) -> str:
    """The static Kafka instance id of a slot's process."""
    return f"{group}-{socket.gethostname()}-{slot}"


def _hub_run(child: str, slot: int) -> list[str]:
    return [sys.executable, "-m", "hub", "run", child, "--slot", str(slot)]


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    """Unexpected ends in a row; the way's count decides about single step and poison."""
    pause: float = 0.2
    start_at: float = 0.0
    started: float = 0.0
    kill_at: float | None = None
    """Asked to end; killed at that time if it has not."""
    environment: dict[str, str] = field(default_factory=dict)


class Supervisor:
    """Starts the children, starts them again when they die, hands their queues over at a stop."""

    def __init__(
        self,
        home: Path,
        first_slot: int,
        remove_members: Callable[[int], None],
        logs: bool = False,
        argv: Callable[[str, int], list[str]] = _hub_run,
    ) -> None:
        """`remove_members(slot)` takes the dead children out of their Kafka groups.

        With `logs` the children write to `<home>/logs/<child>-<slot>.log` and not to our stderr.
        `argv(child, slot)` is the command of a child.
        """
        self._home = home
        self._slot = Slot(home, first_slot)
        self._remove = remove_members
        self._logs = logs
        self._argv = argv
        self._log = telemetry.logger().bind(slot=self._slot.number)
        self._children = [_Child(name) for name in CHILDREN]
        self._stopping = False

    @property
    def in_hand(self) -> Path:
        """Where the way in single step names the offset that it handles."""
        return self._home / "way" / f"in-hand-{self._slot.number}.json"

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            while not self._stopping:
                for child in self._children:
                    self._look_after(child)
                time.sleep(0.02)
        finally:
            self._end_children()
        return 0

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._log.info("worker_stopping", signal=number)
        self._stopping = True

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_at:
                self._start(child)
            return
        code = child.process.poll()
        if code is None:
            self._look_after_living(child, now)
            return
        self._log.warning("child_exited", name=child.name, exit=code, pid=child.process.pid)
        child.process = None
        child.pause = 0.2 if now - child.started > _HEALTHY_SECONDS else min(child.pause * 2, 5.0)
        child.start_at = now + child.pause
        if child.name == WAY:
            self._count_death(child, code)

    def _look_after_living(self, child: _Child, now: float) -> None:
        """Past the trouble: a way in single step starts again with batches.

        Faust waits without limit for what is in hand; what ends unacknowledged comes again.
        """
        assert child.process is not None
        if child.kill_at is not None:
            if now >= child.kill_at:
                child.process.kill()
        elif now - child.started > _HEALTHY_SECONDS:
            child.deaths = 0
            if child.environment:
                child.environment = {}
                child.kill_at = now + _STOP_SECONDS
                child.process.terminate()

    def _count_death(self, child: _Child, code: int) -> None:
        """Decision 28: after two unexpected ends in a row batches of one, after the third a name.

        Failure policy: only a bug or a crash counts, so neither an operator's SIGKILL nor a Kafka
        that comes and goes can bring a good record into quarantine.
        """
        if code not in _OF_A_RECORD:
            return
        in_hand = self._read_in_hand()
        child.deaths += 1
        child.environment = {}
        if child.deaths >= _DEATHS_BEFORE_SINGLE_STEP:
            child.environment["HUB_SINGLE_STEP"] = str(self.in_hand)
        if child.deaths >= _DEATHS_BEFORE_POISON and in_hand:
            child.environment["HUB_POISON"] = json.dumps(in_hand)
            self._log.error(
                "poison_named", topic=in_hand[0], partition=in_hand[1], offset=in_hand[2]
            )
            child.deaths = 0

    def _read_in_hand(self) -> list[str | int] | None:
        try:
            place: list[str | int] = json.loads(self.in_hand.read_text())
        except (OSError, ValueError):
            return None
        return place

    def _start(self, child: _Child) -> None:
        environment = {**os.environ, **child.environment, "HUB_PARENT": str(os.getpid())}
        if child.name == WAY:
            with suppress(OSError):
                self.in_hand.unlink(missing_ok=True)
        argv = self._argv(child.name, self._slot.number)
        output: IO[bytes] | None = None
        if self._logs:
            folder = self._home / "logs"
            folder.mkdir(parents=True, exist_ok=True)
            output = (folder / f"{child.name}-{self._slot.number}.log").open("ab")
        try:
            # Own group: Ctrl-C at a terminal reaches the supervisor alone, which stops in order.
            child.process = subprocess.Popen(
                argv, env=environment, start_new_session=True, stderr=output, stdout=output
            )
        finally:
            if output:
                output.close()
        child.started = time.monotonic()
        child.kill_at = None
        self._log.info("child_started", name=child.name, pid=child.process.pid)

    def _end_children(self) -> None:
        """Ask all to stop, wait, then take them out of their groups so others own at once."""
        running = [c.process for c in self._children if c.process and c.process.poll() is None]
        for process in running:
            process.terminate()
        until = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._log.warning("child_killed", pid=process.pid)
                process.kill()
                process.wait()
        try:
            self._remove(self._slot.number)
        except Exception as error:  # noqa: BLE001 -- the session timeout does it then (decision 47)
            self._log.warning("members_not_removed", error=type(error).__name__)
        self._slot.release()


def end_with_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Make this child die with its supervisor, however that ends (decision 5)."""
    parent = int(environ.get("HUB_PARENT", "0"))
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(137)
