import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.contract import OUTCOME, Contract
from hub.errors import Poison, StoreAway
from hub.event import Authentication, Envelope, Payment
from hub.outcome import (
    FINAL,
    METADATA,
    Outcome,
    OutcomeKind,
    StatusStore,
    StatusWord,
    fold,
    outcome_record_id,
)
from hub.outcome.fold import step_text
from hub.outcome.record import latest_of_each
from hub.store import Store
from hub.topics import QueueName

T0 = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
A, B = QueueName("GM0505", "zaaksysteem"), QueueName("GM0505", "archief")
K = OutcomeKind

ENVELOPE = Envelope(
    id="5b8f5f0e-6f0e-8c1d-9a55-0a1b2c3d4e5f",
    source="https://www.dordrecht.example",
    type="nl.midoffice.relocation.reported.v1",
    time=T0,
    reference="7K3M9QXA2B4C5D6E7",
    origin="GM0501",
    municipality_code="GM0505",
    service="relocation",
    product="",
    subject_ref="8d7a3f0e-1111-4222-8333-444455556666",
    intake_channel="api",
    admitted_at=T0,
    route_version="0" * 64,
    body_schema="",
    traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    authentication=Authentication("digid"),
    payment=Payment("not_needed"),
    attachments=(),
    parts=(),
)


def said(
    kind: OutcomeKind,
    attempt: int = 1,
    *,
    at: float = 0,
    to: QueueName | None = A,
    reason: str | None = None,
    code: str = "",
) -> Outcome:
    return Outcome.of(
        ENVELOPE,
        kind,
        time=T0 + timedelta(seconds=at),
        destination=to,
        attempt=attempt,
        reason=reason,
        code=code,
    )


def routed(*queues: QueueName, at: float = 0) -> Outcome:
    return Outcome.of(
        ENVELOPE, K.ROUTED, time=T0 + timedelta(seconds=at), destinations=queues or (A,)
    )


QUARANTINED = Outcome.of(ENVELOPE, K.QUARANTINED, time=T0, code="no_route")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/status.db", METADATA)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("steps", "word", "final"),
    [
        ([], "ontvangen", False),
        ([routed()], "onderweg", False),
        ([routed(), said(K.WAITING)], "wacht", False),
        ([routed(), said(K.PARKED, reason="record")], "in behandeling bij medewerker", False),
        ([routed(), said(K.PARKED), said(K.RESUMED, 2)], "onderweg", False),
        ([routed(), said(K.PARKED), said(K.RESUMED, 2), said(K.WAITING, 2)], "wacht", False),
        (
            [routed(), said(K.PARKED), said(K.RESUMED, 2), said(K.PARKED, 2)],
            "in behandeling bij medewerker",
            False,
        ),
        (
            [routed(), said(K.WAITING), said(K.PARKED), said(K.RESUMED, 2), said(K.DELIVERED, 2)],
            "afgeleverd",
            True,
        ),
        ([routed(), said(K.DELIVERED)], "afgeleverd", True),
        ([routed(), said(K.REJECTED)], "geweigerd", True),
        ([routed(), said(K.ERASED)], "gewist", True),
        ([QUARANTINED], "in behandeling bij medewerker", False),
        ([QUARANTINED, routed(), said(K.DELIVERED)], "afgeleverd", True),
        # Not known yet to how many destinations it went.
        ([said(K.DELIVERED)], "onderweg", False),
        ([said(K.WAITING)], "wacht", False),
        # Two destinations.
        ([routed(A, B), said(K.DELIVERED)], "onderweg", False),
        ([routed(A, B), said(K.DELIVERED), said(K.WAITING, to=B)], "wacht", False),
        (
            [routed(A, B), said(K.WAITING), said(K.PARKED, to=B)],
            "in behandeling bij medewerker",
            False,
        ),
        ([routed(A, B), said(K.DELIVERED), said(K.DELIVERED, to=B)], "afgeleverd", True),
        ([routed(A, B), said(K.DELIVERED), said(K.REJECTED, to=B)], "geweigerd", True),
        ([routed(A, B), said(K.REJECTED), said(K.WAITING, to=B)], "wacht", False),
        ([routed(A, B), said(K.DELIVERED), said(K.ERASED, to=B)], "gewist", True),
    ],
)
def test_overall_word_and_finality(steps: list[Outcome], word: str, final: bool) -> None:
    status = fold(steps)
    assert (status.word, status.final) == (word, final)


def test_final_stays_over_whatever_is_written_again_later() -> None:
    status = fold([routed(), said(K.DELIVERED, 1), said(K.WAITING, 5, at=9), routed(at=20)])
    assert status.final
    assert status.word is StatusWord.DELIVERED


def test_clocks_of_two_owners_do_not_decide_within_a_round() -> None:
    """The first owner's clock is ahead by a minute; the second one parks."""
    status = fold([routed(), said(K.WAITING, at=60), said(K.PARKED, at=5, reason="record")])
    assert status.destinations[0].kind is K.PARKED
    # Resumed by an owner whose clock is behind.
    status = fold([routed(), said(K.PARKED, at=60), said(K.RESUMED, 2, at=5)])
    assert status.destinations[0].kind is K.RESUMED


def test_each_destination_stands_by_itself() -> None:
    status = fold(
        [routed(A, B), said(K.DELIVERED, 3, at=4), said(K.PARKED, to=B, at=2, reason="in_doubt")]
    )
    by_name = {d.destination: d for d in status.destinations}
    assert list(by_name) == ["GM0505/archief", "GM0505/zaaksysteem"]
    assert by_name["GM0505/zaaksysteem"].final
    assert by_name["GM0505/zaaksysteem"].attempt == 3
    assert by_name["GM0505/archief"].reason == "in_doubt"
    assert by_name["GM0505/archief"].since == T0 + timedelta(seconds=2)


