"""Part sizes and states of S3 uploads: arithmetic, and what needs no server."""

from __future__ import annotations

import json
import sys
from datetime import timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_chunked.exceptions import ConfigurationError, StorageFull
from flask_chunked.storage.base import Blob, StorageSettings, StoredItem
from flask_chunked.storage.s3 import S3Storage
from flask_chunked.storage.s3.plan import MAX_PART_SIZE, MIB, PartPlan, UploadState

from .contract import CREATED

ID = UUID("0a1b2c3d-0000-4000-8000-000000000000")
KEY = f"films/2026/11/23/{ID}"


def new_storage(**options: Any) -> S3Storage:
    options = {"bucket": "b", "prefix": "films/", **options}
    return S3Storage(StorageSettings("/"), **options)


@pytest.mark.parametrize(
    ("length", "size"),
    [
        pytest.param(None, 8 * MIB, id="not-known-yet"),
        pytest.param(0, 8 * MIB, id="empty"),
        pytest.param(9000 * 8 * MIB, 8 * MIB, id="just-fits"),
        pytest.param(9000 * 8 * MIB + 1, 9 * MIB, id="one-byte-more"),
        pytest.param(5 * 2**40, 583 * MIB, id="5-TiB"),
    ],
)
def test_parts_grow_where_the_file_needs_it(length: int | None, size: int) -> None:
    assert PartPlan(8 * MIB, 10_000).part_size(length) == size


@given(
    length=st.integers(0, 5 * 2**40),
    preferred=st.integers(5 * MIB, 64 * MIB),
    max_parts=st.integers(1_150, 10_000),
)
def test_any_length_fits_with_a_tenth_to_spare(
    length: int, preferred: int, max_parts: int
) -> None:
    plan = PartPlan(preferred, max_parts)
    size = plan.part_size(length)
    assert preferred <= size <= MAX_PART_SIZE
    assert -(-length // size) <= max_parts - max_parts // 10


def test_length_that_no_part_size_does_for_is_refused() -> None:
    plan = PartPlan(8 * MIB, 10_000)
    assert plan.part_size(9_000 * MAX_PART_SIZE) == MAX_PART_SIZE
    with pytest.raises(StorageFull, match="files of this length"):
        plan.part_size(9_000 * MAX_PART_SIZE + 1)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"part_size": 5 * MIB - 1}, id="small-parts"),
        pytest.param({"part_size": MAX_PART_SIZE + 1}, id="huge-parts"),
        pytest.param({"max_parts": 1}, id="one-part"),
        pytest.param({"max_parts": 10_001}, id="too-many-parts"),
        pytest.param({"checksum": "sha1"}, id="unknown-checksum"),
        pytest.param({"colour": "red"}, id="unknown-option"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        new_storage(**options)


def test_missing_boto3_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both: what somebody has imported before is found without its package.
    for name in ("boto3", "boto3.session"):
        monkeypatch.setitem(sys.modules, name, None)
    storage = new_storage()
    with pytest.raises(ConfigurationError, match=r"flask-chunked\[s3\]"):
        storage.measure(Blob(KEY, 1))


def test_secrets_are_not_shown() -> None:
    storage = new_storage(secret_key="hidden", session_token="hidden too")
    assert "hidden" not in repr(storage.bucket.settings)


def test_state_survives_the_row() -> None:
    state = UploadState(5 * MIB, "id", 4, 2, f"{KEY}.tail.x", 17)
    again = UploadState.from_row(json.loads(json.dumps(state.to_row())), 8 * MIB)
    assert again == state
    assert again.size == 10 * MIB + 17
    assert UploadState.from_row(None, 8 * MIB) == UploadState(8 * MIB)


def test_part_size_is_fixed_when_the_upload_is_created() -> None:
    large = new_storage().new_state(100 * 2**30)
    later = new_storage(part_size=64 * MIB)
    assert later.state_of(Blob(KEY, 0, large)).part_size == 12 * MIB
    assert later.state_of(Blob(KEY, 0)).part_size == 64 * MIB


@pytest.mark.parametrize(
    ("options", "part_size", "usable"),
    [
        pytest.param({}, 8 * MIB, 9_000, id="as-it-comes"),
        pytest.param({"part_size": 64 * MIB}, 64 * MIB, 9_000, id="large-parts"),
        pytest.param({"max_parts": 1_000}, 8 * MIB, 900, id="fewer-parts"),
    ],
)
def test_an_upload_has_room_in_its_parts_less_a_tenth(
    options: dict[str, Any], part_size: int, usable: int
) -> None:
    storage = new_storage(**options)
    assert storage.max_length() == MAX_PART_SIZE * usable
    # Without a length, and with none of the row's, parts have the preferred size.
    for state in (storage.new_state(None), storage.new_state(1), {}):
        assert storage.max_length(state) == part_size * usable
    longer = storage.new_state(part_size * usable + 1)
    assert storage.max_length(longer) == (part_size + MIB) * usable


def test_key_has_the_day_and_the_id() -> None:
    elsewhere = CREATED.astimezone(timezone(timedelta(hours=14)))
    assert new_storage().new_key(ID, elsewhere) == KEY


@pytest.mark.parametrize(
    ("piece", "finished", "used"),
    [
        pytest.param(None, False, True, id="object"),
        pytest.param(None, True, True, id="finished-object"),
        pytest.param(f"object {KEY}.tail.x", False, True, id="tail"),
        pytest.param(f"object {KEY}.tail.y", False, False, id="another-tail"),
        pytest.param(f"object {KEY}.tail.x", True, False, id="tail-of-a-finished-one"),
        pytest.param("upload id", False, True, id="multipart"),
        pytest.param("upload other", False, False, id="another-multipart"),
        pytest.param("upload id", True, False, id="multipart-of-a-finished-one"),
    ],
)
def test_piece_is_used_where_the_row_names_it(
    piece: str | None, finished: bool, used: bool
) -> None:
    state = UploadState(5 * MIB, "id", 2, 1, f"{KEY}.tail.x", 17)
    blob = Blob(KEY, state.size, state.to_row())
    item = StoredItem(KEY, 1, CREATED, piece=piece)
    assert new_storage().uses(blob, item, finished=finished) is used
