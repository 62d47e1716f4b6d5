"""`make soak`: the long run. The simulator through many more kills, then the demo with faults."""

import argparse
import subprocess
import sys
from pathlib import Path

HUB = Path(sys.executable).with_name("hub")


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=50_000)
    arguments.add_argument("--requests", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    simulated = [sys.executable, "-m", "tests.sim", "--kills", str(given.kills)]
    demonstrated = [str(HUB), "demo", "--requests", str(given.requests), "--exit", "--faults"]
    seed = ["--seed", str(given.seed)]
    for command in (simulated, demonstrated):
        if code := subprocess.run([*command, *seed], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
