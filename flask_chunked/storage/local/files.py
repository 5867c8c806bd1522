"""POSIX pieces of the local storage: directories, syncing, writing and copying.

Knows descriptors and names; nothing of uploads, offsets in a database or receipts.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from ...exceptions import StorageError, StorageFull

try:
    import fcntl
    import posix
except ImportError:  # Windows; LocalStorage says so when it is made
    fcntl = posix = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

HAS_LOCKS = fcntl is not None

#: gevent's ``os.close`` asks the kernel what it closes, and closes it later, lest its
#: loop still waits for it. It never waits for a file or a directory.
close_file = os.close if posix is None else posix.close

# O_NONBLOCK: a FIFO planted under one of our names must not block a request.
_FILE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
READ = os.O_RDONLY | _FILE
WRITE = os.O_RDWR | _FILE
CREATE = WRITE | os.O_CREAT
CREATE_NEW = CREATE | os.O_EXCL
_DIRECTORY = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# EPERM: seccomp filters of older container runtimes answer unknown calls with it.
_NOT_BY_KERNEL = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
)
_BLOCK = 256 * 1024
_ATTEMPTS = 100


class storage_errors:
    """Turn errors of the operating system into those of the storage port.

    :raises StorageFull: no space, no quota, or a file size limit.
    :raises StorageError: any other :class:`OSError`.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in _FULL:
            raise StorageFull() from error
        raise StorageError() from error


def sync_data(fd: int) -> None:
    """Put a file's bytes and size on the medium."""
    if sys.platform == "darwin":
        # fsync() of macOS leaves the bytes in the drive's cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_directory(fd: int) -> None:
    """Put a directory's entries on the medium."""
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems cannot, and say so like this.
        if error.errno != errno.EINVAL:
            raise


def try_lock(fd: int) -> bool:
    """Take the exclusive lock of an open file if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give the lock back at once, even where a forked child shares the open file."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def write_all(fd: int, block: ReadableBuffer, offset: int) -> int:
    """Write the whole block at a byte offset, however short single writes are.

    :return: bytes written.
    """
    view = memoryview(block)
    total = view.nbytes
    if not total:
        return 0
    view = view.cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        if not written:
            raise OSError(errno.EIO, "write makes no progress")
        view = view[written:]
        offset += written
    return total


def link_name(directory: int, name: str, second: str) -> bool:
    """Give a file a second name; ``False`` where that is taken or cannot be."""
    try:
        os.link(name, second, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        return False
    return True


def has_name(directory: int, name: str) -> bool:
    """Is there anything of this name?"""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def unlink_name(directory: int, name: str) -> None:
    """Take a name away; not there is fine."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def copy_all(
    source: int, target: int, offset: int, count: int, *, start: int = 0
) -> None:
    """Copy ``count`` bytes of a file, from ``start``, to a byte offset of another.

    Inside the kernel where it can (which shares blocks on file systems that do that),
    else through this process.
    """
    by_kernel = hasattr(os, "copy_file_range")
    done = 0
    while done < count:
        if by_kernel:
            copied = _copy_range(
                source, target, start + done, offset + done, count - done
            )
            done += copied
            by_kernel = copied > 0
            continue
        block = os.pread(source, min(_BLOCK, count - done), start + done)
        if not block:
            raise OSError(errno.EIO, "source of a copy is too short")
        done += write_all(target, block, offset + done)


def splice_all(pipe: int, target: int, to: int, count: int) -> None:
    """Move bytes from a pipe into a file without copying them through the process.

    :param to: offset in the target.
    """
    while count:
        try:
            moved = os.splice(pipe, target, count, offset_dst=to)
        except OSError as error:
            # This file system wants to see the bytes.
            if error.errno != errno.EINVAL:
                raise
            moved = write_all(target, os.read(pipe, min(_BLOCK, count)), to)
        to += moved
        count -= moved


def release_cached(fd: int, start: int, count: int) -> None:
    """Let the kernel drop these bytes of a file from memory; waits for nothing.

    Those that are not on the medium yet stay, and it begins to write them.
    """
    with suppress(OSError, AttributeError):
        os.posix_fadvise(fd, start, count, os.POSIX_FADV_DONTNEED)


