"""All processes of a demo: Kafka, intake, worker and a back-office per municipality.

Used by `hub demo` and by live tests. Blocking; from an event loop call it in a thread. Whatever
way a demo ends, its processes end with it: `close` in order, and a guard for what remains.
"""

import http.client
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hub.admission import METADATA, ApiKeys
from hub.broker.admin import Admin
from hub.broker.kraft import free_ports
from hub.broker.local import LocalKafka
from hub.demo.guard import Guard
from hub.demo.installation import Folder, environment, write_configuration
from hub.demo.journal import Arrival, Decision, JournalReader
from hub.demo.loader import CLIENT
from hub.demo.moods import Command, Mood
from hub.demo.people import Place, load_places
from hub.demo.plan import INTAKE, WORKER
from hub.demo.process import Process
from hub.demo.requests import DESTINATIONS
from hub.errors import HubError
from hub.gazetteer import Gazetteer
from hub.settings import Settings
from hub.store import Store
from hub.topics import CATALOGUE, DELIVERY_GROUP, OUTCOMES, REQUESTS, WAY_GROUP

BROKER: Final = "broker"
WAY_TOPICS: Final = (REQUESTS, OUTCOMES)
_UP_SECONDS: Final = 90.0

Overrides = Mapping[str, Mapping[str, str]]
"""Per process (`intake`, `worker`) what to add to its environment, such as HUB_CRASH_AT."""


class DemoError(HubError):
    """A process of the demo did not come up or went away. Names it and its last words."""


