"""The BSN as a type that does not leak, and text of others masked."""

import json
import logging
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from hub.privacy import Bsn, passes_eleven_test, redact

# Test persons' numbers of RvIG.
GOOD = ["999993653", "999990019", "999992806", "999991905"]


def as_bsn(first_eight: str) -> str | None:
    """The BSN that begins so; one in eleven has none (its last digit would be ten)."""
    last = sum((9 - i) * int(digit) for i, digit in enumerate(first_eight)) % 11
    return None if last == 10 or first_eight + str(last) == "000000000" else f"{first_eight}{last}"


numbers = st.text("0123456789", min_size=8, max_size=8).map(as_bsn).filter(bool).map(str)


@given(numbers)
def test_numbers_made_to_fit_pass(number: str) -> None:
    assert passes_eleven_test(number)


@given(number=numbers, place=st.integers(0, 8), digit=st.sampled_from("0123456789"))
def test_one_wrong_digit_fails(number: str, place: int, digit: str) -> None:
    wrong = number[:place] + digit + number[place + 1 :]
    assert passes_eleven_test(wrong) == (wrong == number)


@given(number=numbers, place=st.integers(0, 7))
def test_swapped_neighbours_fail(number: str, place: int) -> None:
    swapped = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    assert passes_eleven_test(swapped) == (swapped == number)


@pytest.mark.parametrize("text", GOOD)
def test_test_persons_pass(text: str) -> None:
    assert passes_eleven_test(text)


@pytest.mark.parametrize(
    "text",
    ["", "000000000", "123456789", "99999365", "9999936530", "99999365a", "٩٩٩٩٩٣٦٥٣", "-99993653"],
)
def test_what_is_no_bsn_fails(text: str) -> None:
    assert not passes_eleven_test(text)


def test_a_bsn_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    class Person(BaseModel):
        bsn: Bsn

    bsn = Bsn(GOOD[0])
    person = Person.model_validate({"bsn": GOOD[0]})
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("bsn %s %r", bsn, bsn)
    trace = "".join(traceback.format_exception(LookupError(bsn)))
    shown = [str(bsn), repr(bsn), f"{bsn}", f"{bsn!r}", "%s" % bsn, repr([bsn]), repr({bsn: bsn})]  # noqa: UP031 - each way
    shown += [repr(person), str(person), caplog.text, trace]
    assert not [text for text in shown if GOOD[0] in text]
    assert not hasattr(bsn, "__dict__")
    with pytest.raises(TypeError):
        json.dumps(bsn)
    assert bsn.reveal() == GOOD[0]


def test_equal_numbers_are_equal_and_text_is_not_a_bsn() -> None:
    assert Bsn(GOOD[0]) == Bsn(GOOD[0])
    assert len({Bsn(GOOD[0]), Bsn(GOOD[0]), Bsn(GOOD[1])}) == 2
    assert Bsn(GOOD[0]) != GOOD[0]


def test_eight_digits_get_their_zero_back() -> None:
    eight = next(n for i in range(100) if (n := as_bsn(f"012345{i:02}")))[1:]
    assert Bsn(eight).reveal() == "0" + eight
    assert Bsn(eight) == Bsn("0" + eight)


@pytest.mark.parametrize("text", ["123456789", "1234567", "", "9999936530", "abcdefghi"])
def test_a_refusal_does_not_quote_the_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid BSN") as caught:
        Bsn(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    "given_value", ["123456789", "12345", "x" * 9, 999993653, None, "٩٩٩٩٩٣٦٥٣"]
)
def test_a_refused_field_shows_no_value_the_way_the_hub_asks(given_value: object) -> None:
    class Person(BaseModel):
        bsn: Bsn

    with pytest.raises(ValidationError) as caught:
        Person.model_validate({"bsn": given_value})
    assert str(given_value) not in str(caught.value.errors(include_input=False, include_url=False))


# Text of others


@given(number=numbers, before=st.text(), after=st.text())
def test_any_bsn_that_stands_by_itself_is_masked(number: str, before: str, after: str) -> None:
    assert number not in redact(f"{before}|{number}|{after}")


@pytest.mark.parametrize(
    "text",
    [
        '{{"bsn":"{0}"}}',
        "bsn={0}&x=1",
        "bsn%3D{0}",
        "/personen?q=van%20{0}%20of",
        "<bsn>{0}</bsn>",
        "bsn{0}x",
        "{0}",
        "12-{0}-12",
    ],
)
def test_a_bsn_is_found_where_back_offices_put_it(text: str) -> None:
    assert redact(text.format(GOOD[0])) == text.format("*********")


def test_eight_digits_that_were_a_bsn_with_a_zero_are_masked() -> None:
    eight = next(n for i in range(100) if (n := as_bsn(f"012345{i:02}")))[1:]
    assert redact(f'{{"bsn": {eight}}}') == '{"bsn": *********}'


@pytest.mark.parametrize(
    "text",
    [
        "event 6245af6e-1408-8d54-a74e-0999993653bc parked",
        "event 6245af6e-1408-8d54-a74e-a999993653bc parked",
        "00-a999993653b34da6a3ce929d0e0e4736-00a999993653b2b7-01",
        "a" * 54 + "b999993653",
        "offset 123456789",
        "1764500999993653",
        "GM0363 3077AW 31",
    ],
)
def test_ids_and_other_numbers_stay_readable(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)
