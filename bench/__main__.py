"""`make bench`: every comparison, printed and written to a file with its commit."""

import argparse
from dataclasses import asdict
from pathlib import Path

from bench import http, store
from hub.demo.results import write_result

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--results", type=Path, default=RESULTS)
    given = arguments.parse_args()
    comparisons = []
    for benchmark in (store, http):
        comparison = benchmark.run(given.rounds)
        print("\n".join(comparison.lines()))
        comparisons.append(comparison)
    figures = {
        "rounds": given.rounds,
        "lines": [line for c in comparisons for line in c.lines()],
        "comparisons": [asdict(c) for c in comparisons],
    }
    write_result(given.results, "bench", f"python -m bench --rounds {given.rounds}", None, figures)


if __name__ == "__main__":
    main()
