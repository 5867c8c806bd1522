"""Buffers for blocks: which are used again, and how many stay."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator

import pytest

from flask_chunked.request import buffers
from flask_chunked.request.buffers import MAX_IDLE, release_buffer, take_buffer


@pytest.fixture(autouse=True)
def nobody_elses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(buffers, "_idle", [])
    yield


def test_a_released_buffer_is_taken_again() -> None:
    first = take_buffer(1000)
    assert len(first) == mmap.PAGESIZE
    assert take_buffer(1000) is not first
    release_buffer(first)
    assert take_buffer(mmap.PAGESIZE) is first


def test_a_buffer_that_is_too_small_is_not_used_again() -> None:
    release_buffer(take_buffer(1000))
    large = take_buffer(mmap.PAGESIZE + 1)
    assert len(large) == 2 * mmap.PAGESIZE
    assert buffers._idle == []
    release_buffer(large)
    assert take_buffer(1) is large


def test_few_buffers_stay() -> None:
    taken = [take_buffer(1) for _ in range(MAX_IDLE + 3)]
    for buffer in taken:
        release_buffer(buffer)
    assert len(buffers._idle) == MAX_IDLE


def test_system_without_private_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MAP_PRIVATE")
    assert bytes(take_buffer(10)[:10]) == bytes(10)


def test_the_allocator_is_used_if_no_more_can_be_mapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object, **named: object) -> object:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert take_buffer(5000) == bytearray(2 * mmap.PAGESIZE)
