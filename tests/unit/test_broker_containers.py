"""Docker is used where it answers; its Kafka has the settings of ours. No container is started."""

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hub.broker.containers import IMAGE, container_kafka, docker_answers, environment
from hub.broker.jars import ROOTS
from hub.broker.kraft import PROMISES
from hub.errors import BrokerAway

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


class DockerError(Exception):
    pass


class Client:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.closed = False

    def ping(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed = True


def plant(monkeypatch: pytest.MonkeyPatch, connected: Client | Exception) -> None:
    def from_env(timeout: int) -> Client:
        if isinstance(connected, Exception):
            raise connected
        return connected

    docker = ModuleType("docker")
    vars(docker).update(from_env=from_env, errors=SimpleNamespace(DockerException=DockerError))
    monkeypatch.setitem(sys.modules, "docker", docker)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something listens where Docker would."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 's'}")
        yield


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [(True, True), (False, False), (DockerError(), False), (ConnectionError(), False)],
)
def test_docker_answers_if_its_daemon_does(
    monkeypatch: pytest.MonkeyPatch, answer: Any, expected: bool
) -> None:
    client = Client(answer)
    plant(monkeypatch, client)
    assert docker_answers() is expected
    assert client.closed


@pytest.mark.usefixtures("daemon")
def test_no_docker_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, DockerError())
    assert not docker_answers()
    monkeypatch.setitem(sys.modules, "docker", None)
    assert not docker_answers()
    with pytest.raises(BrokerAway, match="hub kafka start"), container_kafka():
        pass


@pytest.mark.parametrize("host", ["unix:///nowhere/s", "tcp://127.0.0.1:1", "nonsense"])
def test_nobody_listens_is_no(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    plant(monkeypatch, Client(True))
    monkeypatch.setenv("DOCKER_HOST", host)
    assert not docker_answers()


def test_the_container_keeps_our_promises_at_an_address_that_can_be_reached() -> None:
    found = environment(15000)
    for key, value in PROMISES.items():
        assert found["KAFKA_" + key.upper().replace(".", "_")] == value
    assert found["KAFKA_ADVERTISED_LISTENERS"] == "BROKER://127.0.0.1:15000"
    assert ":15000," in found["KAFKA_LISTENERS"]


def test_compose_has_the_same_kafka_with_the_same_settings() -> None:
    text = COMPOSE.read_text("utf-8")
    settings = dict(re.findall(r'^      (KAFKA_[A-Z_]+): "?([^"\n]+)"?$', text, re.MULTILINE))
    same = {k: v for k, v in environment(9092).items() if "LISTENERS" not in k}
    assert {k: settings.get(k) for k in same} == same
    assert f"image: {IMAGE}" in text
    assert IMAGE.endswith(f":{ROOTS[0][2]}")
