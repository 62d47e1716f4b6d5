"""Wiring that refuses: planted faults off this machine, a key file that is gone."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.admission import METADATA
from hub.app import base, operators, worker
from hub.errors import BrokerAway, ConfigError, Refused
from hub.faults import Faults
from hub.keys import KeyFile, KeyStore, SubjectKind
from hub.settings import Settings
from hub.store import Store


@pytest.mark.parametrize("fault", [{"fault": "keys:60"}, {"crash_at": "delivery.after_2xx"}])
def test_faults_are_refused_off_loopback(tmp_path: Path, fault: dict[str, str]) -> None:
    settings = Settings(
        home=tmp_path, config=Path("config"), kafka="127.0.0.1:9092,broker.example:9092", **fault
    )
    with pytest.raises(ConfigError, match=r"broker\.example is not this one: unset them"):
        base.load(settings)


def test_no_faults_no_matter_where(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, config=Path("config"), kafka="broker.example:9092")
    assert base.load(settings).bootstrap == "broker.example:9092"


def test_a_lost_key_file_is_not_made_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store = Store(settings.database_url("admission"), METADATA)
    key_file = KeyFile.open(settings.key_file(), create=True)
    key_file.add_municipality("GM0505")
    keys = KeyStore(store, key_file, Faults(None, None, tmp_path))
    store.write(lambda c: keys.subject(c, "GM0505", SubjectKind.REQUEST, "x")).result()
    store.close()
    settings.key_file().unlink()

    with pytest.raises(ConfigError, match=r"keys\.json"):
        operators.erase(settings, "46YG-C17J-GGZT-S951-0", None, None)
    assert not settings.key_file().exists()


def test_erase_wants_one_of_both(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="reference, or --bsn-stdin"):
        operators.erase(Settings(home=tmp_path), None, None, None)


def test_an_api_key_needs_a_client_that_the_configuration_names(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, config=Path("config"))
    with pytest.raises(ConfigError, match=r"GM0505\.toml names no client 'webiste'"):
        operators.create_api_key(settings, "GM0505", "webiste")
    assert operators.create_api_key(settings, "GM0505", "website").startswith("hub_live_GM0505_")


def test_a_reference_misread_says_how(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="check character"):
        operators.request_report(Settings(home=tmp_path), "46YG-C17J-GGZT-S951-1")


def test_every_database_of_a_fresh_home_can_be_made(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with ExitStack() as stack:
        for name, tables in (("admission", METADATA), ("status", operators.STATUS_TABLES)):
            store = base.open_store(settings, name, tables, stack)
            count = store.read(
                lambda c: c.execute(sa.text("SELECT count(*) FROM sqlite_master")).scalar()
            )
            assert count


def test_a_worker_waits_for_what_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = iter([BrokerAway("no answer"), BrokerAway("no answer"), None])
    ready = object()

    def prepare(_settings: Settings) -> object:
        away = next(tries)
        if away:
            raise away
        return ready

    monkeypatch.setattr(worker, "prepare", prepare)
    waits: list[float] = []
    assert worker.prepare_patiently(Settings(home=tmp_path), 2.0, waits.append) is ready
    assert waits == [2.0, 2.0]


def test_a_worker_does_not_wait_for_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(_settings: Settings) -> object:
        raise ConfigError("routes.toml:3: ...")

    monkeypatch.setattr(worker, "prepare", prepare)
    with pytest.raises(ConfigError, match="routes"):
        worker.prepare_patiently(Settings(), 2.0, lambda _: pytest.fail("it waited"))


def test_keys_of_a_website_are_made_listed_and_revoked(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, config=Path("config"))
    for _ in range(2):
        operators.create_api_key(settings, "GM0505", "website")
    with pytest.raises(Refused, match="too_many_keys"):
        operators.create_api_key(settings, "GM0505", "website")
    first, _ = operators.api_keys(settings, "GM0505")
    operators.revoke_api_key(settings, "GM0505", first.key_id)
    with pytest.raises(Refused, match="unknown_key"):
        operators.revoke_api_key(settings, "GM0505", first.key_id)
    assert [key.revoked_at is None for key in operators.api_keys(settings, "GM0505")] == [
        False,
        True,
    ]
    assert operators.create_api_key(settings, "GM0505", "website")
