"""What happens in the canary run, and what is looked at in the end.

Everything is looked at here, while the installation runs and once it has ended; the tests only
judge what was found, in any order.
"""

import sqlite3
import struct
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from hub.admission import METADATA
from hub.contract import ENVELOPE, QUARANTINED
from hub.demo.backoffice import MARK_UNREADABLE
from hub.demo.loader import Accepted
from hub.demo.moods import Mood
from hub.demo.people import Place
from hub.demo.plan import WORKER
from hub.demo.requests import DESTINATIONS, DemoRequest
from hub.errors import Erased
from hub.event import RELOCATION, Envelope, show_reference
from hub.faults import NONE
from hub.keys import KeyFile, KeyStore
from hub.store import Store
from hub.topics import QUARANTINE, REQUESTS, QueueName
from tests.live.canary import Finding, Search, files, leaks
from tests.live.canary_malformed import Answer, Post, send
from tests.live.canary_plan import FREE, FieldPath, Tokens, as_bytes, values_at
from tests.live.canary_run import Run

PLANTED: Final = "canary"
"""Name of the topic, table and log line in which a canary is planted to be found."""
DATABASES: Final = ("admission", "delivery", "status")


@dataclass
class Evidence:
    """What the run showed. Findings are of tokens in clear."""

    accepted: int = 0
    answers: list[Answer] = field(default_factory=list)
    answered: list[Finding] = field(default_factory=list)
    printed: list[Finding] = field(default_factory=list)
    running: list[Finding] = field(default_factory=list)
    ended: list[Finding] = field(default_factory=list)
    searched: dict[str, int] = field(default_factory=dict)
    """Bytes by place."""
    at_offices: set[str] = field(default_factory=set)
    """Labels of the tokens that the back-offices' own databases hold."""
    poison: list[Finding] = field(default_factory=list)
    put: dict[str, list[bytes]] = field(default_factory=dict)
    quarantined: dict[str, list[bytes]] = field(default_factory=dict)
    """The garbage by its topic: as put there, and as opened from quarantine with the hub's key."""
    compression: dict[str, str] = field(default_factory=dict)
    batches: dict[str, list[bool]] = field(default_factory=dict)
    """By segment file, of each batch in it, whether it is compressed."""
    values: dict[FieldPath, set[Any]] = field(default_factory=lambda: defaultdict(set))
    strange: set[FieldPath] = field(default_factory=set)
    """What the sealed parts on `requests` hold when opened, and fields with what we never sent."""
    before_heal: set[str] = field(default_factory=set)
    after: dict[str, list[str]] = field(default_factory=dict)
    """What the status says of each request of the erased people, before and after."""
    opened: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """What opening the erased people's bytes gave, by where the copy stands."""
    still_open: int = 0
    """Parts of the people around them that do open."""
    keysets_left: list[str] = field(default_factory=list)
    repeated: Answer | None = None
    planted: set[Finding] = field(default_factory=set)
    planted_at: set[tuple[str, str]] = field(default_factory=set)
    """Place and label of each canary that must be found."""


@dataclass
class Person:
    """Someone who will be erased, with the requests in the order of posting."""

    place: Place
    requests: list[DemoRequest]
    accepted: list[Accepted]
    subject_ref: str = ""
    wrapped: bytes = b""


def take(run: Run) -> Evidence:
    """Run everything and look at everything; the installation is ended when this returns."""
    found = Evidence()
    with run.stack:
        people = _course(run, found)
        _look(run, found)
        _plant(run, found)
    left = [*_files(run)]
    found.ended = [f for f in _search(run).find(left) if not _is_ours(run, f)]
    found.keysets_left = [
        place for place, data in left for person in people if person.wrapped in data
    ]
    return found


# --- what happens -----------------------------------------------------------------------------


