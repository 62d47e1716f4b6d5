"""The import contracts exist, hold, and catch what they are for."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.house.rules import ROOT

LAYERS = "Imports in hub point down only; a new module must be given its place here"
NO_CONNECTOR = "The hub knows no connector by name"
SEAM_ONLY = "A connector sees the plugin seam only"
FAUST = "Faust stays in the adapter and the agents"


def _contracts() -> dict[str, dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["name"]: contract for contract in settings["contracts"]}


def test_the_layers_are_exhaustive() -> None:
    layers = _contracts()[LAYERS]
    assert layers["type"] == "layers"
    assert layers["containers"] == ["hub"]
    assert layers["exhaustive"] is True
    assert "ignore_imports" not in layers, "an exception is the first step to a cycle"


def test_no_contract_leaves_a_module_out() -> None:
    """The lists of the other contracts follow the layers, so that a new module is in them."""
    named = {
        name.strip(" ()")
        for layer in _contracts()[LAYERS]["layers"]
        for name in layer.replace(":", "|").split("|")
    }
    free_to_use_faust = {"agents", "faust_adapter"}
    assert _modules(_contracts()[FAUST]["source_modules"]) == named - free_to_use_faust
    seam = {"connector", "event", "errors", "privacy"}
    assert _modules(_contracts()[SEAM_ONLY]["forbidden_modules"]) == named - seam


def _modules(names: list[str]) -> set[str]:
    return {name.removeprefix("hub.") for name in names}


def _lint(folder: Path) -> tuple[int, str]:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(tool), "--no-cache"],
        cwd=folder,
        # Wide: else names are broken over lines.
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "400", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("hub", "connectors"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("__pycache__", "data", "*.lock"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _add(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{line}\n")


def test_planted_imports_are_caught(copy: Path) -> None:
    code, said = _lint(copy)
    assert code == 0, said
    _add(copy / "hub/errors.py", "import hub.store")  # up, and a cycle with event
    _add(copy / "hub/outcome/record.py", "import hub.gazetteer")  # beside
    _add(copy / "hub/routing/step.py", "import connectors.rest.connector")
    _add(copy / "connectors/rest/mapping.py", "import hub.store")
    _add(copy / "hub/configuration/files.py", "import faust")
    code, said = _lint(copy)
    assert code != 0
    for name in (LAYERS, NO_CONNECTOR, SEAM_ONLY, FAUST):
        assert f"{name} BROKEN" in said, said
    for planted in (
        "hub.errors -> hub.store",
        "hub.outcome.record -> hub.gazetteer",
        "hub.routing.step -> connectors.rest.connector",
        "connectors.rest.mapping -> hub.store",
        "hub.configuration.files -> faust",
    ):
        assert planted in said, said


def test_a_module_without_a_place_is_caught(copy: Path) -> None:
    _add(copy / "hub/newcomer.py", '"""Planted."""')
    code, said = _lint(copy)
    assert code != 0
    assert "newcomer" in said
