"""The frozen values that storages, the engine and the repository exchange.

Knows keys, sizes and receipts; nothing of HTTP, of owners or of the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

#: What a storage keeps in the upload's row, as JSON.
State = Mapping[str, object]
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """The part of a blueprint's configuration that its storage needs.

    :param base: absolute directory that a relative ``path`` is joined to
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
    """A piece of an upload that the storage keeps separate until completion.

    :param number: its position among the upload's parts; numbers may have gaps.
    :param size: bytes.
    :param etag: the storage's identifier of the content, needed for completion.
    :param checksum: the storage's checksum of the content, if checksums are enabled.
    """

    number: int
    size: int
    etag: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """The committed bytes of one upload, as its row describes them.

    :param key: computed once, at creation, by ``Storage.new_key``.
    :param size: committed bytes.
    :param state: the state of the last committed receipt, or ``None``.
    :param parts: the parts of all committed receipts; loaded only for
        ``Storage.finalize``.
    """

    key: str
    size: int
    state: State | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the repository stores with the offset, in the same transaction.

    :param state: the upload's new state, or ``None``.
    :param parts: the parts that were added since the previous receipt.
    """

    state: State | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredItem:
    """Something that the storage holds, reported to ``check``.

    :param key: the key that the item belongs to; for a stage, the name of the stage.
    :param size: bytes.
    :param modified_at: aware UTC time of the last write.
    :param staged: the item is a stage and belongs to no upload.
    :param piece: name of an additional piece of the key, which the upload may or may
        not use (``Storage.uses``); ``None``: the item is the key's file itself.
    """

    key: str
    size: int
    modified_at: datetime
    staged: bool = False
    piece: str | None = None