def _course(run: Run, found: Evidence) -> list[Person]:
    run.command(run.sick, Mood.FAIL)
    everyone = run.post(run.stream(), kills=True)
    # One whose lane stands parked, and one whose requests wait for a system that is away.
    parked = _person(run, run.well, MARK_UNREADABLE)
    waiting = _person(run, run.sick)
    run.malformed()
    run.plant_poison()
    found.put = run.poison
    found.quarantined = _quarantined(run, sum(map(len, run.poison.values())))
    elsewhere = [a for a in everyone if a.handler != run.sick.code]
    run.settle([*elsewhere, *parked.accepted])
    found.before_heal = {run.status(a) for a in waiting.accepted}
    _speak(run, parked.accepted[0])
    _erase(run, found, parked, waiting)
    run.command(run.sick, Mood.WORKS)
    _await_resent(run, parked.accepted[:2])
    said = run.settle(run.accepted)
    for name, person in (("parked", parked), ("waiting", waiting)):
        found.after[name] = [said[a.reference] for a in person.accepted]
    found.accepted = len(run.accepted)
    found.answers = run.answers
    return [parked, waiting]


def _person(run: Run, place: Place, mark: str = "") -> Person:
    first = run.plan.relocation(place, mark)
    requests = [first, run.plan.relocation(place, bsn=first.subject)]
    return Person(place, requests, run.post(requests))


def _await_resent(run: Run, accepted: Sequence[Accepted]) -> None:
    """A resend that has been asked for still says `parked` for a moment, as does what it frees."""
    until = time.monotonic() + 60
    while {run.status(each) for each in accepted} & {"in behandeling bij medewerker"}:
        if time.monotonic() > until:
            return  # The test says what is wrong.
        time.sleep(0.2)


def _quarantined(run: Run, count: int) -> dict[str, list[bytes]]:
    """Wait for `count` records in quarantine; each opened, by the topic it came from."""
    until = time.monotonic() + 60
    while len(records := list(run.records(QUARANTINE))) < count:
        assert time.monotonic() < until, f"{len(records)} in quarantine, not {count}"
        time.sleep(0.2)
    found: dict[str, list[bytes]] = defaultdict(list)
    with _key_store(run) as keys:
        for _, value in records:
            record = run.contract.decode(value, QUARANTINED).record
            opened = keys.open_quarantined(record["sealed"], record["record_id"])
            found[record["source_topic"]].append(opened)
    return found


def _speak(run: Run, parked: Accepted) -> None:
    """Whatever staff can ask for."""
    run.hub("config", "check")
    run.hub("kafka", "status")
    run.hub("park", "list")
    assert parked.reference in run.hub("park", "list", "--json")
    assert "parked" in run.hub("status", show_reference(parked.reference))


def _erase(run: Run, found: Evidence, parked: Person, waiting: Person) -> None:
    for person in (parked, waiting):
        _remember(run, person)
    copies = list(_copies(run, parked, waiting))
    run.hub("subject", "erase", show_reference(parked.accepted[0].reference))
    bsn = waiting.requests[0].subject
    run.hub(
        "subject", "erase", "--bsn-stdin", "--municipality", waiting.place.code, typed=f"{bsn}\n"
    )
    with _key_store(run) as keys:
        gone = {parked.subject_ref, waiting.subject_ref}
        for where, envelope in copies:
            _open(keys, found, where, envelope, gone)
    # Their keysets may be open in the worker for a minute more; a new process has none.
    run.stack.restart(WORKER)
    event_id = run.event_id(parked.accepted[0])
    run.hub("park", "resend", event_id, "--by", "beheer")
    found.repeated = send(
        run.stack.intake_port,
        run.stack.keys[parked.place.code],
        Post(
            "repeat of an erased request",
            as_bytes(parked.requests[0]),
            headers={"Idempotency-Key": parked.requests[0].key},
        ),
    )
    run.answers.append(found.repeated)
    for person in (parked, waiting):
        later = run.plan.relocation(person.place, bsn=person.requests[0].subject)
        person.accepted += run.post([later])


