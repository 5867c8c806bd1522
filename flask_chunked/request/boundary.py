"""Where a few bytes are in a large buffer, as fast as the C library can tell.

Knows nothing of forms.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

from .buffers import Buffer

Find = Callable[[Buffer, bytes, int], int]


def find(buffer: Buffer, wanted: bytes, end: int) -> int:
    """The first place of some bytes in a buffer's first ``end`` bytes, else -1.

    :param wanted: at least one byte.
    """
    return _best()(buffer, wanted, min(end, len(buffer)))


def by_python(buffer: Buffer, wanted: bytes, end: int) -> int:
    """See :func:`find`; works everywhere, and keeps the interpreter."""
    return buffer.find(wanted, 0, end)


def by_memmem() -> Find:
    """With ``memmem``, which is faster and lets the interpreter go meanwhile.

    :raises AttributeError, OSError: this C library has none.
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
        # Held for as long as we search, so that nobody resizes the buffer meanwhile.
        first = ctypes.c_char.from_buffer(buffer)
        start = ctypes.addressof(first)
        found = memmem(start, end, wanted, len(wanted))
        return -1 if found is None else int(found) - start

    return search


@lru_cache(maxsize=1)
def _best() -> Find:
    try:
        search = by_memmem()
        # Some C libraries of old returned wrong places.
        right = search(bytearray(b"-a--ab"), b"-ab", 6) == 3
        right = right and search(bytearray(b"-a--ab"), b"-ab", 5) == -1
    except (AttributeError, OSError, TypeError, ValueError):
        return by_python
    return search if right else by_python
