"""File operations of the local storage: open, sync, lock, write, copy and splice.

Knows descriptors and names; nothing of uploads, offsets in a database or receipts.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

try:
    import fcntl
    import posix
except ImportError:  # Windows: LocalStorage raises ConfigurationError
    fcntl = posix = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

HAS_LOCKS = fcntl is not None

#: gevent replaces ``os.close`` with a function that queries the descriptor and closes
#: it later, because its event loop may wait for it. The loop never waits for a file or
#: a directory, so the original function is safe and faster.
close_file = os.close if posix is None else posix.close

# O_NONBLOCK: a FIFO that was planted under one of our names must not block a request.
_FILE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
READ = os.O_RDONLY | _FILE
WRITE = os.O_RDWR | _FILE
CREATE = WRITE | os.O_CREAT
CREATE_NEW = CREATE | os.O_EXCL
# EPERM: seccomp filters of older container runtimes refuse unknown calls with it.
_COPY_UNSUPPORTED = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
)
_BLOCK = 256 * 1024


def sync_data(fd: int) -> None:
    """Write a file's bytes and its size to the medium."""
    if sys.platform == "darwin":
        # On macOS, fsync() leaves the bytes in the cache of the drive.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_directory(fd: int) -> None:
    """Write a directory's entries to the medium."""
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems cannot sync a directory.
        if error.errno != errno.EINVAL:
            raise


def sync_parent(path: str) -> None:
    """Sync the directory that contains ``path``."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_directory(fd)
    finally:
        close_file(fd)


def try_lock(fd: int) -> bool:
    """Lock an open file exclusively; ``False`` if another process holds the lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Release the lock at once, even if a forked child shares the open file."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def write_all(fd: int, block: ReadableBuffer, offset: int) -> int:
    """Write the whole block at a byte offset, in as many system calls as needed.

    :return: the number of bytes written.
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
    """Link a file to a second name; ``False`` if the link cannot be made."""
    try:
        os.link(name, second, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        return False
    return True


def name_exists(directory: int, name: str) -> bool:
    """True if the directory has an entry of any kind with this name."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def unlink_name(directory: int, name: str) -> None:
    """Remove a name from a directory. A missing name is no error."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def copy_all(
    source: int, target: int, offset: int, count: int, *, start: int = 0
) -> None:
    """Copy ``count`` bytes of a file, from ``start``, to a byte offset of another.

    The kernel copies if it can, and shares blocks on file systems that support it.
    Otherwise the bytes pass through this process.
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
            # The file system does not support splice().
            if error.errno != errno.EINVAL:
                raise
            moved = write_all(target, os.read(pipe, min(_BLOCK, count)), to)
        to += moved
        count -= moved


def release_cached(fd: int, start: int, count: int) -> None:
    """Let the kernel drop these bytes of a file from the page cache, without waiting.

    The kernel keeps pages that are not on the medium yet and starts to write them.
    """
    with suppress(OSError, AttributeError):
        os.posix_fadvise(fd, start, count, os.POSIX_FADV_DONTNEED)


def _copy_range(source: int, target: int, start: int, to: int, count: int) -> int:
    """The number of bytes that the kernel copied; 0 if it cannot copy."""
    if sys.platform != "linux":
        return 0
    try:
        return os.copy_file_range(source, target, min(count, 1 << 30), start, to)
    except OSError as error:
        if error.errno not in _COPY_UNSUPPORTED:
            raise
        return 0


def open_at(directory: int, name: str, flags: int) -> int:
    """Open a regular file in a directory. A symbolic link is refused.

    A file that is created gets mode 0600, whatever the umask is.
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
