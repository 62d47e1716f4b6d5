"""Our own Kafka: one address for life, kills, and what it does to a producer under way."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from hub.broker import Admin, Producer, bootstrap, consumer_config
from hub.broker.endpoint import process_start, read_endpoint, state_file
from hub.broker.local import LocalKafka
from hub.errors import ConfigError
from hub.settings import Settings
from hub.topics import TopicSpec

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "hub", cache=Settings.from_env().cache)


@pytest.fixture
def own(settings: Settings) -> Iterator[LocalKafka]:
    own = LocalKafka(settings.home, settings.cache, tied=True)
    yield own
    own.stop()


def count(at: str, topic: str) -> int:
    consumer = Consumer(consumer_config(at, "count"))
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), 20)
    finally:
        consumer.close()
    assert low == 0
    return high


async def test_killed_and_restarted_under_load_nothing_acked_is_lost(
    own: LocalKafka, settings: Settings
) -> None:
    first = own.start()
    assert own.start() == first, "start twice is status"
    assert own.status() == first
    assert bootstrap(settings) == first.bootstrap
    with Admin(first.bootstrap) as admin:
        admin.ensure_topics([TopicSpec("t", "k", 1)])
    producer = Producer(first.bootstrap, "t", 60.0)
    await producer.send("t", b"k", b"0")
    own.kill()
    assert own.status() is None
    under_way = [asyncio.ensure_future(producer.send("t", b"k%d" % n, b"v")) for n in range(50)]
    second = await asyncio.to_thread(own.start)
    assert second.bootstrap == first.bootstrap
    assert second.cluster_id == first.cluster_id
    assert second.pids != first.pids
    await asyncio.gather(*under_way)
    await producer.close()
    assert await asyncio.to_thread(count, first.bootstrap, "t") == 51
    own.stop()
    assert own.status() is None
    assert bootstrap(settings) == first.bootstrap, "the address stays known while it is down"


async def test_three_brokers_go_on_without_one(own: LocalKafka) -> None:
    endpoint = own.start(3)
    with Admin(endpoint.bootstrap) as admin:
        admin.ensure_topics([TopicSpec("t", "k", 1)])
        assert admin.check_cluster() == []
    producer = Producer(endpoint.bootstrap, "t", 60.0)
    await producer.send("t", b"k", b"1")
    own.kill(1)
    status = own.status()
    assert status is not None
    assert status.running == (True, False, True)
    await producer.send("t", b"k", b"2")
    await asyncio.to_thread(own.start)
    status = own.status()
    assert status is not None
    assert status.running == (True, True, True)
    with pytest.raises(ConfigError, match="3 broker"):
        own.start(1)
    await producer.close()
    assert await asyncio.to_thread(count, endpoint.bootstrap, "t") == 2


def test_tied_it_ends_with_its_starter_untied_it_stays(settings: Settings) -> None:
    def started(tied: bool) -> bool:
        """Started by a process that is killed; True: its JVM outlived that."""
        script = (
            "import os, signal, sys; from pathlib import Path\n"
            "from hub.broker.local import LocalKafka\n"
            "LocalKafka(Path(sys.argv[1]), Path(sys.argv[2]), tied=sys.argv[3] == 'True').start()\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        argv = [sys.executable, "-c", script, settings.home, settings.cache, str(tied)]
        assert subprocess.run(argv, check=False).returncode == -9
        endpoint = read_endpoint(state_file(settings.home))
        assert endpoint is not None
        if not tied:
            assert os.getsid(endpoint.pids[0]) == endpoint.pids[0], "Ctrl-C would reach it"
        while tied and process_start(endpoint.pids[0]) is not None:
            pass  # The kernel kills it; pytest's timeout bounds the wait.
        return endpoint.running == (True,)

    untied = LocalKafka(settings.home, settings.cache)
    try:
        assert not started(tied=True)
        assert started(tied=False)
        assert untied.status() is not None
    finally:
        untied.stop()
    assert untied.status() is None
