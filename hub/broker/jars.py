"""Kafka's jars: fetched by coordinate into a cache, used only if their sha256 is the locked one.

`python -m hub.broker.jars` (`make lock`) resolves the coordinates anew from Kafka's POM and
rewrites `jars.lock`.
"""

import fcntl
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jgo.maven import Dependency, MavenContext, PythonResolver
from requests import RequestException

from hub.errors import BrokerAway, ConfigError
from hub.settings import Settings
from hub.telemetry import logger

LOCK_FILE: Final = Path(__file__).with_name("jars.lock")
ROOTS: Final = (
    ("org.apache.kafka", "kafka_2.13", "4.3.0"),
    # Kafka logs through slf4j; without a binding it is silent about why it did not start.
    ("org.slf4j", "slf4j-simple", "1.7.36"),
)
_HEADER = "# Kafka and what it needs: sha256, then group:artifact:version. Made by `make lock`.\n"


@dataclass(frozen=True, slots=True, order=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def read_lock(path: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """The locked jars in file order. Raises ConfigError naming the line that is none."""
    jars = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        sha256, _, coordinate = line.partition("  ")
        parts = coordinate.split(":")
        if len(sha256) != 64 or len(parts) != 3:
            raise ConfigError(
                f"{path}:{number}: not `sha256  group:artifact:version`; run `make lock`"
            )
        jars.append(Jar(parts[0], parts[1], parts[2], sha256))
    return tuple(jars)


def fetch(
    cache: Path,
    jars: Iterable[Jar] | None = None,
    resolve: Callable[[Path, Jar], Path] | None = None,
) -> tuple[Path, ...]:
    """Paths of all jars under `cache`, each with the locked sha256; what is missing is downloaded.

    Several processes may call this at once. Raises BrokerAway when a jar cannot be fetched now,
    ConfigError when what is fetched is not what was locked (nothing of it is kept).
    """
    wanted = read_lock() if jars is None else tuple(jars)
    with _locked(cache):
        return tuple(_verified(cache, jar, resolve or _download) for jar in wanted)


def refresh(cache: Path, lock: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """Resolve ROOTS from their POMs and write `lock`. Trusts what the registry serves today."""
    context = MavenContext(repo_cache=cache, timeout=60)
    roots = [
        Dependency(context.project(g, a).at_version(v).artifact(), scope="compile")
        for g, a, v in ROOTS
    ]
    with _locked(cache):
        inputs, others = PythonResolver().resolve(roots)
        jars = sorted(
            Jar(d.groupId, d.artifactId, d.version, _sha256(Path(d.artifact.resolve())))
            for d in (*inputs, *others)
        )
    lock.write_text(_HEADER + "".join(f"{j.sha256}  {j.coordinate}\n" for j in jars), "utf-8")
    return tuple(jars)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _verified(cache: Path, jar: Jar, resolve: Callable[[Path, Jar], Path]) -> Path:
    """A truncated or foreign jar would stay cached for ever, so it is deleted and fetched once."""
    got = ""
    for _ in range(2):
        path = resolve(cache, jar)
        got = _sha256(path)
        if got == jar.sha256:
            return path
        logger().warning("jar_sum_differs", name=jar.coordinate, path=str(path))
        path.unlink()
    raise ConfigError(
        f"{jar.coordinate}: sha256 wanted {jar.sha256}, got {got} twice, nothing kept; "
        "look at what stands between you and the registry, or run `make lock` and review the change"
    )


def _download(cache: Path, jar: Jar) -> Path:
    context = MavenContext(repo_cache=cache, timeout=60)
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    try:
        return Path(artifact.resolve())
    except (RequestException, RuntimeError, OSError) as failure:
        raise BrokerAway(
            f"{jar.coordinate}: cannot be fetched into {cache} ({type(failure).__name__}). The "
            "first start of our Kafka needs a network; HUB_CACHE may name a filled cache, or set "
            "HUB_KAFKA to a cluster that exists"
        ) from failure


def _sha256(path: Path) -> str:
    with path.open("rb") as jar:
        return hashlib.file_digest(jar, "sha256").hexdigest()


if __name__ == "__main__":
    print(f"{len(refresh(Settings.from_env().cache))} jars locked in {LOCK_FILE}")
