"""The supervisor: who is started again and when, which deaths count, and how everything ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub import worker
from hub.worker import DELIVERY, WAY, Slot, Supervisor, instance_id

pytestmark = pytest.mark.slow

PLACE = ["requests", 3, 17]
RUNS = [sys.executable, "-c", "import time; time.sleep(600)"]


class Bench:
    """A supervisor whose way ends as told, on a clock that the test holds."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.removed: list[int] = []
        self._next = ""
        monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.supervisor = Supervisor(home, 5, self.removed.append, argv=self._argv)
        self.way, self.delivery = self.supervisor._children

    def _argv(self, child: str, slot: int) -> list[str]:
        assert slot == 5
        return [sys.executable, "-c", self._next] if child == WAY else RUNS

    def look(self) -> None:
        self.supervisor._look_after(self.way)

    def run(self, how: str, seconds: float = 0.5) -> dict[str, str]:
        """Start the way, let it live for `seconds`, see it end. Returns what it was given."""
        told = self.supervisor._home / "told"
        wanted = "HUB_SINGLE_STEP", "HUB_POISON", "HUB_PARENT"
        self._next = (
            "import json, os, signal\n"
            f"json.dump({{n: os.environ[n] for n in {wanted} if n in os.environ}},"
            f" open({str(told)!r}, 'w'))\n"
            f"{how}"
        )
        self.now = max(self.now, self.way.start_at)
        self.look()
        assert self.way.process is not None
        self.way.process.wait()
        self.now += seconds
        self.look()
        assert self.way.process is None
        found: dict[str, str] = json.loads(told.read_text())
        assert found.pop("HUB_PARENT") == str(os.getpid())
        return found

    def dies(self, code: int = 70, seconds: float = 0.5, in_hand: bool = False) -> dict[str, str]:
        named = self.supervisor.in_hand
        write = (
            f"os.makedirs({str(named.parent)!r}, exist_ok=True)\n"
            f"json.dump({PLACE}, open({str(named)!r}, 'w'))\n"
            if in_hand
            else ""
        )
        return self.run(f"{write}os._exit({code})", seconds)

    def close(self) -> None:
        self.supervisor._end_children()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.close()


def test_the_third_unexpected_death_names_the_offset_that_was_alone_in_hand(bench: Bench) -> None:
    single = str(bench.supervisor.in_hand)
    assert bench.dies() == {}
    assert bench.dies() == {}
    assert bench.dies(in_hand=True) == {"HUB_SINGLE_STEP": single}
    assert bench.dies() == {"HUB_SINGLE_STEP": single, "HUB_POISON": json.dumps(PLACE)}
    # That was the first death since: it begins anew, in batches.
    assert bench.dies() == {}


def test_a_third_death_with_nothing_in_hand_names_nothing(bench: Bench) -> None:
    for _ in range(4):
        given = bench.dies()
    assert given == {"HUB_SINGLE_STEP": str(bench.supervisor.in_hand)}
    bench.dies(in_hand=True)
    assert "HUB_POISON" in bench.dies()


def test_what_an_earlier_process_had_in_hand_is_not_held_against_a_later_one(bench: Bench) -> None:
    bench.dies()
    bench.dies(in_hand=True)
    bench.dies()
    assert "HUB_POISON" not in bench.dies()


OUTSIDE = [f"os._exit({code})" for code in (0, 1, 2, 75, 137)] + [
    f"os.kill(os.getpid(), signal.{name})" for name in ("SIGKILL", "SIGTERM")
]


@pytest.mark.parametrize("end", OUTSIDE)
def test_ends_from_outside_never_count(bench: Bench, end: str) -> None:
    bench.dies()
    for _ in range(4):
        assert bench.run(end) == {}
    bench.dies()
    for _ in range(4):
        assert set(bench.run(end)) == {"HUB_SINGLE_STEP"}
    bench.dies(in_hand=True)
    assert "HUB_POISON" in bench.dies()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_counts(bench: Bench, number: signal.Signals) -> None:
    for _ in range(2):
        bench.run(
            "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
            f"signal.signal({int(number)}, signal.SIG_DFL); os.kill(os.getpid(), {int(number)})"
        )
    assert set(bench.dies()) == {"HUB_SINGLE_STEP"}


def test_only_the_way_is_counted(bench: Bench) -> None:
    bench.supervisor._argv = lambda child, slot: [sys.executable, "-c", "import os; os._exit(70)"]
    for _ in range(4):
        bench.now = max(bench.now, bench.delivery.start_at)
        bench.supervisor._look_after(bench.delivery)
        assert bench.delivery.process is not None
        bench.delivery.process.wait()
        bench.supervisor._look_after(bench.delivery)
        assert bench.delivery.environment == {}


def test_it_waits_longer_each_time_and_little_after_a_healthy_run(bench: Bench) -> None:
    pauses = []
    for seconds in (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 31.0, 0.5):
        bench.dies(75, seconds)
        pauses.append(round(bench.way.start_at - bench.now, 3))
        bench.look()
        assert bench.way.process is None, "started again before its time"
    assert pauses == [0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.2, 0.4]


def _lives(bench: Bench, seconds: float) -> None:
    bench._next = "import time; time.sleep(600)"
    bench.now = max(bench.now, bench.way.start_at)
    bench.look()
    bench.now += seconds
    bench.look()


