"""A small stack seen from outside: websites, journals of back-offices, logs, topics."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from confluent_kafka import Consumer, TopicPartition

from hub import broker
from hub.demo.journal import Arrival, Decision
from hub.demo.loader import Loader
from hub.demo.people import Place, load_places
from hub.demo.requests import DemoRequest, Stream, today
from hub.demo.results import write_result
from hub.demo.stack import Stack
from hub.demo.verdict import Evidence, Verdict, judge
from hub.demo.watch import Watch
from hub.gazetteer import Gazetteer
from hub.settings import Settings
from hub.topics import QUARANTINE

RESULTS = "HUB_TEST_RESULTS"
"""Names the folder (`docs/results`) that figures of these tests are written to; unset: nowhere."""


def small_stack(home: Path, seed: int, municipalities: int = 3) -> Stack:
    places = load_places(Gazetteer.load())[:municipalities]
    return Stack(home, Settings.from_env().cache, seed=seed, places=places)


def requests_of(places: Sequence[Place], seed: int, citizens: int) -> Iterator[DemoRequest]:
    """Endless; only what these municipalities' websites post and these municipalities handle."""
    codes = {place.code for place in places}
    websites = {website for place in places for website in place.websites}
    for request in Stream(seed, today(), citizens):
        if request.handler in codes and request.origin in websites:
            yield request


class Websites(Loader):
    """As the demo's, and counts what intake answers."""

    def __init__(self, stack: Stack, journal: Path, concurrency: int, watch: Watch) -> None:
        super().__init__(stack.base_url, stack.keys, journal, concurrency, watch.add)
        self.answers: Counter[int] = Counter()
        self.retry_after: set[str | None] = set()
        """Of every 503."""

    async def _post(
        self, request: DemoRequest, session: aiohttp.ClientSession
    ) -> tuple[int, dict[str, Any]]:
        headers = {
            "Authorization": f"Bearer {self._keys[request.origin]}",
            "Idempotency-Key": request.key,
        }
        try:
            async with session.post(self._url, json=request.body, headers=headers) as answer:
                body = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self.answers[0] += 1
            return 0, {}
        self.answers[answer.status] += 1
        if answer.status == 503:
            self.retry_after.add(answer.headers.get("Retry-After"))
        return answer.status, body


@dataclass(frozen=True)
class ChildExit:
    """The end of a child of the worker, as its supervisor saw it."""

    name: str
    code: int
    pid: int


class Outside:
    """What can be known of a running stack without believing it."""

    def __init__(self, stack: Stack, name: str, concurrency: int = 16) -> None:
        """`name`: of this observer's journal of posts."""
        self.stack = stack
        self.watch = Watch(stack.base_url, stack.keys)
        journal = stack.folder.home / f"posted-{name}.jsonl"
        self.websites = Websites(stack, journal, concurrency, self.watch)
        self._journals = stack.journals()
        self._decisions: dict[str, list[Decision]] = defaultdict(list)
        self._arrivals: dict[str, list[Arrival]] = defaultdict(list)
        self._log = stack.folder.log("worker")
        self._logged = self._log.stat().st_size

    def close(self) -> None:
        self.websites.close()

    def settled(self) -> int:
        return len(self.websites.accepted) + len(self.websites.refused)

    def verdict(self, requests: Sequence[DemoRequest], bad: Mapping[str, int]) -> Verdict:
        """The count over `requests`, all of which were posted here.

        What took effect without having been posted here is none of these, so it is not looked at.
        """
        self._read()
        keys = {request.key for request in requests}
        accepted = [a for a in self.websites.accepted if a.key in keys]
        references = {a.reference for a in accepted}
        return judge(
            Evidence(
                asked=len(requests),
                accepted=accepted,
                refused=[r for r in self.websites.refused if r.key in keys],
                decisions=_only(self._decisions, references),
                arrivals=_only(self._arrivals, references),
                statuses={r: s for r, s in self.watch.statuses.items() if r in references},
                bad=bad,
                dedupe=True,
                started=self.websites.started,
            )
        )

    def strangers(self) -> set[str]:
        """References that took effect at a back-office and that nobody got a 202 for."""
        self._read()
        made = {d.reference for found in self._decisions.values() for d in found}
        return made - {a.reference for a in self.websites.accepted}

    def arrivals(self) -> list[Arrival]:
        self._read()
        return [a for found in self._arrivals.values() for a in found]

    def _read(self) -> None:
        for code, journal in self._journals.items():
            self._decisions[code] += journal.decisions()
            self._arrivals[code] += journal.arrivals()

    def child_exits(self) -> list[ChildExit]:
        """Since this observer was made."""
        with self._log.open("rb") as log:
            log.seek(self._logged)
            lines = [line for line in log.read().splitlines() if b'"child_exited"' in line]
        said = [json.loads(line[line.index(b"{") :]) for line in lines]
        return [ChildExit(each["name"], each["exit"], each["pid"]) for each in said]

    def quarantined(self) -> int:
        """How many records `quarantine` has."""
        consumer = Consumer(
            {"bootstrap.servers": broker.bootstrap(self.stack.settings), "group.id": "outside"}
        )
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(QUARANTINE, 0), timeout=30)
        finally:
            consumer.close()
        return int(high) - int(low)


def _only(found: Mapping[str, Sequence[Any]], references: set[str]) -> dict[str, list[Any]]:
    return {code: [e for e in all_ if e.reference in references] for code, all_ in found.items()}


def write_figures(name: str, seed: int, figures: Mapping[str, Any]) -> None:
    """Only where asked for by HUB_TEST_RESULTS."""
    folder = os.environ.get(RESULTS)
    if folder:
        command = f"{RESULTS}={folder} pytest -m live tests/live/test_{name}.py"
        write_result(Path(folder), name, command, seed, figures)
