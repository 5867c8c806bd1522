"""Finds a few bytes in a large buffer, as fast as the C library can.

Knows nothing of forms.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

from .buffers import Buffer

Find = Callable[[Buffer, bytes, int], int]


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
