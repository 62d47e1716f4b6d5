"""The run that the canaries go through: three municipalities, everything that can go wrong.

One office is sick until it is healed, one works, one repeats what it was sent in every answer.
Meanwhile intake and worker are killed, people are erased, and garbage stands on the log.
"""

import asyncio
import itertools
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from hub.contract import ENVELOPE, RELOCATION_REPORTED, Contract
from hub.demo.installation import environment
from hub.demo.loader import Accepted, Loader
from hub.demo.moods import Command, Mood
from hub.demo.people import Place, load_places
from hub.demo.plan import INTAKE, WORKER
from hub.demo.process import Process
from hub.demo.requests import DemoRequest
from hub.demo.stack import BROKER, Stack
from hub.demo.verdict import Seen
from hub.demo.watch import Watch
from hub.event import Envelope, mint
from hub.gazetteer import Gazetteer
from hub.settings import Settings
from hub.topics import OUTCOMES, REQUESTS
from tests.live.canary_malformed import POST, Answer, Post, posts, send, send_raw
from tests.live.canary_plan import PER_FIELD, Plan, as_bytes

_HERE: Final = Path(__file__).parent
_DESTINATIONS: Final = _HERE / "canary_destinations"


def everything(config: Path, places: Sequence[Place], ports: Mapping[str, int]) -> None:
    """In place of the demo's own destinations: these send every field, in URL, headers, body."""
    for place in places:
        for source in _DESTINATIONS.glob("*.toml"):
            text = source.read_text().replace("@URL@", f"http://127.0.0.1:{ports[place.code]}")
            (config / "destinations" / place.code / source.name).write_text(text)


