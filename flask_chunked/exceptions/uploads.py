"""Errors about the caller, the upload and the state of the upload."""

from __future__ import annotations

from .base import ChunkedUploadError


class UnknownUpload(ChunkedUploadError):
    """The id is unknown or malformed, or the upload belongs to another owner."""

    code = "unknown_upload"
    default_status = 404
    default_detail = "Not found."


class UploadExpired(ChunkedUploadError):
    """The unfinished upload has expired."""

    code = "upload_expired"
    default_status = 410
    default_detail = "Upload has expired"


class OwnerRequired(ChunkedUploadError):
    """The creation needs an owner, and the caller has none."""

    code = "owner_required"
    default_status = 401
    default_detail = "Upload requires user authentication but user cannot be determined"


class NotAuthorized(ChunkedUploadError):
    """``authorize`` refused the action."""

    code = "not_authorized"
    default_status = 403
    default_detail = "You do not have permission to perform this action."


class OffsetMismatch(ChunkedUploadError):
    """The chunk does not start at the upload's offset.

    :param expected: the upload's offset in bytes.
    :param provided: the start of the chunk in bytes.
    """

    code = "offset_mismatch"
    default_detail = "Offsets do not match"

    def __init__(self, expected: int, provided: int) -> None:
        self.expected = expected
        self.provided = provided
        super().__init__()


class Superseded(OffsetMismatch):
    """A newer request took over the upload while this one was sending."""

    code = "superseded"


class AlreadyComplete(ChunkedUploadError):
    """A complete upload accepts no more bytes."""

    code = "already_complete"
    default_detail = 'Upload has already been marked as "complete"'


class UploadInUse(ChunkedUploadError):
    """Other rows of the database refer to the upload's row, which therefore stays.

    The database's own constraints decide. Nothing has changed.
    """

    code = "upload_in_use"
    default_status = 409
    default_detail = "Upload is in use: other records of the application refer to it"


class FinalUpload(ChunkedUploadError):
    """A final upload is made from partial uploads and accepts no bytes itself."""

    code = "final_upload"
    default_status = 403
    default_detail = "A final upload takes no bytes; append to its partial uploads"


class PartialUpload(ChunkedUploadError):
    """A partial upload belongs to a final upload; only tus can append to it."""

    code = "partial_upload"
    default_status = 403
    default_detail = "This is a partial upload; only a tus client can send its bytes"


class CompletionInProgress(ChunkedUploadError):
    """Another request is verifying the upload, and its result is not known yet."""

    code = "completion_in_progress"
    default_status = 503
    default_detail = "Upload is being verified; ask again in a few seconds"

    def __init__(self) -> None:
        super().__init__(retry_after=5)


class Incomplete(ChunkedUploadError):
    """Completion was requested before all bytes had arrived."""

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
    """The digest of the stored bytes differs from the one that the client sent."""

    code = "checksum_mismatch"
    default_detail = "checksum does not match"
