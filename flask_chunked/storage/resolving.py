"""A directory at the end of a path in which no link is followed, with one call.

Linux has had ``openat2`` since 5.6. Where it is not, is filtered, or answers anything
but the directory, the path is walked name by name, and that tells what is wrong.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

#: The number of the system call, the same on all machines.
_OPENAT2 = 437
_AT_FDCWD = -100
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _find_syscall() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    try:
        found = ctypes.CDLL(None).syscall
    except (OSError, AttributeError):
        return None
    found.restype = ctypes.c_long
    found.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(_OpenHow),
        ctypes.c_size_t,
    )
    return found


_syscall = _find_syscall()


class Resolver:
    """Opens directories by their whole path.

    :param flags: as of :func:`os.open`.
    """

    def __init__(self, flags: int) -> None:
        resolve = _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
        self._how = _OpenHow(flags, 0, resolve)
        self._size = ctypes.sizeof(_OpenHow)

    def open(self, path: str) -> int | None:
        """The descriptor; ``None``: not to be had in this way, for whatever reason."""
        if _syscall is None:
            return None
        fd = _syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), self._how, self._size)
        return fd if fd >= 0 else None
