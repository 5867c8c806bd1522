"""The storage port: where the bytes of uploads live.

Knows keys, sizes and receipts; nothing of HTTP, of owners or of the database.

How a storage is used
---------------------
The database's offset is the truth. A storage may hold *more* bytes than were
committed (a dead tail, left by a crash or by a writer that was superseded); the next
append cuts them. It never holds fewer.

One claim appends through one :class:`Appender`, in sections::

    with appender.exclusive():            # short: nobody waits for a client in here
        ...fence and offset still mine?...
        appender.write(block)             # at the appender's position, cuts the tail
        receipt = appender.flush()        # durable from here on
        ...UPDATE offset and receipt.state where fence and offset are still mine...

A chunk that must be whole is received into a :class:`Stage` first and handed over with
:meth:`Appender.take`.

How S3 multipart fits the same port
-----------------------------------
* ``state`` is the upload's row of JSON beside the offset: the multipart id, the part
  size fixed at creation (:meth:`Storage.new_state`), how many parts there are, and the
  key of the tail object. The parts themselves, with number, size, ETag and checksum,
  are rows of a table of their own, keyed by upload id (:attr:`Storage.keeps_parts`).
  Both change only through receipts, in the transaction that moves the offset, so a part
  that a superseded writer sent is never listed.
* ``exclusive()`` locks nothing: before a part is sent, its number is taken by
  compare-and-set on the row (:meth:`Appender.bind`), so that nobody else ever sends
  another one under it.
* ``write()`` collects into a temporary file; every time it holds one full part (all
  parts of an upload are equal), the part is sent. ``flush()`` sends what is left below
  one part as the *tail* object under a new key and returns the receipt that names the
  new parts and the new tail; the old tail object goes after the commit
  (:meth:`Appender.settle`).
* ``take()`` appends a stage's file in the same way; ``head()`` reads the first part's
  temporary file or the tail object.
* ``finalize()`` sends the tail as the last part and completes the multipart upload with
  the parts of the table; a reply that was lost is found by asking for the object.
* ``delete()`` aborts the multipart upload and removes tail and object.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from ..exceptions import NotLocal

State = Mapping[str, object]
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What a blueprint's configuration tells its storage.

    :param base: absolute directory that a relative ``path`` starts at
        (the application's instance path).
    :param path: ``strftime`` pattern of an upload's directory (creation time, UTC).
    :param durable: sync bytes to the medium before they are acknowledged.
    :param incomplete_ext: suffix of an unfinished upload's file.
    :param complete_ext: suffix of a finished upload's file.
    """

    base: str
    path: str = "chunked_uploads/%Y/%m/%d"
    durable: bool = True
    incomplete_ext: str = ".part"
    complete_ext: str = ".done"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an upload that the storage keeps apart until the end.

    :param number: its place among the others; there may be gaps.
    :param size: bytes.
    :param etag: what the storage wants to be told of it at the end.
    :param checksum: the same, where checksums are on.
    """

    number: int
    size: int
    etag: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """The committed bytes of one upload, as its row knows them.

    :param key: computed once, at creation, by :meth:`Storage.new_key`.
    :param size: committed bytes.
    :param state: what the storage's receipts left in the row, or ``None``.
    :param parts: what its receipts left in the table of parts; told to
        :meth:`Storage.finalize` only.
    """

    key: str
    size: int
    state: State | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the repository stores with the offset, in the same transaction.

    :param parts: that came new since the receipt before.
    """

    state: State | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredItem:
    """Something the storage holds, for ``check``.

    :param key: the key it belongs to, or for a stage its own name.
    :param size: bytes.
    :param modified_at: aware UTC time of the last write.
    :param staged: left behind by a request that died; belongs to no upload.
    :param piece: name of a piece that the key's upload may use or have left behind, see
        :meth:`Storage.uses`; ``None``: the key's file itself.
    """

    key: str
    size: int
    modified_at: datetime
    staged: bool = False
    piece: str | None = None


