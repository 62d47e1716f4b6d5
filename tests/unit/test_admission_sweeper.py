"""What stays pending is brought to Kafka, once it is nobody's any more."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from hub.admission import AdmissionRequest, Principal
from hub.admission.rows import AdmissionState
from hub.errors import BrokerAway, Poison
from hub.outcome import Outcome, OutcomeKind
from tests.desk import AMSTERDAM, Desk, report


async def leave_pending(desk: Desk, *keys: str) -> None:
    """Requests whose website never came back after its 503."""
    desk.producer.away = True
    for key in keys:
        with pytest.raises(BrokerAway):
            await desk.admission.admit(
                Principal(AMSTERDAM, "website"),
                AdmissionRequest(json.dumps(report()).encode()),
                key,
            )
        desk.later(seconds=1)
    desk.producer.away = False


def states(desk: Desk) -> list[str]:
    return [row.state for row in desk.rows()]


async def test_young_rows_are_left_to_their_request(desk: Desk) -> None:
    await leave_pending(desk, "a")
    desk.later(seconds=58)
    assert await desk.sweeper.sweep() == 0
    desk.later(seconds=2)
    assert await desk.sweeper.sweep() == 1
    assert states(desk) == [AdmissionState.ACCEPTED]
    assert [e.id for e in desk.envelopes()] == [row.id for row in desk.rows()]


async def test_oldest_first(desk: Desk) -> None:
    await leave_pending(desk, "a", "b", "c")
    desk.later(seconds=61)
    assert await desk.sweeper.sweep() == 3
    admitted = [e.admitted_at for e in desk.envelopes()]
    assert len(admitted) == 3
    assert admitted == sorted(admitted)
    assert await desk.sweeper.sweep() == 0


async def test_what_has_an_outcome_is_marked_and_not_sent(desk: Desk) -> None:
    await leave_pending(desk, "a")
    (row,) = desk.rows()
    desk.status.outcomes[row.id] = [routed(row)]
    desk.later(seconds=61)
    assert await desk.sweeper.sweep() == 1
    assert states(desk) == [AdmissionState.ACCEPTED]
    assert desk.producer.records == []


async def test_what_is_away_waits_for_the_next_round(desk: Desk) -> None:
    await leave_pending(desk, "a", "b")
    desk.later(seconds=61)
    desk.producer.away = True
    with pytest.raises(BrokerAway):
        await desk.sweeper.sweep()
    assert states(desk) == [AdmissionState.PENDING] * 2
    desk.producer.away = False
    assert await desk.sweeper.sweep() == 2


async def test_bytes_that_kafka_never_takes_hold_up_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_pending(desk, "a", "b")
    poisoned = desk.rows()[0].id
    send = desk.producer.send

    async def picky(topic: str, key: bytes, value: bytes, headers: Any = ()) -> None:
        if dict(headers)["ce_id"] == poisoned.encode():
            raise Poison("too large")
        await send(topic, key, value, headers)

    monkeypatch.setattr(desk.producer, "send", picky)
    desk.later(seconds=61)
    assert await desk.sweeper.sweep() == 1
    assert {row.id: row.state for row in desk.rows()}[poisoned] == AdmissionState.PENDING


async def test_one_at_a_time_and_the_next_when_it_is_gone(make_desk: Callable[[], Desk]) -> None:
    here, there = make_desk(), make_desk()
    assert await here.sweeper.sweep() == 0
    await leave_pending(here, "a")
    here.later(seconds=61)
    there.now = here.now - timedelta(seconds=40)
    assert await there.sweeper.sweep() == 0
    assert states(here) == [AdmissionState.PENDING]
    # 45 s after the last round of the other, which has ended.
    there.now = here.now
    assert await there.sweeper.sweep() == 1
    assert len(there.producer.records) == 1


async def test_it_runs_until_it_is_cancelled(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: asyncio.Queue[int] = asyncio.Queue()
    monkeypatch.setattr("hub.admission.sweeper._ROUND_SECONDS", 0.0)

    async def failing() -> int:
        await rounds.put(1)
        raise BrokerAway("away")

    monkeypatch.setattr(desk.sweeper, "sweep", failing)
    task = asyncio.create_task(desk.sweeper.run())
    for _ in range(3):
        await rounds.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def routed(row: Any) -> Outcome:
    return Outcome(
        record_id="r",
        event_id=row.id,
        reference=row.reference,
        origin=row.origin,
        municipality_code=row.municipality_code,
        service=row.service,
        subject_ref=row.subject_ref,
        destination=None,
        kind=OutcomeKind.ROUTED,
        attempt=0,
        time=row.admitted_at,
        reason=None,
        code="",
        text="",
        status=None,
        destinations=(),
        traceparent="",
    )
