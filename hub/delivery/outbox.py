"""Effects on their way to the shell, what is awaited of them, and when to ask again."""

import heapq
import random
from collections.abc import Callable
from typing import Final

from hub.delivery.effects import (
    CloseCommand,
    DeleteRow,
    Effect,
    InsertRow,
    MarkRow,
    Publish,
    ReadParked,
    SetEpoch,
)

Write = SetEpoch | ReadParked | Publish | InsertRow | DeleteRow | MarkRow | CloseCommand

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


class Outbox:
    """Failure policy: a write that failed is asked for again until it is durable or we are out.

    All of them may be done twice. Its cost: while the store or Kafka is away, what waits for the
    write waits too, and nothing is given up.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._effects: list[Effect] = []
        self._number = 0
        self._awaited: dict[int, tuple[Write, Callable[[], None], int]] = {}
        self._again: list[tuple[float, int]] = []
        self._news: dict[int, tuple[str, Callable[[], bool]]] = {}
        self._after_news: dict[str, list[Callable[[], None]]] = {}

    def number(self) -> int:
        """A token or ticket never given before."""
        self._number += 1
        return self._number

    def put(self, effect: Effect) -> None:
        self._effects.append(effect)

    def begin(self, write: Write, then: Callable[[], None]) -> None:
        """`then` runs once the write (its token from `number`) is durable."""
        self._awaited[write.token] = (write, then, 0)
        self._effects.append(write)

    def tell(self, news: Publish, still: Callable[[], bool]) -> None:
        """Append to outcomes something that nothing waits for; given up once not `still` true."""
        self._news[news.token] = (news.event_id, still)
        self.begin(news, _nothing_waits)

    def after_news(self, event_id: str, then: Callable[[], None]) -> None:
        """Run `then` once no news of this event is under way: the shell may still read its row."""
        self._after_news.setdefault(event_id, []).append(then)
        self._settle_news(event_id)

    def _settle_news(self, event_id: str) -> None:
        if all(about != event_id for about, _ in self._news.values()):
            for then in self._after_news.pop(event_id, []):
                then()

    @property
    def awaited(self) -> int:
        """Writes under way that something waits for."""
        return len(self._awaited.keys() - self._news.keys()) + len(self._after_news)

    def durable(self, token: int) -> None:
        """A token not awaited (told twice, or of before we were out) changes nothing."""
        write = self._awaited.pop(token, None)
        news = self._news.pop(token, None)
        if news is not None:
            self._settle_news(news[0])
        if write is not None:
            write[1]()

    def failed(self, token: int, now: float) -> None:
        if token not in self._awaited:
            return
        news = self._news.get(token)
        if news is not None and not news[1]():
            self.durable(token)
            return
        write, then, failures = self._awaited[token]
        self._awaited[token] = (write, then, failures + 1)
        wait = self._rng.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**failures))
        heapq.heappush(self._again, (now + wait, token))

    def tick(self, now: float) -> None:
        while self._again and self._again[0][0] <= now:
            _, token = heapq.heappop(self._again)
            news = self._news.get(token)
            if news is not None and not news[1]():
                self.durable(token)
            elif token in self._awaited:
                self._effects.append(self._awaited[token][0])

    def next_due(self) -> float:
        return self._again[0][0] if self._again else float("inf")

    def drop(self) -> None:
        """We are out: what was asked for may still happen, but changes nothing here."""
        self._awaited.clear()
        self._again.clear()
        self._effects.clear()
        self._news.clear()
        self._after_news.clear()

    def collect(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects


def _nothing_waits() -> None:
    """News: the lane has gone on."""
