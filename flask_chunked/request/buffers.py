"""Memory for a block of a body, which goes back when the request is done.

The allocator would keep blocks of this size for every thread that has ever had some, so
that a server with many threads would stand many of them above what it needs. A few stay
for the next request, since each page that is new costs a fault.
"""

from __future__ import annotations

import mmap

Buffer = mmap.mmap | bytearray

#: Buffers of a process that wait for the next request, at most.
MOST_IDLE = 2

_idle: list[Buffer] = []


def take_buffer(size: int) -> Buffer:
    """A buffer with anything in it; pages that nobody touches cost nothing.

    :param size: bytes at least, more than 0.
    """
    try:
        buffer = _idle.pop()
    except IndexError:
        return _new(size)
    return buffer if len(buffer) >= size else _new(size)


def give_back(buffer: Buffer) -> None:
    """Nobody looks at it any more; one that somebody may look at is just left alone."""
    if len(_idle) < MOST_IDLE:
        _idle.append(buffer)


def _new(size: int) -> Buffer:
    size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        if hasattr(mmap, "MAP_PRIVATE"):
            return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return mmap.mmap(-1, size)
    except OSError:
        # Too many maps, say; the allocator may have room in those that it has.
        return bytearray(size)
