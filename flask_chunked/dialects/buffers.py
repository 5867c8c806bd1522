"""Memory for a block of a body, which goes back when the request is done.

The allocator would keep a block of this size for the thread that freed it, so that a
server with many threads would stand many of them above what it needs.
"""

from __future__ import annotations

import mmap

Buffer = mmap.mmap


def new_buffer(size: int) -> Buffer:
    """Zeros; those that nobody touches cost nothing.

    :param size: bytes, more than 0.
    """
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)
