"""Storage in this process's memory, for tests.

Obeys the same contract as the other storages. Its bytes are lost when the process ends,
and other processes do not see them.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from ..exceptions import BytesMissing, StorageBusy, StorageError
from .base import Appender, Stage, Storage
from .memory_stage import MemoryStage
from .values import Blob, Buffer, Receipt, StorageSettings, StoredItem


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class _File:
    """One file: its bytes, the time of the last write, and the writers' lock."""

    def __init__(self, now: datetime) -> None:
        self.content = bytearray()
        self.modified_at = now
        self.lock = threading.Lock()


class MemoryStorage(Storage):
    """Uploads in a dictionary, for tests in a single process.

    :param lock_timeout: seconds to wait for another writer's section.
    :param now: returns the aware UTC time, for ``modified_at``.
    """

    writes_ahead = True
    finishes_first = True

    def __init__(
        self,
        settings: StorageSettings,
        *,
        lock_timeout: float = 5.0,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.settings = settings
        self.lock_timeout = lock_timeout
        self.now = now
        self.unfinished: dict[str, _File] = {}
        self.finished: dict[str, _File] = {}
        #: Keys of bytes that put() stored and that have no row yet.
        self.held: set[str] = set()
        self.stages: dict[str, MemoryStage] = {}
        self.guard = threading.Lock()

    @property
    def identity(self) -> str:
        return f"memory:{id(self)}"

    def new_key(self, upload_id: UUID, created_at: datetime) -> str:
        return str(upload_id)

    def stage(self) -> MemoryStage:
        return MemoryStage(self.stages, self.now())

    def appender(self, blob: Blob) -> MemoryAppender:
        return MemoryAppender(self, blob)

    def put(
        self, blob: Blob, content: Buffer, *, finished: bool
    ) -> AbstractContextManager[object]:
        file = _File(self.now())
        file.content += content
        with self.guard:
            (self.finished if finished else self.unfinished)[blob.key] = file
            self.held.add(blob.key)
        return self._holding(blob.key)

    @contextmanager
    def _holding(self, key: str) -> Iterator[None]:
        try:
            yield
        finally:
            self.held.discard(key)

    def finalize(self, blob: Blob) -> Receipt:
        with self.guard:
            file = self.unfinished.get(blob.key)
            if file is not None and len(file.content) >= blob.size:
                del file.content[blob.size :]
                self.finished[blob.key] = self.unfinished.pop(blob.key)
                return Receipt()
            if blob.size == 0:
                self.finished.setdefault(blob.key, _File(self.now()))
            self._finished_file(blob)
            self.unfinished.pop(blob.key, None)
        return Receipt()

    def open(self, blob: Blob) -> BinaryIO:
        with self.guard:
            file = self._find(blob)
            content = b"" if file is None else bytes(file.content[: blob.size])
        if len(content) < blob.size:
            raise BytesMissing()
        return io.BytesIO(content)

    def delete(self, blob: Blob) -> None:
        with self.guard:
            self.unfinished.pop(blob.key, None)
            self.finished.pop(blob.key, None)

    def move(self, blob: Blob, destination: str | Path) -> None:
        target = os.path.abspath(destination)
        directory = os.path.dirname(target)
        if not os.path.isdir(directory):
            raise StorageError("Directory of the destination does not exist")
        with self.guard:
            if self._find(blob) is None and os.path.isfile(target):
                # A repeated move() after a successful one finds the bytes at the
                # target.
                if os.path.getsize(target) == blob.size:
                    return
                raise BytesMissing()
            content = bytes(self._finished_file(blob).content)
            temporary = os.path.join(directory, f".{uuid4().hex}.moving")
            try:
                Path(temporary).write_bytes(content)
                os.replace(temporary, target)
            except OSError as error:
                Path(temporary).unlink(missing_ok=True)
                raise StorageError() from error
            del self.finished[blob.key]

    def measure(self, blob: Blob) -> int | None:
        with self.guard:
            file = self._find(blob)
            return None if file is None else len(file.content)

    def truncate(self, blob: Blob) -> None:
        with self.guard:
            file = self._find(blob)
            if (0 if file is None else len(file.content)) < blob.size:
                raise BytesMissing()
            if file is not None:
                del file.content[blob.size :]

    def stored(self) -> Iterator[StoredItem]:
        with self.guard:
            items = [
                StoredItem(key, len(file.content), file.modified_at)
                for files in (self.unfinished, self.finished)
                for key, file in files.items()
            ]
            items += [
                StoredItem(name, stage.size, stage.modified_at, staged=True)
                for name, stage in self.stages.items()
            ]
        yield from items

    def discard(
        self, item: StoredItem, is_needed: Callable[[], bool] = lambda: False
    ) -> bool:
        if item.staged:
            # The owner of a stage lives as long as this process.
            return item.key not in self.stages
        if item.key in self.held or is_needed():
            return False
        self.delete(Blob(item.key, item.size))
        return True

    def _find(self, blob: Blob) -> _File | None:
        return self.finished.get(blob.key) or self.unfinished.get(blob.key)

    def _finished_file(self, blob: Blob) -> _File:
        file = self.finished.get(blob.key)
        if file is None or len(file.content) != blob.size:
            raise BytesMissing()
        return file


class MemoryAppender(Appender):
    """Appends to one unfinished upload."""

    def __init__(self, storage: MemoryStorage, blob: Blob) -> None:
        self.position = blob.size
        self._storage = storage
        self._key = blob.key
        self._file: _File | None = None
        #: The position when at_end_of_file() found the file to end there.
        self._section_start: int | None = None
        self._is_finished = False
        self._inside = False
        self._closed = False

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if self._inside:
            raise RuntimeError("exclusive() does not nest")
        if self._closed:
            raise StorageError("The appender is closed")
        file = self._lock()
        try:
            if len(file.content) < self.position:
                raise BytesMissing()
            self._file = file
            self._section_start = None
            self._inside = True
            yield
        finally:
            self._inside = self._is_finished = False
            with self._storage.guard:
                unfinished = self._storage.unfinished
                if not file.content and unfinished.get(self._key) is file:
                    # A section at offset 0 that wrote nothing leaves no file.
                    del unfinished[self._key]
            file.lock.release()

    def _lock(self) -> _File:
        storage = self._storage
        while True:
            file = self._current()
            if file is None:
                raise BytesMissing()
            if not file.lock.acquire(timeout=storage.lock_timeout):
                raise StorageBusy()
            # The file may have been finished or deleted during the wait.
            if storage.unfinished.get(self._key) is file:
                return file
            file.lock.release()

    def _current(self) -> _File | None:
        storage = self._storage
        with storage.guard:
            if self.position == 0 and self._key not in storage.unfinished:
                storage.unfinished[self._key] = _File(storage.now())
            return storage.unfinished.get(self._key)

    def at_end_of_file(self) -> bool:
        is_end = len(self._section().content) == self.position
        if self.position == 0 and self._key in self._storage.finished:
            # Only the row says whether the finished file is the upload's.
            is_end = False
        self._section_start = self.position if is_end else None
        return is_end

    def finish(self) -> bool:
        file = self._section()
        finished = self._storage.finished
        if self._section_start != 0 or self._key in finished:
            return False
        finished[self._key] = file
        self._is_finished = True
        return True

    def committed(self) -> None:
        if self._is_finished:
            self._is_finished = False
            self._storage.unfinished.pop(self._key, None)

    def rollback(self) -> None:
        if self._is_finished:
            self._is_finished = False
            self._storage.finished.pop(self._key, None)
        if self._section_start is not None:
            del self._section().content[self._section_start :]
            self.position = self._section_start

    def write(self, block: bytes | bytearray | memoryview) -> None:
        file = self._section()
        if len(file.content) < self.position:
            raise BytesMissing()
        if self.position == 0 and self._section_start is None:
            # The writer of this finished file died before it committed the row.
            self._storage.finished.pop(self._key, None)
        del file.content[self.position :]
        file.content += block
        file.modified_at = self._storage.now()
        self.position = len(file.content)

    def rewind(self, position: int) -> None:
        del self._section().content[position:]
        self.position = position

    def take(self, stage: Stage) -> None:
        self._section()
        if not isinstance(stage, MemoryStage):
            raise TypeError(f"{stage!r} is not a stage of this storage")
        if stage.content is None:
            raise RuntimeError("The stage is closed or was taken")
        self.write(stage.content)
        stage.close()

    def copy(self, source: Blob, start: int, count: int) -> None:
        if start + count > source.size:
            raise BytesMissing()
        with self._storage.open(source) as reader:
            reader.seek(start)
            self.write(reader.read(count))

    def head(self, count: int) -> bytes:
        file = self._file or self._storage.unfinished.get(self._key)
        wanted = max(0, min(count, self.position))
        head = b"" if file is None else bytes(file.content[:wanted])
        if len(head) < wanted:
            raise BytesMissing()
        return head

    def flush(self) -> Receipt:
        self._section()
        return Receipt()

    def close(self) -> None:
        self._closed = True
        self._inside = False

    def _section(self) -> _File:
        if not self._inside or self._file is None:
            raise RuntimeError("Only allowed inside exclusive()")
        return self._file
