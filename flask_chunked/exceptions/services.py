"""Errors of the storage and of the database."""

from __future__ import annotations

from .base import ChunkedUploadError


class StorageError(ChunkedUploadError):
    """The storage failed. Bytes that were acknowledged earlier are not affected."""

    code = "storage_error"
    default_status = 503
    default_detail = "Storage is not available"

    def __init__(self, detail: str | None = None, *, retry_after: int = 5) -> None:
        super().__init__(detail, retry_after=retry_after)


class StorageFull(StorageError):
    """The storage has no space, its quota is exhausted, or the file is too large."""

    code = "storage_full"
    default_status = 507
    default_detail = "Not enough space to store the upload"


class StorageBusy(StorageError):
    """Another writer held the lock on the bytes for too long."""

    code = "storage_busy"
    default_detail = "Upload is being written by another request"

    def __init__(self) -> None:
        super().__init__(retry_after=1)


class BytesMissing(StorageError):
    """The storage has fewer bytes than were committed: something else removed them."""

    code = "bytes_missing"
    default_status = 410
    default_detail = "Stored bytes of the upload are missing"


class NotLocal(StorageError):
    """The storage keeps the bytes under no path of this machine."""

    code = "not_local"
    default_status = 500
    default_detail = "This storage has no local paths; use open_file() instead"


class DatabaseUnavailable(ChunkedUploadError):
    """The database did not answer. The client may repeat the request unchanged."""

    code = "database_unavailable"
    default_status = 503
    default_detail = "Database is not available"

    def __init__(self) -> None:
        super().__init__(retry_after=2)


class CommitUnanswered(DatabaseUnavailable):
    """A commit was not answered: only the row shows whether it happened."""
