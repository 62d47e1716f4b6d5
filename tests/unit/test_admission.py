"""One function for every door: rules 1 to 3 of the design, at each line where it can stop."""

import asyncio
import json
import threading
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from hub.admission import (
    Admission,
    AdmissionRequest,
    KeyReused,
    Principal,
    SubjectErased,
    erase_subject,
)
from hub.admission import admission as admission_module
from hub.admission.rows import AdmissionState
from hub.configuration import Configuration, RouteTable
from hub.errors import BrokerAway, Erased, Refused, StoreAway
from hub.faults import NONE, Faults
from hub.keys import KeyStore, SubjectKind
from hub.topics import REQUESTS
from tests.desk import (
    AMSTERDAM,
    BLARICUM,
    HUIZEN,
    LAREN,
    MOON,
    ROTTERDAM,
    SUN,
    Desk,
    relocation,
    report,
)


def posted(body: dict[str, Any]) -> AdmissionRequest:
    return AdmissionRequest(json.dumps(body).encode())


async def admit(desk: Desk, body: dict[str, Any], key: str = "k", **principal: str) -> Any:
    who = Principal(principal.get("tenant", AMSTERDAM), principal.get("client", "website"))
    return await desk.admission.admit(who, posted(body), key)


async def test_a_relocation_stands_sealed_on_requests(desk: Desk) -> None:
    admitted = await admit(desk, relocation())
    (envelope,) = desk.envelopes()
    assert (envelope.id, envelope.reference) == (admitted.id, admitted.reference)
    assert (envelope.origin, envelope.municipality_code) == (AMSTERDAM, AMSTERDAM)
    assert envelope.service == "relocation"
    assert envelope.product.endswith("/verhuismelding")
    assert envelope.source == "urn:nld:oin:00000001002564440000:systeem:website"
    assert envelope.effective_date == date(2026, 12, 1)
    assert envelope.admitted_at == desk.now
    assert envelope.route_version == desk.configuration.routes.version_at(desk.now)
    assert envelope.body_schema == "nl.midoffice.relocation.RelocationReported.v1"
    assert (envelope.authentication.means, envelope.authentication.level) == (
        "digid",
        "substantial",
    )
    (topic, key, _) = desk.producer.records[0]
    assert (topic, key) == (REQUESTS, envelope.subject_ref.encode())
    assert desk.producer.headers[0]["ce_id"] == admitted.id.encode()


async def test_nothing_readable_leaves_the_door(desk: Desk) -> None:
    await admit(desk, relocation(), key="sleutel-van-zon")
    await admit(desk, report(aanvrager={"bsn": MOON}), key="k2")
    files = [path for path in Path(desk.folder).rglob("*") if path.is_file()]
    stored = b"".join(path.read_bytes() for path in files)
    sent = b"".join(key + value for _, key, value in desk.producer.records)
    headers = b"".join(b"".join(h.values()) for h in desk.producer.headers)
    assert b"RelocationReported" in sent, "the search finds nothing"
    assert AMSTERDAM.encode() in stored, "the search finds nothing"
    for secret in (SUN, MOON, "zon@voorbeeld.nl", "bank op de stoep", "Boterdiep", "3077AW"):
        assert secret.encode() not in stored + sent + headers
    assert b"sleutel-van-zon" not in stored + sent + headers


async def test_each_person_has_a_part_under_a_key_of_their_own(desk: Desk) -> None:
    await admit(desk, relocation())
    (envelope,) = desk.envelopes()
    applicant, child = desk.opened(envelope)
    assert applicant["applicant"] == {"bsn": SUN}
    assert applicant["new_address"]["postcode"] == "1011AB"
    assert child == {"bsn": MOON, "relation": "child"}
    assert MOON not in str(applicant)
    refs = [part.subject_ref for part in envelope.parts]
    assert refs == [desk.keys.find(AMSTERDAM, SubjectKind.PERSON, bsn) for bsn in (SUN, MOON)]
    desk.keys.erase(AMSTERDAM, refs[1])
    with pytest.raises(Erased):
        desk.opened(envelope)


