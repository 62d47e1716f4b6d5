"""Settings from the environment: what cannot be used is named."""

from pathlib import Path

import pytest

from hub.errors import ConfigError
from hub.settings import Settings


def test_defaults_need_no_environment() -> None:
    found = Settings.from_env({})
    assert found.home == Path(".hub")
    assert found.key_file() == Path(".hub/keys.json")
    assert found.database_url("status").endswith("/.hub/db/status.db")


def test_each_bad_value_is_named_without_the_value() -> None:
    with pytest.raises(
        ConfigError, match=r"HUB_INTAKE_PORT: .*; HUB_SESSION_TIMEOUT_SECONDS: "
    ) as bad:
        Settings.from_env({"HUB_INTAKE_PORT": "geheim", "HUB_SESSION_TIMEOUT_SECONDS": "2"})
    assert "geheim" not in str(bad.value)


def test_a_typo_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"HUB_INTAKEPORT: no such setting.*HUB_INTAKE_PORT"):
        Settings.from_env({"HUB_INTAKEPORT": "8080"})


def test_a_secret_of_a_destination_is_no_typo() -> None:
    assert Settings.from_env({"HUB_SECRET_ZAAKSYSTEEM": "x"}).intake_port == 8080
