"""Stage and appender of the local storage: how bytes get into a file.

Knows one file and one stage; nothing of finishing, listing or removing.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from uuid import uuid4

from ...exceptions import BytesMissing, StorageError
from ..base import Appender, Blob, Receipt, Stage
from .files import (
    CREATE_NEW,
    Tree,
    close_file,
    copy_all,
    has_name,
    link_name,
    release_cached,
    splice_all,
    storage_errors,
    sync_data,
    sync_directory,
    try_lock,
    unlink_name,
    write_all,
)
from .lock import LockedFile, Patience
from .preallocation import Room

#: Bytes after which the medium is told to begin writing.
WRITE_BACK = 4 * 2**20
#: Bytes of a file that stay in the kernel's memory for whoever reads it next. What
#: follows leaves it when it is synced, lest a large file pushes out everything else.
CACHED = 256 * 2**20
#: Bytes of a piece that leaves it: no half pages, and no call for each short commit.
RELEASE = 4 * 2**20


class LocalStage(Stage):
    """A named file of the staging directory, locked for as long as its owner lives.

    The kernel drops the lock with the process, so that a lock that can be had tells
    that the file was left behind.
    """

    def __init__(self, tree: Tree, room: Room) -> None:
        self.size = 0
        self._room = room
        self.fd = -1
        self.directory = -1
        with storage_errors():
            while self.fd < 0:
                self._create(tree)

    def _create(self, tree: Tree) -> None:
        self.name = uuid4().hex
        self.directory, self.fd = tree.open_file((tree.marker,), self.name, CREATE_NEW)
        try:
            # Between creation and lock a discard() may have taken it for a dead one.
            if try_lock(self.fd) and os.fstat(self.fd).st_nlink:
                return
        except BaseException:
            self.close()
            raise
        self.close()

    def write(self, block: bytes | bytearray | memoryview) -> int:
        if self.fd < 0:
            raise RuntimeError("The stage is closed or was taken")
        with storage_errors():
            self._room.prepare(self.fd, self.size, len(block))
            try:
                written = write_all(self.fd, block, self.size)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self.fd, self.size)
                raise
        self.size += written
        return written

    def expect(self, length: int) -> None:
        self._room.expect(length)

    def sha256(self) -> hashlib._Hash:
        if self.fd < 0:
            raise RuntimeError("The stage is closed or was taken")
        hasher = hashlib.sha256()
        position = 0
        with storage_errors():
            while block := os.pread(self.fd, 2**20, position):
                hasher.update(block)
                position += len(block)
        return hasher

    def hand_over(self) -> int:
        """Give the descriptor, its lock included, to the caller; the stage is used up.

        The file must have left the staging directory.
        """
        fd, self.fd = self.fd, -1
        self.close()
        return fd

    def close(self) -> None:
        if self.fd >= 0:
            # While the lock is held. A file that stays is found by discard() later.
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self.directory)
        for fd in (self.fd, self.directory):
            if fd >= 0:
                close_file(fd)
        self.fd = self.directory = -1


class LocalAppender(Appender):
    """Appends to one unfinished file.

    A writer that another one has left behind finds its file finished or deleted when
    it enters a section, and gets :class:`BytesMissing`: ask the row what happened.

    :param name: file name in the directory ``parts`` of the tree.
    :param finished: its name when it is finished; may be the same.
    :param size: committed bytes.
    :param room: for bytes behind them.
    :param open_source: opens another blob of the storage for reading.
    """

    drains_pipes = hasattr(os, "splice")

    def __init__(
        self,
        tree: Tree,
        parts: Sequence[str],
        name: str,
        *,
        finished: str,
        size: int,
        patience: Patience,
        room: Room,
        open_source: Callable[[Blob], int],
    ) -> None:
        self.position = size
        self._open_source = open_source
        self._room = room
        self._durable = tree.durable
        self._file = LockedFile(tree, parts, name, patience)
        self._finished = finished
        #: Has the file got its finished name beside the other, since :meth:`finish`?
        self._has_both_names = False
        self._inside = False
        self._used = False
        #: Of the file when the section began, where that was the position.
        self._end: int | None = None
        #: Has this section written, so that the file ends at the position?
        self._has_cut = False
        self._sent_off = size
        self._released = max(size - size % RELEASE, CACHED)
        self._unusable: str | None = None
        self._entry_unsynced = False

    def expect(self, length: int) -> None:
        self._room.expect(length)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if self._inside:
            raise RuntimeError("exclusive() does not nest")
        if self._unusable is not None:
            raise StorageError(self._unusable)
        try:
            with storage_errors():
                self._enter()
            self._inside = True
            yield
        finally:
            self._inside = False
            self._has_both_names = False
            self._end = None
            self._has_cut = False
            with storage_errors():
                self._drop_empty()
                self._file.unlock()

    def _enter(self) -> None:
        try:
            self._file.lock(create=self.position == 0)
        except FileNotFoundError as error:
            if not self.position:
                raise
            raise BytesMissing() from error
        if self._file.size_when_locked() < self.position:
            raise BytesMissing()
        if not self.position:
            # The name may be from a writer that died before it synced the directory.
            self._entry_unsynced = True

    def _drop_empty(self) -> None:
        """Remove the file where a section at offset 0 wrote nothing.

        The writer found out that it was overtaken, and the upload may be finished or
        gone already: nobody would ever remove what it has just made.
        """
        if self.position or self._used or self._file.fd < 0:
            return
        # Whoever waits for the lock sees that the name is gone and makes a new file.
        with suppress(OSError):
            if not self._file.size() and self._file.is_current():
                os.unlink(self._file.name, dir_fd=self._file.directory)

    def ends_at_position(self) -> bool:
        self._require_section()
        is_end = self._file.size_when_locked() == self.position
        # Where there is a finished file only the row tells whether it is.
        is_end = is_end and not (self.position == 0 and self._is_finished())
        self._end = self.position if is_end else None
        return is_end

    def finish(self) -> bool:
        self._require_section()
        file = self._file
        if self._end == 0 and self._finished != file.name:
            # Lest a second writer makes the first name anew, it stays until the end.
            self._has_both_names = link_name(file.directory, file.name, self._finished)
        return self._has_both_names

    def settle(self, *, committed: bool) -> None:
        if self._has_both_names:
            self._has_both_names = False
            # If it stays, the next writer sees that.
            with suppress(OSError):
                gone = self._file.name if committed else self._finished
                unlink_name(self._file.directory, gone)
        if committed or self._end is None:
            return
        self.rewind(self._end)
        self._used = self._end > 0

    def write(self, block: bytes | bytearray | memoryview) -> None:
        self._require_section()
        with storage_errors(), self._whole():
            self._room.prepare(self._file.fd, self.position, len(block))
            written = write_all(self._file.fd, block, self.position)
        self._advance(written)

    def write_from(self, pipe: int, count: int) -> None:
        self._require_section()
        with storage_errors(), self._whole():
            self._room.prepare(self._file.fd, self.position, count)
            splice_all(pipe, self._file.fd, self.position, count)
        self._advance(count)

    def rewind(self, position: int) -> None:
        self._require_section()
        with storage_errors():
            os.ftruncate(self._file.fd, position)
        self._room.forget()
        self.position = position
        self._sent_off = min(self._sent_off, position)

    def _advance(self, count: int) -> None:
        self.position += count
        self._used = True
        if self._durable and self.position - self._sent_off >= WRITE_BACK:
            # The medium works while the client sends on; the sync finds little to do.
            release_cached(
                self._file.fd, self._sent_off, self.position - self._sent_off
            )
            self._sent_off = self.position

    def take(self, stage: Stage) -> None:
        self._require_section()
        if not isinstance(stage, LocalStage):
            raise TypeError(f"{stage!r} is not a stage of this storage")
        if stage.fd < 0:
            raise RuntimeError("The stage is closed or was taken")
        size = stage.size
        with storage_errors():
            self._unfinish()
            if self.position or not self._take_by_name(stage):
                with self._whole():
                    copy_all(stage.fd, self._file.fd, self.position, size)
                stage.close()
        self.position += size
        self._used = True

    def _take_by_name(self, stage: LocalStage) -> bool:
        """Let the staged file become the upload's; ``False`` where that cannot be."""
        try:
            os.rename(
                stage.name,
                self._file.name,
                src_dir_fd=stage.directory,
                dst_dir_fd=self._file.directory,
            )
        except FileNotFoundError:
            # Deleted with its directory while we hold the file. Its bytes go where
            # those of write() would: into a file without a name.
            return False
        except OSError as error:
            # The directory of the day may be a mount point.
            if error.errno != errno.EXDEV:
                raise
            return False
        self._file.adopt(stage.hand_over())
        self._entry_unsynced = True
        return True

    def copy(self, source: Blob, start: int, count: int) -> None:
        self._require_section()
        if start + count > source.size:
            raise BytesMissing()
        with storage_errors():
            fd = self._open_source(source)
            try:
                with self._whole():
                    copy_all(fd, self._file.fd, self.position, count, start=start)
            finally:
                close_file(fd)
        self.position += count

    def head(self, count: int) -> bytes:
        wanted = min(count, self.position)
        if wanted <= 0:
            return b""
        head = b""
        with storage_errors():
            try:
                self._file.open(create=False)
            except FileNotFoundError as error:
                raise BytesMissing() from error
            while len(head) < wanted:
                block = os.pread(self._file.fd, wanted - len(head), len(head))
                if not block:
                    raise BytesMissing()
                head += block
        return head

    def flush(self) -> Receipt:
        self._require_section()
        if not self._durable:
            return Receipt()
        with storage_errors():
            try:
                sync_data(self._file.fd)
                if self._entry_unsynced:
                    sync_directory(self._file.directory)
            except OSError:
                # The kernel reports lost pages once; a second sync would succeed.
                self._unusable = "An earlier flush failed; the bytes must be resent"
                raise
        self._entry_unsynced = False
        synced = self.position - self.position % RELEASE
        if synced > self._released:
            release_cached(self._file.fd, self._released, synced - self._released)
            self._released = synced
        return Receipt()

    def close(self) -> None:
        self._unusable = self._unusable or "The appender is closed"
        self._inside = False
        self._file.close()

    def _require_section(self) -> None:
        if not self._inside:
            raise RuntimeError("Only allowed inside exclusive()")
        if self._unusable is not None:
            raise StorageError(self._unusable)

    def _is_finished(self) -> bool:
        """Is there a file of the finished name?"""
        if self._finished == self._file.name:
            return False
        with storage_errors():
            return has_name(self._file.directory, self._finished)

    def _unfinish(self) -> None:
        """Remove what a writer finished that died before the row said so.

        No byte is committed, and whoever writes here knows that from the row.
        """
        unknown = self.position == 0 and self._end is None
        if unknown and self._finished != self._file.name:
            unlink_name(self._file.directory, self._finished)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Cut a dead tail first; cut what a failure left of the block afterwards."""
        fd = self._file.fd
        if not self._has_cut:
            self._unfinish()
            size = self._file.size()
            if size < self.position:
                raise BytesMissing()
            if size > self.position:
                os.ftruncate(fd, self.position)
        self._has_cut = False
        try:
            yield
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, self.position)
            raise
        self._has_cut = True
