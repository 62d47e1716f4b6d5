"""What the demo does to a machine: its folder, its configuration, its processes, its figures."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hub.broker.endpoint import process_start
from hub.configuration import Configuration
from hub.connector import HttpAnswer, VerdictKind, discover
from hub.demo.guard import Guard, kill_listed
from hub.demo.installation import Folder, environment, write_configuration
from hub.demo.people import load_places
from hub.demo.plan import REQUEST_TIMEOUT_SECONDS
from hub.demo.process import Process
from hub.demo.results import write_result
from hub.errors import ConfigError
from hub.gazetteer import Gazetteer
from hub.topics import QueueName


def test_the_configuration_is_in_order_and_has_twenty_queues(tmp_path: Path) -> None:
    places = load_places(Gazetteer.load())
    ports = {place.code: 20_000 + number for number, place in enumerate(places)}
    write_configuration(tmp_path / "config", places, ports)
    found = Configuration.load(tmp_path / "config")
    assert len(found.destinations) == 20
    destination = found.destinations[QueueName("GM0268", "burgerzaken")]
    assert destination.limits.request_timeout_seconds == REQUEST_TIMEOUT_SECONDS
    assert destination.settings["url"].startswith(f"http://127.0.0.1:{ports['GM0268']}/")
    assert set(found.tenants) >= {place.code for place in places}
    assert "demo" in found.tenants["GM0568"].clients


def test_a_refusal_is_a_rejection_and_a_400_parks(tmp_path: Path) -> None:
    places = load_places(Gazetteer.load())
    write_configuration(tmp_path / "config", places, {place.code: 20_000 for place in places})
    rest = discover()["rest"]
    for destination in Configuration.load(tmp_path / "config").destinations.values():
        connector = rest(rest.Config.model_validate(destination.settings))
        refused = HttpAnswer(422, {}, b'{"besluit": "afgewezen"}')
        assert connector.classify(refused).kind is VerdictKind.REJECTED
        assert connector.classify(HttpAnswer(400, {}, b"")).kind is VerdictKind.RECORD_FAILED
        assert connector.classify(HttpAnswer(409, {}, b"")).kind is VerdictKind.UNDER_WAY
        assert connector.classify(HttpAnswer(200, {}, b"")).kind is VerdictKind.DELIVERED


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something that is not a demo's"):
        Folder(home).take()
    assert (home / "thesis.txt").exists()


def test_a_folder_is_taken_by_one_demo_at_a_time_and_emptied(tmp_path: Path) -> None:
    first, second = Folder(tmp_path / "demo"), Folder(tmp_path / "demo")
    first.take()
    first.empty()
    (first.home / "old.db").touch()
    with pytest.raises(ConfigError, match="another demo is running"):
        second.take()
    first.release()
    second.take()
    second.empty()
    assert not (second.home / "old.db").exists()
    second.release()


def test_processes_get_nothing_of_the_callers_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_KAFKA", "elsewhere:9092")
    monkeypatch.setenv("HUB_DELIVERY_DB", "postgresql://elsewhere/db")
    given = environment(tmp_path, tmp_path / "config", 12345, tmp_path / "cache")
    assert not {"HUB_KAFKA", "HUB_DELIVERY_DB"} & given.keys()
    assert given["HUB_INTAKE_PORT"] == "12345"
    assert given["PATH"] == os.environ["PATH"]


SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.mark.slow
def test_a_process_is_killed_started_again_and_stopped(tmp_path: Path) -> None:
    guard = Guard()
    process = Process("sleeper", SLEEPER, os.environ, tmp_path / "sleeper.log")
    try:
        process.start(guard)
        first = process.pid
        with pytest.raises(RuntimeError, match="running already"):
            process.start(guard)
        process.kill()
        assert process.exit_code == -signal.SIGKILL
        process.start(guard)
        assert process.running
        assert process.pid != first
        process.ask_to_stop()
        process.await_stop()
        assert process.exit_code == -signal.SIGTERM
        assert process.starts == 2
    finally:
        process.kill()
        guard.close()


@pytest.mark.slow
def test_the_guard_ends_what_a_killed_demo_left(tmp_path: Path) -> None:
    demo = (
        "import os, pathlib, sys, time\n"
        "from hub.demo.guard import Guard\n"
        "from hub.demo.process import Process\n"
        "guard = Guard()\n"
        f"process = Process('s', {SLEEPER!r}, os.environ, pathlib.Path(sys.argv[1]))\n"
        "process.start(guard)\n"
        "print(process.pid, guard._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", demo, str(tmp_path / "s.log")], stdout=subprocess.PIPE
    )
    assert child.stdout
    with child.stdout:
        left, guard = map(int, child.stdout.readline().split())
    left_fd, guard_fd = os.pidfd_open(left), os.pidfd_open(guard)
    try:
        child.kill()
        child.wait()
        for fd in (guard_fd, left_fd):
            os.set_blocking(fd, False)

        poll = select.poll()
        for fd in (left_fd, guard_fd):
            poll.register(fd, select.POLLIN)
        ended: set[int] = set()
        while len(ended) < 2:
            found = poll.poll(20_000)
            assert found, "the guard or what it guards lives on"
            for fd, _ in found:
                ended.add(fd)
                poll.unregister(fd)
        assert process_start(left) is None
    finally:
        os.close(left_fd)
        os.close(guard_fd)


@pytest.mark.slow
def test_the_guard_spares_a_later_owner_of_a_pid() -> None:
    child = subprocess.Popen(SLEEPER, stdout=subprocess.DEVNULL)
    try:
        kill_listed([f"{child.pid} 1", "nonsense", ""])
        assert child.poll() is None
        kill_listed([f"{child.pid} {process_start(child.pid)}"])
        assert child.wait() == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


def test_figures_are_written_with_where_they_come_from(tmp_path: Path) -> None:
    path = write_result(tmp_path, "demo-300", "hub demo --exit", 7, {"lost": 0, "problems": []})
    record = json.loads(path.read_text())
    assert record["seed"] == 7
    assert record["figures"]["lost"] == 0
    assert {"commit", "tree_clean", "machine"} <= record.keys()
    assert record["machine"]["cores"] == os.cpu_count()
    page = (tmp_path / "demo-300.md").read_text()
    assert "| lost | 0 |" in page
    assert "seed 7" in page
