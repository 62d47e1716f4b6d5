"""Ids that every repeat carries, references that survive being read aloud, envelopes whole."""

import hmac
import re
import uuid
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.event import (
    CROCKFORD,
    Attachment,
    Authentication,
    Envelope,
    Part,
    Payment,
    check_character,
    length_prefixed,
    mint,
    read_reference,
    show_reference,
)

KEY = bytes(range(32))
references = st.text(CROCKFORD, min_size=16, max_size=16).map(lambda b: b + check_character(b))
requests = st.tuples(st.text(), st.text(), st.text())


def test_a_known_id_and_reference() -> None:
    """If this fails, a repeat of an old request would be admitted as a new one."""
    minted = mint(KEY, "GM0363", "website", "order-1")
    assert minted.id == "6245af6e-1408-8d54-a74e-09eede13419b"
    assert minted.reference == "E72FWC9WRR1SXGR2Q"


def test_an_id_is_the_hmac_of_decision_13_in_a_uuid_of_version_8() -> None:
    minted = mint(KEY, "GM0363", "website", "order-1")
    message = b"id" + b"".join(
        len(word).to_bytes(4, "big") + word for word in (b"GM0363", b"website", b"order-1")
    )
    digest = bytearray(hmac.digest(KEY, message, sha256)[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    assert minted.id == str(uuid.UUID(bytes=bytes(digest)))
    assert uuid.UUID(minted.id).version == 8
    assert uuid.UUID(minted.id).variant == uuid.RFC_4122


def test_a_reference_is_80_bits_of_decision_13() -> None:
    bits = 0
    for character in mint(KEY, "GM0363", "website", "order-1").reference[:16]:
        bits = bits * 32 + CROCKFORD.index(character)
    message = b"ref" + length_prefixed("GM0363", "website", "order-1")
    assert bits.to_bytes(10, "big") == hmac.digest(KEY, message, sha256)[:10]


@given(one=requests, other=requests)
def test_ids_are_equal_for_equal_requests_only(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    first, second = mint(KEY, *one), mint(KEY, *other)
    assert (first == second) == (one == other)
    assert (first.id == second.id) == (first.reference == second.reference)
    assert mint(KEY[::-1], *one).id != first.id


@given(one=st.lists(st.text()), other=st.lists(st.text()))
def test_no_two_lists_have_the_same_bytes(one: list[str], other: list[str]) -> None:
    assert (length_prefixed(*one) == length_prefixed(*other)) == (one == other)


def test_words_that_run_together_stay_apart() -> None:
    assert mint(KEY, "GM0363", "ab", "c") != mint(KEY, "GM0363", "a", "bc")


@given(references)
def test_a_reference_is_read_as_it_is_shown(reference: str) -> None:
    shown = show_reference(reference)
    assert re.fullmatch(r"(....-){4}.", shown)
    assert read_reference(shown) == reference
    assert read_reference(f" {shown.lower()} ") == reference
    assert read_reference(shown.replace("0", "O").replace("1", "l")) == reference
    assert read_reference(shown.replace("0", "o").replace("1", "i")) == reference


@given(reference=references, place=st.integers(0, 16), character=st.sampled_from(CROCKFORD))
def test_one_wrong_character_is_found(reference: str, place: int, character: str) -> None:
    wrong = reference[:place] + character + reference[place + 1 :]
    if wrong != reference:
        with pytest.raises(ValueError, match="check character"):
            read_reference(wrong)


@given(reference=references, place=st.integers(0, 15))
def test_swapped_neighbours_are_found(reference: str, place: int) -> None:
    one, other = reference[place], reference[place + 1]
    swapped = reference[:place] + other + one + reference[place + 2 :]
    # 0 and Z are to Luhn mod 32 what 0 and 9 are to a bank card: the one swap it cannot see.
    if swapped != reference and {one, other} != {"0", "Z"}:
        with pytest.raises(ValueError, match="check character"):
            read_reference(swapped)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "17 characters, not 0"),
        ("7K3M", "17 characters, not 4"),
        ("0" * 18, "17 characters, not 18"),
        ("U" * 17, "other than I, L, O and U"),
        ("é" * 17, "other than I, L, O and U"),
        ("0" * 16 + "1", "misread or swapped"),
    ],
)
def test_what_is_wrong_with_a_reference_is_said(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_reference(text)


ENVELOPE = Envelope(
    id="0f9c3a5e-6f1d-8a41-9c55-2f0e6b1d7a90",
    source="/GM0363/website",
    type="nl.midoffice.relocation.reported",
    time=datetime(2026, 11, 23, 9, tzinfo=UTC),
    reference="0" * 17,
    origin="GM0344",
    municipality_code="GM0363",
    service="relocation",
    product="UPL:verhuismelding",
    subject_ref="a929605a-8728-45a0-a872-5ce7cc26fd36",
    intake_channel="http",
    admitted_at=datetime(2026, 11, 23, 9, 0, 1, tzinfo=UTC),
    route_version="f00d",
    body_schema="nl.midoffice.relocation.RelocationReported.v1",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    authentication=Authentication("digid", "substantieel"),
    payment=Payment("paid", 1425),
    attachments=(Attachment("file-1", "image/jpeg", 123, "00" * 32),),
    parts=(Part("a929605a", b"\x01sealed"), Part("other", b"\x01too")),
    effective_date=date(2026, 12, 1),
)


@pytest.mark.parametrize(
    "envelope",
    [
        ENVELOPE,
        replace(ENVELOPE, attachments=(), parts=(), effective_date=None, causation_id="cause"),
    ],
)
def test_an_envelope_survives_its_record(envelope: Envelope) -> None:
    record = envelope.to_record()
    assert set(record) == {field.name for field in fields(Envelope)}
    assert Envelope.from_record(record) == envelope
    assert Envelope.from_record(record | {"a field of a later version": 1}) == envelope


def test_a_record_is_plain_data() -> None:
    record = ENVELOPE.to_record()
    assert record["authentication"] == {"means": "digid", "level": "substantieel", "mandate": None}
    assert record["parts"][0] == {"subject_ref": "a929605a", "ciphertext": b"\x01sealed"}
