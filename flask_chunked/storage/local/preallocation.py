"""Preallocation: reserves disk space for bytes that an upload has announced.

A file system that allocates space page by page spends a good part of an upload's time
on it. Blocks are allocated beyond the end of the file (``FALLOC_FL_KEEP_SIZE``);
truncating the file frees them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

#: The smallest reservation in bytes; a smaller one is not worth a system call.
MIN_RESERVATION = 2**20
#: The most bytes that one unfinished upload has reserved.
MAX_AHEAD = 32 * 2**20
#: Space is reserved only if this many times as much is free: the rest of a nearly full
#: disk is for bytes that have arrived.
MIN_FREE_FACTOR = 16

# From <linux/falloc.h>: do not change the size of the file.
_KEEP_SIZE = 1


class Preallocation:
    """The disk space that one writer has reserved for one file.

    It reserves at most as many bytes as the file has already, so that a client that
    announces much and sends little cannot fill the disk. It reserves nothing beyond the
    announced length.

    :param most: the most bytes to reserve ahead; 0: none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = 0
        self._reserved_to = 0

    def set_length(self, length: int) -> None:
        """Set the announced length of the file in bytes."""
        self._length = length

    def reset(self) -> None:
        """Forget the reservation, because the file was truncated."""
        self._reserved_to = 0

    def reserve(self, fd: int, position: int, count: int) -> None:
        """Reserve space before ``count`` bytes are written at the end of the file.

        Never fails: if the disk is full, the write raises the error.
        """
        end = position + count
        if end <= self._reserved_to or not self._most:
            return
        stop = min(position + min(end, self._most), self._length)
        # Also reserve the short rest of a long file: otherwise XFS keeps the blocks
        # that it preallocates by itself after an earlier reservation.
        is_rest = stop == self._length >= MIN_RESERVATION
        if stop - position < MIN_RESERVATION and not (is_rest and stop > position):
            return
        # An earlier request may have reserved space.
        self._reserved_to = os.fstat(fd).st_blocks * 512
        if end <= self._reserved_to:
            return
        if self._has_reserved(fd, position, stop - position):
            self._reserved_to = stop
        else:
            # If preallocation failed once, it will very likely fail again.
            self._most = 0

    def _has_reserved(self, fd: int, start: int, count: int) -> bool:
        fallocate = load_fallocate()
        if fallocate is None or _free(fd) < MIN_FREE_FACTOR * count:
            return False
        if fallocate(fd, start, count):
            return True
        # If the disk is full, ext4 keeps the blocks that it has allocated so far.
        with suppress(OSError):
            os.ftruncate(fd, start)
        return False


def _free(fd: int) -> int:
    """Free bytes on the file's disk; 0 if the system does not report them."""
    try:
        disk = os.fstatvfs(fd)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


@lru_cache(maxsize=1)
def load_fallocate() -> Callable[[int, int, int], bool] | None:
    """Linux's ``fallocate`` with ``FALLOC_FL_KEEP_SIZE``; ``None`` if there is none.

    ``os.posix_fallocate`` does not serve: it moves the end of the file.
    """
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None)
        # If file offsets are 32 bits wide, only fallocate64 takes 64 bits.
        function = getattr(library, "fallocate64", None) or library.fallocate
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def fallocate(fd: int, start: int, count: int) -> bool:
        return not function(fd, _KEEP_SIZE, start, count)

    return fallocate
