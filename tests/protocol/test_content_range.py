"""The Content-Range codec: what it reads, what it refuses, what it writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_chunked.exceptions import MalformedHeader
from flask_chunked.protocol.content_range import ContentRange, to_range_header

MOST = 2**63 - 1
numbers = st.integers(0, MOST)

VALID = [
    pytest.param("bytes 0-0/1", ContentRange(0, 1, 1), id="one-byte"),
    pytest.param("bytes 5-9/10", ContentRange(5, 10, 10), id="last-chunk"),
    pytest.param("BYTES 0-9/20", ContentRange(0, 10, 20), id="unit-in-upper-case"),
    pytest.param("bytes */0", ContentRange(0, 0, 0), id="empty-file"),
    pytest.param("Bytes */0", ContentRange(0, 0, 0), id="empty-file-mixed-case"),
    pytest.param("bytes 0-10/10", ContentRange(0, 11, 10), id="ends-at-the-total"),
    pytest.param("bytes 7-9/5", ContentRange(7, 10, 5), id="beyond-the-total"),
    pytest.param("bytes 0-0/0", ContentRange(0, 1, 0), id="a-byte-of-an-empty-file"),
    pytest.param("bytes 00-09/010", ContentRange(0, 10, 10), id="leading-zeros"),
    pytest.param(
        f"bytes {MOST}-{MOST}/{MOST}", ContentRange(MOST, 2**63, MOST), id="largest"
    ),
]

MALFORMED = [
    pytest.param("", id="empty"),
    pytest.param("bytes", id="unit-alone"),
    pytest.param("bytes ", id="no-range"),
    pytest.param("0-9/10", id="no-unit"),
    pytest.param("items 0-9/10", id="other-unit"),
    pytest.param("bytes=0-9/10", id="equals-as-in-range"),
    pytest.param("bytes  0-9/10", id="two-spaces"),
    pytest.param("bytes\t0-9/10", id="tab"),
    pytest.param("bytes0-9/10", id="no-space"),
    pytest.param(" bytes 0-9/10", id="leading-space"),
    pytest.param("bytes 0-9/10 ", id="trailing-space"),
    pytest.param("bytes 0-9/10\n", id="trailing-newline"),
    pytest.param("bytes 0-9/10\x00", id="trailing-nul"),
    pytest.param("bytes 0 -9/10", id="inner-space"),
    pytest.param("bytes 0-9", id="no-total"),
    pytest.param("bytes 0-9/", id="empty-total"),
    pytest.param("bytes -9/10", id="no-start"),
    pytest.param("bytes 0-/10", id="no-end"),
    pytest.param("bytes 0-9/*", id="unknown-total"),
    pytest.param("bytes */10", id="unsatisfied-range"),
    pytest.param("bytes */00", id="empty-file-in-two-digits"),
    pytest.param("bytes */*", id="all-unknown"),
    pytest.param("bytes *-9/10", id="star-start"),
    pytest.param("bytes 9-0/10", id="end-before-start"),
    pytest.param("bytes 5-4/10", id="no-bytes"),
    pytest.param("bytes --1-9/10", id="negative-start"),
    pytest.param("bytes +0-9/10", id="plus-sign"),
    pytest.param("bytes 0x0-9/10", id="hexadecimal"),
    pytest.param("bytes 1_0-19/20", id="underscore"),
    pytest.param("bytes 0-9.0/10", id="decimal-point"),
    pytest.param("bytes 0-9/10, 10-19/20", id="two-ranges"),
    pytest.param("bytes \u0660-\u0669/\u0661\u0660", id="arabic-digits"),
    pytest.param("bytes \u00b2-9/10", id="superscript-digit"),
    pytest.param("byte\u017f 0-9/10", id="long-s-in-the-unit"),
    pytest.param(f"bytes 0-9/{2**63}", id="total-above-63-bits"),
    pytest.param(f"bytes 0-{2**63}/10", id="end-above-63-bits"),
    pytest.param(f"bytes {2**63}-{2**63}/10", id="start-above-63-bits"),
    pytest.param("bytes 0-9/00000000000000000010", id="twenty-digits"),
    pytest.param("bytes 0-9/" + "9" * 5000, id="five-thousand-digits"),
    pytest.param("bytes " + " " * 100_000, id="very-long"),
]


@pytest.mark.parametrize(("value", "expected"), VALID)
def test_valid_header_is_read(value: str, expected: ContentRange) -> None:
    assert ContentRange.from_header(value) == expected


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_header_is_refused(value: str) -> None:
    with pytest.raises(MalformedHeader) as caught:
        ContentRange.from_header(value)
    assert (caught.value.name, caught.value.value) == ("Content-Range", value)
    assert caught.value.reason


def test_size_is_the_bytes_of_the_chunk() -> None:
    assert ContentRange(5, 10, 100).size == 5
    assert ContentRange(0, 0, 0).size == 0


@given(start=numbers, end=numbers, length=numbers)
def test_header_round_trip(start: int, end: int, length: int) -> None:
    start, end = sorted((start, end))
    parsed = ContentRange(start, end + 1, length)
    header = parsed.to_header()
    assert header == f"bytes {start}-{end}/{length}"
    assert ContentRange.from_header(header) == parsed


def test_empty_file_round_trip() -> None:
    assert ContentRange(0, 0, 0).to_header() == "bytes */0"


@pytest.mark.parametrize(
    "impossible",
    [
        pytest.param(ContentRange(0, 0, 10), id="no-bytes-of-some"),
        pytest.param(ContentRange(5, 4, 10), id="stop-before-start"),
        pytest.param(ContentRange(-1, 4, 10), id="negative-start"),
        pytest.param(ContentRange(0, 2**63 + 1, 10), id="stop-too-large"),
        pytest.param(ContentRange(0, 1, -1), id="negative-length"),
        pytest.param(ContentRange(0, 1, 2**63), id="length-too-large"),
    ],
)
def test_inexpressible_range_is_a_value_error(impossible: ContentRange) -> None:
    with pytest.raises(ValueError, match="cannot express"):
        impossible.to_header()


@given(st.text(max_size=80))
def test_any_text_is_a_value_or_malformed(value: str) -> None:
    try:
        parsed = ContentRange.from_header(value)
    except MalformedHeader:
        return
    assert 0 <= parsed.start <= parsed.stop <= 2**63


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        pytest.param(0, None, id="nothing-there"),
        pytest.param(1, "bytes=0-0", id="one-byte"),
        pytest.param(1000, "bytes=0-999", id="many"),
    ],
)
def test_range_header_names_the_committed_bytes(
    offset: int, expected: str | None
) -> None:
    assert to_range_header(offset) == expected
