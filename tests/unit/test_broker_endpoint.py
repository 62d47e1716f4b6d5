"""Which Kafka is meant, and whether a process is still the one that was started."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hub.broker import bootstrap
from hub.broker.endpoint import (
    BrokerProcess,
    Endpoint,
    endpoint_file,
    process_start,
    read_endpoint,
    write_endpoint,
)
from hub.broker.local import LocalKafka
from hub.errors import ConfigError
from hub.settings import Settings

ENDPOINT = Endpoint("id", (BrokerProcess(15001, 15002), BrokerProcess(15003, 15004)))


def test_named_cluster_then_own_then_an_error_with_both_remedies(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(ConfigError, match=r"HUB_KAFKA.*hub kafka start"):
        bootstrap(settings)
    endpoint_file(tmp_path).parent.mkdir()
    write_endpoint(endpoint_file(tmp_path), ENDPOINT)
    assert bootstrap(settings) == "127.0.0.1:15001,127.0.0.1:15003"
    assert bootstrap(settings.model_copy(update={"kafka": "k:9092"})) == "k:9092"


def test_it_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.json"
    assert read_endpoint(path) is None
    mine = ENDPOINT.with_process(1, os.getpid())
    write_endpoint(path, mine)
    assert read_endpoint(path) == mine
    assert mine.running == (False, True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cluster_id": "x", "brokers": [{"p": 1}]}'])
def test_a_foreign_file_is_an_error_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "endpoint.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"endpoint\.json"):
        read_endpoint(path)


def test_a_later_owner_of_the_pid_is_not_ours() -> None:
    broker = ENDPOINT.with_process(0, os.getpid()).brokers[0]
    assert broker.alive()
    assert not replace(broker, started="1").alive()


@pytest.mark.slow
def test_a_dead_child_is_gone_at_once() -> None:
    """Also before anybody has waited for it: a zombie answers no one."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", "input()"], os.environ)
    assert process_start(child) is not None
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert process_start(child) is None


@pytest.mark.slow
def test_a_dead_child_of_somebody_else_is_gone_too() -> None:
    script = (
        "import os, sys; pid = os.fork()\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); print(pid, flush=True); input()"
    )
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert process_start(int(parent.stdout.readline())) is None
        parent.communicate("\n")


def test_nothing_runs_where_nothing_was_started(tmp_path: Path) -> None:
    local = LocalKafka(tmp_path, tmp_path / "cache")
    assert local.status() is None
    local.stop()
    with pytest.raises(ConfigError, match="no broker 0"):
        local.kill()
