"""Planted faults: a crash is exit 137, once per home, at the point and pass asked for."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub.errors import ConfigError, StoreAway
from hub.faults import CRASH_POINTS, NONE, Faults

POINT = "delivery.after_2xx"

WALK = """
import sys
from pathlib import Path
from hub.faults import Faults
faults = Faults(sys.argv[1], None, Path(sys.argv[2]))
for step in range(3):
    faults.crash("routing.after_ack")
    print(step, flush=True)
    faults.crash("delivery.after_2xx")
"""


def walk(crash_at: str, home: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", WALK, crash_at, str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.split()


@pytest.mark.slow
def test_a_planted_point_ends_the_process_once_per_home(tmp_path: Path) -> None:
    assert walk(POINT, tmp_path) == (137, ["0"])
    assert (tmp_path / "crashed" / POINT).read_text().isdigit()
    assert walk(POINT, tmp_path) == (0, ["0", "1", "2"])
    assert walk(POINT, tmp_path / "another") == (137, ["0"])


@pytest.mark.slow
def test_the_pass_is_counted(tmp_path: Path) -> None:
    assert walk(f"{POINT}:3", tmp_path) == (137, ["0", "1", "2"])


@pytest.mark.slow
def test_a_pass_never_reached_leaves_no_marker(tmp_path: Path) -> None:
    assert walk(f"{POINT}:4", tmp_path) == (0, ["0", "1", "2"])
    assert not (tmp_path / "crashed").exists()


def test_there_are_at_least_fourteen_points_and_each_is_explained() -> None:
    assert len(CRASH_POINTS) >= 14
    assert all(len(text) > 20 for text in CRASH_POINTS.values())


@pytest.mark.parametrize(
    ("crash_at", "text"),
    [
        ("delivery.after_2x", "no such point 'delivery.after_2x'; choose one of admission.before"),
        (":2", "no such point"),
        (f"{POINT}:0", "whole number from 1"),
        (f"{POINT}:x", "whole number from 1"),
        (f"{POINT}:-1", "whole number from 1"),
    ],
)
def test_a_point_that_cannot_be_planted_is_refused(crash_at: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Faults(crash_at, None, Path())


@pytest.mark.parametrize("fault", ["keys", "keys:", "keys:x", "keys:1.5", "kafka:60", ":60"])
def test_a_fault_that_cannot_be_planted_is_refused(fault: str) -> None:
    with pytest.raises(ConfigError, match="write keys:<seconds>, for example keys:60"):
        Faults(None, fault, Path())


def test_a_store_is_away_for_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    clock = SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0] + 5)
    monkeypatch.setattr("hub.faults.time", clock)
    monkeypatch.setenv("HUB_FAULT_SINCE", "999.0")
    faults = Faults(None, "keys:60", Path())
    for moment in (1000.0, 1058.9):
        now[0] = moment
        faults.check("another store")
        with pytest.raises(StoreAway, match="keys: away"):
            faults.check("keys")
    now[0] = 1059.0
    faults.check("keys")


def test_a_child_started_later_does_not_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_FAULT_SINCE", repr(time.time() - 61))
    Faults(None, "keys:60", Path()).check("keys")


def test_the_first_process_says_when_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_FAULT_SINCE", "")
    monkeypatch.delenv("HUB_FAULT_SINCE")
    before = time.time()
    Faults(None, "keys:60", Path())
    assert before <= float(os.environ["HUB_FAULT_SINCE"]) <= time.time()


def test_nothing_planted_does_nothing(tmp_path: Path) -> None:
    for point in CRASH_POINTS:
        NONE.crash(point)
        Faults(None, None, tmp_path).crash(point)
    NONE.check("keys")
    assert not list(tmp_path.iterdir())