@pytest.mark.parametrize(
    ("applicant", "kind", "identity"),
    [
        ({"bsn": SUN}, SubjectKind.PERSON, SUN),
        ({"bsn": SUN, "contact": {"naam": "Zon"}}, SubjectKind.PERSON, SUN),
        ({"kvk": "12345678"}, SubjectKind.ORGANISATION, "12345678"),
        ({"contact": {"naam": "Zon", "email": "zon@voorbeeld.nl"}}, SubjectKind.REQUEST, None),
        ({}, SubjectKind.REQUEST, None),
    ],
)
async def test_whom_a_report_is_about(
    desk: Desk, applicant: Any, kind: SubjectKind, identity: str | None
) -> None:
    admitted = await admit(desk, report(aanvrager=applicant))
    (envelope,) = desk.envelopes()
    assert envelope.subject_ref == desk.keys.find(AMSTERDAM, kind, identity or admitted.id)
    (part,) = desk.opened(envelope)
    assert (part["reporter"] is None) == (applicant == {})
    assert part["observed_at"] == datetime(2026, 11, 23, 9, tzinfo=UTC)


async def test_the_handler_holds_keys_and_lane_whoever_posts(desk: Desk) -> None:
    """Decision 11: two websites that post for one citizen to one handler share a lane."""
    await admit(desk, relocation(), key="a", tenant=AMSTERDAM)
    await admit(desk, relocation(), key="a", tenant=ROTTERDAM)
    first, second = desk.envelopes()
    assert first.id != second.id
    assert (first.origin, second.origin) == (AMSTERDAM, ROTTERDAM)
    assert first.subject_ref == second.subject_ref
    assert desk.keys.find(ROTTERDAM, SubjectKind.PERSON, SUN) is None
    assert len(desk.opened(second)) == 2


async def test_a_repeat_has_the_same_ids_and_is_not_sent_again(desk: Desk) -> None:
    first = await admit(desk, relocation())
    again = await admit(desk, relocation(**{"gegevens.nieuwAdres.postcode": "1011AB"}))
    assert (again.id, again.reference) == (first.id, first.reference)
    assert (first.repeat, again.repeat) == (False, True)
    assert len(desk.producer.records) == len(desk.rows()) == 1


async def test_keys_of_others_are_others(desk: Desk) -> None:
    ids = {
        (await admit(desk, relocation(), key, tenant=tenant, client=client)).id
        for key, tenant, client in (
            ("k", AMSTERDAM, "website"),
            ("k2", AMSTERDAM, "website"),
            ("k", AMSTERDAM, "formulieren"),
            ("k", ROTTERDAM, "website"),
        )
    }
    assert len(ids) == 4


async def test_one_key_at_once_from_many_gives_one_row(desk: Desk) -> None:
    answers = await asyncio.gather(*(admit(desk, relocation()) for _ in range(20)))
    assert len({a.id for a in answers}) == len(desk.rows()) == 1
    assert sum(not a.repeat for a in answers) == 1
    assert len({value for _, _, value in desk.producer.records}) == 1


async def test_one_key_at_once_from_two_processes_gives_one_row(make_desk: Any) -> None:
    here, there = make_desk(), make_desk()
    answers = await asyncio.gather(
        *(admit(desk, relocation()) for desk in (here, there) for _ in range(5))
    )
    assert len({a.id for a in answers}) == len(here.rows()) == 1
    sent = here.producer.records + there.producer.records
    assert len({value for _, _, value in sent}) == 1


async def test_a_key_with_another_body_is_refused(desk: Desk) -> None:
    await admit(desk, relocation())
    for other in (relocation(**{"gegevens.verhuisdatum": "2026-12-02"}), report()):
        with pytest.raises(KeyReused):
            await admit(desk, other)
    assert len(desk.producer.records) == 1


async def test_a_pending_row_is_produced_again_before_the_answer(desk: Desk) -> None:
    desk.producer.away = True
    with pytest.raises(BrokerAway):
        await admit(desk, relocation())
    (row,) = desk.rows()
    assert row.state == AdmissionState.PENDING
    desk.producer.away = False
    admitted = await admit(desk, relocation())
    assert (admitted.id, admitted.reference) == (row.id, row.reference)
    (envelope,) = desk.envelopes()
    assert envelope.id == row.id
    assert desk.row(row.reference).state is AdmissionState.ACCEPTED


async def test_no_answer_before_the_ack_and_the_mark(desk: Desk) -> None:
    desk.producer.acks = asyncio.Event()
    first, second = (asyncio.create_task(admit(desk, relocation())) for _ in range(2))
    while len(desk.producer.records) < 2:
        await asyncio.sleep(0)
    assert desk.rows()[0].state == AdmissionState.PENDING
    assert not first.done()
    assert not second.done()
    desk.producer.acks.set()
    answers = [await first, await second]
    assert desk.rows()[0].state == AdmissionState.ACCEPTED
    assert len({a.id for a in answers}) == 1