def test_past_the_trouble_it_goes_back_to_batches(bench: Bench) -> None:
    bench.dies()
    bench.dies()
    _lives(bench, 31)
    assert bench.way.process is not None
    assert bench.way.process.wait() == -signal.SIGTERM
    bench.look()
    assert bench.dies() == {}, "still in single step"
    assert bench.dies() == {}, "the deaths before were not forgotten"
    assert set(bench.dies()) == {"HUB_SINGLE_STEP"}


def test_past_a_named_offset_it_goes_back_to_batches(bench: Bench) -> None:
    bench.dies()
    bench.dies()
    bench.dies(in_hand=True)
    _lives(bench, 31)
    assert bench.way.process is not None
    assert bench.way.process.wait() == -signal.SIGTERM
    bench.look()
    assert bench.dies() == {}


def test_a_way_that_does_not_end_when_asked_is_killed(bench: Bench, tmp_path: Path) -> None:
    bench.dies()
    bench.dies()
    deaf = tmp_path / "deaf"
    bench._next = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(deaf)!r}).touch(); time.sleep(600)"
    )
    bench.now = bench.way.start_at
    bench.look()
    _until(deaf.exists)
    bench.now += 31
    bench.look()
    bench.now += 14
    bench.look()
    assert bench.way.process is not None
    assert bench.way.process.poll() is None
    bench.now += 1
    bench.look()
    assert bench.way.process.wait() == -signal.SIGKILL
    bench.look()
    assert bench.dies() == {}


def test_a_healthy_way_is_left_alone(bench: Bench) -> None:
    _lives(bench, 3600)
    assert bench.way.process is not None
    assert bench.way.process.poll() is None


def test_two_supervisors_of_one_home_never_share_a_slot(tmp_path: Path) -> None:
    first, second, elsewhere = Slot(tmp_path, 0), Slot(tmp_path, 0), Slot(tmp_path / "other", 0)
    assert (first.number, second.number, elsewhere.number) == (0, 1, 0)
    assert instance_id("hub-way", 0) != instance_id("hub-way", 1)
    first.release()
    again = Slot(tmp_path, 0)
    assert again.number == 0
    for slot in (second, elsewhere, again):
        slot.release()


# --- whole supervisors, in a process of their own ---------------------------------------------

SUPERVISE = """
import sys
from pathlib import Path
from hub.worker import Supervisor

home = Path(sys.argv[1])
CHILD = '''
import os, signal, sys, time
from pathlib import Path
from hub.worker import end_with_parent

name, home = sys.argv[1], Path(sys.argv[2])
end_with_parent()

def stop(number, frame):
    with (home / "journal").open("a") as journal:
        journal.write(f"{name} stopped\\\\n")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
(home / f"{name}.pid.new").write_text(str(os.getpid()))
(home / f"{name}.pid.new").replace(home / f"{name}.pid")
while True:
    time.sleep(60)
'''

def remove(slot):
    with (home / "journal").open("a") as journal:
        journal.write(f"slot {slot} removed\\n")
    {remove}

argv = lambda child, slot: [sys.executable, "-c", CHILD, child, str(home)]
sys.exit(Supervisor(home, 0, remove, argv=argv).run())
"""


def _start(home: Path, remove: str = "") -> tuple["subprocess.Popen[bytes]", list[int]]:
    """A running supervisor and the pids of its children, way first."""
    script = SUPERVISE.replace("{remove}", remove)
    process = subprocess.Popen([sys.executable, "-c", script, str(home)], start_new_session=True)
    files = [home / f"{name}.pid" for name in (WAY, DELIVERY)]
    _until(lambda: all(f.exists() for f in files) or process.poll() is not None)
    assert process.poll() is None, "the supervisor ended"
    return process, [int(f.read_text()) for f in files]


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_the_children_first_and_then_leaves_their_groups(
    tmp_path: Path, number: signal.Signals
) -> None:
    process, children = _start(tmp_path)
    process.send_signal(number)
    assert process.wait(30) == 0
    assert all(map(_gone, children))
    told = (tmp_path / "journal").read_text().splitlines()
    assert sorted(told[:2]) == ["delivery stopped", "way stopped"]
    assert told[2:] == ["slot 0 removed"]
    Slot(tmp_path, 0).release()


def test_a_group_that_cannot_be_left_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    process, children = _start(tmp_path, remove="raise ConnectionError('no broker')")
    process.terminate()
    assert process.wait(30) == 0
    assert all(map(_gone, children))


@pytest.mark.skipif(sys.platform != "linux", reason="a child learns of the death from Linux")
def test_children_die_with_their_supervisor(tmp_path: Path) -> None:
    process, children = _start(tmp_path)
    process.kill()
    process.wait()
    _until(lambda: all(map(_gone, children)))
    assert not (tmp_path / "journal").exists()
    slot = Slot(tmp_path, 0)
    assert slot.number == 0, "the kernel frees the slot of a killed supervisor"
    slot.release()


def test_a_child_whose_supervisor_died_before_it_looked_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from hub.worker import end_with_parent; end_with_parent()"],
        env={**os.environ, "HUB_PARENT": "1"},
        check=False,
    )
    assert done.returncode == 137


def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    process, children = _start(tmp_path)
    try:
        (tmp_path / "delivery.pid").unlink()
        os.kill(children[1], signal.SIGKILL)
        _until((tmp_path / "delivery.pid").exists)
        assert int((tmp_path / "delivery.pid").read_text()) != children[1]
        assert not _gone(children[0]), "the other child works on"
    finally:
        process.terminate()
        process.wait(30)
