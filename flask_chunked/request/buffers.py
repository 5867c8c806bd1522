"""Buffers for blocks of a body, returned when the request has been handled.

The allocator would keep blocks of this size for every thread that ever used some, so a
server with many threads would hold far more memory than it needs. A few buffers stay
for the next request, because each new page costs a page fault.
"""

from __future__ import annotations

import mmap

Buffer = mmap.mmap | bytearray

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
