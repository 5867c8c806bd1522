"""Part sizes and the state in the row: arithmetic."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_chunked.exceptions import StorageFull
from flask_chunked.storage.s3.plan import MAX_PART_SIZE, MIB, PartPlan, UploadState

from .names import KEY


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
def test_parts_are_as_large_as_the_file_needs(length: int | None, size: int) -> None:
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


def test_length_beyond_the_largest_parts_is_refused() -> None:
    plan = PartPlan(8 * MIB, 10_000)
    assert plan.part_size(9_000 * MAX_PART_SIZE) == MAX_PART_SIZE
    with pytest.raises(StorageFull, match="files of this length"):
        plan.part_size(9_000 * MAX_PART_SIZE + 1)


def test_state_survives_the_row() -> None:
    state = UploadState(5 * MIB, "id", 4, 2, f"{KEY}.tail.x", 17)
    again = UploadState.from_row(json.loads(json.dumps(state.to_row())), 8 * MIB)
    assert again == state
    assert again.size == 10 * MIB + 17
    assert UploadState.from_row(None, 8 * MIB) == UploadState(8 * MIB)
