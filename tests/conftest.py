"""How much of everything a run does; the fixtures themselves stand in tests/fixtures.py."""

import pytest
import xdist


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--brief", action="store_true", help="property searches of a few fixed examples (make fast)"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """xdist's controller runs no test: half of what a run imports is spared it."""
    if not xdist.is_xdist_controller(session):
        session.config.pluginmanager.import_plugin("tests.fixtures")
