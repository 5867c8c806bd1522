"""The appender of the local storage: writes the bytes of one upload into its file.

Knows one file and one stage; nothing of completing, listing or removing uploads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ...exceptions import BytesMissing, StorageError
from ..base import SpliceTarget, Stage
from ..os_errors import storage_error, translate_os_errors
from ..values import Blob, Receipt
from .files import (
    close_file,
    copy_all,
    link_name,
    name_exists,
    release_cached,
    splice_all,
    sync_data,
    sync_directory,
    unlink_name,
    write_all,
)
from .lock import LockedFile, LockTimeout
from .paths import FilePaths, Tree
from .preallocation import Preallocation
from .stage import LocalStage

#: After this many bytes the kernel is asked to start writing them to the medium.
WRITE_BACK = 4 * 2**20
#: This many bytes at the start of a file stay in the page cache for its next reader.
#: The rest is released after each sync, so that a large file does not evict all others.
KEPT_IN_CACHE = 256 * 2**20
#: Pages are released in pieces of this many bytes: whole pages only, and no system call
#: for each short commit.
RELEASE_STEP = 4 * 2**20


class LocalAppender(SpliceTarget):
    """Appends to one unfinished file.

    If the upload was finished or deleted since this appender's last section, entering a
    section raises :class:`BytesMissing`; the upload's row says what happened.

    :param size: committed bytes.
    :param preallocation: reserves disk space beyond them.
    :param open_source: opens another blob of the storage for reading.
    """

    def __init__(
        self,
        tree: Tree,
        paths: FilePaths,
        size: int,
        *,
        timeout: LockTimeout,
        preallocation: Preallocation,
        open_source: Callable[[Blob], int],
    ) -> None:
        self.position = size
        self._open_source = open_source
        self._preallocation = preallocation
        self._durable = tree.durable
        self._file = LockedFile(tree, paths.directories, paths.unfinished, timeout)
        self._finished = paths.finished
        #: True between finish() and the commit: the file also has its finished name.
        self._has_both_names = False
        self._inside = False
        self._has_written = False
        #: The position when at_end_of_file() found the file to end there.
        self._section_start: int | None = None
        #: True once this section has written, so that the file ends at the position.
        self._is_truncated = False
        self._written_back = size
        self._released = max(size - size % RELEASE_STEP, KEPT_IN_CACHE)
        self._unusable: str | None = None
        self._entry_unsynced = False

    def set_length(self, length: int) -> None:
        self._preallocation.set_length(length)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if self._inside:
            raise RuntimeError("exclusive() does not nest")
        if self._unusable is not None:
            raise StorageError(self._unusable)
        try:
            self._enter()
            self._inside = True
            yield
        finally:
            self._inside = False
            self._has_both_names = False
            self._section_start = None
            self._is_truncated = False
            self._remove_if_empty()
            self._unlock()

    def _enter(self) -> None:
        # Here and in each write, a plain ``except`` saves two calls a section.
        try:
            self._file.lock(create=self.position == 0)
            size = self._file.size_when_locked()
        except OSError as error:
            if self.position and isinstance(error, FileNotFoundError):
                raise BytesMissing() from error
            raise storage_error(error) from error
        if size < self.position:
            raise BytesMissing()
        if not self.position:
            # A writer that died before it synced the directory may have created the
            # name.
            self._entry_unsynced = True

    def _unlock(self) -> None:
        try:
            self._file.unlock()
        except OSError as error:
            raise storage_error(error) from error

    def _remove_if_empty(self) -> None:
        """Remove the file if a section at offset 0 wrote nothing.

        A superseded writer creates the file anew when it enters a section. The upload
        may be finished or deleted by then, and nothing else would remove the file.
        """
        if self.position or self._has_written or self._file.fd < 0:
            return
        # A writer that waits for the lock finds that the name is gone and creates a new
        # file.
        with suppress(OSError):
            if not self._file.size() and self._file.is_current():
                os.unlink(self._file.name, dir_fd=self._file.directory)

    def at_end_of_file(self) -> bool:
        self._require_section()
        is_end = self._file.size_when_locked() == self.position
        # If a finished file exists, only the row says whether it is the upload's.
        is_end = is_end and not (self.position == 0 and self._finished_exists())
        self._section_start = self.position if is_end else None
        return is_end

    def finish(self) -> bool:
        self._require_section()
        file = self._file
        if self._section_start == 0 and self._finished != file.name:
            # Keep the unfinished name until the commit, so that no second writer can
            # create it anew.
            self._has_both_names = link_name(file.directory, file.name, self._finished)
        return self._has_both_names

    def committed(self) -> None:
        if self._has_both_names:
            self._remove_name(self._file.name)

    def rollback(self) -> None:
        if self._has_both_names:
            self._remove_name(self._finished)
        if self._section_start is not None:
            self.rewind(self._section_start)
            self._has_written = self._section_start > 0

    def _remove_name(self, unneeded: str) -> None:
        """Remove one of the two names."""
        self._has_both_names = False
        # If the name cannot be removed, the next writer finds it and removes it.
        with suppress(OSError):
            unlink_name(self._file.directory, unneeded)

    def write(self, block: bytes | bytearray | memoryview) -> None:
        self._require_section()
        with self._truncating():
            self._preallocation.reserve(self._file.fd, self.position, len(block))
            written = write_all(self._file.fd, block, self.position)
        self._advance(written)

    def write_from_pipe(self, pipe: int, count: int) -> None:
        self._require_section()
        with self._truncating():
            self._preallocation.reserve(self._file.fd, self.position, count)
            splice_all(pipe, self._file.fd, self.position, count)
        self._advance(count)

    def rewind(self, position: int) -> None:
        self._require_section()
        with translate_os_errors():
            os.ftruncate(self._file.fd, position)
        self._preallocation.reset()
        self.position = position
        self._written_back = min(self._written_back, position)

    def _advance(self, count: int) -> None:
        self.position += count
        self._has_written = True
        unwritten = self.position - self._written_back
        if self._durable and unwritten >= WRITE_BACK:
            # The medium writes while the client sends, so that the next sync is short.
            release_cached(self._file.fd, self._written_back, unwritten)
            self._written_back = self.position

    def take(self, stage: Stage) -> None:
        self._require_section()
        if not isinstance(stage, LocalStage):
            raise TypeError(f"{stage!r} is not a stage of this storage")
        if stage.fd < 0:
            raise RuntimeError("The stage is closed or was taken")
        size = stage.size
        try:
            self._remove_stale_finished()
            if self.position or not self._rename_stage(stage):
                with self._truncating():
                    copy_all(stage.fd, self._file.fd, self.position, size)
                stage.close()
        except OSError as error:
            raise storage_error(error) from error
        self.position += size
        self._has_written = True

    def _rename_stage(self, stage: LocalStage) -> bool:
        """Rename the staged file to the upload's; ``False`` if that is impossible."""
        try:
            os.rename(
                stage.name,
                self._file.name,
                src_dir_fd=stage.directory,
                dst_dir_fd=self._file.directory,
            )
        except FileNotFoundError:
            # The directory was deleted while we hold the file open. The bytes are
            # copied into the nameless file, as write() would write them.
            return False
        except OSError as error:
            # The directory of the day may be a mount point.
            if error.errno != errno.EXDEV:
                raise
            return False
        self._file.replace_descriptor(stage.detach())
        self._entry_unsynced = True
        return True

    def copy(self, source: Blob, start: int, count: int) -> None:
        self._require_section()
        if start + count > source.size:
            raise BytesMissing()
        with translate_os_errors():
            fd = self._open_source(source)
            try:
                with self._truncating():
                    copy_all(fd, self._file.fd, self.position, count, start=start)
            finally:
                close_file(fd)
        self.position += count

    def head(self, count: int) -> bytes:
        wanted = min(count, self.position)
        if wanted <= 0:
            return b""
        head = b""
        with translate_os_errors():
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
        try:
            sync_data(self._file.fd)
            if self._entry_unsynced:
                sync_directory(self._file.directory)
        except OSError as error:
            # The kernel reports lost pages only once: a second sync would succeed
            # although the bytes are lost.
            self._unusable = "An earlier flush failed; the bytes must be resent"
            raise storage_error(error) from error
        self._entry_unsynced = False
        synced = self.position - self.position % RELEASE_STEP
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

    def _finished_exists(self) -> bool:
        """True if a file exists under the finished name."""
        if self._finished == self._file.name:
            return False
        with translate_os_errors():
            return name_exists(self._file.directory, self._finished)

    def _remove_stale_finished(self) -> None:
        """Remove a finished file whose writer died before it committed the row.

        At position 0 the row has no committed byte, so the finished file is not the
        upload's.
        """
        unknown = self.position == 0 and self._section_start is None
        if unknown and self._finished != self._file.name:
            unlink_name(self._file.directory, self._finished)

    @contextmanager
    def _truncating(self) -> Iterator[None]:
        """Truncate the file to the position before a write and after a failed one."""
        if not self._is_truncated:
            self._truncate()
        self._is_truncated = False
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file.fd, self.position)
            raise storage_error(error) from error
        self._is_truncated = True

    def _truncate(self) -> None:
        """Remove what other writers left after the position."""
        try:
            self._remove_stale_finished()
            size = self._file.size()
            if size > self.position:
                os.ftruncate(self._file.fd, self.position)
        except OSError as error:
            raise storage_error(error) from error
        if size < self.position:
            raise BytesMissing()