def _remember(run: Run, person: Person) -> None:
    reference = person.accepted[0].reference
    query = "SELECT subject_ref FROM admissions WHERE reference = ?"
    person.subject_ref = run.rows("admission", query, reference)[0][0]
    query = "SELECT wrapped FROM keysets WHERE subject_ref = ?"
    person.wrapped = run.rows("admission", query, person.subject_ref)[0][0]


def _copies(run: Run, *people: Person) -> Iterator[tuple[str, Envelope]]:
    """Every copy of their events that the hub keeps, by the kind of place it stands in."""
    gone = {person.subject_ref for person in people}
    queues = [QueueName(p.place.code, DESTINATIONS[RELOCATION]).topic for p in people]
    for where, topic in ("requests", REQUESTS), *(("queue", queue) for queue in queues):
        for key, value in run.records(topic):
            if key.decode(errors="replace") in gone:
                yield where, _envelope(run, value)
    for event_id, record in run.rows("delivery", "SELECT event_id, record FROM parked"):
        if event_id in {run.event_id(a) for p in people for a in p.accepted}:
            yield "parked row", _envelope(run, record)


def _envelope(run: Run, value: bytes) -> Envelope:
    return Envelope.from_record(run.contract.decode(value, ENVELOPE).record)


def _open(keys: KeyStore, found: Evidence, where: str, envelope: Envelope, gone: set[str]) -> None:
    tenant, event_id = envelope.municipality_code, envelope.id
    for part in envelope.parts:
        try:
            keys.open(tenant, part.subject_ref, envelope.body_schema, event_id, part.ciphertext)
        except Erased:
            result = "erased"
        else:
            result = "opened"
        if part.subject_ref in gone:
            found.opened[where].add(result)
        else:
            found.still_open += result == "opened"


@contextmanager
def _key_store(run: Run) -> Iterator[KeyStore]:
    """A key store of our own, as a new process of the hub has it: nothing cached."""
    store = Store(run.stack.settings.database_url("admission"), METADATA)
    try:
        yield KeyStore(store, KeyFile.open(run.stack.settings.key_file()), NONE)
    finally:
        store.close()


# --- what is looked at ------------------------------------------------------------------------


def _search(run: Run) -> Search:
    """All that must never be in clear: what citizens fill in, and what opens the door. With it
    what we put in clear on a topic ourselves; its labels tell it apart."""
    secrets = dict.fromkeys(run.stack.keys.values(), "API key")
    return Search({**run.plan.tokens.labels, **secrets, **run.poison_tokens})


def _files(run: Run) -> Iterator[tuple[str, bytes]]:
    """Everything under HUB_HOME and in the processes' temporary folder, but for what is theirs:
    the databases of the back-offices, and the logs of their processes."""
    theirs = [run.home / "backoffice"]
    theirs += [run.stack.folder.log(place.code) for place in run.plan.places]
    return chain(files(run.home, but=theirs), files(run.temporary))


def _look(run: Run, found: Evidence) -> None:
    search = _search(run)
    found.answered = search.find((a.post.what, a.raw) for a in run.answers)
    found.printed = search.find(run.outputs)
    places = _measured(chain(run.topics(), _files(run)), found.searched)
    for finding in search.find(places):
        (found.poison if _is_ours(run, finding) else found.running).append(finding)
    found.at_offices = {f.label for f in search.find(files(run.home / "backoffice"))}
    _look_at_compression(run, found)
    with _key_store(run) as keys:
        _look_into_the_seals(run, keys, found)


def _is_ours(run: Run, finding: Finding) -> bool:
    """Of the garbage that we put in clear on a topic ourselves."""
    return finding.label in run.poison_tokens.values()


def _measured(
    places: Iterator[tuple[str, bytes]], sizes: dict[str, int]
) -> Iterator[tuple[str, bytes]]:
    for place, data in places:
        sizes[place] = len(data)
        yield place, data


def _look_at_compression(run: Run, found: Evidence) -> None:
    """A search in broker files says nothing about a compressed batch."""
    admin = AdminClient({"bootstrap.servers": run.bootstrap})
    names = list(admin.list_topics(timeout=10).topics)
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
    for resource, future in asked.items():
        found.compression[resource.name] = future.result()["compression.type"].value
    for place, data in files(run.home / "kafka"):
        if place.endswith(".log") and "/data/" in place:
            found.batches[place] = list(_batches(data))


