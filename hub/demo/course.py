"""The course of a counted run on a running stack: post, plant, heal, wait, gather evidence."""

import asyncio
import time
from collections.abc import Callable, Sequence

from hub.demo.loader import Loader
from hub.demo.plan import Plan
from hub.demo.requests import DemoRequest
from hub.demo.stack import Stack
from hub.demo.trouble import cause_trouble
from hub.demo.verdict import Evidence
from hub.demo.watch import QUIET_SECONDS, Watch

_LOOK_SECONDS = 0.5
_SAY_SECONDS = 10.0


async def run_course(
    stack: Stack,
    plan: Plan,
    requests: Sequence[DemoRequest],
    say: Callable[[str], None] = lambda _: None,
    quiet_seconds: float = QUIET_SECONDS,
) -> Evidence:
    """Everything posted and settled, or nothing changed for `quiet_seconds`; the count finds which.

    Nothing is raised for what the hub does wrong: it shows in the evidence.
    """
    watch = Watch(stack.base_url, stack.keys)
    journal = stack.folder.home / "posted.jsonl"
    loader = Loader(stack.base_url, stack.keys, journal, on_accepted=watch.add)
    pace = len(requests) / plan.spread_seconds if plan.spread_seconds else None
    posting = asyncio.create_task(loader.run(requests, pace))
    trouble = asyncio.create_task(
        cause_trouble(stack, plan, lambda: len(loader.accepted), posting.done, say)
    )
    telling = asyncio.create_task(_tell(loader, watch, posting.done, say))
    try:
        await _until_posted(posting, loader, quiet_seconds)
        await trouble
        await asyncio.to_thread(stack.heal)
        say(f"{len(loader.accepted)} accepted, every back-office works; waiting for the last")
        await watch.until_settled(quiet_seconds)
    finally:
        for task in (posting, trouble, telling):
            task.cancel()
        await asyncio.gather(posting, trouble, telling, return_exceptions=True)
        loader.close()
    return Evidence(
        asked=len(requests),
        accepted=loader.accepted,
        refused=loader.refused,
        decisions=stack.decisions(),
        arrivals=stack.arrivals(),
        statuses=watch.statuses,
        bad=plan.bad,
        dedupe=plan.dedupe,
        started=loader.started,
    )


async def _until_posted(posting: asyncio.Task[None], loader: Loader, quiet_seconds: float) -> None:
    """Until every post is settled; given up when none was for `quiet_seconds`."""
    settled, since = 0, time.monotonic()
    while not posting.done():
        await asyncio.wait({posting}, timeout=_LOOK_SECONDS)
        if (now := len(loader.accepted) + len(loader.refused)) != settled:
            settled, since = now, time.monotonic()
        elif time.monotonic() - since > quiet_seconds:
            posting.cancel()
            return
    posting.result()


async def _tell(
    loader: Loader, watch: Watch, posted: Callable[[], bool], say: Callable[[str], None]
) -> None:
    """A line now and then, so that nobody thinks that it hangs."""
    while True:
        await asyncio.sleep(_SAY_SECONDS)
        # The statuses are asked for once all is posted.
        still = f", {watch.open} not yet seen to be final or parked" if posted() else ""
        say(f"{len(loader.accepted)} accepted{still}")
