"""What the request says, and how it comes."""

from __future__ import annotations

from .base import ChunkedUploadError


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
    default_detail = (
        "A partial upload of this final upload is gone; upload it again and create a "
        "new final upload"
    )


class NotAPartial(ChunkedUploadError):
    """A final upload may be made from partial uploads only."""

    code = "not_a_partial"
    default_detail = "A final upload can only be made from partial uploads"


class TooLarge(ChunkedUploadError):
    """The file is larger than the limit (bytes)."""

    code = "too_large"

    def __init__(self, limit: int, *, status: int | None = None) -> None:
        self.limit = limit
        detail = f"Size of file exceeds the limit ({limit} bytes)"
        super().__init__(detail, status=status)


class TooManyUploads(ChunkedUploadError):
    """The owner has as many unfinished uploads as are allowed."""

    code = "too_many_uploads"
    default_status = 429

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(
            f"You have {most} unfinished uploads, the most that are allowed; "
            "finish or delete one first"
        )


class TooManyFinals(ChunkedUploadError):
    """As many final uploads as are allowed wait for a partial upload already."""

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

    :param stored: the limit counts finished uploads too.
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
    """The length cannot be deferred: nobody could say what the quota has to hold."""

    code = "length_undeclared"
    default_detail = "The length of the upload must be declared when it is created"


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
    """A Content-Type that cannot carry a chunk."""

    code = "unsupported_media_type"
    default_status = 415
    default_detail = "Media type is not supported"


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is packed; bodies are stored as they come."""

    code = "unsupported_encoding"
    default_detail = "Content-Encoding is not supported; send plain bytes"


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