class Stack:
    """One installation with everything running. A context manager: `with Stack(...) as stack`.

    `home` is erased at the start if an earlier demo used it, and left for a look afterwards.
    """

    def __init__(
        self,
        home: Path,
        cache: Path,
        dedupe: bool = True,
        seed: int = 0,
        places: Sequence[Place] | None = None,
        overrides: Overrides | None = None,
    ) -> None:
        self.folder = Folder(home)
        self.places = tuple(places or load_places(Gazetteer.load()))
        self._overrides = dict(overrides or {})
        self._kafka = LocalKafka(self.folder.home, cache)
        self._guard: Guard | None = None
        ports = free_ports(1 + len(self.places))
        self.intake_port = ports[0]
        self.office_ports = {
            place.code: port for place, port in zip(self.places, ports[1:], strict=True)
        }
        self.settings = Settings(
            home=self.folder.home,
            cache=cache.absolute(),
            config=self.folder.config,
            intake_port=self.intake_port,
        )
        given = environment(self.folder.home, self.folder.config, self.intake_port, cache)
        self.processes = {
            name: Process(name, [sys.executable, "-m", "hub", name], given, self.folder.log(name))
            for name in (INTAKE, WORKER)
        }
        for code, port in self.office_ports.items():
            arguments = {
                "--name": code,
                "--port": str(port),
                "--db": str(self.folder.office_db(code)),
                "--dedupe": "on" if dedupe else "off",
                "--seed": str(seed),
            }
            flat = [part for pair in arguments.items() for part in pair]
            argv = [sys.executable, "-m", "hub.demo.backoffice", *flat]
            self.processes[code] = Process(code, argv, given, self.folder.log(code))
        self.keys: dict[str, str] = {}
        """API key per origin, from `start` on."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.intake_port}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Everything up and answering. Raises DemoError naming what is not."""
        self.folder.take()
        # A demo that was killed may have left its Kafka when its guard was killed too.
        self._kafka.stop()
        self.folder.empty()
        write_configuration(self.folder.config, self.places, self.office_ports)
        self._guard = Guard()
        say("Kafka")
        for code in self.office_ports:
            self.processes[code].start(self._guard)
        self.start_broker()
        self.keys = self._make_keys()
        say("intake, worker, back-offices")
        for name in (INTAKE, WORKER):
            self.processes[name].start(self._guard, self._overrides.get(name))
        for name in (INTAKE, *self.office_ports):
            self.await_answer(name)
        self.await_worker()

    def await_worker(self) -> None:
        """Until a worker owns every queue and the whole way. Raises DemoError when it does not.

        Waited for at the start, so that figures are those of a hub that runs; after a kill the
        dead one's ownership shows for a session more, and nothing waits.
        """
        wanted = {
            WAY_GROUP: sum(spec.partitions for spec in CATALOGUE if spec.name in WAY_TOPICS),
            DELIVERY_GROUP: len(DESTINATIONS) * len(self.places),
        }
        until = time.monotonic() + _UP_SECONDS
        with Admin(self.bootstrap) as admin:
            while any(admin.owned_partitions(g) < count for g, count in wanted.items()):
                worker = self.processes[WORKER]
                if not worker.running or time.monotonic() > until:
                    raise DemoError(f"worker owns too little: {worker.last_words()}")
                time.sleep(0.1)

    @property
    def bootstrap(self) -> str:
        """Of the running Kafka."""
        endpoint = self._kafka.status()
        if endpoint is None:
            raise DemoError("Kafka is not running")
        return endpoint.bootstrap

    def _make_keys(self) -> dict[str, str]:
        websites = [website for place in self.places for website in place.websites]
        # One look into the database for all, not a `hub apikey create` of 1 s for each.
        store = Store(self.settings.database_url("admission"), METADATA)
        try:
            api_keys = ApiKeys(store)
            return {code: api_keys.create_key(code, CLIENT) for code in websites}
        finally:
            store.close()

    # -- kill and restart

    def start_broker(self) -> None:
        """Kafka up and answering, at the same address as before."""
        endpoint = self._kafka.start()
        assert self._guard is not None
        for pid in endpoint.pids:
            self._guard.watch(pid)

    def kill(self, name: str) -> None:
        """SIGKILL `broker`, `intake`, `worker` or a back-office by its municipality code."""
        if name == BROKER:
            self._kafka.kill()
        else:
            self.processes[name].kill()

    def start_again(self, name: str, extra: Mapping[str, str] | None = None) -> None:
        """Start what was killed. `extra` replaces the overrides of this process."""
        if name == BROKER:
            self.start_broker()
            return
        assert self._guard is not None
        chosen = self._overrides.get(name) if extra is None else extra
        self.processes[name].start(self._guard, chosen)
        if name != WORKER:
            self.await_answer(name)

    def restart(self, name: str, extra: Mapping[str, str] | None = None) -> None:
        """SIGKILL and start again."""
        self.kill(name)
        self.start_again(name, extra)

    def revive(self) -> list[str]:
        """Start again what ended by itself, without its overrides. Returns the names."""
        ended = [name for name, process in self.processes.items() if not process.running]
        for name in ended:
            self.start_again(name, {})
        return ended

    # -- back-offices

    def command(self, code: str, command: Command) -> None:
        """Give a back-office a mood."""
        self._ask(self.office_ports[code], "POST", "/control", command.model_dump_json())

    def heal(self) -> None:
        """Every back-office works; those that refuse or hang are waited for."""
        for code in self.office_ports:
            self.await_answer(code)
            self.command(code, Command(mood=Mood.WORKS))

    def journals(self) -> dict[str, JournalReader]:
        """A reader per back-office, from the beginning."""
        return {code: JournalReader(self.folder.office_db(code)) for code in self.office_ports}

    def decisions(self) -> dict[str, list[Decision]]:
        return {code: reader.decisions() for code, reader in self.journals().items()}

    def arrivals(self) -> dict[str, list[Arrival]]:
        return {code: reader.arrivals() for code, reader in self.journals().items()}

    # -- the end

    def close(self) -> None:
        """End everything: the hub first, so that nothing is sent to what is gone."""
        for name in (WORKER, INTAKE):
            self.processes[name].ask_to_stop()
        for name in (WORKER, INTAKE):
            self.processes[name].await_stop()
        for code in self.office_ports:
            self.processes[code].ask_to_stop()
        for code in self.office_ports:
            self.processes[code].await_stop()
        if self._guard:
            with suppress(HubError):
                self._kafka.stop()
            self._guard.close()
            self._guard = None
        self.folder.release()

    # -- asking

    def await_answer(self, name: str) -> None:
        """Until `name` answers HTTP. Raises DemoError when it ended or stays silent."""
        intake = (self.intake_port, "/v1/health")
        port, path = intake if name == INTAKE else (self.office_ports[name], "/control")
        process = self.processes[name]
        until = time.monotonic() + _UP_SECONDS
        while time.monotonic() < until:
            if not process.running:
                break
            with suppress(OSError, http.client.HTTPException):
                self._ask(port, "GET", path)
                return
            time.sleep(0.05)
        state = f"ended with {process.exit_code}" if not process.running else "does not answer"
        raise DemoError(f"{name} {state}: {process.last_words()}")

    def _ask(self, port: int, method: str, path: str, body: str | None = None) -> object:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            raw = connection.getresponse().read()
        finally:
            connection.close()
        try:
            return json.loads(raw)
        except ValueError:
            return None
