"""Where our own Kafka answers, on disk, and whether its processes are still the ones we started."""

import json
import os
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hub.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BrokerProcess:
    """A broker and its controller in one JVM. `started` tells it from a later owner of its pid."""

    port: int
    controller_port: int
    pid: int = 0
    started: str = ""

    def alive(self) -> bool:
        """False too for a zombie: it holds no port and will never answer."""
        return bool(self.pid) and process_start(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Our Kafka: chosen once, the same after every restart."""

    cluster_id: str
    brokers: tuple[BrokerProcess, ...]

    @property
    def bootstrap(self) -> str:
        """`host:port,...` of all brokers, living or not."""
        return ",".join(f"127.0.0.1:{b.port}" for b in self.brokers)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(b.pid for b in self.brokers)

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(b.port for b in self.brokers)

    @property
    def running(self) -> tuple[bool, ...]:
        """Per broker, asked of the operating system now."""
        return tuple(b.alive() for b in self.brokers)

    def with_process(self, number: int, pid: int) -> "Endpoint":
        """The same, its broker `number` (from 0) being process `pid`; 0 for none."""
        started = process_start(pid) if pid else ""
        broker = replace(self.brokers[number], pid=pid, started=started or "")
        return replace(self, brokers=(*self.brokers[:number], broker, *self.brokers[number + 1 :]))


def endpoint_file(home: Path) -> Path:
    """Read by whoever wants to connect; written only once every broker answers."""
    return home / "kafka" / "endpoint.json"


def state_file(home: Path) -> Path:
    """The same before that, for the starter alone: a kill while starting forgets no process."""
    return home / "kafka" / "state.json"


def read_endpoint(path: Path) -> Endpoint | None:
    """None when there is none. Raises ConfigError for a file that we did not write."""
    try:
        data = json.loads(path.read_text("utf-8"))
        brokers = tuple(BrokerProcess(**b) for b in data["brokers"])
        return Endpoint(data["cluster_id"], brokers)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{path}: not written by this version of the hub; end its java processes and remove "
            f"{path.parent} (its records go with it), then `hub kafka start`"
        ) from None


def write_endpoint(path: Path, endpoint: Endpoint) -> None:
    """By rename: a reader sees the old file or the new one, also after a kill in between."""
    draft = path.with_suffix(".new")
    draft.write_text(
        json.dumps({"bootstrap": endpoint.bootstrap, **asdict(endpoint)}, indent=1), "utf-8"
    )
    draft.replace(path)


def process_start(pid: int) -> str | None:
    """An opaque start time of `pid`; None when there is no such process or it is a zombie."""
    reap(pid)
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name in brackets may hold anything: the fields count from the last bracket.
            fields = stat.read_text("utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return None if not shown or shown.startswith("Z") else shown.partition(" ")[2].strip()


def reap(pid: int) -> None:
    """Take the exit status if `pid` is a dead child of ours, so that it is no zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass  # Started by another process, which has died or will reap it.
