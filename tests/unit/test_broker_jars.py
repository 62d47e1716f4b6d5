"""Jars: only what is locked is used; anything else is deleted, fetched once more, then named."""

import hashlib
import re
import threading
from pathlib import Path

import pytest

from hub.broker.jars import LOCK_FILE, ROOTS, Jar, fetch, read_lock
from hub.errors import ConfigError

GOOD = b"a jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(GOOD).hexdigest())


class Registry:
    """Serves these bodies in turn; like jgo it never replaces a file that is there."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)
        self.served = 0

    def __call__(self, cache: Path, jar: Jar) -> Path:
        path = cache / f"{jar.artifact}.jar"
        if not path.exists():
            self.served += 1
            path.write_bytes(self.bodies.pop(0))
        return path


def test_a_right_jar_is_fetched_once_for_all(tmp_path: Path) -> None:
    registry = Registry(GOOD)
    for _ in range(3):
        (path,) = fetch(tmp_path, [JAR], registry)
        assert path.read_bytes() == GOOD
    assert registry.served == 1


def test_a_truncated_cached_jar_is_fetched_anew(tmp_path: Path) -> None:
    (tmp_path / "thing.jar").write_bytes(GOOD[:2])
    registry = Registry(GOOD)
    (path,) = fetch(tmp_path, [JAR], registry)
    assert path.read_bytes() == GOOD
    assert registry.served == 1


def test_wrong_twice_is_an_error_that_names_all_and_keeps_nothing(tmp_path: Path) -> None:
    registry = Registry(b"evil", b"worse", GOOD)
    with pytest.raises(ConfigError) as refused:
        fetch(tmp_path, [JAR], registry)
    assert registry.served == 2
    for part in ("org.example:thing:1.0", JAR.sha256, hashlib.sha256(b"worse").hexdigest()):
        assert part in str(refused.value)
    assert not (tmp_path / "thing.jar").exists()


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    both, alone, clashes = threading.Barrier(2), threading.Lock(), []
    registry = Registry(GOOD)

    def resolve(cache: Path, jar: Jar) -> Path:
        if not alone.acquire(blocking=False):
            clashes.append(jar)
            return cache / "thing.jar"
        try:
            return registry(cache, jar)
        finally:
            alone.release()

    def run() -> None:
        both.wait()
        for _ in range(50):
            fetch(tmp_path, [JAR], resolve)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (registry.served, clashes) == (1, [])


def test_the_committed_lock_is_kafka_whole_and_names_no_registry() -> None:
    jars = read_lock()
    assert {(j.group, j.artifact, j.version) for j in jars} >= set(ROOTS)
    assert len(jars) == len({(j.group, j.artifact) for j in jars}) == 46
    assert all(re.fullmatch("[0-9a-f]{64}", j.sha256) for j in jars)
    assert "//" not in LOCK_FILE.read_text("utf-8")


@pytest.mark.parametrize("line", ["abc  g:a:1", f"{'0' * 64} g:a:1", f"{'0' * 64}  g:a"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "jars.lock"
    lock.write_text(f"# head\n{'0' * 64}  g:a:1\n{line}\n")
    with pytest.raises(ConfigError, match=r"jars\.lock:3"):
        read_lock(lock)
