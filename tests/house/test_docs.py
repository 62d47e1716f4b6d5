"""What the documents tell people to type exists: commands, options, variables, targets, paths."""

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.settings import Settings
from tests.house.commands import fault
from tests.house.rules import ROOT, python_files, tracked

FIRST_SCREEN = 45
DOCS = [p for p in tracked() if p.suffix == ".md" and p.relative_to(ROOT).parts[0] != "tests"]
# Set by one process of ours for another, never by people.
INTERNAL = {"HUB_PARENT", "HUB_SINGLE_STEP", "HUB_POISON", "HUB_FAULT_SINCE"}
# Of the test harness alone.
HARNESS = {"HUB_TEST_RESULTS"}
_VARIABLE = re.compile(r"\bHUB_[A-Z_]*[A-Z]\b")
_INLINE = re.compile(r"`([^`\n]+)`")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _blocks(text: str) -> str:
    """The lines inside fences."""
    return "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def _commands(text: str) -> Iterator[list[str]]:
    """Each `hub ...` that a reader may type, as words; `a|b` gives one of each."""
    lines = [
        *_blocks(text).splitlines(),
        *_INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)),
    ]
    for line in lines:
        bare = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
        if not bare.startswith("hub ") or "<" in bare:
            continue
        words = shlex.split(bare, comments=True)[1:]
        words = words[: words.index("&")] if "&" in words else words
        if "|" in words[-1]:
            yield from ([*words[:-1], last] for last in words[-1].split("|"))
        else:
            yield words


def test_the_first_screen_names_the_two_commands() -> None:
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:FIRST_SCREEN])
    assert re.search(r"^make demo\b", _blocks(screen), re.MULTILINE)
    assert re.search(r"^make test\b", _blocks(screen), re.MULTILINE)
    assert "Python 3.11" in screen


@pytest.mark.parametrize("doc", DOCS, ids=_name)
def test_every_hub_command_in_a_document_exists(doc: Path) -> None:
    faults = {shlex.join(w): said for w in _commands(doc.read_text()) if (said := fault(w))}
    assert not faults


def test_the_readme_shows_how_to_run_it() -> None:
    """So that the search above is known to find commands."""
    shown = {tuple(words[:2]) for words in _commands((ROOT / "README.md").read_text())}
    assert {("kafka", "start"), ("config", "check"), ("park", "list"), ("worker",)} <= shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("kafka begin", "no command 'begin'"),
        ("demo --fault", "no option --fault"),
        ("status A B", "2 arguments, it takes 1"),
        ("apikey create --client", "--client wants a value"),
        ("demo --requests 2000 --exit --dedupe off", None),
    ],
)
def test_a_command_that_cannot_be_typed_is_caught(words: str, said: str | None) -> None:
    assert fault(words.split()) == said


def test_every_variable_in_a_document_can_be_set() -> None:
    known = {f"HUB_{name.upper()}" for name in Settings.model_fields} | HARNESS
    named = {
        name: _name(path)
        for path in tracked()
        if path.suffix in {".md", ".toml", ".yml", ".yaml", ".avsc"} or path.name == "Makefile"
        for name in _VARIABLE.findall(path.read_text())
    }
    assert len(named) > 3, "the search for variables is broken"
    unknown = {name: path for name, path in named.items() if name not in known}
    assert not unknown, "no knob of hub/settings.py, so setting it does nothing"


def test_every_variable_in_the_code_is_a_knob_or_internal() -> None:
    known = {f"HUB_{name.upper()}" for name in Settings.model_fields} | INTERNAL | HARNESS
    folders = ("hub", "connectors", "bench")
    named = {
        name for path in python_files(*folders) for name in _VARIABLE.findall(path.read_text())
    }
    assert named - known == set()
    assert INTERNAL - named == set(), "no longer used: take it out of INTERNAL"


def test_every_make_target_in_a_document_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for doc in DOCS:
        text = doc.read_text()
        said = "\n".join([_blocks(text), *_INLINE.findall(text)])
        missing = set(re.findall(r"^make ([a-z]+)", said, re.MULTILINE)) - targets
        assert not missing, f"{_name(doc)}: make {missing}"


def test_the_order_of_modules_is_that_of_the_layers() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [set(line.split(" | ")) for line in settings["contracts"][0]["layers"]]
    place = {name: number for number, layer in enumerate(layers) for name in layer}
    block = _blocks((ROOT / "hub" / "README.md").read_text())
    # Names first, then two blanks or more, then what they are for.
    shown = [
        name for line in block.splitlines() for name in re.findall(r"\w+", line.split("  ")[0])
    ]
    assert set(shown) == set(place) - {"__main__"}
    assert [place[name] for name in shown] == sorted(place[name] for name in shown)


@pytest.mark.parametrize("doc", DOCS, ids=_name)
def test_every_path_in_a_document_exists(doc: Path) -> None:
    """Links, and names in backticks that begin with a folder of ours. `<x>` stands for anything."""
    text = re.sub(r"```.*?```", "", doc.read_text(), flags=re.DOTALL)
    top = {p.relative_to(ROOT).parts[0] for p in tracked()}
    missing = []
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link and not (doc.parent / link).exists():
            missing.append(link)
    for name in _INLINE.findall(text):
        path = name.split(" ")[0]
        if path.partition("/")[0] in top and "/" in path and not _is_there(path):
            missing.append(name)
    assert not missing


def _is_there(path: str) -> bool:
    pattern = re.sub(r"<[^>]+>|\.\.\.", "*", path).rstrip("/")
    return any(ROOT.glob(pattern)) or os.sep not in pattern
