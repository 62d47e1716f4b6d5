"""Watermark, bitmap, commit metadata and known ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery.progress import (
    METADATA_CAP,
    READ_BACK_RECORDS,
    READ_BACK_SECONDS,
    WINDOW,
    Mark,
    Progress,
    SeenIds,
    read_metadata,
    write_metadata,
)


@given(
    st.builds(
        Mark,
        st.integers(0, 10**15),
        st.booleans(),
        st.integers(0, 2**WINDOW - 1),
    )
)
def test_metadata_comes_back_and_fits(mark: Mark) -> None:
    text = write_metadata(mark)
    assert len(text) <= METADATA_CAP
    assert text.isascii()
    assert read_metadata(text) == mark
    assert read_metadata(text + "\0") == mark


@pytest.mark.parametrize(
    "text", ["", "1:2:c", "2:1:c:", "1:x:c:", "1:1:x:", "1:1:c:a", "1:1:c:?!", "1:-1:c:", "1:1:c: "]
)
def test_metadata_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="metadata"):
        read_metadata(text)


@given(st.integers(0, 1000), st.permutations(range(40)), st.integers(0, 40))
def test_what_is_done_is_what_was_marked(start: int, order: list[int], many: int) -> None:
    progress = Progress(start)
    for i in range(40):
        progress.take(start + i)
    done = {start + i for i in order[:many]}
    for offset in done:
        progress.done(offset)
    assert {start + i for i in range(40) if progress.is_done(start + i)} == done
    assert progress.watermark == min({start + i for i in range(41)} - done)
    assert not progress.bits & 1
    # The next owner finds the same.
    again = Progress(
        progress.watermark, read_metadata(write_metadata(Mark(1, False, progress.bits))).bits
    )
    assert {start + i for i in range(40) if again.is_done(start + i)} == done


def test_done_offsets_of_an_earlier_owner_are_passed_over_when_taken() -> None:
    progress = Progress(10, 0b110)
    progress.take(10)
    progress.done(10)
    assert progress.watermark == 13
    for offset in (11, 12, 13):
        progress.take(offset)
    assert not progress.is_done(13)
    assert progress.span == 1


def test_seen_ids_keep_an_hour_and_ten_thousand_records_below_the_watermark() -> None:
    seen = SeenIds()
    records = READ_BACK_RECORDS + 100
    for offset in range(records):
        seen.add(offset, float(offset), f"e{offset}")
    seen.forget_before(records, 100.0 + READ_BACK_SECONDS)
    assert len(seen) == READ_BACK_RECORDS, "old enough, and beyond the ten thousand"
    seen.forget_before(records, 1e9)
    assert len(seen) == READ_BACK_RECORDS
    young = SeenIds()
    for offset in range(records):
        young.add(offset, 50.0, f"e{offset}")
    young.forget_before(records, 50.0 + READ_BACK_SECONDS)
    assert len(young) == records, "within the hour"


def test_a_second_copy_does_not_make_an_id_young() -> None:
    seen = SeenIds()
    seen.add(0, 0.0, "a")
    seen.add(1, 1e9, "a")
    seen.forget_before(READ_BACK_RECORDS + 1, 1e9)
    assert "a" not in seen
