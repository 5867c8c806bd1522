"""Room for bytes that are still to come, asked of the file system in large pieces.

A file system that looks for room page by page spends a good part of an upload's time on
that. What is reserved lies behind the file's end: its size does not change, and whoever
cuts the file there gives the room back.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

#: Bytes that are worth a call.
LEAST = 2**20
#: Bytes that an unfinished upload has reserved at most.
AHEAD = 32 * 2**20
#: So many times what is reserved must be free: the rest of a disk that is nearly full
#: is for bytes that are there.
FREE = 16

# From <linux/falloc.h>: the file does not become longer.
_KEEP_SIZE = 1


class Room:
    """What is reserved for one file by one writer.

    As much again as is there already, lest somebody who announces much and sends little
    fills the disk; nothing behind the end that the file will have.

    :param most: bytes ahead at most; 0: none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = 0
        self._until = 0

    def expect(self, length: int) -> None:
        """The file will have so many bytes."""
        self._length = length

    def forget(self) -> None:
        """The file was cut."""
        self._until = 0

    def prepare(self, fd: int, position: int, count: int) -> None:
        """Before ``count`` bytes are written at the file's end; never fails.

        Where there is no room, the write says so.
        """
        end = position + count
        if end <= self._until or not self._most:
            return
        stop = min(position + min(end, self._most), self._length)
        # Also the rest of a long file: where some of it was reserved, XFS keeps what it
        # gives on its own account.
        is_rest = stop == self._length >= LEAST
        if stop - position < LEAST and not (is_rest and stop > position):
            return
        # Of an earlier request, perhaps.
        self._until = os.fstat(fd).st_blocks * 512
        if end <= self._until:
            return
        if self._has_reserved(fd, position, stop - position):
            self._until = stop
        else:
            # As good as always it would be so again.
            self._most = 0

    def _has_reserved(self, fd: int, start: int, count: int) -> bool:
        reserve = _reserve()
        if reserve is None or _free(fd) < FREE * count:
            return False
        if reserve(fd, start, count):
            return True
        # ext4 keeps what it found before there was no more.
        with suppress(OSError):
            os.ftruncate(fd, start)
        return False


def _free(fd: int) -> int:
    """Bytes that are free on a file's disk, as far as that is told."""
    try:
        disk = os.fstatvfs(fd)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


@lru_cache(maxsize=1)
def _reserve() -> Callable[[int, int, int], bool] | None:
    """Linux's ``fallocate``, which ``os`` has only in a form that moves the end."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None)
        # Where offsets are short, the one for long ones.
        function = getattr(library, "fallocate64", None) or library.fallocate
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def reserve(fd: int, start: int, count: int) -> bool:
        return not function(fd, _KEEP_SIZE, start, count)

    return reserve
