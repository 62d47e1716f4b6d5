"""A Kafka in a container, where Docker answers; for tests, by the `dev` extra (testcontainers).

Not run where it was written: there is no Docker. `tests/conformance` runs it where there is one.
"""

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from hub.broker.kraft import PROMISES, free_ports
from hub.errors import BrokerAway

IMAGE: Final = "apache/kafka:4.3.0"
_READY: Final = "Kafka Server started"
_UP_SECONDS: Final = 180
_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"


def docker_answers() -> bool:
    """False without the `dev` extra, without Docker, and where its daemon does not answer."""
    try:
        docker: Any = importlib.import_module("docker")
    except ImportError:
        return False
    # Asked first: docker's own client leaves a socket open where nobody listens.
    if not _listens(os.environ.get("DOCKER_HOST") or _DEFAULT_HOST):
        return False
    try:
        client = docker.from_env(timeout=5)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()


def _listens(docker_host: str) -> bool:
    """`docker_host`: `unix:///path` or `tcp://host:port`."""
    where = urlsplit(docker_host)
    try:
        if where.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(5)
                probe.connect(where.path)
        else:
            socket.create_connection((where.hostname, where.port or 2375), 5).close()
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def container_kafka() -> Iterator[str]:
    """`host:port` of a fresh one-node Kafka, removed with its data at the end.

    Raises BrokerAway where Docker does not answer; the first start pulls the image.
    """
    if not docker_answers():
        raise BrokerAway(
            "Docker does not answer; start it, or use our own Kafka (`hub kafka start`)"
        )
    core: Any = importlib.import_module("testcontainers.core.container")
    waits: Any = importlib.import_module("testcontainers.core.wait_strategies")
    (port,) = free_ports(1)
    container = core.DockerContainer(IMAGE, env=environment(port))
    # Not with_bind_ports: that opens a Kafka without passwords to the whole network.
    container.ports[str(port)] = ("127.0.0.1", port)
    ready = waits.LogMessageWaitStrategy(_READY).with_startup_timeout(_UP_SECONDS)
    with container.waiting_for(ready):
        yield f"127.0.0.1:{port}"


def environment(port: int) -> dict[str, str]:
    """Settings as the image takes them: `a.b` is KAFKA_A_B.

    The port inside is the port outside, so that the address Kafka hands out is one to reach it by.
    """
    settings = {
        **PROMISES,
        "node.id": "1",
        "process.roles": "broker,controller",
        "listeners": f"BROKER://0.0.0.0:{port},CONTROLLER://localhost:9093",
        "advertised.listeners": f"BROKER://127.0.0.1:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": "1@localhost:9093",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
    }
    return {"KAFKA_" + key.upper().replace(".", "_"): value for key, value in settings.items()}
