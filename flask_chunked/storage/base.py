"""The storage port: where the bytes of uploads are kept.

Knows keys, sizes and receipts; nothing of HTTP, of owners or of the database.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from ..exceptions import NotLocal
from .place import USUAL, Place
from .values import Blob, Buffer, Part, Receipt, State, StorageSettings, StoredItem

__all__ = [
    "Appender",
    "Blob",
    "Buffer",
    "Part",
    "Place",
    "Receipt",
    "SpliceTarget",
    "Stage",
    "State",
    "Storage",
    "StorageSettings",
    "StoredItem",
]


class Stage(AbstractContextManager["Stage"], ABC):
    """A private temporary file for one whole chunk, on the storage's own medium.

    Always close a stage. Closing discards the bytes that :meth:`Appender.take` did not
    take.
    """

    size: int

    def set_length(self, length: int) -> None:
        """Announce how many bytes will be written, so that space can be reserved."""
        return

    @abstractmethod
    def write(self, block: Buffer) -> int:
        """Append bytes.

        :return: the number of bytes: all of them, or it raises.
        :raises StorageFull: no space is left.
        """

    @abstractmethod
    def sha256(self) -> hashlib._Hash:
        """SHA-256 of all bytes. The bytes are read again for it."""

    @abstractmethod
    def close(self) -> None:
        """Discard what was not taken. May be called more than once."""

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Appender(AbstractContextManager["Appender"], ABC):
    """Writes bytes beyond the committed offset of one upload, for one claim.

    The database's offset is the truth. A storage may hold more bytes than were
    committed: a crash or a superseded writer leaves *uncommitted bytes* beyond the
    offset, and the next writer truncates them. A storage never holds fewer.

    Bytes are written in sections, which are short and never wait for a client::

        with appender.exclusive():
            ...check that fence and offset are still ours...
            appender.write(block)
            receipt = appender.flush()  # the bytes are durable from here on
            ...UPDATE offset and receipt.state where fence and offset are still ours...

    A chunk that must be committed as a whole is received into a :class:`Stage` first
    and then passed to :meth:`take`.

    :ivar position: offset of the next byte; starts at the blob's size.
    :cvar commit_interval: seconds to wait for a silent client before its bytes are
        committed, for storages whose commits are expensive; 0: commit at once.
    """

    commit_interval: float = 0.0
    position: int

    def bind(self, save: Callable[[State], None]) -> None:
        """Set the function that stores a state in the row at once.

        :param save: leaves the offset unchanged; raises if the claim was lost, and
            then stores nothing.
        """
        return

    def set_length(self, length: int) -> None:
        """Announce the upload's length in bytes, so that space can be reserved."""
        return

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Enter a section: keep other writers of the same key out of it.

        :raises StorageBusy: another writer held the bytes for the lock timeout.
        :raises BytesMissing: there are fewer bytes than were committed.
        """

    def at_end_of_file(self) -> bool:
        """Inside a section: True if the file ends at ``position``.

        Then this section overwrites no other writer's bytes, and :meth:`rollback`
        truncates what it wrote.
        """
        return False

    @abstractmethod
    def write(self, block: Buffer) -> None:
        """Truncate uncommitted bytes, write at the position and advance it.

        :raises StorageFull: no space is left; the file is truncated to the position.
        """

    def rewind(self, position: int) -> None:
        """Truncate the uncommitted bytes beyond ``position`` and return to it.

        Called only if :attr:`Storage.writes_ahead`.
        """
        raise NotImplementedError

    @abstractmethod
    def take(self, stage: Stage) -> None:
        """Append all bytes of a stage cheaply. The stage cannot be used afterwards."""

    @abstractmethod
    def copy(self, source: Blob, start: int, count: int) -> None:
        """Append ``count`` bytes of another, finished blob from its byte ``start``.

        If the file system can share blocks, no byte is copied.

        :raises BytesMissing: the source has fewer bytes.
        """

    @abstractmethod
    def head(self, count: int) -> bytes:
        """The first ``count`` bytes of the upload, written or committed."""

    @abstractmethod
    def flush(self) -> Receipt:
        """Make all bytes up to the position durable, so that they can be committed."""

    def finish(self) -> bool:
        """Inside a section, before :meth:`flush`: publish the finished file as well.

        :meth:`committed` then removes the unfinished name, and :meth:`rollback` the
        finished one. Called only if :attr:`Storage.finishes_first`, for an upload whose
        bytes are all written in this section.

        :return: ``False`` if that is not possible here; then nothing has changed.
        """
        return False

    def committed(self) -> None:
        """Note that the row holds the last receipt."""
        return

    def rollback(self) -> None:
        """Note that the row does not hold the last receipt.

        If :meth:`at_end_of_file` returned True in this section, truncate its bytes.
        """
        return

    @abstractmethod
    def close(self) -> None:
        """Release what the appender holds. May be called more than once."""

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SpliceTarget(Appender):
    """An appender that takes bytes from a pipe, so that no process copies them."""

    @abstractmethod
    def write_from_pipe(self, pipe: int, count: int) -> None:
        """Like :meth:`write`, for ``count`` bytes that are in the pipe."""


class Storage(ABC):
    """Base of the storages. Safe to share between threads.

    ``CHUNKED_UPLOAD_STORAGE_CLASS`` names a class or a factory. It is called as
    ``factory(settings, **storage_options)`` with :class:`StorageSettings`, once for
    each registered blueprint, and must not do I/O then.

    :cvar reads_unfinished: :meth:`open` can read an unfinished blob. If it cannot, the
        engine computes a digest of every chunk while it is received, so that a repeated
        chunk can be recognised.
    :cvar writes_ahead: a chunk may be written beyond the offset before it is known to
        be whole. Otherwise it is received into a :class:`Stage` first.
    :cvar finishes_first: bytes may become the finished file before the row is complete.
        Such a storage also stores a small upload in one call (:meth:`put`).
    :cvar keeps_parts: receipts carry parts, so a table of parts is required.
    """

    reads_unfinished: bool = True
    writes_ahead: bool = False
    finishes_first: bool = False
    keeps_parts: bool = False

    @property
    @abstractmethod
    def identity(self) -> str:
        """The location of the bytes; equal for two storages that share a location."""

    @abstractmethod
    def new_key(
        self, upload_id: UUID, created_at: datetime, place: Place = USUAL
    ) -> str:
        """The key of a new upload, made only from its id, creation time and place.

        The name in it ends in the id, so two uploads never share a key.

        :raises InvalidPlace: the storage cannot store a file in that place.
        """

    def new_state(self, length: int | None) -> State | None:
        """The state of a new upload of this declared length (bytes).

        :raises StorageFull: the storage cannot hold a file of this length.
        """
        return None

    def max_length(self, state: State | None = None) -> int | None:
        """The largest upload in bytes; ``None``: the storage has no limit.

        :param state: the state of an existing upload.
        """
        return None

    @abstractmethod
    def stage(self) -> Stage:
        """A new private stage."""

    @abstractmethod
    def appender(self, blob: Blob) -> Appender:
        """An appender at the blob's size. Creates nothing before the first write."""

    def put(
        self, blob: Blob, content: Buffer, *, finished: bool
    ) -> AbstractContextManager[object]:
        """Store all bytes of a new upload durably, before it has a row.

        Called only if :attr:`finishes_first`, and once for a key that is not known to
        any other request.

        :param finished: store the bytes as the finished file.
        :return: a context manager; until it exits, :meth:`discard` does not remove the
            bytes as an orphan.
        :raises StorageFull: no space is left; nothing was stored.
        """
        raise NotImplementedError

    @abstractmethod
    def finalize(self, blob: Blob) -> Receipt:
        """Turn the bytes into the finished file. Idempotent.

        :raises BytesMissing: neither the unfinished nor the finished bytes exist.
        """

    @abstractmethod
    def open(self, blob: Blob) -> BinaryIO:
        """A seekable binary reader of the blob's bytes, finished or not.

        Reading from it raises :class:`OSError` on failure, as with any file.

        :raises BytesMissing: there are fewer bytes than were committed.
        """

    @abstractmethod
    def delete(self, blob: Blob) -> None:
        """Remove all bytes of the key in any state. It is no error if none exist."""

    def removing(self) -> AbstractContextManager[None]:
        """A block in which this thread deletes many uploads; their syncs may be shared.

        :raises StorageError: at the end; the deletions may not survive a power failure.
        """
        return nullcontext()

    @abstractmethod
    def move(self, blob: Blob, destination: str | Path) -> None:
        """Move the finished file to a local path outside the storage.

        Replaces an existing file at the destination. The directory of the destination
        must exist.

        :raises BytesMissing: there is no finished file.
        """

    def path(self, blob: Blob) -> Path:
        """The finished file's path on this machine.

        :raises NotLocal: the storage has no local paths.
        """
        raise NotLocal()

    def download_url(self, blob: Blob, disposition: str) -> str | None:
        """A short-lived URL from which a client can fetch the finished file directly.

        :param disposition: the Content-Disposition that the file is served with.
        :return: ``None`` if the storage offers no such URL.
        """
        return None

    @abstractmethod
    def measure(self, blob: Blob) -> int | None:
        """The bytes that exist, uncommitted ones included; ``None`` if none exist."""

    @abstractmethod
    def truncate(self, blob: Blob) -> None:
        """Truncate uncommitted bytes. The caller ensures that no writer is active."""

    @abstractmethod
    def stored(self) -> Iterator[StoredItem]:
        """All items in this storage's location that look like ours."""

    def uses(self, blob: Blob, item: StoredItem, *, finished: bool) -> bool:
        """True if the upload, as its row describes it, needs this item of its key."""
        return True

    @abstractmethod
    def discard(
        self, item: StoredItem, is_needed: Callable[[], bool] = lambda: False
    ) -> bool:
        """Remove an item of :meth:`stored`.

        :param is_needed: called last, when no request that stores bytes before their
            row (:meth:`put`) holds the item any more.
        :return: ``False`` if the item is still in use.
        """