class Stage(ABC):
    """A private place for one whole chunk, on the storage's own medium.

    Close it always; closing drops whatever was not taken.
    """

    size: int

    def expect(self, length: int) -> None:
        """So many bytes will come; room may be reserved for them."""
        return

    @abstractmethod
    def write(self, block: Buffer) -> int:
        """Append bytes; returns how many.

        :raises StorageFull: no space left.
        """

    @abstractmethod
    def sha256(self) -> hashlib._Hash:
        """SHA-256 of all bytes, which are read again for it."""

    @abstractmethod
    def close(self) -> None:
        """Drop what was not taken; may be called twice."""

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Appender(ABC):
    """One claim's way to the bytes behind the committed offset.

    :ivar position: where the next byte goes; starts at the blob's size.
    :cvar drains_pipes: can it :meth:`write_from` a pipe, so that bytes need not pass
        through the process?
    :cvar lingers: does a commit cost so much that a silent client gets until the next
        one is due to go on?
    """

    drains_pipes: bool = False
    lingers: bool = False
    position: int

    def bind(self, save: Callable[[State], None]) -> None:
        """Tell how a state is stored in the row at once, the offset unmoved.

        :param save: raises where the claim was lost; what was to be stored is not then.
        """
        return

    def expect(self, length: int) -> None:
        """The upload will have so many bytes; room may be reserved for them."""
        return

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers of the same key out, for the length of the block.

        :raises StorageBusy: another writer held the bytes for five seconds.
        :raises BytesMissing: there are fewer bytes than were committed.
        """

    def ends_at_position(self) -> bool:
        """In a section: is nothing behind the position, neither ours nor another's?

        What is written then spoils nothing, and goes again with :meth:`settle`.
        """
        return False

    @abstractmethod
    def write(self, block: Buffer) -> None:
        """Cut a dead tail, then write at the position and move it.

        :raises StorageFull: no space left; nothing stays behind the position.
        """

    def rewind(self, position: int) -> None:
        """Cut off what was written behind a position that is not committed.

        Asked only where :attr:`Storage.writes_ahead`.
        """
        raise NotImplementedError

    def write_from(self, pipe: int, count: int) -> None:
        """Like :meth:`write`, for bytes in a pipe; see :attr:`drains_pipes`."""
        raise NotImplementedError

    @abstractmethod
    def take(self, stage: Stage) -> None:
        """Append a stage's bytes as a whole, cheaply; the stage is used up."""

    @abstractmethod
    def copy(self, source: Blob, start: int, count: int) -> None:
        """Append ``count`` bytes of another, finished blob from its byte ``start``.

        Where the file system can share blocks, no byte is copied.

        :raises BytesMissing: the source has fewer bytes.
        """

    @abstractmethod
    def head(self, count: int) -> bytes:
        """The first ``count`` bytes of the upload, written or committed."""

    @abstractmethod
    def flush(self) -> Receipt:
        """Make everything up to the position safe; the offset may move after it."""

    def finish(self) -> bool:
        """In a section, before :meth:`flush`: make the bytes the finished file as well.

        With :meth:`settle` they are that alone, or are unfinished again. Asked where
        :attr:`Storage.finishes_first`, of an upload that begins and ends in here.

        :return: ``False``: that cannot be done here, and nothing changed.
        """
        return False

    def settle(self, *, committed: bool) -> None:
        """Told once it is known whether the last receipt is in the row.

        If it is not, what a section wrote that began at the end of the file is cut.
        """
        return

    @abstractmethod
    def close(self) -> None:
        """Release what the appender holds; may be called twice."""

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Storage(ABC):
    """Base of the storages. Safe to share between threads.

    ``CHUNKED_UPLOAD_STORAGE_CLASS`` names a class or a factory that is called as
    ``factory(settings, **storage_options)`` with :class:`StorageSettings`, once for
    each registered blueprint, and must not do I/O then.

    :cvar reads_unfinished: can :meth:`open` read an unfinished blob? Elsewhere a digest
        of every chunk is taken while it passes, to know it when it is repeated.
    :cvar writes_ahead: may a chunk be written behind the offset before anybody knows
        that it is whole? Elsewhere it comes from a :class:`Stage`.
    :cvar finishes_first: may bytes become the finished file before the row says so? It
        takes small uploads whole then (:meth:`put`).
    :cvar keeps_parts: do receipts carry parts, so that there must be a table of them?
    """

    reads_unfinished: bool = True
    writes_ahead: bool = False
    finishes_first: bool = False
    keeps_parts: bool = False

    @property
    @abstractmethod
    def identity(self) -> str:
        """Where the bytes live; equal for two storages that share one place."""

    @abstractmethod
    def new_key(self, upload_id: UUID, created_at: datetime) -> str:
        """The key of a new upload, made from its id and creation time (UTC) alone."""

    def new_state(self, length: int | None) -> State | None:
        """The state of a new upload of this declared length (bytes).

        :raises StorageFull: no file of this length can be stored here.
        """
        return None

    def max_length(self, state: State | None = None) -> int | None:
        """Bytes that an upload may have at most; ``None``: no limit of the storage's.

        :param state: of the upload, where it is there already.
        """
        return None

    @abstractmethod
    def stage(self) -> Stage:
        """A new private stage."""

    @abstractmethod
    def appender(self, blob: Blob) -> Appender:
        """An appender at the blob's size; creates nothing before the first write."""

    def put(
        self, blob: Blob, content: Buffer, *, finished: bool
    ) -> AbstractContextManager[object]:
        """Store all bytes of a new upload, safe from here on, before it has a row.

        Asked only where :attr:`finishes_first`, once for a key that nobody else knows.

        :param finished: as the finished file.
        :return: until it is left, :meth:`discard` does not take them for an orphan.
        :raises StorageFull: no space left; nothing stays behind.
        """
        raise NotImplementedError

    @abstractmethod
    def finalize(self, blob: Blob) -> Receipt:
        """Make the bytes the finished file. Idempotent: done already is success.

        :raises BytesMissing: neither unfinished nor finished bytes are there.
        """

    @abstractmethod
    def open(self, blob: Blob) -> BinaryIO:
        """A seekable binary reader of the blob's bytes, finished or not.

        Reading it fails as any file does, with :class:`OSError`.

        :raises BytesMissing: there are fewer bytes than were committed.
        """

    @abstractmethod
    def delete(self, blob: Blob) -> None:
        """Remove all bytes of the key in whatever state; nothing there is success."""

    @abstractmethod
    def move(self, blob: Blob, destination: str | Path) -> None:
        """Move the finished file to a local path outside the storage.

        An existing file at the destination is replaced. Its directory must exist.

        :raises BytesMissing: no finished file.
        """

    def path(self, blob: Blob) -> Path:
        """The finished file's path on this machine.

        :raises NotLocal: the storage has no local paths.
        """
        raise NotLocal()

    def download_url(self, blob: Blob, disposition: str) -> str | None:
        """Where the finished file can be fetched without us, for a short while.

        :param disposition: the Content-Disposition that goes with it.
        :return: ``None``: nowhere.
        """
        return None

    @abstractmethod
    def measure(self, blob: Blob) -> int | None:
        """Bytes that are really there, dead tail included; ``None``: nothing there."""

    @abstractmethod
    def cut(self, blob: Blob) -> None:
        """Remove a dead tail (the caller made sure that nobody appends)."""

    @abstractmethod
    def stored(self) -> Iterator[StoredItem]:
        """Everything below this storage's place that looks like ours."""

    def uses(self, blob: Blob, item: StoredItem, *, finished: bool) -> bool:
        """Does the upload need this item of its key, by what its row says?"""
        return True

    @abstractmethod
    def discard(
        self, item: StoredItem, is_needed: Callable[[], bool] = lambda: False
    ) -> bool:
        """Remove an item of :meth:`stored`; ``False`` if it is still in use.

        :param is_needed: asked last, when nobody who stores bytes before their row
            (:meth:`put`) is at it any more.
        """