async def test_sealed_bytes_go_once_kafka_has_them(desk: Desk) -> None:
    admitted = await admit(desk, relocation())
    assert desk.row(admitted.reference).sealed is None


async def test_another_body_does_not_pass_as_a_repeat_of_a_pending_one(desk: Desk) -> None:
    desk.producer.away = True
    with pytest.raises(BrokerAway):
        await admit(desk, relocation())
    desk.producer.away = False
    with pytest.raises(KeyReused):
        await admit(desk, relocation(gemeente=AMSTERDAM))
    assert desk.producer.records == []


async def test_what_was_accepted_is_not_refused_later(desk: Desk) -> None:
    """Another day, a route taken out: a repeat still gets the first answer."""
    first = await admit(desk, relocation(**{"gegevens.verhuisdatum": "2026-12-21"}))
    desk.later(days=-2)
    desk.configuration = Configuration(RouteTable(()), {}, desk.configuration.tenants)
    desk.admission = desk.make_admission(desk.producer)
    again = await admit(desk, relocation(**{"gegevens.verhuisdatum": "2026-12-21"}))
    assert (again.id, again.repeat) == (first.id, True)
    with pytest.raises(KeyReused):
        await admit(desk, relocation(**{"gegevens.verhuisdatum": "2026-12-22"}))
    with pytest.raises(Refused):
        await admit(desk, relocation(**{"gegevens.verhuisdatum": "2026-12-21"}), key="new")


async def test_a_replaced_id_key_changes_no_known_id(desk: Desk) -> None:
    first = await admit(desk, relocation())
    desk.keys._file.id_key = b"\x01" * 32
    assert (await admit(desk, relocation())).id == first.id
    assert (await admit(desk, relocation(), key="k2")).id != first.id


async def test_after_erasure_a_repeat_is_gone(desk: Desk) -> None:
    admitted = await admit(desk, relocation())
    row = desk.row(admitted.reference)
    erase_subject(desk.store, desk.keys, row.municipality_code, row.subject_ref)
    with pytest.raises(SubjectErased) as caught:
        await admit(desk, relocation())
    assert caught.value.reference == admitted.reference
    assert desk.row(admitted.reference).body_mark is None
    later = await admit(desk, relocation(), key="k2")
    assert desk.row(later.reference).subject_ref != row.subject_ref
    erase_subject(desk.store, desk.keys, row.municipality_code, row.subject_ref)


async def test_a_key_store_erasure_alone_is_enough(desk: Desk) -> None:
    admitted = await admit(desk, relocation())
    desk.keys.erase(AMSTERDAM, desk.row(admitted.reference).subject_ref)
    with pytest.raises(SubjectErased):
        await admit(desk, relocation())


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "a\x00b"])
async def test_keys_without_shape_are_refused(desk: Desk, key: str) -> None:
    with pytest.raises(Refused, match="idempotency_key_invalid"):
        await admit(desk, relocation(), key=key)


async def test_a_route_must_exist(desk: Desk) -> None:
    body = relocation(**{"gegevens.nieuwAdres.postcode": "1251AA"})
    with pytest.raises(Refused) as caught:
        await admit(desk, body)
    assert (caught.value.code, caught.value.candidates) == ("no_route", (LAREN,))
    assert desk.rows() == []


@pytest.mark.parametrize(
    ("now", "day", "accepted"),
    [
        # 22:59 UTC is 23:59 here, 23:01 UTC is the next day.
        (datetime(2026, 11, 22, 22, 59, tzinfo=UTC), "2026-12-20", True),
        (datetime(2026, 11, 22, 22, 59, tzinfo=UTC), "2026-12-21", False),
        (datetime(2026, 11, 22, 23, 1, tzinfo=UTC), "2026-12-21", True),
        # Summer time ends in between: days are counted, not hours.
        (datetime(2026, 10, 10, 21, 59, tzinfo=UTC), "2026-11-07", True),
        (datetime(2026, 10, 10, 21, 59, tzinfo=UTC), "2026-11-08", False),
        (datetime(2026, 11, 22, 12, 0, tzinfo=UTC), "2020-02-29", True),
    ],
)
async def test_twenty_eight_days_are_counted_here(
    desk: Desk, now: datetime, day: str, accepted: bool
) -> None:
    desk.now = now
    body = relocation(**{"gegevens.verhuisdatum": day})
    if accepted:
        await admit(desk, body)
    else:
        with pytest.raises(Refused):
            await admit(desk, body)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01; naam=Zon", False),
        ("Zon", False),
        (None, False),
    ],
)
async def test_only_a_trace_of_the_right_shape_is_taken_over(
    desk: Desk, principal: Principal, given: str | None, kept: bool
) -> None:
    await desk.admission.admit(principal, posted(relocation()), "k", given)
    (envelope,) = desk.envelopes()
    assert (envelope.traceparent == given) == kept
    assert admission_module._TRACEPARENT.fullmatch(envelope.traceparent)


