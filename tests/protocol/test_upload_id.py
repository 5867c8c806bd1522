"""Upload ids in URLs: one spelling per id, but for the case."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_chunked.protocol.upload_id import parse_upload_id

CANONICAL = "0f8fad5b-d9cb-469f-a165-70867728950e"

MALFORMED = [
    pytest.param("", id="empty"),
    pytest.param("1", id="integer"),
    pytest.param(CANONICAL.replace("-", ""), id="without-hyphens"),
    pytest.param("{" + CANONICAL + "}", id="braces"),
    pytest.param("urn:uuid:" + CANONICAL, id="urn"),
    pytest.param(CANONICAL[:-1], id="too-short"),
    pytest.param(CANONICAL + "0", id="too-long"),
    pytest.param(CANONICAL + "\n", id="trailing-newline"),
    pytest.param(" " + CANONICAL, id="leading-space"),
    pytest.param(CANONICAL + "\x00", id="trailing-nul"),
    pytest.param(CANONICAL + "/..", id="traversal"),
    pytest.param(CANONICAL.replace("f", "g"), id="no-hexadecimal-digit"),
    pytest.param("0f8fad5bd-9cb-469f-a165-70867728950e", id="hyphen-moved"),
    pytest.param(CANONICAL.replace("-", "\u2010"), id="other-hyphen"),
    pytest.param("\uff10" + CANONICAL[1:], id="fullwidth-digit"),
    pytest.param("\u0660" + CANONICAL[1:], id="arabic-digit"),
    pytest.param("0_8fad5b-d9cb-469f-a165-70867728950e", id="underscore"),
    pytest.param("-" * 36, id="hyphens"),
    pytest.param("0" * 100_000, id="very-long"),
]


@pytest.mark.parametrize("text", MALFORMED)
def test_only_the_canonical_form_is_an_id(text: str) -> None:
    assert parse_upload_id(text) is None


@given(st.uuids())
def test_id_round_trip_in_both_cases(upload_id: UUID) -> None:
    assert parse_upload_id(str(upload_id)) == upload_id
    assert parse_upload_id(str(upload_id).upper()) == upload_id


@given(st.text(max_size=40))
def test_any_text_is_an_id_or_none(text: str) -> None:
    parsed = parse_upload_id(text)
    assert parsed is None or str(parsed) == text.lower()
