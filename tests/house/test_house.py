"""The rules of the house that no linter checks. Each names what to do, and each can fail."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hub.faults import CRASH_POINTS
from tests.house import rules
from tests.house.rules import ROOT, python_files, tracked


def test_no_file_is_too_long() -> None:
    assert not rules.too_long_files(python_files()), "split by story, not by size"


def test_no_function_is_too_long() -> None:
    assert not rules.too_long_functions(python_files()), "split by step"


def test_no_homeless_names() -> None:
    assert not rules.homeless(tracked()), "name what it is about"


def test_faust_is_imported_in_at_most_four_files() -> None:
    files = rules.importers("faust", python_files("hub", "connectors"))
    assert files, "no file imports faust: this search is broken"
    assert len(files) <= 4, files


def test_logging_is_set_up_in_one_place() -> None:
    users = rules.importers("logging", python_files("hub", "connectors"))
    assert users == ["hub/telemetry.py"], "use hub.telemetry.logger()"


def test_no_file_names_a_registry() -> None:
    assert not rules.registries_named(tracked())


@pytest.mark.parametrize(
    "command",
    ["setup", "check", "fast", "unit", "test", "demo", "sim", "bench", "soak", "live", "lock"],
)
def test_every_promised_command_is_in_the_makefile(command: str) -> None:
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_phony_target_has_a_recipe() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def test_make_test_checks_all_that_it_must() -> None:
    makefile = (ROOT / "Makefile").read_text()
    everything = re.search(r"^test: (.*)$", makefile, re.MULTILINE)
    assert everything
    assert {"check", "unit", "sim", "live"} <= set(everything[1].split())
    recipe = makefile.partition("\ncheck:")[2].partition("\n\n")[0]
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "tests/house"):
        assert tool in recipe, f"make check does not run {tool}"


def test_every_crash_point_is_called_and_every_call_is_listed() -> None:
    """The live test walks the list; a point that nothing calls would fail it after minutes."""
    calls = list(rules.crash_calls(python_files("hub")))
    unclear = [place for place, point in calls if point is None]
    assert not unclear, f"write the point out, so that it can be found: {unclear}"
    called = {point for _, point in calls}
    assert set(CRASH_POINTS) - called == set(), "in CRASH_POINTS, and nothing calls it"
    assert called - set(CRASH_POINTS) == set(), "called, and not in CRASH_POINTS"
    assert len(CRASH_POINTS) >= 14


# --- each rule fails where it is broken ---------------------------------------------------------


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_of_501_lines_is_caught(tmp_path: Path) -> None:
    good, bad = (_file(tmp_path, f"{n}.py", "x = 1\n" * n) for n in (500, 501))
    assert rules.too_long_files([good, bad]) == ["501.py: 501"]


def test_a_function_of_61_lines_is_caught(tmp_path: Path) -> None:
    text = "".join(
        f"{kind} of_{n}():\n" + "    x = 1\n" * (n - 1)
        for kind, n in (("def", 60), ("def", 61), ("async def", 61))
    )
    found = rules.too_long_functions([_file(tmp_path, "long.py", text)])
    assert found == ["long.py:61 of_61: 61", "long.py:122 of_61: 61"]


@pytest.mark.parametrize("name", ["utils.py", "common/x.py", "Helpers.md", "misc.toml"])
def test_a_homeless_name_is_caught(tmp_path: Path, name: str) -> None:
    paths = [_file(tmp_path, f"hub/{name}", ""), _file(tmp_path, "hub/keys.py", "")]
    assert rules.homeless(paths, tmp_path) == [f"hub/{name}"]


@pytest.mark.parametrize(
    "text", ["import faust", "from faust.types import x", "def f():\n    import faust.app"]
)
def test_an_import_of_faust_is_caught(tmp_path: Path, text: str) -> None:
    paths = [_file(tmp_path, "a.py", text), _file(tmp_path, "b.py", "import fast\nx = 'faust'")]
    assert rules.importers("faust", paths) == ["a.py"]


def test_a_registry_is_caught(tmp_path: Path) -> None:
    line = f"index-url = https://{rules.REGISTRY_HOSTS[0]}/simple"
    assert len(rules.registries_named([_file(tmp_path, "pip.conf", line)])) == 1


def test_crash_calls_are_all_seen(tmp_path: Path) -> None:
    text = 'f.crash("a.b")\nself.x.crash(point)\ng = lambda: f.crash("c")\nf.crashes("d")\n'
    found = list(rules.crash_calls([_file(tmp_path, "a.py", text)]))
    assert found == [("a.py:1", "a.b"), ("a.py:2", None), ("a.py:3", "c")]


def _ruff(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", "hub/planted.py", "-"],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_complexity_over_10_is_caught() -> None:
    branches = "".join(f"    if x == {n}:\n        y += {n}\n" for n in range(10))
    text = f'"""Planted."""\n\n\ndef f(x: int) -> int:\n    y = 0\n{branches}    return y\n'
    assert "C901" in _ruff(text)
    assert "C901" not in _ruff(text.replace("    if x == 9:\n        y += 9\n", ""))


def test_what_mypy_lets_through_is_nothing() -> None:
    """Strict for all of hub and connectors; an exception needs its code."""
    assert "PGH003" in _ruff('"""Planted."""\n\nx: int = "a"  # type: ignore\n')
    settings = (
        (ROOT / "pyproject.toml").read_text().partition("[tool.mypy]")[2].partition("\n\n")[0]
    )
    assert "strict = true" in settings
    assert 'packages = ["hub", "connectors"]' in settings
