"""What the hub says became of each request: the status resource, asked gently."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import aiohttp

from hub.demo.loader import Accepted, web_session
from hub.demo.verdict import Seen

QUIET_SECONDS: Final = 120.0
"""Decision 33: nothing changed for so long, so nothing will."""

_BATCH: Final = 100
_CONNECTIONS: Final = 4
_PAUSE_SECONDS: Final = 0.25
_SETTLED: Final = frozenset(
    {Seen.PARKED, Seen.QUARANTINED, Seen.DELIVERED, Seen.REJECTED, Seen.ERASED}
)
_WORDS: Final = {
    "afgeleverd": Seen.DELIVERED,
    "geweigerd": Seen.REJECTED,
    "gewist": Seen.ERASED,
    "in behandeling bij medewerker": Seen.PARKED,
}

_QUARANTINED: Final = "apart gezet"


class Watch:
    """Asks for what is not settled yet, a hundred at a time, with a pause in between."""

    def __init__(self, base_url: str, keys: Mapping[str, str]) -> None:
        self._url = f"{base_url}/v1/verzoeken"
        self._keys = keys
        self._open: dict[str, Accepted] = {}
        self._said: dict[str, tuple[int, str]] = {}
        self._changed_at = time.monotonic()
        self.statuses: dict[str, Seen] = {}

    def add(self, accepted: Accepted) -> None:
        """Follow this one from now on."""
        self._open[accepted.reference] = accepted
        self.statuses[accepted.reference] = Seen.OPEN

    @property
    def open(self) -> int:
        return len(self._open)

    async def until_settled(
        self, quiet_seconds: float = QUIET_SECONDS, stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Ask until all are final or parked. False: `stop`, or no change for `quiet_seconds`."""
        self._changed_at = time.monotonic()
        async with web_session(_CONNECTIONS) as session:
            while self._open:
                await self._round(session)
                if stop() or time.monotonic() - self._changed_at > quiet_seconds:
                    return not self._open
                if self._open:
                    await asyncio.sleep(_PAUSE_SECONDS)
        return True

    async def follow(self, stop: Callable[[], bool]) -> None:
        """Ask on and on, also while nothing is open, until `stop`."""
        async with web_session(_CONNECTIONS) as session:
            while not stop():
                await self._round(session)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        batch = list(islice(self._open.values(), _BATCH))
        lots = [batch[start::_CONNECTIONS] for start in range(_CONNECTIONS)]
        async with asyncio.TaskGroup() as group:
            for lot in lots:
                group.create_task(self._ask_all(lot, session))

    async def _ask_all(self, lot: Sequence[Accepted], session: aiohttp.ClientSession) -> None:
        for accepted in lot:
            await self._ask(accepted, session)

    async def _ask(self, accepted: Accepted, session: aiohttp.ClientSession) -> None:
        reference = accepted.reference
        headers = {"Authorization": f"Bearer {self._keys[accepted.origin]}"}
        del self._open[reference]
        # At the end of the queue, so that a lane that stands still hides no other.
        self._open[reference] = accepted
        try:
            async with session.get(f"{self._url}/{reference}", headers=headers) as answer:
                said = (answer.status, await answer.text())
                body = await answer.json(content_type=None) if answer.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return
        if said != self._said.get(reference):
            self._said[reference] = said
            self._changed_at = time.monotonic()
        seen = read_status(answer.status, body)
        if seen is None:
            return
        self.statuses[reference] = seen
        if seen in _SETTLED:
            del self._open[reference]


def read_status(status: int, body: Mapping[str, Any]) -> Seen | None:
    """What an answer of the status resource means; None where it says nothing (5xx)."""
    if status == 404:
        return Seen.MISSING
    if status != 200:
        return None
    seen = _WORDS.get(str(body.get("status")), Seen.OPEN)
    if seen is Seen.PARKED and _QUARANTINED in _kinds(body.get("stappen", ())):
        return Seen.QUARANTINED
    return seen


def _kinds(steps: Iterable[Any]) -> set[str]:
    return {str(step.get("stap")) for step in steps if isinstance(step, Mapping)}
