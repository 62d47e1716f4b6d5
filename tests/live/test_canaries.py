"""Nothing that a citizen fills in is in clear anywhere outside the back-offices (security R5, T7).

One long run (`canary_course`), and then the search: every topic, every file under HUB_HOME, what
the hub's processes put into their temporary folder, what commands print, what the door answers.
Left out are only the back-offices' own databases and logs, by name. The same search then finds a
canary planted in clear in each kind of place.

Garbage that the test itself puts on a topic stands there in clear, because we put it there: its
tokens are counted apart and may be in that topic and nowhere else, quarantine least of all.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.demo import stack
from hub.topics import OUTCOMES, QUARANTINE, REQUESTS
from tests.live import canary_course
from tests.live.canary import leaks
from tests.live.canary_course import DATABASES, Evidence
from tests.live.canary_plan import FREE, PER_FIELD
from tests.live.canary_run import Run, everything

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    folder = tmp_path_factory.mktemp("canary")
    demo_writes = stack.write_configuration

    def write(config: Path, places: Any, ports: Any) -> None:
        demo_writes(config, places, ports)
        everything(config, places, ports)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "write_configuration", write)
        # Whatever can be logged is logged, and what is put aside is put where we look.
        patch.setenv("HUB_LOG_LEVEL", "debug")
        patch.setenv("TMPDIR", str(folder / "tmp"))
        yield canary_course.take(Run(folder))


def test_nothing_is_in_clear_while_it_runs(evidence: Evidence) -> None:
    assert [str(found) for found in evidence.running] == []


def test_nothing_is_in_clear_once_it_has_ended(evidence: Evidence) -> None:
    assert [str(found) for found in evidence.ended] == []


def test_nothing_is_in_clear_in_what_commands_print(evidence: Evidence) -> None:
    assert [str(found) for found in evidence.printed] == []


def test_no_answer_repeats_what_was_posted(evidence: Evidence) -> None:
    wrong = [
        f"{a.post.what}: {a.status}"
        for a in evidence.answers
        if not (a.status == 202 if a.post.accepted else 400 <= a.status < 500)
    ]
    assert wrong == []
    statuses = Counter(a.status for a in evidence.answers)
    assert {202, 400, 401, 404, 405, 409, 410, 413, 415} <= set(statuses), statuses
    assert [str(found) for found in evidence.answered] == []


def test_every_kind_of_place_was_searched(evidence: Evidence) -> None:
    searched = evidence.searched
    topics = {place.removeprefix("topic ") for place in searched if place.startswith("topic ")}
    queues = {topic for topic in topics if topic.startswith("deliveries.")}
    assert {REQUESTS, OUTCOMES, QUARANTINE, "__consumer_offsets"} <= topics
    assert len(queues) == 6
    for topic in topics - {"__consumer_offsets"}:
        assert searched[f"topic {topic}"] > 0, topic
        segments = [p for p in searched if f"/data/{topic}-" in p and p.endswith(".log")]
        assert sum(searched[p] for p in segments) > searched[f"topic {topic}"] / 2, topic
    for name in DATABASES:
        assert searched[f"db/{name}.db"] + searched[f"db/{name}.db-wal"] > 0, name
        assert f"db/{name}.db-shm" in searched
    for log in ("intake", "worker"):
        assert searched[f"logs/{log}.log"] > 0
    assert "keys.json" in searched


def test_the_topics_are_not_compressed(evidence: Evidence) -> None:
    """Else the search in broker files would say nothing."""
    assert set(evidence.compression.values()) == {"producer"}
    batches = [compressed for found in evidence.batches.values() for compressed in found]
    assert len(batches) > PER_FIELD
    assert not any(batches)


def test_the_tokens_went_all_the_way(evidence: Evidence) -> None:
    """Else there would be nothing to find: each field, opened, holds what we posted in it."""
    assert evidence.strange == set()
    few = {at: len(evidence.values[at]) for at in FREE if len(evidence.values[at]) < PER_FIELD}
    assert few == {}
    assert evidence.accepted >= 3 * PER_FIELD
    assert {"applicant.bsn", "reporter.bsn"} <= evidence.at_offices


def test_garbage_stays_where_it_was_put(evidence: Evidence) -> None:
    places = {found.place for found in evidence.poison}
    ours = {f"topic {topic}" for topic in evidence.put}
    assert ours <= places
    elsewhere = {
        place
        for place in places - ours
        if not any(f"/data/{topic}-" in place for topic in evidence.put)
    }
    assert elsewhere == set()


def test_quarantine_keeps_garbage_sealed_and_whole(evidence: Evidence) -> None:
    assert {t: sorted(v) for t, v in evidence.quarantined.items()} == {
        t: sorted(v) for t, v in evidence.put.items()
    }


def test_what_was_sealed_for_the_erased_opens_nowhere(evidence: Evidence) -> None:
    assert dict(evidence.opened) == {key: {"erased"} for key in ("requests", "queue", "parked row")}
    assert evidence.still_open > 0
    assert evidence.keysets_left == []


def test_deliveries_of_the_erased_end_and_their_lanes_go_on(evidence: Evidence) -> None:
    """Two requests of each end as erased; a third, posted afterwards, is delivered."""
    assert evidence.before_heal <= {"onderweg", "wacht"}
    assert evidence.after == {
        name: ["erased", "erased", "delivered"] for name in ("parked", "waiting")
    }


def test_a_repeat_of_an_erased_request_is_gone(evidence: Evidence) -> None:
    assert evidence.repeated is not None
    assert evidence.repeated.status == 410


def test_a_planted_canary_is_found_in_every_place_and_shape(evidence: Evidence) -> None:
    found = {(finding.place, finding.label) for finding in evidence.planted}
    assert evidence.planted_at <= found
    # topic and broker file, three databases, log
    assert len(evidence.planted_at) == 6 * len(leaks(""))
