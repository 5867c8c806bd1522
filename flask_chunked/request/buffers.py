"""Buffers for blocks of a body, and the search for a few bytes in one.

The allocator would keep blocks of this size for every thread that ever used some, so a
server with many threads would hold far more memory than it needs. A few buffers stay
for the next request, because each new page costs a page fault.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from functools import lru_cache

Buffer = mmap.mmap | bytearray
#: Finds bytes in a buffer's first bytes; see :func:`find`.
Find = Callable[[Buffer, bytes, int], int]

#: The most buffers of a process that wait for the next request.
MAX_IDLE = 2

_idle: list[Buffer] = []


def take_buffer(size: int) -> Buffer:
    """A buffer with arbitrary content; pages that are never written cost no memory.

    :param size: bytes at least, more than 0.
    """
    try:
        buffer = _idle.pop()
    except IndexError:
        return _new(size)
    return buffer if len(buffer) >= size else _new(size)


def release_buffer(buffer: Buffer) -> None:
    """Keep a buffer for the next request; never call it while the buffer is in use."""
    if len(_idle) < MAX_IDLE:
        _idle.append(buffer)


def _new(size: int) -> Buffer:
    size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        if hasattr(mmap, "MAP_PRIVATE"):
            return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return mmap.mmap(-1, size)
    except OSError:
        # The process may have too many maps; the allocator may have free ones.
        return bytearray(size)


def find(buffer: Buffer, wanted: bytes, end: int) -> int:
    """The index of some bytes in a buffer's first ``end`` bytes; -1: not there.

    :param wanted: at least one byte.
    """
    return _fastest()(buffer, wanted, min(end, len(buffer)))


def find_in_python(buffer: Buffer, wanted: bytes, end: int) -> int:
    """See :func:`find`; works everywhere, but holds the GIL."""
    return buffer.find(wanted, 0, end)


def load_memmem() -> Find:
    """A search by ``memmem``, which is faster and releases the GIL.

    :raises AttributeError, OSError: the C library has no ``memmem``.
    """
    memmem = ctypes.CDLL(None).memmem
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]

    def search(buffer: Buffer, wanted: bytes, end: int) -> int:
        if end < len(wanted):
            return -1
        # This object keeps the buffer from being resized during the search.
        first = ctypes.c_char.from_buffer(buffer)
        start = ctypes.addressof(first)
        found = memmem(start, end, wanted, len(wanted))
        return -1 if found is None else int(found) - start

    return search


@lru_cache(maxsize=1)
def _fastest() -> Find:
    try:
        search = load_memmem()
        # Some old C libraries returned wrong results.
        is_right = search(bytearray(b"-a--ab"), b"-ab", 6) == 3
        is_right = is_right and search(bytearray(b"-a--ab"), b"-ab", 5) == -1
    except (AttributeError, OSError, TypeError, ValueError):
        return find_in_python
    return search if is_right else find_in_python
