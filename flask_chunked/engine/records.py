"""The values that enter and leave the engine: frozen and without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from ..exceptions import BytesMissing
from ..storage.base import Blob, Part, State
from .states import Status


@dataclass(frozen=True, slots=True)
class Upload:
    """A frozen snapshot of an upload's row. Sizes are in bytes, times are aware UTC.

    The owner's quota counts ``reserved`` bytes for the upload; ``None``: none.

    ``extra`` holds the columns of the application's own model. They are also readable
    as attributes.
    """

    id: UUID
    blueprint: str
    user: object
    filename: str
    offset: int
    length: int | None
    status: Status
    fence: int
    created_at: datetime
    last_activity_at: datetime
    dialect: str
    last_start: int | None = None
    last_digest: str | None = None
    completed_at: datetime | None = None
    storage_key: str | None = None
    partial: bool = False
    concat: str | None = None
    raw_metadata: str | None = None
    content_type: str | None = None
    hash_name: str | None = None
    hash_state: bytes | None = None
    digest: str | None = None
    event_id: UUID | None = None
    delivered_at: datetime | None = None
    delivery_started_at: datetime | None = None
    attempts: int = 0
    storage_state: State | None = None
    reserved: int | None = None
    verify_started_at: datetime | None = None
    expected_digest: str | None = None
    attached_at: datetime | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    # Only the application knows the types of its columns.
    def __getattr__(self, name: str) -> Any:
        try:
            return self.extra[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def is_complete(self) -> bool:
        """True if all bytes are stored, checked and announced."""
        return self.status is Status.COMPLETE

    @property
    def blob(self) -> Blob | None:
        """The upload as the storage knows it; ``None``: the file was moved away."""
        if self.storage_key is None:
            return None
        return Blob(self.storage_key, self.offset, self.storage_state)

    def require_blob(self) -> Blob:
        """The upload as the storage knows it.

        :raises BytesMissing: the file was moved away.
        """
        blob = self.blob
        if blob is None:
            raise BytesMissing()
        return blob


@dataclass(frozen=True, slots=True)
class Removed:
    """An upload whose row was deleted; its bytes are still to be removed.

    :param upload: the last row.
    :param blob: the bytes, with their parts; ``None``: the file was moved away.
    """

    upload: Upload
    blob: Blob | None


@dataclass(frozen=True, slots=True)
class Removal:
    """Bytes to remove, whose upload has no row any more."""

    upload_id: UUID
    blob: Blob


@dataclass(frozen=True, slots=True)
class Cutoff:
    """The moments that decide which uploads expire; aware UTC, ``None``: no limit.

    :param idle_since: uploads without activity since then expire.
    :param created_before: uploads that were created before it expire, active or not.
    :param verify_stale: uploads whose verification was renewed since then do not.
    """

    idle_since: datetime | None
    created_before: datetime | None
    verify_stale: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What a dialect knows about an upload that is to be created.

    :param length: the declared length in bytes; ``None``: deferred.
    :param hash_name: the digest to compute while the file arrives; ``None``: none.
    :param fields: values for the application's own columns.
    :param members: ids of the partial uploads that a final one is made of, in order.
    :param least: bytes that the quota counts at least while the length is unknown. It
        replaces what the members had reserved, because they no longer count.
    """

    user: object
    filename: str
    length: int | None
    dialect: str
    content_type: str | None = None
    raw_metadata: str | None = None
    partial: bool = False
    concat: str | None = None
    hash_name: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    members: tuple[UUID, ...] = ()
    least: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one owner; ``None``: no such limit.

    :param max_uploads: the number of unfinished uploads.
    :param max_bytes: the sum of their declared lengths in bytes.
    :param reserve: bytes that count for the upload in question.
    :param max_stored: the bytes of unfinished and finished uploads together.
    """

    max_uploads: int | None
    max_bytes: int | None
    reserve: int
    max_stored: int | None = None


@dataclass(frozen=True, slots=True)
class CompletionRecord:
    """The values that complete an upload's row.

    :param event_id: of the completion event; ``None``: there is none.
    :param delivered: the event needs no delivery.
    :param digest: of the whole file, in its stored form; ``None``: not compared.
    """

    event_id: UUID | None
    delivered: bool
    digest: str | None = None

    def changes(self, at: datetime) -> dict[str, Any]:
        """The new values of the row's columns."""
        return {
            "status": Status.COMPLETE,
            "digest": self.digest,
            "completed_at": at,
            "last_activity_at": at,
            "event_id": self.event_id,
            "delivered_at": at if self.delivered else None,
        }

    def apply(self, upload: Upload, at: datetime) -> Upload:
        """The upload with the new values."""
        return replace(upload, **self.changes(at))


@dataclass(frozen=True, slots=True)
class OffsetCommit:
    """One move of the offset. It needs the expected fence and offset in the row.

    :param start: where the request's chunk began; ``None``: there is no chunk yet.
    :param digest: SHA-256 (hex) of the chunk from ``start`` up to ``offset``; ``None``:
        the storage can read the chunk again.
    :param hash_state: of the whole file's digest at ``offset``; ``None``: not known.
    :param parts: the storage's new parts.
    :param completes: all bytes are stored, and this commit begins the completion. It
        increments the fence once more.
    :param completion: the file is finished, and this commit completes the upload. It
        increments the fence once more.
    :param verify_started_at: the completion that begins calls ``verify``.
    """

    upload_id: UUID
    fence: int
    old_offset: int
    offset: int
    start: int | None
    digest: str | None
    state: State | None
    hash_state: bytes | None
    at: datetime
    parts: tuple[Part, ...] = ()
    completes: bool = False
    completion: CompletionRecord | None = None
    verify_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExpectedDigest:
    """The client's digest of the whole file; ``hexdigest`` in upper or lower case."""

    name: str
    hexdigest: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A complete upload; ``completed_now``: this request has completed it."""

    upload: Upload
    completed_now: bool
