"""Errors about the content of a request and about the arrival of its body."""

from __future__ import annotations

from .base import ChunkedUploadError


class MalformedHeader(ChunkedUploadError):
    """A header has a value that its specification does not allow."""

    code = "malformed_header"

    def __init__(self, name: str, value: str, reason: str) -> None:
        self.name = name
        self.value = value
        self.reason = reason
        super().__init__(f"{name}: {reason}")


class MalformedBody(ChunkedUploadError):
    """The body cannot be parsed as its Content-Type."""

    code = "malformed_body"
    default_detail = "Error in request body"


class InvalidFields(ChunkedUploadError):
    """The schema or the model refuses form fields.

    :param errors: lists of messages by field name.
    """

    code = "invalid_fields"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        names = ", ".join(sorted(errors))
        super().__init__(f"Invalid or missing fields: {names}")


class ChunkMissing(ChunkedUploadError):
    """A request that must carry bytes of the file has none."""

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
    """The chunk would end after the declared length.

    :param length: declared length in bytes.
    """

    code = "chunk_beyond_length"

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"End of chunk exceeds reported total ({length} bytes)")


class LengthChanged(ChunkedUploadError):
    """The request declares another length than the stored one, which never changes."""

    code = "length_changed"

    def __init__(self, declared: int, provided: int) -> None:
        self.declared = declared
        self.provided = provided
        super().__init__(
            f"Total of the upload is {declared} bytes but {provided} reported"
        )


class LengthBelowOffset(ChunkedUploadError):
    """The declared length is less than the number of bytes already received."""

    code = "length_below_offset"

    def __init__(self, offset: int, provided: int) -> None:
        self.offset = offset
        self.provided = provided
        super().__init__(
            f"Length of {provided} bytes is below the offset of {offset} bytes"
        )


class PartialMissing(ChunkedUploadError):
    """A partial upload of a final upload is gone, so the final one cannot be made."""

    code = "partial_missing"
    default_status = 410
    default_detail = (
        "A partial upload of this final upload is gone; upload it again and create a "
        "new final upload"
    )


class NotAPartial(ChunkedUploadError):
    """A final upload was requested from an upload that is not partial."""

    code = "not_a_partial"
    default_detail = "A final upload can only be made from partial uploads"


class TooLarge(ChunkedUploadError):
    """The file is larger than the limit.

    :param limit: bytes.
    """

    code = "too_large"

    def __init__(self, limit: int, *, status: int | None = None) -> None:
        self.limit = limit
        detail = f"Size of file exceeds the limit ({limit} bytes)"
        super().__init__(detail, status=status)


class TooManyUploads(ChunkedUploadError):
    """The owner has the largest allowed number of unfinished uploads."""

    code = "too_many_uploads"
    default_status = 429

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(
            f"You have {most} unfinished uploads, the most that are allowed; "
            "finish or delete one first"
        )


class TooManyFinals(ChunkedUploadError):
    """The largest allowed number of final uploads waits for a partial upload."""

    code = "too_many_finals"
    default_status = 429

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(
            f"{most} final uploads wait for one of these partial uploads, the most "
            "that are allowed; finish the partial upload or delete a final one first"
        )


class QuotaExceeded(ChunkedUploadError):
    """The owner's uploads would have more bytes than are allowed.

    :param most: the limit in bytes.
    :param left: bytes that are left.
    :param stored: the limit also counts finished uploads.
    """

    code = "quota_exceeded"
    default_status = 413

    def __init__(self, most: int, left: int, *, stored: bool = False) -> None:
        self.most = most
        self.left = left
        which, cure = "unfinished uploads", "finish or delete one first"
        if stored:
            which, cure = "files and unfinished uploads", "delete one first"
        super().__init__(
            f"Your {which} may have {most} bytes in all, of which {left} are left; "
            f"{cure}"
        )


class LengthUndeclared(ChunkedUploadError):
    """The length cannot be deferred, because a quota must reserve it at creation."""

    code = "length_undeclared"
    default_detail = "The length of the upload must be declared when it is created"


class LengthRequired(ChunkedUploadError):
    """The server does not pass on a body without a declared length."""

    code = "length_required"
    default_status = 411
    default_detail = "This server needs a Content-Length for the request's body"


class InvalidCreation(ChunkedUploadError):
    """A creation must declare the length or defer it, and not both."""

    code = "invalid_creation"
    default_detail = "Send either Upload-Length or Upload-Defer-Length: 1"


class UnsupportedMediaType(ChunkedUploadError):
    """A body of this Content-Type cannot carry a chunk."""

    code = "unsupported_media_type"
    default_status = 415
    default_detail = "Media type is not supported"


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed. Bodies are stored as they arrive."""

    code = "unsupported_encoding"
    default_detail = "Content-Encoding is not supported; send plain bytes"


class RangeNotSatisfiable(ChunkedUploadError):
    """The requested range contains no byte of the content.

    :param length: bytes of the content.
    """

    code = "range_not_satisfiable"
    default_status = 416

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"No such range in a file of {length} bytes")


class InvalidQuery(ChunkedUploadError):
    """A query argument has an invalid value."""

    code = "invalid_query"

    def __init__(self, name: str, expected: str) -> None:
        self.name = name
        super().__init__(f"Query argument {name!r} must be {expected}")


class UnsupportedVersion(ChunkedUploadError):
    """The client uses a version of the protocol that is not supported."""

    code = "unsupported_version"
    default_status = 412
    default_detail = "Tus-Resumable must be 1.0.0"


class MethodNotAllowed(ChunkedUploadError):
    """The resource does not support the method.

    :param allowed: the methods that it supports.
    """

    code = "method_not_allowed"
    default_status = 405

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        self.method = method
        self.allowed = allowed
        super().__init__(f"Method {method[:40]!r} is not allowed here")


class BodyInterrupted(ChunkedUploadError):
    """The client disconnected before the announced end of the body."""

    code = "body_interrupted"
    default_detail = "Request body ended before its announced length"


class BodyTimeout(ChunkedUploadError):
    """No byte of the body arrived within the read timeout.

    :param seconds: the read timeout.
    """

    code = "body_timeout"
    default_status = 503

    def __init__(self, seconds: float, detail: str | None = None) -> None:
        self.seconds = seconds
        silent = f"No data received for {seconds:g} seconds; what arrived is kept"
        super().__init__(silent if detail is None else detail, retry_after=1)


class BodyTooSlow(BodyTimeout):
    """The body arrived more slowly than the minimum rate.

    :param seconds: how long the rate was measured.
    :param rate: the minimum rate in bytes per second.
    """

    code = "body_too_slow"

    def __init__(self, seconds: float, rate: int) -> None:
        super().__init__(
            seconds,
            f"Less than {rate} bytes per second received for {seconds:g} seconds; "
            "what arrived is kept",
        )
        self.rate = rate
