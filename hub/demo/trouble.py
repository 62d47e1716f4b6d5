"""Carries out the plan of faults while requests are posted."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from hub.demo.moods import Command, Mood
from hub.demo.plan import KILL, Plan, Step

_LOOK_SECONDS = 0.02


class Breakable(Protocol):
    """What trouble does to a stack; each call may block."""

    def restart(self, name: str) -> None: ...

    def command(self, code: str, command: Command) -> None: ...

    def heal(self) -> None: ...


def command_of(step: Step) -> Command:
    """The mood that a step gives."""
    return Command(
        mood=Mood(step.mood),
        seconds=step.seconds or None,
        delay_seconds=step.value if step.mood == Mood.SLOW else 0.0,
        probability=step.value if step.mood == Mood.DROP else 0.0,
    )


async def cause_trouble(
    stack: Breakable,
    plan: Plan,
    progress: Callable[[], int],
    posted: Callable[[], bool],
    say: Callable[[str], None],
) -> list[Step]:
    """Take each step when `progress()` requests are accepted. Returns the steps taken.

    Once all is `posted`, steps that wait for a count that will not come are taken at once: a plan
    is carried out whole.
    """
    taken = []
    for step in plan.steps:
        # Looked at, not signalled: the count or the end, whichever comes first.
        while progress() < step.after and not posted():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        if step.action == KILL:
            say(f"after {progress()}: SIGKILL {step.target}")
            await asyncio.to_thread(stack.restart, step.target)
        else:
            lasting = f" for {step.seconds:.0f} s" if step.seconds else ""
            say(f"after {progress()}: {step.target} {step.mood}{lasting}")
            await asyncio.to_thread(stack.command, step.target, command_of(step))
        taken.append(step)
    return taken
