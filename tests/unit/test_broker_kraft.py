"""Our own Kafka is configured as the promises need it, for one broker and for three."""

import socket
from pathlib import Path

import pytest

from hub.broker.endpoint import BrokerProcess, Endpoint
from hub.broker.kraft import free_ports, properties


def endpoint(count: int) -> Endpoint:
    return Endpoint("id", tuple(BrokerProcess(15000 + n, 16000 + n) for n in range(count)))


@pytest.mark.parametrize(
    ("count", "copies", "in_sync"), [(1, "1", "1"), (2, "2", "1"), (3, "3", "2")]
)
def test_copies_fit_the_number_of_brokers(count: int, copies: str, in_sync: str) -> None:
    for number in range(count):
        found = properties(endpoint(count), number, Path("/d"))
        factors = [v for k, v in found.items() if "replication.factor" in k]
        assert len(factors) == 4
        assert set(factors) == {copies}
        isr = [v for k, v in found.items() if k.endswith(("min.isr", "min.insync.replicas"))]
        assert len(isr) == 3
        assert set(isr) == {in_sync}
        assert found["node.id"] == str(number + 1)
        assert len(found["controller.quorum.voters"].split(",")) == count


def test_decision_6_and_loopback_only() -> None:
    found = properties(endpoint(3), 1, Path("/d"))
    assert found["auto.create.topics.enable"] == "false"
    assert found["offsets.retention.minutes"] == "2147483647"
    assert found["group.initial.rebalance.delay.ms"] == "0"
    assert found["unclean.leader.election.enable"] == "false"
    listeners = found["listeners"].split(",") + found["advertised.listeners"].split(",")
    assert {x.split("//")[1].split(":")[0] for x in listeners} == {"127.0.0.1"}


def test_free_ports_are_distinct_free_and_below_the_range_of_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert max(ports) < 32_000
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