outcomes = st.one_of(
    st.sampled_from([routed(), routed(A, B), QUARANTINED]),
    st.builds(
        lambda kind, attempt, at, to, reason: said(kind, attempt, at=at, to=to, reason=reason),
        st.sampled_from([k for k in K if k not in {K.ROUTED, K.QUARANTINED}]),
        st.integers(0, 3),
        st.integers(-30, 30),
        st.sampled_from([A, B]),
        st.sampled_from([None, "record", "in_doubt"]),
    ),
)


@given(st.lists(outcomes, max_size=10), st.data())
def test_neither_order_nor_repeats_matter(steps: list[Outcome], data: st.DataObject) -> None:
    again = steps + data.draw(
        st.lists(st.sampled_from(steps), max_size=5) if steps else st.just([])
    )
    assert fold(data.draw(st.permutations(again))) == fold(steps)


@given(st.lists(outcomes, max_size=10))
def test_final_means_every_routed_delivery_is_final(steps: list[Outcome]) -> None:
    status = fold(steps)
    steps = list(latest_of_each(steps).values())
    wanted = {name for s in steps for name in s.destinations}
    done = {s.destination for s in steps if s.kind in FINAL}
    spoken = {s.destination for s in steps if s.destination}
    assert status.final == (bool(wanted) and wanted | spoken <= done)
    assert {d.destination for d in status.destinations} == wanted | spoken


def test_every_step_has_a_dutch_text_of_its_own() -> None:
    texts = [step_text(said(kind)) for kind in K]
    texts += [step_text(said(K.PARKED, reason=r)) for r in ("record", "in_doubt", "operator")]
    texts.append(step_text(said(K.REJECTED, code="skipped")))
    assert len(set(texts)) == len(texts)
    assert all(text.endswith(".") for text in texts)
    steps = fold([said(K.DELIVERED, at=2), routed()]).steps
    assert [s.text for s in steps] == [
        "Uw verzoek is onderweg naar de gemeente.",
        "Uw verzoek is bezorgd bij de gemeente.",
    ]


def test_record_id_is_of_event_destination_kind_and_attempt() -> None:
    first = said(K.PARKED, 1, at=1, reason="record")
    assert first.record_id == said(K.PARKED, 1, at=99).record_id
    others = [
        said(K.PARKED, 2),
        said(K.RESUMED, 1),
        said(K.PARKED, 1, to=B),
        Outcome.of(replace(ENVELOPE, id=str(uuid.uuid4())), K.PARKED, time=T0, destination=A),
    ]
    assert len({first.record_id, *(o.record_id for o in others)}) == 5
    # Written down: outcomes of today must be found again by a hub of tomorrow.
    assert (
        outcome_record_id("5b8f5f0e-6f0e-8c1d-9a55-0a1b2c3d4e5f", "GM0505/zaak", K.DELIVERED, 1)
        == "2199aff5-04d0-5ffd-8ac6-4774675a36c4"
    )


@pytest.mark.parametrize(
    "outcome",
    [
        routed(A, B),
        replace(said(K.REJECTED, 2, code="afgewezen"), status=422, text="besluit"),
        said(K.PARKED, reason="in_doubt"),
        QUARANTINED,
    ],
)
def test_an_outcome_survives_the_topic(outcome: Outcome) -> None:
    contract = Contract.load()
    decoded = contract.decode(contract.encode(OUTCOME, outcome.to_record()), OUTCOME)
    assert Outcome.from_record(decoded.record) == outcome


def test_a_kind_of_a_later_version_is_poison() -> None:
    record = {**said(K.DELIVERED).to_record(), "kind": "unknown"}
    with pytest.raises(Poison, match="kind that this version does not know; upgrade the worker"):
        Outcome.from_record(record)


def test_the_projection_is_found_by_event_and_by_reference(store: Store) -> None:
    status = StatusStore(store)
    other = replace(ENVELOPE, id=str(uuid.uuid4()), reference="0" * 17)
    status.project([said(K.DELIVERED, at=5), routed(A, B), Outcome.of(other, K.ROUTED, time=T0)])
    steps = status.steps(ENVELOPE.id)
    assert steps == [routed(A, B), said(K.DELIVERED, at=5)]
    assert status.steps(ENVELOPE.reference) == steps
    assert [s.event_id for s in status.steps("0" * 17)] == [other.id]
    assert status.steps(str(uuid.uuid4())) == []


async def test_projecting_again_changes_nothing(store: Store) -> None:
    status = StatusStore(store)
    batch = [routed(), said(K.PARKED, reason="record"), said(K.RESUMED, 2)]
    await status.aproject(batch)
    before = await status.asteps(ENVELOPE.id)
    await status.aproject(batch * 3)
    await status.aproject([])
    assert await status.asteps(ENVELOPE.id) == before
    assert len(before) == 3


def test_a_late_repeat_does_not_overwrite_a_younger_one(store: Store) -> None:
    status = StatusStore(store)
    younger, older = said(K.WAITING, at=9, code="new"), said(K.WAITING, at=1, code="old")
    status.project([younger])
    status.project([older])
    assert status.steps(ENVELOPE.id) == [younger]
    status.project([older, younger, older])
    assert status.steps(ENVELOPE.id) == [younger]


def test_a_thousand_at_once(store: Store) -> None:
    status = StatusStore(store)
    batch = [
        Outcome.of(replace(ENVELOPE, id=str(uuid.uuid4())), K.ROUTED, time=T0, destinations=[A])
        for _ in range(1000)
    ]
    status.project(batch)
    assert len(status.steps(ENVELOPE.reference)) == 1000


def test_a_store_that_is_away_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StoreAway):
        StatusStore(store).project([routed()])
