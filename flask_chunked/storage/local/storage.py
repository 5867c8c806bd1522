"""Storage of uploads as files of this machine's disk.

Knows keys, names and sizes; the database's offset reaches it as ``Blob.size`` only.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from uuid import UUID

from ...exceptions import BytesMissing, ConfigurationError, StorageBusy, StorageError
from ..base import Blob, Buffer, Receipt, Storage, StorageSettings, StoredItem
from .files import (
    CREATE_NEW,
    HAS_LOCKS,
    READ,
    Tree,
    close_file,
    storage_errors,
    sync_data,
    sync_directory,
    unlink_name,
    write_all,
)
from .inventory import (
    SECOND_NAME,
    BoundedFile,
    Place,
    file_size,
    list_items,
    move_file,
    sync_parent,
)
from .lock import LockedFile, Patience
from .preallocation import AHEAD, Room
from .writer import LocalAppender, LocalStage

STAGING = ".staging"
_STAGED = re.compile(r"[0-9a-f]{32}")


class LocalStorage(Storage):
    """One file for each upload, below the part of ``path`` that holds no ``%``.

    Directories are made with mode 0700 and files with 0600. An unfinished file is
    written under ``flock``: all processes that share it must run on one machine.

    :param lock_timeout: seconds to wait for another writer's section.
    :param reserve_ahead: bytes of room at most that a long unfinished upload reserves
        in the file system behind what came; below 1 MiB: none.
    :param clock: monotonic seconds, for the wait.
    :param sleep: pauses for seconds, for the wait.
    :raises ConfigurationError: a system without ``flock``, settings that name no place,
        or an option that is none.
    """

    writes_ahead = True
    finishes_first = True

    def __init__(
        self,
        settings: StorageSettings,
        *,
        lock_timeout: float = 5.0,
        reserve_ahead: int = AHEAD,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        if not HAS_LOCKS:
            raise ConfigurationError(
                "Local storage needs the file locks of Linux or macOS; on this system "
                "set CHUNKED_UPLOAD_STORAGE_CLASS to another storage"
            )
        for suffix in (settings.incomplete_ext, settings.complete_ext):
            if "/" in suffix or "\0" in suffix:
                raise ConfigurationError(f"Not a suffix of a file name: {suffix!r}")
        root, self._pattern = _split_path(settings)
        self.settings = settings
        self._tree = Tree(root, durable=settings.durable, marker=STAGING)
        if not isinstance(reserve_ahead, int) or reserve_ahead < 0:
            raise ConfigurationError(
                f"reserve_ahead is a number of bytes, or 0: {reserve_ahead!r}"
            )
        self._ahead = reserve_ahead
        self._patience = Patience(lock_timeout, clock, sleep or Patience().sleep)

    @property
    def identity(self) -> str:
        return f"local:{self._tree.path}"

    def new_key(self, upload_id: UUID, created_at: datetime) -> str:
        if created_at.tzinfo is not None:
            created_at = created_at.astimezone(timezone.utc)
        directory = created_at.strftime(self._pattern) if self._pattern else ""
        key = f"{directory}/{upload_id}" if directory else str(upload_id)
        self._place(key)
        return key

    def stage(self) -> LocalStage:
        return LocalStage(self._tree, Room(self._ahead))

    def appender(self, blob: Blob) -> LocalAppender:
        place = self._place(blob.key)
        return LocalAppender(
            self._tree,
            place.parts,
            place.unfinished,
            finished=place.finished,
            size=blob.size,
            patience=self._patience,
            room=Room(self._ahead),
            open_source=self._open_source,
        )

    def put(
        self, blob: Blob, content: Buffer, *, finished: bool
    ) -> AbstractContextManager[object]:
        place = self._place(blob.key)
        name = place.finished if finished else place.unfinished
        file = self._locked(place, name)
        with storage_errors(), ExitStack() as failed:
            failed.enter_context(file)
            failed.callback(self._remove_new, file)
            file.make()
            write_all(file.fd, content, 0)
            if self.settings.durable:
                sync_data(file.fd)
                sync_directory(file.directory)
            failed.pop_all()
        return file

    def _remove_new(self, file: LockedFile) -> None:
        # Where it is not open the name was taken, by another one's file.
        if file.fd >= 0:
            with suppress(OSError):
                os.unlink(file.name, dir_fd=file.directory)

    def finalize(self, blob: Blob) -> Receipt:
        place = self._place(blob.key)
        with storage_errors(), self._locked(place, place.unfinished) as file:
            # Not there: it is finished already, by us or by a request beside us, or
            # nothing was ever written.
            with suppress(FileNotFoundError):
                file.lock(create=False)
                if file.size_when_locked() >= blob.size:
                    self._finish(file, place, blob.size)
                    return Receipt()
            self._confirm(place, blob.size)
        return Receipt()

    def _finish(self, file: LockedFile, place: Place, size: int) -> None:
        self._trim(file, size)
        if place.finished != place.unfinished:
            if os.fstat(file.fd).st_nlink > 1:
                # Between two names of one file a rename does nothing.
                unlink_name(file.directory, place.finished)
            os.rename(
                place.unfinished,
                place.finished,
                src_dir_fd=file.directory,
                dst_dir_fd=file.directory,
            )
        if self.settings.durable:
            sync_directory(file.directory)

    def _confirm(self, place: Place, size: int) -> None:
        """See to it that the finished file is there without an unfinished one."""
        if size == 0:
            with suppress(FileExistsError):
                for fd in self._tree.open_file(place.parts, place.finished, CREATE_NEW):
                    close_file(fd)
        if file_size(self._tree, place.parts, place.finished) != size:
            raise BytesMissing()
        directory = self._tree.open_directory(place.parts)
        try:
            if place.finished != place.unfinished:
                # An overtaken writer may have opened it anew, at offset 0.
                unlink_name(directory, place.unfinished)
            if self.settings.durable:
                # Whoever renamed it may have died before this.
                sync_directory(directory)
        finally:
            close_file(directory)

    def open(self, blob: Blob) -> BinaryIO:
        with storage_errors():
            opened = self._open_file(blob)
            if opened is not None:
                return self._reader(opened[0], blob.size, opened[1])
        if blob.size:
            raise BytesMissing()
        return io.BytesIO()

    def _open_file(self, blob: Blob) -> tuple[int, bool] | None:
        """Descriptor of the blob's file, and whether its name says finished."""
        place = self._place(blob.key)
        for name in place.names():
            with suppress(FileNotFoundError):
                directory, fd = self._tree.open_file(place.parts, name, READ)
                close_file(directory)
                return fd, place.is_finished(name)
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

    def _reader(self, fd: int, size: int, finished: bool) -> BinaryIO:
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
        place = self._place(blob.key)
        with storage_errors():
            if file_size(self._tree, place.parts, place.finished) != blob.size:
                raise BytesMissing()
            return Path(self._tree.path, *place.parts, place.finished)

    def measure(self, blob: Blob) -> int | None:
        place = self._place(blob.key)
        with storage_errors():
            for name in place.names():
                size = file_size(self._tree, place.parts, name)
                if size is not None:
                    return size
        return None

    def cut(self, blob: Blob) -> None:
        place = self._place(blob.key)
        for name in (place.unfinished, place.finished):
            with (
                storage_errors(),
                suppress(FileNotFoundError),
                self._locked(place, name) as file,
            ):
                file.lock(create=False)
                self._trim(file, blob.size)
                return
        if blob.size:
            raise BytesMissing()

    def _trim(self, file: LockedFile, size: int) -> None:
        actual = file.size_when_locked()
        if actual < size:
            raise BytesMissing()
        if actual > size:
            os.ftruncate(file.fd, size)
            if self.settings.durable:
                sync_data(file.fd)

    def delete(self, blob: Blob) -> None:
        place = self._place(blob.key)
        with storage_errors(), suppress(FileNotFoundError):
            directory = self._tree.open_directory(place.parts)
            try:
                with self._locked(place, place.unfinished) as file:
                    self._unlink(directory, place, file)
            finally:
                close_file(directory)
            self._tree.prune(place.parts)

    def _unlink(self, directory: int, place: Place, file: LockedFile) -> None:
        # After a running section, whose take() would bring the name back. A holder
        # that is frozen, or a name that is a link, does not keep the name alive.
        with suppress(OSError, StorageBusy):
            file.lock(create=False)
        self._unlink_names(directory, place)

    def _unlink_names(self, directory: int, place: Place) -> None:
        # In this order: a finalize() beside us moves the bytes from the first name to
        # the second.
        for name in (place.unfinished, place.finished):
            unlink_name(directory, name)
        if self.settings.durable:
            sync_directory(directory)

    def move(self, blob: Blob, destination: str | Path) -> None:
        target = os.path.abspath(destination)
        if not os.path.isdir(os.path.dirname(target)):
            raise StorageError("Directory of the destination does not exist")
        place = self._place(blob.key)
        with storage_errors():
            if file_size(self._tree, place.parts, place.finished) == blob.size:
                # Or a repeat of this would find bytes that are not moved.
                self._take_name_away(place)
                move_file(self._tree, place.parts, place.finished, target)
                self._tree.prune(place.parts)
                return
            # A repeat after success finds the bytes where they should be.
            there = os.path.isfile(target) and os.path.getsize(target) == blob.size
            if not there or self.measure(blob) is not None:
                raise BytesMissing()
            if self.settings.durable:
                sync_parent(target)

    def stored(self) -> Iterator[StoredItem]:
        suffixes = (self.settings.incomplete_ext, self.settings.complete_ext)
        with storage_errors():
            yield from list_items(self._tree, suffixes)

    def uses(self, blob: Blob, item: StoredItem, *, finished: bool) -> bool:
        return not finished or item.piece != SECOND_NAME

    def discard(
        self, item: StoredItem, is_needed: Callable[[], bool] = lambda: False
    ) -> bool:
        if item.piece == SECOND_NAME:
            place = self._place(item.key)
            with storage_errors(), suppress(FileNotFoundError):
                self._take_name_away(place)
                self._tree.prune(place.parts)
            return True
        if not item.staged:
            return self._discard_orphan(self._place(item.key), is_needed)
        if not _STAGED.fullmatch(item.key):
            raise StorageError("Not the name of a stage")
        file = LockedFile(self._tree, (STAGING,), item.key, Patience(0))
        with storage_errors(), file:
            try:
                file.lock(create=False)
                os.unlink(item.key, dir_fd=file.directory)
            except StorageBusy:
                return False
            except FileNotFoundError:
                pass
        return True

    def _discard_orphan(self, place: Place, is_needed: Callable[[], bool]) -> bool:
        with storage_errors(), ExitStack() as held, suppress(FileNotFoundError):
            directory = self._tree.open_directory(place.parts)
            held.callback(close_file, directory)
            try:
                self._lock_names(place, held)
            except StorageBusy:
                return False
            if is_needed():
                return False
            self._unlink_names(directory, place)
            self._tree.prune(place.parts)
        return True

    def _lock_names(self, place: Place, held: ExitStack) -> None:
        """Lock what the names stand for until then.

        :raises StorageBusy: somebody is at one of them.
        """
        locked: list[LockedFile] = []
        for name in dict.fromkeys((place.unfinished, place.finished)):
            file = held.enter_context(
                LockedFile(self._tree, place.parts, name, Patience(0))
            )
            # Not there; or a link, which does not keep its name alive.
            with suppress(OSError):
                file.open(create=False)
                if not any(file.is_same(other) for other in locked):
                    file.lock(create=False)
                    locked.append(file)

    def _take_name_away(self, place: Place) -> None:
        """Remove the unfinished name of a finished file, if it still has it."""
        if place.finished == place.unfinished:
            return
        directory = self._tree.open_directory(place.parts)
        try:
            unlink_name(directory, place.unfinished)
        finally:
            close_file(directory)

    def _locked(self, place: Place, name: str) -> LockedFile:
        return LockedFile(self._tree, place.parts, name, self._patience)

    def _place(self, key: str) -> Place:
        *parts, name = key.split("/")
        plain = all(_is_plain(part) for part in (*parts, name))
        if not plain or STAGING in parts:
            raise StorageError("Not a key of this storage")
        return Place(
            tuple(parts),
            name + self.settings.incomplete_ext,
            name + self.settings.complete_ext,
        )


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "\0" not in name


def _split_path(settings: StorageSettings) -> tuple[str, str]:
    """The root directory, and the pattern of the directories below it."""
    path = PurePosixPath(settings.path)
    static: list[str] = []
    for part in path.parts:
        if "%" in part:
            break
        static.append(part)
    rest = path.parts[len(static) :]
    if ".." in rest or "\0" in settings.path:
        raise ConfigurationError(f"Not a path for uploads: {settings.path!r}")
    root = os.path.join(settings.base, *static)
    if not os.path.isabs(root):
        raise ConfigurationError(f"Base of a relative path is relative: {root!r}")
    return root, "/".join(rest)
