"""What will go wrong in a run with `--faults`, decided by the seed before the first post."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from hub.demo.moods import Mood
from hub.demo.requests import DemoRequest, last_of_subject, spoil

REQUEST_TIMEOUT_SECONDS: Final = 3.0
"""Of every destination of the demo (decision 32)."""

KILL: Final = "kill"
MOOD: Final = "mood"
INTAKE: Final = "intake"
WORKER: Final = "worker"

_BAD_SHARE: Final = 0.01
_SPREAD_SECONDS: Final = 60.0
_TROUBLE_SECONDS: Final = 20.0
_SLOW_SECONDS: Final = 1.0
_DROP_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: when `after` requests are accepted, `target` is killed or gets a mood.

    `target` is `intake`, `worker` or a municipality code (its back-office). `seconds` 0: until
    everything is healed, which is after the last post and before the wait.
    """

    after: int
    action: str
    target: str
    mood: str = ""
    seconds: float = 0.0
    value: float = 0.0
    """Delay in seconds of `slow`, probability of `drop`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole run. `bad`: idempotency key to the status (400, 422) its back-office will give."""

    seed: int
    requests: int
    faults: bool
    dedupe: bool
    bad: dict[str, int]
    steps: tuple[Step, ...]
    spread_seconds: float
    """Posts are spread over at least so long, so that faults of 20 s meet traffic; 0: no pacing."""

    def keys(self, status: int) -> set[str]:
        return {key for key, planned in self.bad.items() if planned == status}

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def make_plan(
    seed: int,
    requests: Sequence[DemoRequest],
    municipalities: Sequence[str],
    faults: bool,
    dedupe: bool,
) -> Plan:
    """The plan of this seed. Needs seven municipalities where faults are on."""
    if not faults:
        return Plan(seed, len(requests), faults, dedupe, {}, (), 0.0)
    chance = random.Random(f"plan:{seed}")
    return Plan(
        seed=seed,
        requests=len(requests),
        faults=faults,
        dedupe=dedupe,
        bad=_choose_bad(chance, requests),
        steps=_choose_steps(chance, len(requests), municipalities),
        spread_seconds=_SPREAD_SECONDS,
    )


def with_bad(requests: Sequence[DemoRequest], plan: Plan) -> list[DemoRequest]:
    """The requests as they will be posted: the planned ones spoiled."""
    return [spoil(r, plan.bad[r.key]) if r.key in plan.bad else r for r in requests]


def _choose_bad(chance: random.Random, requests: Sequence[DemoRequest]) -> dict[str, int]:
    """1 %, at least two; half 400, half 422; each on a subject with no later request."""
    last = last_of_subject(requests)
    count = min(len(last), max(2, round(len(requests) * _BAD_SHARE)))
    chosen = chance.sample(last, count)
    return {
        requests[place].key: 400 if number % 2 == 0 else 422 for number, place in enumerate(chosen)
    }


def _choose_steps(
    chance: random.Random, count: int, municipalities: Sequence[str]
) -> tuple[Step, ...]:
    order = chance.sample(list(municipalities), len(municipalities))
    slow_a, slow_b, hang, refuse, fail, drop, killed = order[:7]

    def at(share: float) -> int:
        """About that share of the accepted requests, moved a little by the seed."""
        return max(1, round(count * (share + chance.uniform(-0.03, 0.03))))

    steps = [
        *(Step(1, MOOD, code, Mood.SLOW.value, value=_SLOW_SECONDS) for code in (slow_a, slow_b)),
        Step(1, MOOD, drop, Mood.DROP.value, value=_DROP_SHARE),
        Step(at(0.12), MOOD, hang, Mood.HANG.value, _TROUBLE_SECONDS),
        Step(at(0.20), KILL, WORKER),
        Step(at(0.28), MOOD, refuse, Mood.REFUSE.value, _TROUBLE_SECONDS),
        Step(at(0.36), KILL, INTAKE),
        Step(at(0.44), MOOD, fail, Mood.FAIL.value, _TROUBLE_SECONDS),
        Step(at(0.52), KILL, WORKER),
        Step(at(0.60), KILL, killed),
        Step(at(0.68), KILL, INTAKE),
        Step(at(0.80), KILL, WORKER),
    ]
    return tuple(sorted(steps, key=lambda step: step.after))