class Run:
    """The steps, in the order in which `tests/live/test_canaries.py` takes them."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.harness = folder / "harness"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        found = {place.code: place for place in load_places(Gazetteer.load())}
        self.sick, self.well, self.echo = (found[c] for c in ("GM0268", "GM0153", "GM0505"))
        self.plan = Plan((self.sick, self.well, self.echo))
        self.contract = Contract.load()
        self.stack = Stack(self.home, _cache(), places=self.plan.places)
        self._echo_office()
        self.accepted: list[Accepted] = []
        self.answers: list[Answer] = []
        self.outputs: list[tuple[str, bytes]] = []
        """What commands printed, by command."""
        self.poison: dict[str, list[bytes]] = {}
        """Garbage by the topic it was put on."""
        self.poison_tokens: dict[str | float, str] = {}
        self._numbers = itertools.count()
        self._watch: Watch | None = None

    def _echo_office(self) -> None:
        """Ours in place of the demo's, at the same port."""
        code = self.echo.code
        script = str(_HERE / "echo_office.py")
        argv = [sys.executable, script, str(self.stack.office_ports[code])]
        given = environment(self.home, self.stack.folder.config, self.stack.intake_port, _cache())
        log = self.stack.folder.log(code)
        self.stack.processes[code] = Process(code, argv, given, log)

    # -- posting

    def post(self, requests: Sequence[DemoRequest], kills: bool = False) -> list[Accepted]:
        """All until each has its 202 or 4xx; with `kills` Kafka, intake and worker die on the way.

        Kafka first: a `hub worker` that starts while Kafka is away says so and ends.
        """
        journal = self.harness / f"posted-{next(self._numbers)}.jsonl"
        loader = Loader(self.stack.base_url, self.stack.keys, journal)

        async def course() -> None:
            posting = asyncio.create_task(loader.run(requests))
            if kills:
                for turn, name in enumerate((BROKER, INTAKE, WORKER), 1):
                    while len(loader.accepted) < turn * len(requests) // 4 and not posting.done():
                        await asyncio.sleep(0.01)
                    await asyncio.to_thread(self.stack.restart, name)
            await posting

        asyncio.run(course())
        loader.close()
        assert not loader.refused, loader.refused[:3]
        self.accepted += loader.accepted
        return loader.accepted

    def stream(self) -> list[DemoRequest]:
        """Enough that each field has `PER_FIELD` tokens, the three municipalities mixed."""
        each = PER_FIELD // len(self.plan.places) + 1
        streams = [self.plan.stream(place, each) for place in self.plan.places]
        return [request for turn in zip(*streams, strict=True) for request in turn]

    def malformed(self) -> None:
        key = self.stack.keys[self.sick.code]
        self.answers += [send(self.stack.intake_port, key, post) for post in posts(self.plan)]
        self._same_key_other_body(key)
        word = self.plan.tokens.word
        for what, raw in (
            ("no HTTP", f"{word('raw bytes')}\r\n\r\n"),
            ("bad header", f"GET / HTTP/1.1\r\n{word('raw header')}\r\n\r\n"),
            ("bad length", f"POST / HTTP/1.1\r\nContent-Length: {word('raw length')}\r\n\r\n"),
        ):
            answer = send_raw(self.stack.intake_port, raw.encode())
            self.answers.append(Answer(Post(what, b""), 400, answer))

    def _same_key_other_body(self, key: str) -> None:
        """409; and a repeat of the same."""
        first, second = (self.plan.report(self.sick, "bsn") for _ in range(2))
        self.accepted += self.post([first])
        headers = {"Idempotency-Key": first.key}
        other = Post("same key, other body", as_bytes(second), headers=headers)
        again = Post("a repeat", as_bytes(first), headers=headers, accepted=True)
        self.answers += [send(self.stack.intake_port, key, post) for post in (other, again)]

    # -- garbage on the log

    def plant_poison(self) -> None:
        """Its tokens stand in clear where we put them, so they are counted apart."""
        word, before = self.plan.tokens.word, set(self.plan.tokens.labels)
        unsealed = self.plan.relocation(self.well)
        values: list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]] = [
            (None, f"garbage {word('poison text')}".encode(), []),
            (word("poison key").encode(), b"", []),
            (b"key", b"\0\0\0\0\1" + word("poison record").encode(), []),
            (b"key", json.dumps(unsealed.body).encode(), []),
            (b"key", self._bare_body(), []),
            (b"key", self._unsealed(word("poison part")), []),
            (b"key", b"\0", [("burger", word("poison header").encode())]),
        ]
        self._produce(REQUESTS, values)
        self._produce(OUTCOMES, [(b"key", f"garbage {word('poison outcome')}".encode(), [])])
        labels = self.plan.tokens.labels
        # Labels of their own: a leak of the same field elsewhere must not pass for this.
        self.poison_tokens = {t: f"garbage: {labels.pop(t)}" for t in set(labels) - before}

    def _bare_body(self) -> bytes:
        """A body with no envelope around it: readable, and nothing of it sealed."""
        tokens = self.plan.tokens
        address = {
            "postcode": tokens.postcode("poison postcode", "7511"),
            "house_number": 1,
            "house_letter": None,
            "house_number_suffix": None,
            "street": tokens.word("poison street"),
            "place": None,
            "address_object_id": None,
        }
        record = {
            "effective_date": self.plan.day,
            "applicant": {"bsn": tokens.bsn("poison applicant")},
            "previous_address": address,
            "new_address": address,
            "residence_kind": "lodger",
            "main_occupant_consent": None,
            "contact": {"name": tokens.word("poison name"), "email": None, "phone": None},
        }
        return self.contract.encode(RELOCATION_REPORTED, record)

    def _unsealed(self, word: str) -> bytes:
        """An envelope that can be read, with clear text where ciphertext belongs, and no route."""
        for _, value in self.records(REQUESTS):
            known = Envelope.from_record(self.contract.decode(value, ENVELOPE).record)
            minted = mint(b"not ours", known.origin, "forger", word)
            record = known.to_record() | {
                "id": minted.id,
                "reference": minted.reference,
                "service": "unheard_of",
                "parts": [{"subject_ref": known.subject_ref, "ciphertext": word.encode()}],
            }
            return self.contract.encode(ENVELOPE, record)
        raise AssertionError("nothing on requests to copy an envelope from")

    def _produce(
        self,
        topic: str,
        values: Sequence[tuple[bytes | None, bytes, list[tuple[str, bytes]]]],
    ) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "acks": "all"})
        for key, value, headers in values:
            producer.produce(topic, value, key, headers=headers)
        assert producer.flush(30) == 0
        self.poison[topic] = [value for _, value, _ in values]

    # -- waiting

    def settle(self, accepted: Sequence[Accepted]) -> dict[str, str]:
        """Wait until each is final or parked; what the status says, by reference."""
        watch = Watch(self.stack.base_url, self.stack.keys)
        for each in accepted:
            watch.add(each)
        done = asyncio.run(watch.until_settled())
        still_open = [reference for reference, seen in watch.statuses.items() if seen == Seen.OPEN]
        assert done, f"{len(still_open)} of {len(accepted)} are open still, as {still_open[:3]}"
        return {reference: str(seen) for reference, seen in watch.statuses.items()}

    def status(self, accepted: Accepted) -> str:
        """The word of the status resource."""
        path = f"{POST}/{accepted.reference}"
        answer = send(
            self.stack.intake_port, self.stack.keys[accepted.origin], Post("", b"", "GET", path)
        )
        return str(json.loads(answer.raw.partition(b"\n\n")[2])["status"])

    def event_id(self, accepted: Accepted) -> str:
        query = "SELECT id FROM admissions WHERE reference = ?"
        return str(self.rows("admission", query, accepted.reference)[0][0])

    # -- commands

    def hub(self, *words: str, typed: str = "") -> str:
        """Run `hub <words>`; what it printed is kept for the search."""
        given = environment(self.home, self.stack.folder.config, self.stack.intake_port, _cache())
        done = subprocess.run(
            [sys.executable, "-m", "hub", *words],
            env={**given, "COLUMNS": "250"},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.outputs.append((f"output of hub {words[0]} {words[-1]}", done.stdout.encode()))
        self.outputs.append((f"errors of hub {words[0]} {words[-1]}", done.stderr.encode()))
        assert done.returncode == 0, f"hub {' '.join(words[:2])}: {done.stdout} {done.stderr}"
        return done.stdout

    def command(self, place: Place, mood: Mood) -> None:
        self.stack.command(place.code, Command(mood=mood))

    # -- looking

    @property
    def bootstrap(self) -> str:
        endpoint = json.loads((self.home / "kafka" / "endpoint.json").read_text())
        return ",".join(f"127.0.0.1:{broker['port']}" for broker in endpoint["brokers"])

    def topics(self) -> Iterator[tuple[str, bytes]]:
        """Every topic, Kafka's own too: keys, headers and values of all records, as one text."""
        for topic in self._topic_names():
            pieces = [piece for record in self._read(topic) for piece in record]
            yield f"topic {topic}", b"\n\xff\n".join(pieces)

    def records(self, topic: str) -> Iterator[tuple[bytes, bytes]]:
        for key, value, *_ in self._read(topic):
            yield key, value

    def _topic_names(self) -> list[str]:
        consumer = self._consumer()
        try:
            return sorted(consumer.list_topics(timeout=10).topics)
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "canary-search",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )

    def _read(self, topic: str) -> Iterator[list[bytes]]:
        """Key, value and headers of every record from the start to what is the end now."""
        consumer = self._consumer()
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            bounds = {
                number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
                for number in partitions
            }
            ends = {number: end for number, (first, end) in bounds.items() if first < end}
            consumer.assign([TopicPartition(topic, n, bounds[n][0]) for n in ends])
            while ends:
                message = consumer.poll(0.2)
                if message is None:
                    # Some offsets hold control records that no consumer sees: the position tells.
                    for place in consumer.position([TopicPartition(topic, n) for n in ends]):
                        if place.offset >= ends[place.partition]:
                            del ends[place.partition]
                    continue
                assert message.error() is None, message.error()
                number, offset = message.partition() or 0, message.offset() or 0
                if offset + 1 >= ends.get(number, 0):
                    ends.pop(number, None)
                headers = [p for name, value in message.headers() or [] for p in (name, value)]
                clear = [p.encode() if isinstance(p, str) else p or b"" for p in headers]
                yield [message.key() or b"", message.value() or b"", *clear]
        finally:
            consumer.close()

    def envelopes(self) -> list[Envelope]:
        """Every request on the log that can be read, the ones that we forged left out."""
        forged = set(self.poison.get(REQUESTS, ()))
        return [
            Envelope.from_record(self.contract.decode(value, ENVELOPE).record)
            for _, value in self.records(REQUESTS)
            if value not in forged
        ]

    def rows(self, database: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.home / "db" / f"{database}.db", timeout=10)) as opened:
            return opened.execute(query, values).fetchall()


def _cache() -> Path:
    return Settings.from_env().cache
