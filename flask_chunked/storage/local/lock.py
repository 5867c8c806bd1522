"""A file of the local storage under the kernel's lock, and the wait for it.

Knows one name in one directory; nothing of what is written there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...exceptions import StorageBusy
from .files import CREATE, CREATE_NEW, WRITE, Tree, close_file, try_lock, unlock

_REOPENED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a lock.

    :param seconds: after this time the wait is given up.
    :param clock: monotonic seconds.
    :param sleep: pauses for seconds; looked up late, because gevent replaces it.
    """

    seconds: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds)


class LockedFile:
    """One file of a tree under ``flock``, the same file that its name stands for.

    :ivar fd: the file, or -1.
    :ivar directory: its directory, or -1.
    """

    def __init__(
        self, tree: Tree, parts: Sequence[str], name: str, patience: Patience
    ) -> None:
        self.fd = -1
        self.directory = -1
        self.name = name
        self._tree = tree
        self._parts = parts
        self._patience = patience
        self._is_locked = False
        self._locked_size: int | None = None

    def open(self, *, create: bool) -> None:
        """Open the file unless it is open.

        :raises FileNotFoundError: not there.
        """
        if self.fd < 0:
            self.directory, self.fd = self._tree.open_file(
                self._parts, self.name, CREATE if create else WRITE
            )

    def lock(self, *, create: bool) -> None:
        """Open the file and lock it.

        :raises FileNotFoundError: not there.
        :raises StorageBusy: somebody kept the lock for too long.
        """
        deadline = self._patience.clock() + self._patience.seconds
        pause = 0.001
        reopened = 0
        while True:
            self.open(create=create)
            if try_lock(self.fd):
                self._is_locked = True
                if self.is_current():
                    return
                # Deleted, finished or replaced while we waited: the name stands for
                # another file now, or for none.
                self.close()
                reopened += 1
                if reopened < _REOPENED_AT_ONCE:
                    continue
            if self._patience.clock() >= deadline:
                raise StorageBusy()
            self._patience.sleep(pause)
            pause = min(2 * pause, 0.02)

    def make(self) -> None:
        """Make a new file of the name and lock it.

        :raises FileExistsError: the name is taken.
        :raises StorageBusy: somebody took the new file for one that is left over.
        """
        self.directory, self.fd = self._tree.open_file(
            self._parts, self.name, CREATE_NEW
        )
        # Between these two steps we may have slept for long.
        self._is_locked = try_lock(self.fd)
        if not self._is_locked or not os.fstat(self.fd).st_nlink:
            raise StorageBusy()

    def is_current(self) -> bool:
        """Whether the name still stands for the open file."""
        try:
            named = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        status = os.fstat(self.fd)
        self._locked_size = status.st_size
        return os.path.samestat(status, named)

    def is_same(self, other: LockedFile) -> bool:
        """Are both open, and one file under two names?"""
        return os.path.sameopenfile(self.fd, other.fd)

    def adopt(self, fd: int) -> None:
        """Go on with another file that is locked and has our name already."""
        close_file(self.fd)
        self.fd = fd
        self._locked_size = None

    def size(self) -> int:
        """Bytes of the open file."""
        return os.fstat(self.fd).st_size

    def size_when_locked(self) -> int:
        """The same, as :meth:`lock` found it."""
        return self.size() if self._locked_size is None else self._locked_size

    def unlock(self) -> None:
        """Give the lock back; the file stays open."""
        self._locked_size = None
        if self.fd >= 0 and self._is_locked:
            self._is_locked = False
            unlock(self.fd)

    def __enter__(self) -> LockedFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close and unlock; may be called twice."""
        try:
            with suppress(OSError):
                self.unlock()
        finally:
            for fd in (self.fd, self.directory):
                if fd >= 0:
                    close_file(fd)
            self.fd = self.directory = -1
