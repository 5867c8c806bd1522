"""What crosses the engine's borders: frozen values, nothing that acts."""

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
    """A frozen snapshot of an upload's row. Sizes in bytes, times aware UTC.

    ``reserved`` is what its owner's quota counts for it, ``None``: nothing.

    Columns of the application's own model are in ``extra`` and readable as attributes.
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

    def __getattr__(self, name: str) -> object:
        try:
            return self.extra[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def is_complete(self) -> bool:
        """All bytes are there, checked and announced."""
        return self.status is Status.COMPLETE

    @property
    def blob(self) -> Blob | None:
        """What the storage needs to know; ``None`` once the file was moved away."""
        if self.storage_key is None:
            return None
        return Blob(self.storage_key, self.offset, self.storage_state)

    def require_blob(self) -> Blob:
        """What the storage needs to know.

        :raises BytesMissing: the file was moved away.
        """
        blob = self.blob
        if blob is None:
            raise BytesMissing()
        return blob


@dataclass(frozen=True, slots=True)
class Cutoff:
    """Which unfinished uploads time gives up; aware UTC, ``None``: no such limit.

    :param idle_since: those without activity since then.
    :param created_before: those that are as old as this, however active.
    :param verify_stale: those that were verified since then are spared.
    """

    idle_since: datetime | None
    created_before: datetime | None
    verify_stale: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What a dialect knows about an upload that is to be created.

    :param length: declared total in bytes, ``None`` while the client does not know it.
    :param hash_name: digest of the whole file to take while it comes, or ``None``.
    :param fields: values for the application's own columns.
    :param members: ids of the partial uploads that a final one is made of, in order.
    :param least: bytes that it counts at least while its length is not known: its
        members count no more, and may become as long as they had reserved.
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
    """Limits on what one owner has; ``None``: no such limit.

    :param max_uploads: how many unfinished uploads.
    :param max_bytes: how many bytes these may have in all, as declared.
    :param reserve: bytes that the upload in question counts.
    :param max_stored: how many bytes these and the finished ones may have in all.
    """

    max_uploads: int | None
    max_bytes: int | None
    reserve: int
    max_stored: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What the row of a complete upload gets with its last commit.

    :param event_id: of the completion event; ``None``: there is none.
    :param delivered: nobody waits for the event.
    :param digest: of the whole file, in its stored form, where it was compared.
    """

    event_id: UUID | None
    delivered: bool
    digest: str | None = None

    def changes(self, at: datetime) -> dict[str, Any]:
        """What becomes of an upload's values."""
        return {
            "status": Status.COMPLETE,
            "digest": self.digest,
            "completed_at": at,
            "last_activity_at": at,
            "event_id": self.event_id,
            "delivered_at": at if self.delivered else None,
        }

    def apply(self, upload: Upload, at: datetime) -> Upload:
        """The upload as it is then."""
        return replace(upload, **self.changes(at))


@dataclass(frozen=True, slots=True)
class Step:
    """One move of the offset, committed only while fence and offset are as told.

    :param start: where the request's chunk began; ``None``: nobody knows of any.
    :param digest: SHA-256 (hex) of the chunk from ``start`` up to ``offset``; ``None``
        where the storage can read it again.
    :param hash_state: of the whole file's digest at ``offset``; ``None``: not known.
    :param parts: that the storage keeps apart, new with this step.
    :param completes: all bytes are there, and with the same commit completion begins:
        the fence is bumped once more.
    :param ending: the finished file is there, and with the same commit the upload is
        complete: likewise.
    :param verify_started_at: completion begins, and ``verify`` is asked in it.
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
    ending: Ending | None = None
    verify_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """The digest of the whole file as the client knows it; ``hexdigest`` any case."""

    name: str
    hexdigest: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished upload, and whether this very request finished it."""

    upload: Upload
    first: bool