async def test_a_choice_among_candidates_decides(desk: Desk) -> None:
    body = relocation(**{"gegevens.nieuwAdres.postcode": "1261AA"})
    with pytest.raises(Refused) as caught:
        await admit(desk, body)
    assert BLARICUM in caught.value.candidates
    chosen = relocation(**{"gegevens.nieuwAdres.postcode": "1261AA", "gemeente": HUIZEN})
    admitted = await admit(desk, chosen)
    assert desk.row(admitted.reference).municipality_code == HUIZEN


async def test_a_key_store_that_is_away_leaves_nothing_behind(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: Any) -> None:
        raise StoreAway("keys: away")

    monkeypatch.setattr(KeyStore, "seal", away)
    with pytest.raises(StoreAway):
        await admit(desk, relocation())
    monkeypatch.undo()
    assert desk.rows() == []
    assert desk.keys.find(AMSTERDAM, SubjectKind.PERSON, SUN) is None
    await admit(desk, relocation())


class Ended(Exception):
    """This process is gone."""


class Kills(Faults):
    """Ends at a point, as `os._exit` would: nothing after it runs."""

    def __init__(self, point: str) -> None:
        super().__init__(point, None, Path())

    def crash(self, point: str) -> None:
        if point == self._point:
            raise Ended(point)


@pytest.mark.parametrize(
    ("point", "rows", "sent"),
    [
        ("admission.before_commit", 0, 0),
        ("admission.after_commit", 1, 0),
        ("admission.after_produce", 1, 1),
        ("admission.after_mark", 1, 1),
    ],
)
async def test_a_kill_at_each_point_and_a_repeat(
    desk: Desk, point: str, rows: int, sent: int
) -> None:
    """The website has no answer, and sends again: one row, one id, at least one record."""
    desk.admission = _dying(desk, Kills(point))
    with pytest.raises(Ended):
        await admit(desk, relocation())
    assert (len(desk.rows()), len(desk.producer.records)) == (rows, sent)
    desk.admission = _dying(desk, NONE)
    admitted = await admit(desk, relocation())
    assert admitted.repeat == bool(rows)
    assert [row.id for row in desk.rows()] == [admitted.id]
    assert {envelope.id for envelope in desk.envelopes()} == {admitted.id}
    assert desk.row(admitted.reference).state is AdmissionState.ACCEPTED


def _dying(desk: Desk, faults: Faults) -> Admission:
    return Admission(
        desk.store,
        desk.keys,
        desk.contract,
        desk.configuration,
        desk.gazetteer,
        desk.producer,
        faults,
        now=lambda: desk.now,
    )


async def test_many_admissions_share_transactions(desk: Desk) -> None:
    """No fsync of its own for each request: what waits for the writer goes in one."""
    groups: list[int] = []
    transact = desk.store._transact

    def counted(group: Any) -> None:
        groups.append(len(group))
        transact(group)

    desk.store._transact = counted  # type: ignore[method-assign] # counts, changes nothing
    inside, gate = threading.Event(), threading.Event()
    busy = desk.store.write(lambda _: inside.set() or gate.wait(60))
    # Before that, the writer might take the first of them along.
    assert await asyncio.to_thread(inside.wait, 60)
    answers = [asyncio.create_task(admit(desk, report(), key=f"k{n}")) for n in range(100)]
    while desk.store._jobs.qsize() < 100:
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*answers)
    assert busy.result()
    assert len(desk.rows()) == 100
    assert max(groups) > 10


async def test_a_failed_admission_says_no_secret(desk: Desk) -> None:
    desk.producer.away = True
    with pytest.raises(BrokerAway) as caught:
        await admit(desk, relocation())
    assert SUN not in str(caught.value)
