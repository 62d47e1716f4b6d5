"""The canary run (tests/live/test_canaries.py) leaves out no field that the schemas tag."""

from datetime import date

from hub.admission import AdmissionRequest
from hub.admission.bodies import parts_of
from hub.admission.formats import Rules
from hub.admission.reading import read
from hub.demo.people import load_places
from hub.gazetteer import Gazetteer
from hub.privacy import passes_eleven_test
from tests.live.canary_plan import BOUND, FREE, Plan, as_bytes, personal_fields, values_at


def test_every_tagged_field_has_canaries_or_a_reason() -> None:
    tagged = set(personal_fields())
    assert len(tagged) > 30
    new = tagged - FREE - set(BOUND)
    assert not new, f"plant canaries in canary_plan.py, or say in BOUND why not: {sorted(new)}"
    gone = (FREE | set(BOUND)) - tagged
    assert not gone, f"no schema tags these any more: {sorted(gone)}"
    assert not FREE & set(BOUND)


def test_every_free_field_gets_its_own_token_in_every_request() -> None:
    gazetteer = Gazetteer.load()
    plan = Plan(load_places(gazetteer)[:1])
    place = plan.places[0]
    requests = list(plan.stream(place, 25))
    rules = Rules(date.max, gazetteer.report_categories)
    held: dict[tuple[str, str], list[object]] = {at: [] for at in FREE}
    for request in requests:
        rules.people.clear()
        for part in parts_of(read(AdmissionRequest(as_bytes(request)), rules)):
            for at in FREE:
                if at[0] == part.schema and (value := values_at(part.record, at[1])) is not None:
                    held[at].append(value)
    for at, values in held.items():
        assert len(values) >= 25, at
        assert len(set(values)) == len(values), at
        assert set(values) == plan.planted[at], at
        for value in values:
            assert any(str(token) in str(value) for token in plan.tokens.labels), at


def test_tokens_for_people_are_numbers_that_people_have() -> None:
    tokens = Plan(()).tokens
    assert passes_eleven_test(tokens.bsn("a"))
    assert not passes_eleven_test(tokens.bsn("b", valid=False))
    assert len(tokens.labels) == 2
