"""Buffers for blocks of a body.

A few buffers stay for the next request, because each new page costs a page fault.
"""

from __future__ import annotations

#: The most buffers of a process that wait for the next request.
MAX_IDLE = 2

_idle: list[bytearray] = []


def take_buffer(size: int) -> bytearray:
    """A buffer with arbitrary content.

    :param size: bytes at least.
    """
    try:
        buffer = _idle.pop()
    except IndexError:
        return bytearray(size)
    return buffer if len(buffer) >= size else bytearray(size)


def release_buffer(buffer: bytearray) -> None:
    """Keep a buffer for the next request; never call it while the buffer is in use."""
    if len(_idle) < MAX_IDLE:
        _idle.append(buffer)
