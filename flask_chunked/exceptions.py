"""Every error of the package: a stable code, a status hint and the evidence.

Knows nothing of HTTP bodies: how an error reads on the wire is a dialect's affair.
"""

from __future__ import annotations

from typing import ClassVar


class ChunkedUploadError(Exception):
    """Base of all refusals. Policy hooks raise it (or a subclass) to refuse.

    :param detail: what was wrong and what was expected; shown to the client.
    :param status: HTTP status to answer with, where the class's own does not fit.
    :param retry_after: seconds after which the client may try again.
    """

    code: ClassVar[str] = "rejected"
    default_status: ClassVar[int] = 400
    default_detail: ClassVar[str] = "Upload was rejected"

    def __init__(
        self,
        detail: str | None = None,
        *,
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.detail = self.default_detail if detail is None else detail
        self.status = self.default_status if status is None else status
        self.retry_after = retry_after
        super().__init__(self.detail)


class ConfigurationError(ValueError):
    """A ``CHUNKED_UPLOAD_*`` key, a policy attribute or a model that cannot work.

    Raised at start-up and never sent to a client.
    """


class MissingTableError(RuntimeError):
    """The database has no table for a model; the message names the table."""


# -- what the request says ---------------------------------------------------------


class MalformedHeader(ChunkedUploadError):
    """A header is there but is not what its specification allows."""

    code = "malformed_header"

    def __init__(self, name: str, value: str, reason: str) -> None:
        self.name = name
        self.value = value
        self.reason = reason
        super().__init__(f"{name}: {reason}")


class MalformedBody(ChunkedUploadError):
    """The body cannot be parsed as what its Content-Type announces."""

    code = "malformed_body"
    default_detail = "Error in request body"


class InvalidFields(ChunkedUploadError):
    """Form fields that the schema or the model refuses.

    :param errors: field name to list of messages.
    """

    code = "invalid_fields"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        names = ", ".join(sorted(errors))
        super().__init__(f"Invalid or missing fields: {names}")


class ChunkMissing(ChunkedUploadError):
    """A request that must carry bytes of the file carries none."""

    code = "chunk_missing"
    default_detail = "No chunk file was submitted"


class ChunkSizeMismatch(ChunkedUploadError):
    """The chunk's size in bytes differs from what the headers announced."""

    code = "chunk_size_mismatch"

    def __init__(self, actual: int, reported: int) -> None:
        self.actual = actual
        self.reported = reported
        super().__init__(
            "File size doesn't match headers: "
            f"file size is {actual} but {reported} reported"
        )


class ChunkBeyondLength(ChunkedUploadError):
    """The chunk would end behind the declared length (bytes)."""

    code = "chunk_beyond_length"

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"End of chunk exceeds reported total ({length} bytes)")


class LengthChanged(ChunkedUploadError):
    """The declared length, once stored, never changes."""

    code = "length_changed"

    def __init__(self, declared: int, provided: int) -> None:
        self.declared = declared
        self.provided = provided
        super().__init__(
            f"Total of the upload is {declared} bytes but {provided} reported"
        )


class LengthBelowOffset(ChunkedUploadError):
    """A length was declared that is less than what was received already (bytes)."""

    code = "length_below_offset"

    def __init__(self, offset: int, provided: int) -> None:
        self.offset = offset
        self.provided = provided
        super().__init__(
            f"Length of {provided} bytes is below the offset of {offset} bytes"
        )


class PartialMissing(ChunkedUploadError):
    """A partial upload of a final one is gone; the final one can never be made."""

    code = "partial_missing"
    default_status = 410
    default_detail = "A partial upload of this final upload is gone"


class NotAPartial(ChunkedUploadError):
    """A final upload may be made from partial uploads only."""

    code = "not_a_partial"
    default_detail = "A final upload can only be made from partial uploads"


class TooLarge(ChunkedUploadError):
    """The file is larger than the limit (bytes)."""

    code = "too_large"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"Size of file exceeds the limit ({limit} bytes)")


class LengthRequired(ChunkedUploadError):
    """The server does not pass on a body whose length the client did not tell."""

    code = "length_required"
    default_status = 411
    default_detail = "This server needs a Content-Length for the request's body"


class InvalidCreation(ChunkedUploadError):
    """A creation must tell the length, or that it comes later, and not both."""

    code = "invalid_creation"
    default_detail = "Send either Upload-Length or Upload-Defer-Length: 1"


class UnsupportedMediaType(ChunkedUploadError):
    """A Content-Type or Content-Encoding that cannot carry a chunk."""

    code = "unsupported_media_type"
    default_status = 415
    default_detail = "Media type is not supported"


class RangeNotSatisfiable(ChunkedUploadError):
    """No byte of the content (``length`` bytes) is in the range asked for."""

    code = "range_not_satisfiable"
    default_status = 416

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"No such range in a file of {length} bytes")


class InvalidQuery(ChunkedUploadError):
    """A query argument has a value that it cannot have."""

    code = "invalid_query"

    def __init__(self, name: str, expected: str) -> None:
        self.name = name
        super().__init__(f"Query argument {name!r} must be {expected}")


