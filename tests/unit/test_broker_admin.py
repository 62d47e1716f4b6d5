"""What makes a cluster unfit, and how an absent one is reported."""

import threading

import pytest

from hub.broker.admin import Admin, _differences
from hub.broker.kraft import free_ports
from hub.errors import BrokerAway
from hub.topics import CATALOGUE, QUARANTINE, QueueName, queue_spec

QUEUE = queue_spec(QueueName("GM0363", "zaken"))


def test_nobody_there_is_said_at_once_with_the_address_and_the_remedy() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BrokerAway, match=rf"127\.0\.0\.1:{port}.*HUB_KAFKA"):
        Admin(f"127.0.0.1:{port}")


def test_an_address_that_is_none_is_reported_too() -> None:
    with pytest.raises(BrokerAway, match="nonsense"):
        Admin("nonsense")


def test_a_fit_topic_has_no_problem() -> None:
    for spec in (QUEUE, *CATALOGUE):
        assert list(_differences(spec, {**spec.config, "cleanup.policy": "delete"})) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000"),
        ("message.timestamp.type", "CreateTime"),
        ("cleanup.policy", "compact,delete"),
    ],
)
def test_each_setting_that_loses_or_reorders_is_named_with_its_remedy(key: str, value: str) -> None:
    (problem,) = _differences(QUEUE, {**QUEUE.config, key: value})
    assert QUEUE.name in problem.text
    assert value in problem.text
    assert key in problem.remedy


def test_what_cannot_be_read_is_no_proof() -> None:
    problems = list(_differences(QUEUE, {}))
    assert len(problems) == 3
    assert all("not readable" in p.text for p in problems)


class Cluster:
    """kafka-python's admin client of a cluster with one broker."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings

    def describe_topics(self) -> list[dict[str, object]]:
        return []

    def describe_cluster(self) -> dict[str, object]:
        return {"brokers": [{"broker_id": 4}]}

    def describe_configs(self, resources: object, config_filter: str) -> dict[str, object]:
        return {"broker": {"4": {k: {"value": v} for k, v in self.settings.items()}}}


@pytest.mark.parametrize(
    ("minutes", "fit"), [("43200", True), ("43199", False), ("10080", False), (None, False)]
)
def test_offsets_that_expire_within_30_days_are_refused(minutes: str | None, fit: bool) -> None:
    admin = Admin.__new__(Admin)
    admin._lock = threading.Lock()
    admin._kafka = Cluster({"offsets.retention.minutes": minutes} if minutes else {})
    problems = admin.check_cluster()
    assert (problems == []) is fit
    assert all("broker 4" in p.text and "2147483647" in p.remedy for p in problems)


def test_a_quarantine_is_kept_for_its_own_time() -> None:
    (spec,) = (s for s in CATALOGUE if s.name == QUARANTINE)
    (problem,) = _differences(spec, {**spec.config, "retention.ms": "1000"})
    assert spec.config["retention.ms"] in problem.remedy
