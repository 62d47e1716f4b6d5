"""What every test may ask for: a desk, the contract, the gazetteer, one real Kafka (live only)."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as search

from hub.admission import METADATA, Principal
from hub.broker import Endpoint
from hub.broker.local import LocalKafka
from hub.contract import Contract
from hub.faults import NONE
from hub.gazetteer import Gazetteer
from hub.keys import KeyFile, KeyStore
from hub.settings import Settings
from hub.store import Store
from tests.desk import AMSTERDAM, BLARICUM, HUIZEN, LAREN, ROTTERDAM, Desk, configuration

BRIEF = {"max_examples": 10, "derandomize": True, "database": None}


def pytest_configure(config: pytest.Config) -> None:
    """How far property searches go. A test that wants more multiplies `default.max_examples`."""
    # No example has a deadline: on a loaded machine it would fail for nothing.
    search.register_profile("hub", deadline=None, **(BRIEF if config.getoption("brief") else {}))
    search.load_profile("hub")


def pytest_collection_finish() -> None:
    """What is imported and collected lives to the end: no search for garbage need look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract.load()


@pytest.fixture(scope="session")
def gazetteer() -> Gazetteer:
    return Gazetteer.load()


@pytest.fixture(scope="session")
def key_file_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Made once: keys take longer to make than most tests take. Each desk has a file of its own."""
    file = KeyFile.open(tmp_path_factory.mktemp("keys") / "keys.json", create=True)
    for place in (AMSTERDAM, ROTTERDAM, BLARICUM, HUIZEN, LAREN):
        file.add_municipality(place)
    return file.path.read_bytes()


@pytest.fixture(scope="session")
def furnish(
    contract: Contract, gazetteer: Gazetteer, key_file_content: bytes
) -> Callable[[Path], Desk]:
    """A desk in a folder; of one folder each is another process. Whoever asks closes its store."""

    def make(folder: Path) -> Desk:
        file = folder / "keys.json"
        if not file.exists():
            file.touch(0o600)
            file.write_bytes(key_file_content)
        store = Store(f"sqlite:///{folder}/db/admission.db", METADATA)
        keys = KeyStore(store, KeyFile.open(file), NONE)
        return Desk(folder, store, keys, contract, configuration(), gazetteer)

    return make


@pytest.fixture
def make_desk(tmp_path: Path, furnish: Callable[[Path], Desk]) -> Iterator[Callable[[], Desk]]:
    """Desks over one database: each is another process."""
    made: list[Desk] = []

    def make() -> Desk:
        made.append(furnish(tmp_path))
        return made[-1]

    yield make
    for desk in made:
        desk.store.close()


@pytest.fixture
def desk(make_desk: Callable[[], Desk]) -> Desk:
    return make_desk()


@pytest.fixture(scope="module")
def lasting_desk(
    tmp_path_factory: pytest.TempPathFactory, furnish: Callable[[Path], Desk]
) -> Iterator[Desk]:
    """One for all tests of a module of which nothing is admitted."""
    desk = furnish(tmp_path_factory.mktemp("desk"))
    yield desk
    left = desk.rows()
    desk.store.close()
    assert left == []


@pytest.fixture
def principal() -> Principal:
    return Principal(AMSTERDAM, "website")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Tied: it ends with the test run, however that ends. A test uses topics of its own."""
    home = tmp_path_factory.mktemp("kafka-home")
    local = LocalKafka(home, Settings.from_env().cache, tied=True)
    yield local.start()
    local.stop()
