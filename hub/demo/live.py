"""The live demo on a terminal: a stream, a table, and keys that kill things."""

import asyncio
import os
import random
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live

from hub.demo.journal import Arrival, Decision
from hub.demo.loader import Loader
from hub.demo.plan import INTAKE, WORKER
from hub.demo.requests import DemoRequest, Stream, today
from hub.demo.stack import BROKER, Stack
from hub.demo.table import Row, last_line, live_view, rows, summary
from hub.demo.verdict import Evidence, Verdict, judge
from hub.demo.watch import Watch
from hub.errors import HubError

KEYS: Final = "w worker   k Kafka   b a back-office   i intake: kill -9 and restart      q quit"
_CITIZENS: Final = 400
_PER_SECOND: Final = 10.0
_LAST_WAIT_SECONDS: Final = 30.0


def run_live(stack: Stack, seed: int) -> int:
    """Until `q` (twice: at once). Returns 0 if nothing was lost, doubled or out of order."""
    console = Console()
    try:
        stack.start(lambda what: console.print(f"starting {what} ..."))
        show = _Show(stack, seed)
        asyncio.run(show.run(console))
        verdict = show.verdict()
        console.print(summary(show.rows(), verdict))
    finally:
        stack.close()
    print(last_line(verdict), flush=True)
    bad = sum(verdict.counts[name] for name in ("lost", "twice", "inversions"))
    return 1 if bad else 0


class _Show:
    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._stream = Stream(seed, today(), _CITIZENS)
        self._watch = Watch(stack.base_url, stack.keys)
        self._loader = Loader(
            stack.base_url,
            stack.keys,
            stack.folder.home / "posted.jsonl",
            on_accepted=self._watch.add,
        )
        self._readers = stack.journals()
        self._decisions: dict[str, list[Decision]] = {code: [] for code in self._readers}
        self._arrivals: dict[str, list[Arrival]] = {code: [] for code in self._readers}
        self._news: list[str] = []
        self._quits = 0
        self._asked = 0
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, console: Console) -> None:
        """Post, show and take keys until the second `q`, or the first and all is settled."""
        with _single_keys(self._press), Live(console=console, screen=False) as live:
            showing = asyncio.create_task(self._show(live))
            posting = asyncio.create_task(self._loader.run(self._until_quit(), _PER_SECOND))
            following = asyncio.create_task(self._watch.follow(lambda: self._quits > 0))
            try:
                await asyncio.wait({posting, showing}, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait({following})
                if self._quits < 2:
                    self._say("no more posts; waiting for what is under way (q again: leave now)")
                    await self._watch.until_settled(_LAST_WAIT_SECONDS, lambda: self._quits > 1)
            finally:
                tasks = {showing, posting, following, *self._under_way}
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._loader.close()
                self._read()

    def verdict(self) -> Verdict:
        return judge(
            Evidence(
                asked=self._asked,
                accepted=self._loader.accepted,
                refused=self._loader.refused,
                decisions=self._decisions,
                arrivals=self._arrivals,
                statuses=self._watch.statuses,
                bad={},
                dedupe=True,
                started=self._loader.started,
            )
        )

    def rows(self) -> list[Row]:
        return rows(
            self._stack.places,
            self._loader.accepted,
            self._decisions,
            self._arrivals,
            self._watch.statuses,
        )

    def _until_quit(self) -> Iterator[DemoRequest]:
        for request in self._stream:
            if self._quits:
                return
            self._asked += 1
            yield request

    async def _show(self, live: Live) -> None:
        while True:
            began = time.monotonic()
            self._read()
            live.update(live_view(self.rows(), self.verdict(), self._news, KEYS))
            # Counting anew costs more as the journals grow; at most a tenth of the time is for it.
            await asyncio.sleep(max(0.5, 9 * (time.monotonic() - began)))

    def _read(self) -> None:
        for code, reader in self._readers.items():
            # Arrivals first: an effect whose arrival is not read yet would look like a repeat.
            self._arrivals[code] += reader.arrivals()
            self._decisions[code] += reader.decisions()

    def _say(self, text: str) -> None:
        self._news.append(f"{time.strftime('%H:%M:%S')}  {text}")

    def _press(self, key: str) -> None:
        targets: dict[str, Callable[[], str]] = {
            "w": lambda: WORKER,
            "k": lambda: BROKER,
            "i": lambda: INTAKE,
            "b": lambda: random.choice(self._stack.places).code,
        }
        if key == "q":
            self._quits += 1
        elif key in targets:
            task = asyncio.create_task(self._restart(targets[key]()))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _restart(self, name: str) -> None:
        self._say(f"kill -9 {name}")
        try:
            await asyncio.to_thread(self._stack.restart, name)
        except (HubError, RuntimeError) as error:
            # Pressed twice, or it does not come back: the demo goes on and says so.
            self._say(f"{name}: {error}")
        else:
            self._say(f"{name} runs again")


@contextmanager
def _single_keys(press: Callable[[str], None]) -> Iterator[None]:
    """Keys without Return, given to `press` in the event loop; the terminal is put back after."""
    loop = asyncio.get_running_loop()
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    # What was typed while everything started was not meant for these keys.
    termios.tcflush(terminal, termios.TCIFLUSH)
    # Not sys.stdin.read: it would keep a second key in its buffer, unseen by the loop.
    loop.add_reader(terminal, lambda: press(os.read(terminal, 1).decode("latin-1").lower()))
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
