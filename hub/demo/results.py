"""Figures as files: what was run, on which commit and machine, and what came out."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import hub

_ROOT: Final = Path(hub.__file__).parents[1]
_RESULTS: Final = "docs/results"


def write_result(
    folder: Path, name: str, command: str, seed: int | None, figures: Mapping[str, Any]
) -> Path:
    """Write `<name>.json` and `<name>.md`. Returns the first. Numbers only: nothing personal."""
    record = {
        "name": name,
        "command": command,
        "seed": seed,
        "figures": dict(figures),
        "commit": commit(),
        "tree_clean": tree_clean(),
        "machine": machine(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(_markdown(record))
    return path


def commit() -> str:
    """The commit of the code that ran; `unknown` outside a checkout."""
    return _git("rev-parse", "HEAD") or "unknown"


def tree_clean() -> bool | None:
    """Whether the code was the commit's; figures written before do not count. None: unknown."""
    changes = _git("status", "--porcelain", "--", ".", f":!{_RESULTS}")
    return None if changes is None else not changes


def machine() -> dict[str, Any]:
    """What it ran on, without the machine's name."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],  # noqa: S607 -- the user's own git
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _markdown(record: Mapping[str, Any]) -> str:
    clean = {True: "clean", False: "with changes", None: "unknown"}[record["tree_clean"]]
    hardware = record["machine"]
    figures = "\n".join(
        f"| {name} | {_shown(value)} |" for name, value in record["figures"].items()
    )
    return (
        f"# {record['name']}\n\n"
        f"`{record['command']}`, {record['written_at']}, commit {record['commit']}, tree {clean}, "
        f"seed {record['seed']}, on {hardware['cores']} cores ({hardware['cpu']}), "
        f"{hardware['memory_gb']} GB, {hardware['system']}, Python {hardware['python']}.\n\n"
        f"| Figure | Value |\n|---|---|\n{figures}\n"
    )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "<br>".join(map(str, value)) or "none"
    return str(value)


def command_line() -> str:
    """The command of this process, as a user would type it."""
    return " ".join(["hub", *sys.argv[1:]])
