"""docker-compose.yml fits the hub. Where `docker compose` is there, it has its say too."""

import shutil
import subprocess
from typing import Any

import pytest

from hub.settings import Settings
from tests.house import yaml_subset
from tests.house.commands import fault
from tests.house.rules import ROOT

FILE = ROOT / "docker-compose.yml"
COMPOSE = yaml_subset.read(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _docker_has_compose() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    asked = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


def test_it_is_a_compose_file() -> None:
    """By docker compose itself, else by what follows in this file alone, which always runs."""
    if _docker_has_compose():
        subprocess.run(["docker", "compose", "config", "-q"], cwd=ROOT, check=True)
    assert {"kafka", "intake", "worker"} <= set(SERVICES)
    assert all(name in {"services", "volumes"} or name.startswith("x-") for name in COMPOSE)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_be_made_and_started(name: str) -> None:
    service = SERVICES[name]
    assert service.get("image")
    if "build" in service:
        assert (ROOT / service["build"] / "Dockerfile").is_file()
        words = service["command"]
        assert words[0] == "hub"
        assert fault(words[1:]) is None
    for other, wanted in (service.get("depends_on") or {}).items():
        assert other in SERVICES
        if wanted["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", SERVICES)
def test_its_variables_are_knobs_that_take_the_value(name: str) -> None:
    given = {k: v for k, v in SERVICES[name]["environment"].items() if k.startswith("HUB_")}
    unknown = set(given) - {f"HUB_{field.upper()}" for field in Settings.model_fields}
    assert not unknown
    Settings.from_env(given)


@pytest.mark.parametrize("name", SERVICES)
def test_its_volumes_and_ports(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).exists(), volume
        else:
            assert source in COMPOSE["volumes"], volume
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), "nothing listens off loopback before TLS stands there"


def test_kafka_is_reached_where_it_says_it_is() -> None:
    for name, service in SERVICES.items():
        if name != "kafka":
            advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
            assert advertised.endswith(f"//{service['environment']['HUB_KAFKA']}")


def test_the_reader_reads_what_it_should() -> None:
    text = """\
# a comment
x-base: &base
  image: a/b:1
  environment: &given
    ONE: "1"
services:
  web:
    <<: *base
    command: ["hub", "worker"]
    environment:
      <<: *given
      TWO: redis://x:2
    volumes:
      - data:/var
      - "./c:/d:ro"
volumes:
  data:
"""
    assert yaml_subset.read(text)["services"] == {
        "web": {
            "image": "a/b:1",
            "command": ["hub", "worker"],
            "environment": {"ONE": "1", "TWO": "redis://x:2"},
            "volumes": ["data:/var", "./c:/d:ro"],
        }
    }
    assert yaml_subset.read(text)["volumes"] == {"data": None}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2\n", 2),
        ("a:\n  b: 1\n c: 2\n", 3),
        ("a:\n\t- b\n", 2),
        ('a: ["b"\n', 1),
        ("a: *nowhere\n", 1),
        ("a:\n  <<: *nowhere\n", 2),
        ("a: |\n  text\n", 1),
        ("- a\nb: c\n", 2),
        ("just text\n", 1),
    ],
)
def test_the_reader_refuses_what_it_does_not_understand(text: str, line: int) -> None:
    with pytest.raises(yaml_subset.Unreadable, match=f"line {line}:"):
        yaml_subset.read(text)