def _batches(segment: bytes) -> Iterator[bool]:
    """Of each record batch (magic 2) of a segment file, whether it is compressed."""
    at = 0
    while at + 61 <= len(segment):
        length, magic = struct.unpack_from(">i4xb", segment, at + 8)
        if length <= 0:
            return
        assert magic == 2, f"a record batch of format {magic}"
        yield bool(struct.unpack_from(">h", segment, at + 21)[0] & 0b111)
        at += 12 + length


def _look_into_the_seals(run: Run, keys: KeyStore, found: Evidence) -> None:
    """What the events hold once opened: the control that the tokens went all the way in."""
    for envelope in run.envelopes():
        for part in envelope.parts:
            try:
                clear = keys.open(
                    envelope.municipality_code,
                    part.subject_ref,
                    envelope.body_schema,
                    envelope.id,
                    part.ciphertext,
                )
            except Erased:
                continue
            decoded = run.contract.decode(clear)
            for schema, path in FREE:
                if schema == decoded.name:
                    value = values_at(decoded.record, path)
                    if value is not None:
                        found.values[schema, path].add(value)
    found.strange = {at for at, values in found.values.items() if values - run.plan.planted[at]}


# --- the control: a canary in clear in each kind of place ---------------------------------------


def _plant(run: Run, found: Evidence) -> None:
    tokens = Tokens()
    for kind, put in (
        ("topic", _into_a_topic),
        *((f"{name}.db", _into(name)) for name in DATABASES),
        ("log", _into_a_log),
    ):
        shaped = {}
        for shape in leaks(""):
            label = f"planted {kind} {shape}"
            shaped[label] = leaks(tokens.word(label))[shape]
        for place in put(run, list(shaped.values())):
            found.planted_at |= {(place, label) for label in shaped}
    search = Search(tokens.labels)
    found.planted = set(search.find(chain(run.topics(), _files(run))))


def _into_a_topic(run: Run, texts: Sequence[bytes]) -> list[str]:
    """A topic of its own, so that nothing of the hub reads it; and thereby broker files."""
    admin = AdminClient({"bootstrap.servers": run.bootstrap})
    admin.create_topics([NewTopic(PLANTED, 1)])[PLANTED].result()
    producer = Producer({"bootstrap.servers": run.bootstrap})
    for number, text in enumerate(texts):
        # In turns as key, as header and as value: all three are read.
        key, value, header = ((text, b"", b""), (b"", text, b""), (b"", b"", text))[number % 3]
        producer.produce(PLANTED, value, key, headers=[("h", header)])
    assert producer.flush(30) == 0
    return [f"topic {PLANTED}", f"kafka/broker-0/data/{PLANTED}-0/00000000000000000000.log"]


def _into(database: str) -> Any:
    def put(run: Run, texts: Sequence[bytes]) -> list[str]:
        """As text where it is text: SQLite keeps that as it is; the rest as blobs."""
        with closing(sqlite3.connect(run.home / "db" / f"{database}.db", timeout=10)) as opened:
            opened.execute(f"CREATE TABLE {PLANTED} (what)")
            for text in texts:
                value = text.decode() if text.isascii() and b"\0" not in text else text
                opened.execute(f"INSERT INTO {PLANTED} VALUES (?)", (value,))
            opened.commit()
            # While the hub has it open, the newest rows stand in the write-ahead log.
            assert (run.home / "db" / f"{database}.db-wal").stat().st_size > 0
            return [f"db/{database}.db-wal"]

    return put


def _into_a_log(run: Run, texts: Sequence[bytes]) -> list[str]:
    with run.stack.folder.log(WORKER).open("ab") as log:
        log.writelines(b'{"event": "x", "error": "' + text + b'"}\n' for text in texts)
    return [f"logs/{WORKER}.log"]
