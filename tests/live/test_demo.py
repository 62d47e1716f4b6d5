"""`hub demo` as a user runs it: real Kafka, real processes, real kills, and nothing left behind."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.demo.verdict import COUNTED

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

HUB = [sys.executable, "-m", "hub"]


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    if "HUB_CACHE" in os.environ:
        kept["HUB_CACHE"] = os.environ["HUB_CACHE"]
    return {**kept, "HUB_HOME": str(home)}


def _left_behind(home: Path) -> list[str]:
    """Command lines of living processes that work in `home`."""
    found = []
    mark = str(home).encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if mark in told and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue  # It ended while we looked, or is not ours.
    return found


def _demo(home: Path, *options: str) -> tuple[int, dict[str, float], str]:
    """Exit code, the last line, and all that was printed."""
    done = subprocess.run(
        [*HUB, "demo", "--exit", *options],
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip(), done.stderr[-3000:]
    last = json.loads(done.stdout.strip().splitlines()[-1])
    assert list(last) == [*COUNTED, "seconds", "events_per_second"]
    return done.returncode, last, done.stdout + done.stderr[-3000:]


def test_everything_arrives_once_and_in_order(tmp_path: Path) -> None:
    code, last, printed = _demo(tmp_path, "--requests", "120", "--seed", "3")
    assert code == 0, printed
    assert last["accepted"] == last["delivered"] == 120
    zero = ("rejected", "parked", "quarantined", "open", "lost", "twice", "inversions")
    assert [last[name] for name in zero] == [0] * 7
    assert _left_behind(tmp_path) == []


@pytest.mark.parametrize("dedupe", ["on", "off"])
def test_through_the_planned_faults(tmp_path: Path, dedupe: str) -> None:
    results = tmp_path / "results"
    options = ["--requests", "240", "--seed", "5", "--faults", "--dedupe", dedupe]
    code, last, printed = _demo(tmp_path, *options, "--results", str(results))
    assert code == 0, printed
    assert last["accepted"] == 240 == last["delivered"] + last["rejected"] + last["parked"]
    assert (last["parked"], last["rejected"]) == (1, 1)
    assert [last[name] for name in ("quarantined", "open", "lost", "inversions")] == [0] * 4
    if dedupe == "on":
        assert last["twice"] == 0
    plan = json.loads((tmp_path / "demo" / "plan.json").read_text())
    assert len(plan["steps"]) == 12
    written = json.loads(next(results.glob("*.json")).read_text())
    assert written["seed"] == 5
    assert written["figures"]["repeats"] > 0
    assert _left_behind(tmp_path) == []


def _until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(tmp_path: Path, number: int) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        demo = subprocess.Popen(
            [*HUB, "demo", "--exit", "--requests", "2000"],
            env=_environment(tmp_path / "home"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        _until(lambda: "posting" in output.read_text(), "the demo did not start posting")
        assert len(_left_behind(tmp_path / "home")) > 12
        demo.send_signal(number)
        assert demo.wait(60) != 0
        # After SIGKILL the guard ends the rest: that takes a moment.
        _until(lambda: not _left_behind(tmp_path / "home"), "processes are left", 20)
    finally:
        demo.kill()
        demo.wait()


class _Terminal:
    """A demo on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self._fd = fd
        self.text = ""

    def press(self, key: str) -> None:
        os.write(self._fd, key.encode())

    def await_text(self, pattern: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < until, f"no {pattern!r} in {self.text[-2000:]}"
            self.read(0.2)

    def read(self, seconds: float) -> bool:
        """Read what is there; False at its end."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return True
        try:
            piece = os.read(self._fd, 65536)
        except OSError:
            return False
        self.text += piece.decode(errors="replace")
        return bool(piece)


@contextmanager
def _terminal(home: Path) -> Iterator[_Terminal]:
    ours, theirs = pty.openpty()
    environment = {**_environment(home), "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    process = subprocess.Popen(
        [*HUB, "demo"], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        yield _Terminal(process, ours)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            os.close(ours)


def test_on_a_terminal_keys_kill_while_the_counters_stand_at_zero(tmp_path: Path) -> None:
    with _terminal(tmp_path) as terminal:
        terminal.await_text("lost 0")
        for key, name in (("w", "worker"), ("b", r"GM\d{4}"), ("k", "broker"), ("i", "intake")):
            terminal.press(key)
            terminal.await_text(f"kill -9 {name}")
            terminal.await_text(f"{name} runs again")
        terminal.press("q")
        while terminal.read(60):
            pass
        assert terminal.process.wait(60) == 0, terminal.text[-3000:]
    last = json.loads(terminal.text.strip().splitlines()[-1])
    assert last["accepted"] > 0
    assert [last[name] for name in ("lost", "twice", "inversions")] == [0, 0, 0]
    assert _left_behind(tmp_path) == []
