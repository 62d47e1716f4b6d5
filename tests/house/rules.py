"""The rules of the house as functions over files: a planted violation can be shown to them."""

import ast
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
OURS: Final = ("hub", "connectors", "tests", "bench", "examples")
LONGEST_FILE: Final = 500
LONGEST_FUNCTION: Final = 60
HOMELESS: Final = frozenset({"util", "utils", "helper", "helpers", "common", "misc", "manager"})
# The names of package registries' hosts, put together here so that this file names none.
REGISTRY_HOSTS: Final = tuple(
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
)


def tracked() -> list[Path]:
    """Files of the repository, also those not yet added."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def python_files(*folders: str) -> list[Path]:
    """Of `folders`, by default all that are ours."""
    wanted = folders or OURS
    found = [p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in wanted]
    assert len(found) > 5, "the search for Python files finds too little to be right"
    return found


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def too_long_files(paths: Iterable[Path]) -> list[str]:
    lengths = ((path, len(path.read_text().splitlines())) for path in paths)
    return [f"{shown(path)}: {lines}" for path, lines in lengths if lines > LONGEST_FILE]


def too_long_functions(paths: Iterable[Path]) -> list[str]:
    """From `def` to the last line; decorators do not count."""
    found = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    found.append(f"{shown(path)}:{node.lineno} {node.name}: {lines}")
    return found


def homeless(paths: Iterable[Path], root: Path = ROOT) -> list[str]:
    """Files and folders named after no subject."""
    return [
        str(path.relative_to(root))
        for path in paths
        if HOMELESS & {part.lower() for part in (*path.relative_to(root).parts[:-1], path.stem)}
    ]


def importers(module: str, paths: Iterable[Path]) -> list[str]:
    """Files that import `module` or anything in it, at the top or inside a function."""
    return [shown(path) for path in paths if module in _imports(path)]


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def registries_named(paths: Iterable[Path]) -> list[str]:
    found = []
    for path in paths:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{shown(path)}: {host}" for host in REGISTRY_HOSTS if host in text]
    return found


def crash_calls(paths: Iterable[Path]) -> Iterator[tuple[str, str | None]]:
    """Place and point of each `.crash(...)`; None where the point is not written out."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr != "crash":
                continue
            first = node.args[0] if node.args else None
            written = isinstance(first, ast.Constant) and isinstance(first.value, str)
            yield f"{shown(path)}:{node.lineno}", str(first.value) if written else None  # type: ignore[union-attr]  # a constant if written
