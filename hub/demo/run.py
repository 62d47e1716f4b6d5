"""`hub demo`: posts, plants the faults, waits, counts, and says what came out."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from hub.demo.course import run_course
from hub.demo.live import run_live
from hub.demo.plan import make_plan, with_bad
from hub.demo.requests import generate, today
from hub.demo.results import command_line, write_result
from hub.demo.stack import Stack
from hub.demo.table import last_line, rows, summary
from hub.demo.verdict import judge
from hub.settings import Settings

DEFAULT_REQUESTS: Final = 300


def run_demo(
    requests: int | None,
    exit_when_done: bool,
    seed: int,
    faults: bool,
    dedupe: bool,
    results: Path | None,
) -> int:
    """The whole of `hub demo`. Returns the exit code: 0 when everything is as it must be.

    Live on a terminal; with `exit_when_done`, a number of requests or faults, or off a terminal,
    that many requests (default 300), a summary, and one JSON object as the last line.
    """
    settings = Settings.from_env()
    stack = Stack(settings.home / "demo", settings.cache, dedupe, seed)
    with _ended_by_term():
        counted = exit_when_done or faults or requests is not None
        if not counted and sys.stdin.isatty() and sys.stdout.isatty():
            return run_live(stack, seed)
        return _run_counted(stack, requests or DEFAULT_REQUESTS, seed, faults, dedupe, results)


@contextlib.contextmanager
def _ended_by_term() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: its processes first."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_counted(
    stack: Stack, count: int, seed: int, faults: bool, dedupe: bool, results: Path | None
) -> int:
    console = Console()
    good = generate(seed, count, today())
    plan = make_plan(seed, good, [place.code for place in stack.places], faults, dedupe)
    try:
        stack.start(lambda what: console.print(f"starting {what} ..."))
        plan.write(stack.folder.home / "plan.json")
        console.print(f"posting {count} requests to {stack.base_url}")
        evidence = asyncio.run(run_course(stack, plan, with_bad(good, plan), console.print))
    finally:
        stack.close()
    verdict = judge(evidence)
    found = rows(
        stack.places,
        evidence.accepted,
        evidence.decisions,
        evidence.arrivals,
        evidence.statuses,
    )
    console.print(summary(found, verdict))
    if results:
        name = f"demo-{count}{'-faults' if faults else ''}{'' if dedupe else '-dedupe-off'}"
        figures = {
            **verdict.as_json(),
            "repeats": verdict.repeats,
            "problems": list(verdict.problems),
            "planned_parked": len(plan.keys(400)),
            "planned_rejected": len(plan.keys(422)),
            "steps": [asdict(step) for step in plan.steps],
        }
        console.print(f"figures in {write_result(results, name, command_line(), seed, figures)}")
    print(last_line(verdict), flush=True)
    return 0 if verdict.ok else 1
