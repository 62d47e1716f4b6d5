"""The demo's people, stream and plan: deterministic, valid, and in the right municipality."""

import itertools
import json
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from hub.demo.backoffice import MARK_REFUSED, MARK_UNREADABLE
from hub.demo.moods import Mood
from hub.demo.people import load_people, load_places
from hub.demo.plan import INTAKE, KILL, WORKER, make_plan, with_bad
from hub.demo.requests import DESTINATIONS, generate, last_of_subject
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION
from hub.gazetteer import Gazetteer
from hub.privacy import passes_eleven_test

DAY = date(2026, 11, 23)
TEN = ["GM0268", "GM0153", "GM0505", "GM1963", "GM1930"]
TEN += ["GM0164", "GM0141", "GM1992", "GM1952", "GM0299"]


def test_test_persons_are_valid_and_distinct() -> None:
    people = load_people(DAY)
    assert len(people) > 400
    assert len({person.bsn for person in people}) == len(people)
    assert all(passes_eleven_test(person.bsn.reveal()) for person in people)


def test_ten_municipalities_by_inhabitants_with_their_websites() -> None:
    places = load_places(Gazetteer.load())
    assert [place.code for place in places] == TEN
    websites = {place.code: place.websites for place in places}
    assert websites["GM1930"] == ("GM1930", "GM0568", "GM0612")
    assert websites["GM0268"] == ("GM0268",)


def test_same_seed_same_requests() -> None:
    assert generate(7, 300, DAY) == generate(7, 300, DAY)
    assert generate(7, 300, DAY) != generate(8, 300, DAY)
    keys = [r.key for r in generate(7, 300, DAY)]
    assert len(set(keys)) == 300


def test_the_stream_exercises_order_and_both_services() -> None:
    requests = generate(1, 1000, DAY)
    assert {r.handler for r in requests} == set(TEN)
    assert {r.service for r in requests} == {RELOCATION, PUBLIC_SPACE_REPORT}
    by_lane = Counter(r.lane for r in requests)
    assert sum(count for count in by_lane.values() if count > 1) > 500
    most, least = Counter(r.handler for r in requests).most_common()[:: len(TEN) - 1]
    assert most[0] == "GM0268"
    assert most[1] > 2 * least[1]


def test_addresses_and_coordinates_are_without_doubt_the_handlers() -> None:
    gazetteer = Gazetteer.load()
    for request in generate(2, 400, DAY):
        details = request.body["gegevens"]
        if request.service == RELOCATION:
            found = gazetteer.by_postcode(details["nieuwAdres"]["postcode"])
            assert not found.po_box
        else:
            point = details["locatie"]["punt"]
            found = gazetteer.by_point(point["lat"], point["lon"])
        assert found.certain
        assert found.candidates == (request.handler,)
        assert request.destination == DESTINATIONS[request.service]


def test_someone_moves_from_where_they_moved_to() -> None:
    moves = [r for r in generate(3, 300, DAY) if r.service == RELOCATION]
    by_subject: dict[str, list[dict[str, object]]] = {}
    for move in moves:
        by_subject.setdefault(move.subject, []).append(move.body["gegevens"])
    for followed in by_subject.values():
        for earlier, later in itertools.pairwise(followed):
            assert later["vorigAdres"] == earlier["nieuwAdres"]
    assert any(len(followed) > 1 for followed in by_subject.values())


def test_a_mover_is_in_the_request_once() -> None:
    for request in generate(4, 800, DAY):
        if request.service == RELOCATION:
            movers = [mover["bsn"] for mover in request.body["gegevens"]["meeverhuizers"]]
            everyone = [request.body["aanvrager"]["bsn"], *movers]
            assert len(set(everyone)) == len(everyone)


@pytest.mark.parametrize("count", [40, 300, 2000])
def test_the_plan_spoils_one_percent_each_the_last_of_its_subject(count: int) -> None:
    requests = generate(5, count, DAY)
    plan = make_plan(5, requests, TEN, faults=True, dedupe=True)
    assert len(plan.bad) == max(2, count // 100)
    assert abs(len(plan.keys(400)) - len(plan.keys(422))) <= 1
    last = {requests[place].key for place in last_of_subject(requests)}
    assert set(plan.bad) <= last
    for before, after in zip(requests, with_bad(requests, plan), strict=True):
        text = json.dumps(after.body)
        assert (MARK_UNREADABLE in text) == (plan.bad.get(before.key) == 400)
        assert (MARK_REFUSED in text) == (plan.bad.get(before.key) == 422)
        assert (before == after) == (before.key not in plan.bad)


def test_the_plan_has_every_fault_of_decision_32(tmp_path: Path) -> None:
    requests = generate(6, 2000, DAY)
    plan = make_plan(6, requests, TEN, faults=True, dedupe=True)
    moods = Counter(step.mood for step in plan.steps if step.mood)
    assert moods == {Mood.SLOW: 2, Mood.HANG: 1, Mood.REFUSE: 1, Mood.FAIL: 1, Mood.DROP: 1}
    killed = Counter(step.target for step in plan.steps if step.action == KILL)
    assert killed.pop(WORKER) == 3
    assert killed.pop(INTAKE) == 2
    assert list(killed.values()) == [1]
    assert len({step.target for step in plan.steps}) == 9
    assert all(0 < step.after < 2000 for step in plan.steps)
    assert plan == make_plan(6, requests, TEN, faults=True, dedupe=True)
    assert plan != make_plan(7, requests, TEN, faults=True, dedupe=True)
    plan.write(tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text())["bad"] == plan.bad


def test_without_faults_nothing_is_planned() -> None:
    requests = generate(6, 50, DAY)
    plan = make_plan(6, requests, TEN, faults=False, dedupe=True)
    assert (plan.bad, plan.steps) == ({}, ())
    assert with_bad(requests, plan) == requests
