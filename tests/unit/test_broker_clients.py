"""Settings on which order, lease and redelivery rest; the partitioner of all clients."""

import pytest
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka

from hub.broker import consumer_config, murmur2, partition_of


@pytest.mark.parametrize("length", range(40))
def test_murmur2_is_the_one_of_aiokafka(length: int) -> None:
    key = bytes((length * 37 + n * 101) % 256 for n in range(length))
    assert murmur2(key) == murmur2_of_aiokafka(key) & 0xFFFFFFFF


def test_a_partition_is_never_negative() -> None:
    keys = [str(n).encode() for n in range(2000)]
    assert any(murmur2(key) >> 31 for key in keys)
    assert {partition_of(key, 24) for key in keys} == set(range(24))


def test_consumer_settings_of_decision_1() -> None:
    config = consumer_config("h:1", "g", "g-host-0", **{"fetch.wait.max.ms": 10})
    expected = {
        "bootstrap.servers": "h:1",
        "group.id": "g",
        "group.instance.id": "g-host-0",
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "topic.metadata.refresh.interval.ms": 5000,
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "session.timeout.ms": 6000,
        "fetch.wait.max.ms": 10,
    }
    assert config | expected == config


def test_without_an_instance_id_membership_is_dynamic() -> None:
    assert "group.instance.id" not in consumer_config("h:1", "g")