def _copy_range(source: int, target: int, start: int, to: int, count: int) -> int:
    """Bytes copied by the kernel; 0 where it cannot."""
    if sys.platform != "linux":
        return 0
    try:
        return os.copy_file_range(source, target, min(count, 1 << 30), start, to)
    except OSError as error:
        if error.errno not in _NOT_BY_KERNEL:
            raise
        return 0


def open_at(directory: int, name: str, flags: int) -> int:
    """Open a regular file in a directory; a symbolic link is refused.

    A file that is created gets mode 0600 whatever the umask.
    """
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        if flags & os.O_CREAT and stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(fd, 0o600)
    except BaseException:
        close_file(fd)
        raise
    return fd


class Tree:
    """The directories below one root.

    The root itself may be or contain symbolic links; below it none is followed.

    :param root: absolute path; resolved at first use, created at first need.
    :param durable: sync every directory that gets a new directory.
    :param marker: name of a directory that every root has, so that one storage's root
        inside another's is recognised.
    """

    def __init__(self, root: str, *, durable: bool, marker: str) -> None:
        self.durable = durable
        self.marker = marker
        self._given = root
        self._path: str | None = None
        self._marked = False

    @property
    def path(self) -> str:
        """The root without symbolic links."""
        if self._path is None:
            self._path = os.path.realpath(self._given)
        return self._path

    def open_directory(self, parts: Sequence[str], *, create: bool = False) -> int:
        """Open a directory below the root; the caller closes it.

        :raises FileNotFoundError: not there; with ``create``: removed meanwhile.
        """
        return self._descend(self._open_root(create), parts, create)

    def open_file(self, parts: Sequence[str], name: str, flags: int) -> tuple[int, int]:
        """Open a file; with ``O_CREAT`` in directories made where they are missing.

        :return: descriptors of its directory and of itself; the caller closes both.
        :raises FileNotFoundError: not there.
        """
        create = bool(flags & os.O_CREAT)
        for attempt in range(_ATTEMPTS):
            try:
                directory = self.open_directory(parts, create=create)
                try:
                    return directory, open_at(directory, name, flags)
                except BaseException:
                    close_file(directory)
                    raise
            except FileNotFoundError:
                # With O_CREAT: prune() removed the directory under our feet.
                if not create or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def enter(self, parent: int, name: str) -> int:
        """Open a directory of an open directory; the caller closes it."""
        return self._enter(parent, name, False)

    def is_root(self, directory: int) -> bool:
        """Whether an open directory is the root of a storage."""
        return has_name(directory, self.marker)

    def prune(self, parts: Sequence[str]) -> None:
        """Remove directories that became empty, from the innermost outwards."""
        with suppress(OSError):
            for depth in range(len(parts) - 1, -1, -1):
                directory = self.open_directory(parts[:depth])
                try:
                    os.rmdir(parts[depth], dir_fd=directory)
                finally:
                    close_file(directory)

    def _open_root(self, create: bool) -> int:
        missing: list[str] = []
        path = self.path
        if create:
            while not os.path.isdir(path):
                path, name = os.path.split(path)
                missing.insert(0, name)
        fd = self._descend(os.open(path, _DIRECTORY), missing, create)
        if create and not self._marked:
            try:
                close_file(self._enter(fd, self.marker, True))
            except BaseException:
                close_file(fd)
                raise
            self._marked = True
        return fd

    def _descend(self, fd: int, parts: Iterable[str], create: bool) -> int:
        try:
            for part in parts:
                child = self._enter(fd, part, create)
                close_file(fd)
                fd = child
        except BaseException:
            close_file(fd)
            raise
        return fd

    def _enter(self, parent: int, name: str, create: bool) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            if os.fstat(fd).st_mode & 0o777 != 0o700:
                os.fchmod(fd, 0o700)
            if self.durable:
                # Also where another process won the race: it may die before it syncs.
                sync_directory(parent)
        except BaseException:
            close_file(fd)
            raise
        return fd