class UnsupportedVersion(ChunkedUploadError):
    """The version of the protocol that the client speaks is not ours."""

    code = "unsupported_version"
    default_status = 412
    default_detail = "Tus-Resumable must be 1.0.0"


class MethodNotAllowed(ChunkedUploadError):
    """The resource does not know the method; ``allowed`` lists those it knows."""

    code = "method_not_allowed"
    default_status = 405

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        self.method = method
        self.allowed = allowed
        super().__init__(f"Method {method[:40]!r} is not allowed here")


# -- the upload and who asks -------------------------------------------------------


class UnknownUpload(ChunkedUploadError):
    """No such upload for this caller: unknown, malformed and foreign ids alike."""

    code = "unknown_upload"
    default_status = 404
    default_detail = "Not found."


class UploadExpired(ChunkedUploadError):
    """Time gave the unfinished upload up."""

    code = "upload_expired"
    default_status = 410
    default_detail = "Upload has expired"


class OwnerRequired(ChunkedUploadError):
    """Creating needs an owner and the caller has none."""

    code = "owner_required"
    default_detail = "Upload requires user authentication but user cannot be determined"


class NotAuthorized(ChunkedUploadError):
    """``authorize`` refused the action."""

    code = "not_authorized"
    default_status = 403
    default_detail = "You do not have permission to perform this action."


# -- where the upload stands -------------------------------------------------------


class OffsetMismatch(ChunkedUploadError):
    """The chunk does not start where the upload stands (bytes)."""

    code = "offset_mismatch"
    default_detail = "Offsets do not match"

    def __init__(self, expected: int, provided: int) -> None:
        self.expected = expected
        self.provided = provided
        super().__init__()


class Superseded(OffsetMismatch):
    """A newer request took the upload over while this one was sending."""

    code = "superseded"


class AlreadyComplete(ChunkedUploadError):
    """A finished upload takes no more bytes."""

    code = "already_complete"
    default_detail = 'Upload has already been marked as "complete"'


class FinalUpload(ChunkedUploadError):
    """A final upload is made from partial ones and takes no bytes itself."""

    code = "final_upload"
    default_status = 403
    default_detail = "A final upload takes no bytes; append to its partial uploads"


class Incomplete(ChunkedUploadError):
    """Completion was asked before all bytes were there."""

    code = "incomplete"

    def __init__(self, offset: int, length: int | None) -> None:
        self.offset = offset
        self.length = length
        total = "an unknown number of" if length is None else str(length)
        super().__init__(f"Upload is incomplete: {offset} of {total} bytes received")


class ChecksumRequired(ChunkedUploadError):
    """Completion needs the digest of the whole file."""

    code = "checksum_required"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"Checksum of type '{name}' is required")


class ChecksumMismatch(ChunkedUploadError):
    """The bytes stored are not those that the client took the digest of."""

    code = "checksum_mismatch"
    default_detail = "checksum does not match"


# -- the client's connection -------------------------------------------------------


class BodyInterrupted(ChunkedUploadError):
    """The client went away before the announced end of its body."""

    code = "body_interrupted"
    default_detail = "Request body ended before its announced length"


class BodyTimeout(ChunkedUploadError):
    """No byte of the body came for the read timeout (seconds)."""

    code = "body_timeout"
    default_status = 503

    def __init__(self, seconds: float, detail: str | None = None) -> None:
        self.seconds = seconds
        silent = f"No data received for {seconds:g} seconds; what arrived is kept"
        super().__init__(silent if detail is None else detail, retry_after=1)


class BodyTooSlow(BodyTimeout):
    """The body came slower than the least rate (bytes per second)."""

    code = "body_too_slow"

    def __init__(self, seconds: float, rate: int) -> None:
        super().__init__(
            seconds,
            f"Less than {rate} bytes per second received for {seconds:g} seconds; "
            "what arrived is kept",
        )
        self.rate = rate


# -- what stands behind ------------------------------------------------------------


class StorageError(ChunkedUploadError):
    """The storage failed; what was acknowledged before is untouched."""

    code = "storage_error"
    default_status = 503
    default_detail = "Storage is not available"

    def __init__(self, detail: str | None = None, *, retry_after: int = 5) -> None:
        super().__init__(detail, retry_after=retry_after)


class StorageFull(StorageError):
    """No space, no quota or no larger file on the storage."""

    code = "storage_full"
    default_status = 507
    default_detail = "Not enough space to store the upload"


class StorageBusy(StorageError):
    """Another writer held the bytes for too long."""

    code = "storage_busy"
    default_detail = "Upload is being written by another request"

    def __init__(self) -> None:
        super().__init__(retry_after=1)


class BytesMissing(StorageError):
    """The storage has fewer bytes than were committed: they were removed outside."""

    code = "bytes_missing"
    default_status = 410
    default_detail = "Stored bytes of the upload are missing"


class NotLocal(StorageError):
    """The storage has no path on this machine for the bytes."""

    code = "not_local"
    default_status = 500
    default_detail = "This storage has no local paths; use open() instead"


class DatabaseUnavailable(ChunkedUploadError):
    """The database did not answer; the request may be repeated as it is."""

    code = "database_unavailable"
    default_status = 503
    default_detail = "Database is not available"

    def __init__(self) -> None:
        super().__init__(retry_after=2)
