"""Buffers for blocks: which are used again, and how many stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_chunked.request import buffers
from flask_chunked.request.buffers import MAX_IDLE, release_buffer, take_buffer


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytearray]]:
    found: list[bytearray] = []
    monkeypatch.setattr(buffers, "_idle", found)
    yield found


def test_a_released_buffer_is_taken_again() -> None:
    first = take_buffer(1000)
    assert len(first) == 1000
    assert take_buffer(1000) is not first
    release_buffer(first)
    assert take_buffer(999) is first


def test_a_buffer_that_is_too_small_is_not_used_again(idle: list[bytearray]) -> None:
    release_buffer(take_buffer(1000))
    large = take_buffer(1001)
    assert len(large) == 1001
    assert idle == []


def test_few_buffers_stay(idle: list[bytearray]) -> None:
    for buffer in [take_buffer(1) for _ in range(MAX_IDLE + 3)]:
        release_buffer(buffer)
    assert len(idle) == MAX_IDLE
