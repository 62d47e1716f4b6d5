"""The rules of the house that no linter checks. Each names what to do."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("hub", "connectors", "tests", "bench", "examples")
LONGEST_FILE = 500
LONGEST_FUNCTION = 60
HOMELESS = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}
# The names of package registries' hosts, put together here so that this file names none.
REGISTRY_HOSTS = [
    ".".join(words)
    for words in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("maven", "org"),
        ("maven", "apache", "org"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
    )
]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def python_files() -> list[Path]:
    found = [p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in OURS]
    assert len(found) > 20, "the search for Python files finds too little to be right"
    return found


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files()
        if (lines := len(path.read_text().splitlines())) > LONGEST_FILE
    }
    assert not long, f"split by story, not by size: {long}"


def test_no_function_is_too_long() -> None:
    long = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    assert not long, f"over {LONGEST_FUNCTION} lines: {long}"


def test_no_homeless_names() -> None:
    homeless = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if HOMELESS & {part.lower() for part in (*path.relative_to(ROOT).parts[:-1], path.stem)}
    ]
    assert not homeless, f"name what it is about: {homeless}"


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_faust_is_imported_in_at_most_four_files() -> None:
    files = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if path.relative_to(ROOT).parts[0] in ("hub", "connectors") and "faust" in imports(path)
    ]
    assert files, "no file imports faust: this search is broken"
    assert len(files) <= 4, files


def test_logging_is_set_up_in_one_place() -> None:
    users = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if path.relative_to(ROOT).parts[0] in ("hub", "connectors")
        and "logging" in imports(path)
    ]
    assert users == ["hub/telemetry.py"], f"use hub.telemetry.logger(): {users}"


def test_no_file_names_a_registry() -> None:
    named = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        named += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRY_HOSTS if host in text]
    assert not named, named


@pytest.mark.parametrize("command", ["setup", "check", "fast", "test", "demo", "sim", "bench",
                                     "soak", "live", "lock"])
def test_every_promised_command_is_in_the_makefile(command: str) -> None:
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
