"""`make bench`: every comparison, printed and written to a file with its commit."""

import argparse
import json
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import http, store

ROOT = Path(__file__).parents[1]


def git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--write", type=Path, default=ROOT / "docs" / "results" / "bench.json")
    given = arguments.parse_args()
    measured = {
        "commit": git("rev-parse", "HEAD"),
        "clean": not git("status", "--porcelain"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": given.rounds,
        "comparisons": [],
    }
    for benchmark in (store, http):
        comparison = benchmark.run(given.rounds)
        print("\n".join(comparison.lines()))
        measured["comparisons"].append(asdict(comparison))
    given.write.parent.mkdir(parents=True, exist_ok=True)
    given.write.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
