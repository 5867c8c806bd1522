"""Buffers for blocks: which are used again, and how many stay."""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_chunked.request import buffers
from flask_chunked.request.buffers import (
    MAX_IDLE,
    find,
    find_in_python,
    load_memmem,
    release_buffer,
    take_buffer,
)


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


SEARCHES = [
    pytest.param(find_in_python, id="python"),
    pytest.param(load_memmem(), id="C"),
]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    ("data", "end", "place"),
    [
        pytest.param(b"ab--b", 5, 2, id="at the end"),
        pytest.param(b"--bab", 5, 0, id="at the start"),
        pytest.param(b"ab--b", 4, -1, id="across the end"),
        pytest.param(b"ab--b--b", 8, 2, id="the first one"),
        pytest.param(b"\0-\0--b\0", 7, 3, id="after NUL"),
        pytest.param(b"--", 2, -1, id="too short"),
        pytest.param(b"--b", 0, -1, id="nothing"),
    ],
)
def test_the_first_place_before_the_end_is_found(
    search: buffers.Find, data: bytes, end: int, place: int
) -> None:
    assert search(bytearray(data), b"--b", end) == place


@given(
    data=st.text("-ab\r", max_size=200).map(str.encode),
    wanted=st.text("-ab\r", min_size=1, max_size=20).map(str.encode),
    end=st.integers(0, 220),
)
def test_the_c_library_finds_what_python_finds(
    data: bytes, wanted: bytes, end: int
) -> None:
    assert find(bytearray(data), wanted, end) == data.find(wanted, 0, end)


def test_a_long_boundary_that_nearly_fits_everywhere_is_found() -> None:
    wanted = b"--" + b"-" * 199 + b"b"
    data = bytearray(b"-" * 70_000 + wanted)
    assert find(data, wanted, len(data)) == len(data) - len(wanted)


def test_the_buffer_may_grow_when_the_search_is_over() -> None:
    data = bytearray(b"ab--b")
    find(data, b"--b", 5)
    data += b"more"
    assert data.endswith(b"more")


@pytest.fixture
def without_memmem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    buffers._fastest.cache_clear()


@pytest.mark.usefixtures("without_memmem")
def test_python_searches_where_the_c_library_cannot() -> None:
    try:
        assert buffers._fastest() is find_in_python
        assert find(bytearray(b"ab--b"), b"--b", 5) == 2
    finally:
        buffers._fastest.cache_clear()
