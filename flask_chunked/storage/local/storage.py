"""Storage of uploads as files on this machine's disk.

Knows keys, names and sizes; the database's offset reaches it only as ``Blob.size``.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from ...exceptions import BytesMissing, ConfigurationError, StorageError
from ..base import Storage
from ..os_errors import storage_error, translate_os_errors
from ..place import USUAL, Place
from ..values import Blob, Buffer, Receipt, StorageSettings, StoredItem
from .export import move_file
from .files import (
    CREATE_NEW,
    HAS_LOCKS,
    READ,
    close_file,
    sync_data,
    sync_directory,
    sync_parent,
    unlink_name,
    write_all,
)
from .inventory import SECOND_NAME, list_items
from .lock import LockedFile, LockTimeout
from .paths import STAGING, FileLayout, FilePaths, Tree, file_size
from .preallocation import MAX_AHEAD, Preallocation
from .reader import BoundedFile
from .removal import (
    discard_orphan,
    discard_stage,
    sync_removals,
    unlink_second_name,
    unlink_under_lock,
)
from .stage import LocalStage
from .writer import LocalAppender


class LocalStorage(Storage):
    """One file for each upload, below the directories of ``path`` without ``%``.

    Directories are created with mode 0700 and files with 0600. An unfinished file is
    written under ``flock``: all processes that share it must run on one machine.

    :param lock_timeout: seconds to wait for another writer's section.
    :param reserve_ahead: the most bytes of disk space that a long unfinished upload
        reserves for bytes to come; below 1 MiB: none.
    :param clock: monotonic seconds, for the wait.
    :param sleep: pauses for seconds, for the wait.
    :raises ConfigurationError: the system has no ``flock``, or a setting or an option
        is invalid.
    """

    writes_ahead = True
    finishes_first = True

    def __init__(
        self,
        settings: StorageSettings,
        *,
        lock_timeout: float = 5.0,
        reserve_ahead: int = MAX_AHEAD,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        if not HAS_LOCKS:
            raise ConfigurationError(
                "Local storage needs the file locks of Linux or macOS; on this system "
                "set CHUNKED_UPLOAD_STORAGE_CLASS to another storage"
            )
        self._layout = FileLayout.from_settings(settings)
        self.settings = settings
        self._tree = Tree(self._layout.root, durable=settings.durable, marker=STAGING)
        #: In a :meth:`removing` block of this thread: the directories to sync.
        self._removing = threading.local()
        if not isinstance(reserve_ahead, int) or reserve_ahead < 0:
            raise ConfigurationError(
                f"reserve_ahead is {reserve_ahead!r}; it must be 0 or a number of bytes"
            )
        self._reserve_ahead = reserve_ahead
        self._lock_timeout = LockTimeout(
            lock_timeout, clock, sleep or LockTimeout().sleep
        )

    @property
    def identity(self) -> str:
        return f"local:{self._tree.path}"

    def new_key(
        self, upload_id: UUID, created_at: datetime, place: Place = USUAL
    ) -> str:
        if created_at.tzinfo is not None:
            created_at = created_at.astimezone(timezone.utc)
        directory = created_at.strftime(self._layout.pattern)
        key = place.key(upload_id, directory)
        if place.directories:
            self._tree.require_free(place.directories)
        self._layout.paths(key)
        return key

    def stage(self) -> LocalStage:
        return LocalStage(self._tree, Preallocation(self._reserve_ahead))

    def appender(self, blob: Blob) -> LocalAppender:
        return LocalAppender(
            self._tree,
            self._layout.paths(blob.key),
            blob.size,
            timeout=self._lock_timeout,
            preallocation=Preallocation(self._reserve_ahead),
            open_source=self._open_source,
        )

    def put(
        self, blob: Blob, content: Buffer, *, finished: bool
    ) -> AbstractContextManager[object]:
        paths = self._layout.paths(blob.key)
        name = paths.finished if finished else paths.unfinished
        file = self._locked(paths, name)
        try:
            with ExitStack() as failed:
                failed.enter_context(file)
                failed.callback(self._remove_new, file)
                file.create_locked()
                write_all(file.fd, content, 0)
                if self.settings.durable:
                    sync_data(file.fd)
                    sync_directory(file.directory)
                failed.pop_all()
        except OSError as error:
            raise storage_error(error) from error
        return file

    def _remove_new(self, file: LockedFile) -> None:
        # If the file is not open, the name belongs to another file.
        if file.fd >= 0:
            with suppress(OSError):
                os.unlink(file.name, dir_fd=file.directory)

    def finalize(self, blob: Blob) -> Receipt:
        paths = self._layout.paths(blob.key)
        with translate_os_errors(), self._locked(paths, paths.unfinished) as file:
            # If the unfinished file is missing, this or a concurrent request has
            # finished it already, or nothing was ever written.
            with suppress(FileNotFoundError):
                file.lock(create=False)
                if file.size_when_locked() >= blob.size:
                    self._finish(file, paths, blob.size)
                    return Receipt()
            self._confirm_finished(paths, blob.size)
        return Receipt()

    def _finish(self, file: LockedFile, paths: FilePaths, size: int) -> None:
        self._truncate(file, size)
        if paths.finished != paths.unfinished:
            if os.fstat(file.fd).st_nlink > 1:
                # A rename between two names of one file does nothing.
                unlink_name(file.directory, paths.finished)
            os.rename(
                paths.unfinished,
                paths.finished,
                src_dir_fd=file.directory,
                dst_dir_fd=file.directory,
            )
        if self.settings.durable:
            sync_directory(file.directory)

    def _confirm_finished(self, paths: FilePaths, size: int) -> None:
        """Check that the finished file exists, and remove an unfinished one."""
        where = paths.directories
        if size == 0:
            with suppress(FileExistsError):
                for fd in self._tree.open_file(where, paths.finished, CREATE_NEW):
                    close_file(fd)
        if file_size(self._tree, where, paths.finished) != size:
            raise BytesMissing()
        directory = self._tree.open_directory(where)
        try:
            if paths.finished != paths.unfinished:
                # A superseded writer at offset 0 may have created it anew.
                unlink_name(directory, paths.unfinished)
            if self.settings.durable:
                # The process that renamed the file may have died before it synced.
                sync_directory(directory)
        finally:
            close_file(directory)

    def open(self, blob: Blob) -> BinaryIO:
        with translate_os_errors():
            opened = self._open_file(blob)
            if opened is not None:
                return self._reader(opened[0], blob.size, finished=opened[1])
        if blob.size:
            raise BytesMissing()
        return io.BytesIO()

    def _open_file(self, blob: Blob) -> tuple[int, bool] | None:
        """Descriptor of the blob's file, and whether its name is the finished one."""
        paths = self._layout.paths(blob.key)
        for name in paths.candidates():
            with suppress(FileNotFoundError):
                directory, fd = self._tree.open_file(paths.directories, name, READ)
                close_file(directory)
                return fd, paths.is_finished(name)
        return None

    def _open_source(self, blob: Blob) -> int:
        opened = self._open_file(blob)
        if opened is None:
            raise BytesMissing()
        fd, _ = opened
        if os.fstat(fd).st_size < blob.size:
            close_file(fd)
            raise BytesMissing()
        return fd

    def _reader(self, fd: int, size: int, *, finished: bool) -> BinaryIO:
        try:
            actual = os.fstat(fd).st_size
            if actual < size:
                raise BytesMissing()
        except BaseException:
            close_file(fd)
            raise
        if finished and actual == size:
            return os.fdopen(fd, "rb")
        return io.BufferedReader(BoundedFile(fd, size))

    def path(self, blob: Blob) -> Path:
        paths = self._layout.paths(blob.key)
        with translate_os_errors():
            if file_size(self._tree, paths.directories, paths.finished) != blob.size:
                raise BytesMissing()
            return Path(self._tree.path, *paths.directories, paths.finished)

    def measure(self, blob: Blob) -> int | None:
        paths = self._layout.paths(blob.key)
        with translate_os_errors():
            for name in paths.candidates():
                size = file_size(self._tree, paths.directories, name)
                if size is not None:
                    return size
        return None

    def truncate(self, blob: Blob) -> None:
        paths = self._layout.paths(blob.key)
        for name in (paths.unfinished, paths.finished):
            with (
                translate_os_errors(),
                suppress(FileNotFoundError),
                self._locked(paths, name) as file,
            ):
                file.lock(create=False)
                self._truncate(file, blob.size)
                return
        if blob.size:
            raise BytesMissing()

    def _truncate(self, file: LockedFile, size: int) -> None:
        actual = file.size_when_locked()
        if actual < size:
            raise BytesMissing()
        if actual > size:
            os.ftruncate(file.fd, size)
            if self.settings.durable:
                sync_data(file.fd)

    def delete(self, blob: Blob) -> None:
        paths = self._layout.paths(blob.key)
        together = getattr(self._removing, "directories", None)
        with translate_os_errors(), suppress(FileNotFoundError):
            directory = self._tree.open_directory(paths.directories)
            try:
                with self._locked(paths, paths.unfinished) as file:
                    durable = self.settings.durable and together is None
                    unlink_under_lock(file, directory, paths, durable=durable)
            finally:
                close_file(directory)
            if together is not None:
                together.add(paths.directories)
                return
            self._tree.prune(paths.directories)

    @contextmanager
    def removing(self) -> Iterator[None]:
        directories = self._removing.directories = set[tuple[str, ...]]()
        try:
            yield
        finally:
            del self._removing.directories
        with translate_os_errors():
            sync_removals(self._tree, directories)

    def move(self, blob: Blob, destination: str | Path) -> None:
        target = os.path.abspath(destination)
        if not os.path.isdir(os.path.dirname(target)):
            raise StorageError("Directory of the destination does not exist")
        paths = self._layout.paths(blob.key)
        with translate_os_errors():
            if file_size(self._tree, paths.directories, paths.finished) == blob.size:
                # Otherwise a repeated move() would find bytes that were not moved.
                unlink_second_name(self._tree, paths)
                move_file(self._tree, paths.directories, paths.finished, target)
                self._tree.prune(paths.directories)
                return
            # A repeated move() after a successful one finds the bytes at the target.
            there = os.path.isfile(target) and os.path.getsize(target) == blob.size
            if not there or self.measure(blob) is not None:
                raise BytesMissing()
            if self.settings.durable:
                sync_parent(target)

    def stored(self) -> Iterator[StoredItem]:
        suffixes = (self.settings.incomplete_ext, self.settings.complete_ext)
        with translate_os_errors():
            yield from list_items(self._tree, suffixes)

    def uses(self, blob: Blob, item: StoredItem, *, finished: bool) -> bool:
        return not finished or item.piece != SECOND_NAME

    def discard(
        self, item: StoredItem, is_needed: Callable[[], bool] = lambda: False
    ) -> bool:
        if item.staged:
            with translate_os_errors():
                return discard_stage(self._tree, item.key)
        paths = self._layout.paths(item.key)
        with translate_os_errors():
            if item.piece != SECOND_NAME:
                return discard_orphan(self._tree, paths, is_needed)
            with suppress(FileNotFoundError):
                unlink_second_name(self._tree, paths)
                self._tree.prune(paths.directories)
        return True

    def _locked(self, paths: FilePaths, name: str) -> LockedFile:
        return LockedFile(self._tree, paths.directories, name, self._lock_timeout)
