"""The tables of delivery: complete, connected, and drawn in the README as they are."""

import random
from enum import StrEnum
from itertools import chain
from typing import Any

import pytest

from hub.delivery import states
from hub.delivery.diagrams import README, diagram, with_diagrams
from hub.delivery.effects import Pace
from hub.delivery.engine import QueueEngine
from hub.delivery.health import Health
from hub.delivery.states import TABLES, Do, NoSuchTransition, Table, step

ENDS: set[StrEnum] = {states.Owner.GONE, states.Record.COVERED, states.Row.GONE}
"""Nothing leads out of these; GONE of the owner answers a second drain with itself."""

EVENTS = {
    "owner": states.OwnerEvent,
    "lane": states.LaneEvent,
    "record": states.RecordEvent,
    "row": states.RowEvent,
    "destination": states.DestinationEvent,
}
STATES = {
    "owner": states.Owner,
    "lane": states.Lane,
    "record": states.Record,
    "row": states.Row,
    "destination": states.Destination,
}


def reached(table: Table[Any, Any], start: StrEnum) -> set[StrEnum]:
    found, edge = {start}, [start]
    while edge:
        here = edge.pop()
        after = {target for (state, _), (target, _) in table.items() if state is here}
        edge += after - found
        found |= after
    return found


@pytest.mark.parametrize("name", TABLES)
def test_every_state_is_reached_from_the_first(name: str) -> None:
    first = next(iter(STATES[name]))
    assert reached(TABLES[name], first) == set(STATES[name])


@pytest.mark.parametrize("name", TABLES)
def test_every_state_leads_to_an_end_or_back(name: str) -> None:
    first = next(iter(STATES[name]))
    for state in set(STATES[name]) - ENDS:
        ahead = reached(TABLES[name], state)
        assert first in ahead or ahead & ENDS, f"{name}: {state} is a trap"


@pytest.mark.parametrize("name", TABLES)
def test_every_event_is_used(name: str) -> None:
    assert {event for _, event in TABLES[name]} == set(EVENTS[name])


def test_every_action_is_asked_for_and_done() -> None:
    asked = set(chain.from_iterable(does for t in TABLES.values() for _, does in t.values()))
    assert asked == set(Do)
    engine = QueueEngine("GM0000/x", Pace(), random.Random(1))
    lanes = engine.lanes
    done_by = {
        "owner": set(engine._does),
        "lane": set(lanes._lane_does),
        "record": set(lanes._record_does),
        "row": set(lanes._row_does),
        "destination": {Do.PAUSE, Do.PAUSE_LONGER, Do.HONOUR, Do.RESUME},
    }
    for name, table in TABLES.items():
        assert {do for _, does in table.values() for do in does} == done_by[name]
    assert isinstance(lanes.health, Health)


def test_what_is_not_in_a_table_cannot_happen() -> None:
    with pytest.raises(NoSuchTransition, match="Lane 'idle' knows no event 'final'"):
        step(states.LANE, states.Lane.IDLE, states.LaneEvent.FINAL)


def test_nothing_is_sent_but_when_ready() -> None:
    sends = {key for key, (_, does) in states.LANE.items() if Do.SEND in does}
    assert sends == {(states.Lane.READY, states.LaneEvent.SEND)}


def test_the_readme_draws_these_tables() -> None:
    text = README.read_text()
    assert with_diagrams(text) == text, "python -m hub.delivery.diagrams"
    assert "ready --> sending: send / send" in diagram("lane")
