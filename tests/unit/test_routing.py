from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import Away, Refused
from hub.event import PUBLIC_SPACE_REPORT, RELOCATION, Authentication, Envelope, Payment
from hub.routing import EVERY_MUNICIPALITY, Route, RouteTable, route
from hub.topics import QueueName

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return T0 + timedelta(days=number)


def row(
    destination: str,
    valid_from: datetime = T0,
    *,
    service: str = RELOCATION,
    handler: str = "GM0505",
    recorded_at: datetime = T0,
) -> Route:
    return Route(service, handler, destination, valid_from, recorded_at)


def admitted(
    table: RouteTable,
    at: datetime,
    *,
    service: str = RELOCATION,
    handler: str = "GM0505",
    version: str | None = None,
) -> Envelope:
    """An envelope as admission under `table` makes it."""
    return Envelope(
        id="5b8f5f0e-6f0e-8c1d-9a55-0a1b2c3d4e5f",
        source="https://www.dordrecht.example",
        type="nl.midoffice.relocation.reported.v1",
        time=at,
        reference="7K3M9QXA2B4C5D6E7",
        origin="GM0505",
        municipality_code=handler,
        service=service,
        product="",
        subject_ref="8d7a3f0e-1111-4222-8333-444455556666",
        intake_channel="api",
        admitted_at=at,
        route_version=table.version_at(at) if version is None else version,
        body_schema="",
        traceparent="",
        authentication=Authentication("none"),
        payment=Payment("not_needed"),
        attachments=(),
        parts=(),
    )


routes = st.builds(
    row,
    st.sampled_from(["a", "b", "c"]),
    st.integers(-3, 3).map(day),
    service=st.sampled_from([RELOCATION, PUBLIC_SPACE_REPORT]),
    handler=st.sampled_from(["GM0505", "GM0268", EVERY_MUNICIPALITY]),
    recorded_at=st.integers(-3, 3).map(day),
)
tables = st.lists(routes, max_size=8)
moments = st.integers(-8, 8).map(lambda half: T0 + timedelta(hours=12 * half))


def test_the_row_valid_last_counts_and_of_equals_the_one_further_down() -> None:
    table = RouteTable(
        [row("new", day(2)), row("old", day(1)), row("older", day(1)), row("far", day(9))]
    )
    chosen = [table.choose(RELOCATION, "GM0505", day(n)) for n in range(4)]
    assert [c and c.destination for c in chosen] == [None, "older", "new", "new"]


def test_a_row_that_names_the_handler_goes_before_one_for_all() -> None:
    table = RouteTable([row("own", day(1)), row("shared", day(2), handler=EVERY_MUNICIPALITY)])
    assert route(admitted(table, day(3)), table) == (QueueName("GM0505", "own"),)
    assert route(admitted(table, day(3), handler="GM0268"), table) == (
        QueueName("GM0268", "shared"),
    )


def test_a_row_counts_from_its_very_moment_on() -> None:
    table = RouteTable([row("a", day(1))])
    assert table.choose(RELOCATION, "GM0505", day(1) - timedelta(microseconds=1)) is None
    assert table.choose(RELOCATION, "GM0505", day(1)) is not None


@given(tables, moments)
def test_choice_is_what_the_decision_says(rows: list[Route], at: datetime) -> None:
    """Greatest (valid_from, line) not after `at`; the exact handler before `*`."""
    wanted = None
    for handler in (EVERY_MUNICIPALITY, "GM0505"):
        fits = [
            (r.valid_from, line, r)
            for line, r in enumerate(rows)
            if (r.service, r.handler) == (RELOCATION, handler) and r.valid_from <= at
        ]
        wanted = max(fits)[2] if fits else wanted
    assert RouteTable(rows).choose(RELOCATION, "GM0505", at) == wanted


def outcome(envelope: Envelope, table: RouteTable) -> tuple[QueueName, ...] | str:
    try:
        return route(envelope, table)
    except Refused as refused:
        return refused.code


@given(tables, tables, moments)
def test_appending_any_rows_changes_no_request_admitted_before(
    before: list[Route], appended: list[Route], at: datetime
) -> None:
    """Also rows that are dated back to before the request was admitted."""
    then, now = RouteTable(before), RouteTable([*before, *appended])
    envelope = admitted(then, at)
    assert outcome(envelope, now) == outcome(envelope, then)


@given(tables, tables, moments)
def test_rows_of_later_change_neither_choice_nor_version_of_now(
    before: list[Route], appended: list[Route], at: datetime
) -> None:
    later = [r for r in appended if r.valid_from > at]
    then, now = RouteTable(before), RouteTable([*before, *later])
    assert now.version_at(at) == then.version_at(at)
    for handler in ("GM0505", "GM0268"):
        assert now.choose(RELOCATION, handler, at) == then.choose(RELOCATION, handler, at)


@given(tables, routes, moments)
def test_a_row_that_counts_makes_another_version(
    rows: list[Route], extra: Route, at: datetime
) -> None:
    same = RouteTable(rows).version_at(at) == RouteTable([*rows, extra]).version_at(at)
    assert same == (extra.valid_from > at)


def test_version_does_not_depend_on_how_or_where_a_row_is_written() -> None:
    amsterdam = timezone(timedelta(hours=1))
    here = row("a", day(1), recorded_at=day(0))
    there = Route(
        RELOCATION, "GM0505", "a", day(1).astimezone(amsterdam), day(0).astimezone(amsterdam), 99
    )
    assert RouteTable([here]).version_at(day(2)) == RouteTable([there]).version_at(day(2))


def test_an_edited_row_stops_the_request_instead_of_sending_it_elsewhere() -> None:
    envelope = admitted(RouteTable([row("old"), row("other", service="x")]), day(1))
    edited = RouteTable([row("new"), row("other", service="x")])
    with pytest.raises(Away, match="no row edited or taken out, and restart the worker"):
        route(envelope, edited)
    with pytest.raises(Away):
        route(envelope, RouteTable([row("old")]))  # a worker behind intake
    with pytest.raises(Away):
        route(admitted(edited, day(1), version=""), edited)


def test_no_route_is_refused_with_what_to_do() -> None:
    table = RouteTable([row("a", service=PUBLIC_SPACE_REPORT)])
    with pytest.raises(Refused, match=r"no route for relocation of GM0505 .*append a row") as no:
        route(admitted(table, day(1)), table)
    assert no.value.code == "no_route"
    assert outcome(admitted(RouteTable([]), T0), RouteTable([])) == "no_route"
