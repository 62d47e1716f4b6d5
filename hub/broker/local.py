"""Our own real Kafka, from pip alone: JVMs on loopback, data under `<home>/kafka`.

It survives kill -9 of anything, not a loss of power: Kafka does not sync each record to disk.
"""

import base64
import fcntl
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from hub.broker import jars, kraft
from hub.broker.clients import QUIET
from hub.broker.endpoint import (
    BrokerProcess,
    Endpoint,
    endpoint_file,
    read_endpoint,
    state_file,
    write_endpoint,
)
from hub.errors import BrokerAway, ConfigError
from hub.settings import Settings
from hub.telemetry import logger

_UP_SECONDS: Final = 90.0
_DOWN_SECONDS: Final = 15.0
_LOG_BYTES: Final = 10_000_000


class LocalKafka:
    """The Kafka of one HUB_HOME. Every method may be called from any process at any time.

    `tied`: its JVMs are killed when the thread that called `start` ends (tests). Otherwise they
    live until `stop`, whatever happens to the process that started them.
    """

    def __init__(self, home: Path, cache: Path, heap_mb: int = 512, tied: bool = False) -> None:
        self._dir = home.absolute() / "kafka"
        self._endpoint_file = endpoint_file(home.absolute())
        self._state_file = state_file(home.absolute())
        self._cache = cache
        self._heap_mb = heap_mb
        self._tied = tied

    @classmethod
    def of(cls, settings: Settings) -> "LocalKafka":
        return cls(settings.home, settings.cache, settings.kafka_heap_mb)

    def start(self, brokers: int | None = None) -> Endpoint:
        """Start what is not running and return when every broker answers; running: `status`.

        `brokers` counts at the first start; afterwards it must be the same or None. Raises
        ConfigError for another number, BrokerAway when it does not come up.
        """
        with self._locked():
            endpoint = read_endpoint(self._state_file) or _plan(brokers or 1)
            count = len(endpoint.brokers)
            if brokers not in (None, count):
                raise ConfigError(
                    f"{self._dir}: holds a Kafka of {count} broker(s), asked for {brokers}; "
                    "`hub kafka stop` and remove that directory, or set another HUB_HOME"
                )
            if all(endpoint.running) and self._endpoint_file.exists():
                return endpoint
            paths = jars.fetch(self._cache)
            for number, alive in enumerate(endpoint.running):
                if not alive:
                    endpoint = self._launch(endpoint, number, paths)
                    write_endpoint(self._state_file, endpoint)
            self._await_answer(endpoint)
            write_endpoint(self._endpoint_file, endpoint)
            logger().info("kafka_started", host=endpoint.bootstrap)
            return endpoint

    def stop(self) -> None:
        """End every broker: SIGTERM, and SIGKILL for what still lives after 15 s."""
        with self._locked():
            endpoint = read_endpoint(self._state_file)
            if endpoint is not None:
                _end([b for b in endpoint.brokers if b.alive()])

    def status(self) -> Endpoint | None:
        """None when no broker runs; `Endpoint.running` tells which do."""
        endpoint = read_endpoint(self._endpoint_file)
        return endpoint if endpoint and any(endpoint.running) else None

    def kill(self, broker: int = 0) -> None:
        """SIGKILL broker `broker` (from 0); `start` brings it back at the same address."""
        endpoint = read_endpoint(self._state_file)
        if endpoint is None or not endpoint.running[broker]:
            raise ConfigError(f"{self._dir}: no broker {broker} is running, so none was killed")
        _signal(endpoint.brokers[broker], signal.SIGKILL)
        _await_death(endpoint.brokers[broker], time.monotonic() + _DOWN_SECONDS)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._dir.mkdir(parents=True, exist_ok=True)
        with (self._dir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _log(self, number: int) -> Path:
        return self._dir / f"broker-{number}" / "kafka.log"

    def _launch(self, endpoint: Endpoint, number: int, paths: tuple[Path, ...]) -> Endpoint:
        log = self._log(number)
        log.parent.mkdir(exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name("kafka.old.log"))
        data, config = log.with_name("data"), log.with_name("server.properties")
        kraft.write_properties(config, kraft.properties(endpoint, number, data))
        if not (data / "meta.properties").exists():
            arguments = ("format", "-t", endpoint.cluster_id, "-c", str(config))
            tool = kraft.command(paths, 128, "kafka.tools.StorageTool", *arguments)
            status = os.waitpid(kraft.spawn(tool, log, self._tied), 0)[1]
            if os.waitstatus_to_exitcode(status) != 0:
                raise BrokerAway(f"Kafka's storage cannot be formatted: {_last_words(log)}")
        main = kraft.command(paths, self._heap_mb, "kafka.Kafka", str(config))
        return endpoint.with_process(number, kraft.spawn(main, log, self._tied))

    def _await_answer(self, endpoint: Endpoint) -> None:
        """Until each broker stands in the metadata. One that does not come up ends them all."""
        client = AdminClient({"bootstrap.servers": endpoint.bootstrap, **QUIET})
        deadline = time.monotonic() + _UP_SECONDS
        while time.monotonic() < deadline:
            for number, alive in enumerate(endpoint.running):
                if not alive:
                    _end(endpoint.brokers)
                    raise BrokerAway(
                        f"Kafka ended while starting: {_last_words(self._log(number))}"
                    )
            try:
                if len(client.list_topics(timeout=1.0).brokers) == len(endpoint.brokers):
                    return
            except KafkaException:
                continue  # No broker answers yet.
            time.sleep(0.05)
        _end(endpoint.brokers)
        raise BrokerAway(
            f"Kafka does not answer on {endpoint.bootstrap} after {_UP_SECONDS:.0f} s: "
            f"{_last_words(self._log(0))}"
        )


def _plan(brokers: int) -> Endpoint:
    ports = kraft.free_ports(2 * brokers)
    processes = tuple(BrokerProcess(ports[i], ports[i + 1]) for i in range(0, 2 * brokers, 2))
    # Kafka's own form of an id; a leading dash would be read as an option by its format tool.
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return Endpoint(cluster_id.replace("-", "_"), processes)


def _signal(process: BrokerProcess, number: signal.Signals) -> None:
    """Only to a process that is still the one we started, never to a later owner of its pid."""
    if process.alive():
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            pass  # It ended by itself in between, which is what we want.


def _end(processes: Sequence[BrokerProcess]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_SECONDS
    for process in processes:
        if not _await_death(process, deadline):
            # Nothing is lost by it: a record is acked once it is in the page cache.
            _signal(process, signal.SIGKILL)
            _await_death(process, time.monotonic() + _DOWN_SECONDS)


def _await_death(process: BrokerProcess, deadline: float) -> bool:
    while process.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _last_words(log: Path) -> str:
    """What a broker logged last (it logs addresses, paths and topics, never records)."""
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    telling = [line for line in lines if "ERROR" in line or "Exception" in line] or lines
    return f"{' | '.join(telling[-2:]) or 'no log'} (see {log})"
