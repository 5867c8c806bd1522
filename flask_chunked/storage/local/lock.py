"""One file of the local storage under the kernel's lock, and waiting for the lock.

Knows one name in one directory; nothing of what the file contains.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...exceptions import StorageBusy
from .files import CREATE, CREATE_NEW, WRITE, close_file, try_lock, unlock
from .paths import Tree

_MAX_IMMEDIATE_RETRIES = 100


@dataclass(frozen=True, slots=True)
class LockTimeout:
    """How long to wait for a lock.

    :param seconds: the longest wait.
    :param clock: monotonic seconds.
    :param sleep: pauses for seconds; looks ``time.sleep`` up on each call, because
        gevent replaces it.
    """

    seconds: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds)


class LockedFile:
    """One file of a tree under ``flock``, while its name refers to it.

    :ivar fd: descriptor of the file, or -1.
    :ivar directory: descriptor of its directory, or -1.
    """

    def __init__(
        self, tree: Tree, parts: Sequence[str], name: str, timeout: LockTimeout
    ) -> None:
        self.fd = -1
        self.directory = -1
        self.name = name
        self._tree = tree
        self._parts = parts
        self._timeout = timeout
        self._is_locked = False
        self._locked_size: int | None = None

    def open(self, *, create: bool) -> None:
        """Open the file unless it is open.

        :raises FileNotFoundError: the file does not exist.
        """
        if self.fd < 0:
            self.directory, self.fd = self._tree.open_file(
                self._parts, self.name, CREATE if create else WRITE
            )

    def lock(self, *, create: bool) -> None:
        """Open the file and lock it.

        :raises FileNotFoundError: the file does not exist.
        :raises StorageBusy: the lock was not released within the timeout.
        """
        deadline = self._timeout.clock() + self._timeout.seconds
        pause = 0.001
        reopened = 0
        while True:
            self.open(create=create)
            if try_lock(self.fd):
                self._is_locked = True
                if self.is_current():
                    return
                # The file was deleted, finished or replaced during the wait: its name
                # refers to another file now, or to none.
                self.close()
                reopened += 1
                if reopened < _MAX_IMMEDIATE_RETRIES:
                    continue
            if self._timeout.clock() >= deadline:
                raise StorageBusy()
            self._timeout.sleep(pause)
            pause = min(2 * pause, 0.02)

    def create_locked(self) -> None:
        """Create the file and lock it.

        :raises FileExistsError: the name exists.
        :raises StorageBusy: another process took the new file for an orphan and locked
            or removed it.
        """
        self.directory, self.fd = self._tree.open_file(
            self._parts, self.name, CREATE_NEW
        )
        # This process may be suspended for long between these two steps.
        self._is_locked = try_lock(self.fd)
        if not self._is_locked or not os.fstat(self.fd).st_nlink:
            raise StorageBusy()

    def is_current(self) -> bool:
        """True if the name still refers to the open file."""
        try:
            named = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        status = os.fstat(self.fd)
        self._locked_size = status.st_size
        return os.path.samestat(status, named)

    def is_same_file(self, other: LockedFile) -> bool:
        """True if two open names refer to the same file."""
        return os.path.sameopenfile(self.fd, other.fd)

    def replace_descriptor(self, fd: int) -> None:
        """Continue with another file, which is locked and already has this name."""
        close_file(self.fd)
        self.fd = fd
        self._locked_size = None

    def size(self) -> int:
        """Bytes of the open file."""
        return os.fstat(self.fd).st_size

    def size_when_locked(self) -> int:
        """Bytes of the file when :meth:`lock` locked it; its size now if not locked."""
        return self.size() if self._locked_size is None else self._locked_size

    def unlock(self) -> None:
        """Release the lock. The file stays open."""
        self._locked_size = None
        if self.fd >= 0 and self._is_locked:
            self._is_locked = False
            unlock(self.fd)

    def __enter__(self) -> LockedFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close and unlock. May be called more than once."""
        try:
            with suppress(OSError):
                self.unlock()
        finally:
            for fd in (self.fd, self.directory):
                if fd >= 0:
                    close_file(fd)
            self.fd = self.directory = -1
