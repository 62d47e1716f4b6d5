"""`python -m tests.sim [--kills N] [--seed S] [--results DIR] [--replay SEED]`."""

import argparse
import json
import sys
from pathlib import Path

from hub.demo.results import write_result
from tests.sim.scenario import Scenario, run


def main() -> int:
    asked = argparse.ArgumentParser(prog="tests.sim", description=__doc__)
    asked.add_argument("--kills", type=int, default=2000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--results", type=Path, help="write simulator.json and .md there")
    asked.add_argument("--replay", type=int, help="one seed, every step of it")
    given = asked.parse_args()
    if given.replay is not None:
        return replay(given.replay)
    report = run(given.kills, given.seed)
    figures = {"seed": given.seed, **report.figures()}
    print(json.dumps(figures))
    for line in report.violations[:20]:
        print(line, file=sys.stderr)
    if given.results:
        command = f"python -m tests.sim --kills {given.kills} --seed {given.seed}"
        write_result(given.results, "simulator", command, given.seed, report.figures())
    return 1 if report.violations else 0


def replay(seed: int) -> int:
    world = Scenario(seed, trace=True).run()
    assert world.trace is not None
    print("\n".join(world.trace))
    print("\n".join(["violations:", *world.violations]))
    return 1 if world.violations else 0


if __name__ == "__main__":
    sys.exit(main())
