"""What goes out of the local storage: names, sizes, readers, lists, moves.

Knows a tree of directories and how an upload's files are called in it.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from uuid import uuid4

from ..base import StoredItem
from .files import (
    CREATE_NEW,
    READ,
    Tree,
    close_file,
    open_at,
    sync_data,
    sync_directory,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: The piece that the unfinished name of a file is which may have its finished one.
SECOND_NAME = "second name"
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key's files are: directories below the root, and two names."""

    parts: tuple[str, ...]
    unfinished: str
    finished: str

    def names(self) -> Iterator[str]:
        """Names to look for: finished first, and again, lest a rename hides both."""
        yield from (self.finished, self.unfinished, self.finished)

    def is_finished(self, name: str) -> bool:
        """Whether the name alone tells that the file will not change."""
        return name == self.finished != self.unfinished


def file_size(tree: Tree, parts: Sequence[str], name: str) -> int | None:
    """Size of a regular file in bytes, ``None`` where there is none.

    :raises OSError: the name stands for something else.
    """
    try:
        directory = tree.open_directory(parts)
    except FileNotFoundError:
        return None
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    finally:
        close_file(directory)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)
    return status.st_size


def list_items(tree: Tree, suffixes: tuple[str, str]) -> Iterator[StoredItem]:
    """Uploads' files with one of the suffixes, and staged files, in no order."""
    try:
        root = tree.open_directory(())
    except FileNotFoundError:
        return
    yield from _walk(tree, root, (), suffixes)


def _walk(
    tree: Tree, fd: int, parts: tuple[str, ...], suffixes: tuple[str, str]
) -> Iterator[StoredItem]:
    """Items of one directory and of those below it; closes the descriptor."""
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                # Anything may have gone since its name was read.
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        yield from _enter(tree, fd, (*parts, entry.name), suffixes)
                        continue
                    item = _item(tree, parts, entry.name, status, suffixes)
                    if item is not None:
                        yield item
    finally:
        close_file(fd)


def _enter(
    tree: Tree, parent: int, parts: tuple[str, ...], suffixes: tuple[str, str]
) -> Iterator[StoredItem]:
    fd = tree.enter(parent, parts[-1])
    try:
        foreign = tree.is_root(fd)
    except OSError:
        close_file(fd)
        raise
    if foreign:
        # Another storage's; its uploads are not ours to judge.
        close_file(fd)
        return
    yield from _walk(tree, fd, parts, suffixes)


def _item(
    tree: Tree,
    parts: tuple[str, ...],
    name: str,
    status: os.stat_result,
    suffixes: tuple[str, str],
) -> StoredItem | None:
    modified_at = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    if not stat.S_ISREG(status.st_mode):
        return None
    if parts == (tree.marker,):
        return StoredItem(name, status.st_size, modified_at, staged=True)
    upload_id, suffix = name[:36], name[36:]
    if suffix not in suffixes or not _ID.fullmatch(upload_id):
        return None
    key = "/".join((*parts, upload_id))
    # An upload's file has both names only where its writer died while it finished it.
    is_second = status.st_nlink > 1 and suffix == suffixes[0] != suffixes[1]
    piece = SECOND_NAME if is_second else None
    return StoredItem(key, status.st_size, modified_at, piece=piece)


def move_file(tree: Tree, parts: Sequence[str], name: str, target: str) -> None:
    """Rename a file out of the tree, or copy it where the target is another medium.

    :param target: absolute path; replaced if it exists.
    """
    directory = tree.open_directory(parts)
    try:
        try:
            os.replace(name, target, src_dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_file(open_at(directory, name, READ), target, tree.durable)
        if tree.durable:
            sync_parent(target)
        # After the sync above. It is still there if it was copied, and also if both
        # names were links to one file.
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        if tree.durable:
            sync_directory(directory)
    finally:
        close_file(directory)


def _copy_file(fd: int, target: str, durable: bool) -> None:
    """Copy into a hidden name beside the target first; closes the descriptor."""
    temporary = os.path.join(os.path.dirname(target), f".{uuid4().hex}.moving")
    try:
        with (
            os.fdopen(fd, "rb") as source,
            os.fdopen(os.open(temporary, CREATE_NEW, 0o600), "wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1024 * 1024)
            copy.flush()
            if durable:
                sync_data(copy.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def sync_parent(path: str) -> None:
    """Sync the directory that a path names a file of."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_directory(fd)
    finally:
        close_file(fd)


class BoundedFile(io.RawIOBase):
    """Reader of the first ``size`` bytes of a file; whatever follows does not exist.

    It has no ``fileno()``, lest a server's sendfile sends more.

    :param fd: owned and closed by the reader.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self._size - self._position))
        block = os.pread(self._fd, count, self._position)
        view[: len(block)] = block
        self._position += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        position = start[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def close(self) -> None:
        if not self.closed:
            close_file(self._fd)
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
