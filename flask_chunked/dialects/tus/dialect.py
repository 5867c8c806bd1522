"""The tus dialect: tus 1.0.0, Core and all extensions; docs/tus.rst lists the rules."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response
from werkzeug.http import http_date

from ... import exceptions
from ...engine.gate import Kind, kind_of
from ...engine.records import Upload
from ...exceptions import (
    ChecksumMismatch,
    ChunkedUploadError,
    MethodNotAllowed,
    RangeNotSatisfiable,
    UnknownUpload,
    UnsupportedVersion,
)
from ...protocol.tus import CHECKSUM_SIZES, VERSION
from ...request.context import Target, UploadRequest
from ..base import Dialect, Handler
from ..downloads import send_content
from ..listing import list_uploads
from ..resources import empty, options, remove, show, take_over
from .checksum import trailers_arrive
from .concat import resume_if_idle
from .create import create
from .patch import append, complete_if_received

#: Extensions, in the order of the specification.
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
    "concatenation-unfinished",
)

#: Statuses of errors whose default status is that of the Content-Range dialect.
STATUSES: Mapping[type[ChunkedUploadError], int] = {
    exceptions.OffsetMismatch: 409,
    exceptions.Superseded: 409,
    # Completed after this request read the row: the offset has changed.
    exceptions.AlreadyComplete: 409,
    # Clients repeat a request that is answered with 409.
    exceptions.UploadInUse: 403,
    exceptions.TooLarge: 413,
    exceptions.ChunkSizeMismatch: 413,
    exceptions.ChunkBeyondLength: 413,
    exceptions.ChecksumMismatch: 460,
    # tus-js-client starts a new upload on any other refusal of HEAD.
    exceptions.CompletionInProgress: 423,
    # The client is gone; a proxy that retries on its behalf may do so.
    exceptions.BodyInterrupted: 503,
}


class TusDialect(Dialect):
    """Any tus 1.0.0 client, unchanged."""

    name = "tus"

    def __init__(self) -> None:
        self._handlers: Mapping[Target, Mapping[str, Handler]] = {
            Target.COLLECTION: {"POST": create, "GET": list_uploads},
            Target.UPLOAD: {
                "HEAD": self._head,
                "PATCH": append,
                "DELETE": remove,
                "GET": show,
            },
            Target.FILE: {"GET": send_content, "HEAD": send_content},
        }

    def matches(self, request: UploadRequest) -> bool:
        """True with ``Tus-Resumable``, and for PATCH, which no other dialect has."""
        return request.header("Tus-Resumable") is not None or request.method == "PATCH"

    def handle(self, request: UploadRequest) -> Response:
        """Check the version, then answer by target and method."""
        handlers = self._handlers.get(request.target)
        allowed = () if handlers is None else (*handlers, "OPTIONS")
        if request.method == "OPTIONS" and allowed:
            return options(request, allowed)
        # GET is not a method of tus; its answer is JSON, whatever the version.
        version = request.header("Tus-Resumable")
        if version != VERSION and request.method != "GET":
            raise UnsupportedVersion()
        if handlers is None:
            raise UnknownUpload()
        response = self.choose(request, handlers)(request)
        response.headers["Tus-Resumable"] = VERSION
        response.headers.setdefault("Cache-Control", "no-store")
        self._add_expiry(request, response)
        return response

    def render_error(
        self, request: UploadRequest, error: ChunkedUploadError
    ) -> Response:
        """Plain text, with the statuses of the specification."""
        response = Response(error.detail + "\n", mimetype="text/plain")
        status = self._status(error)
        response.status_code = status
        if isinstance(error, ChecksumMismatch):
            response.status = "460 Checksum Mismatch"
        response.headers["Tus-Resumable"] = VERSION
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        if isinstance(error, UnsupportedVersion):
            response.headers["Tus-Version"] = VERSION
        elif isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(error.allowed)
        elif isinstance(error, RangeNotSatisfiable):
            response.headers["Content-Range"] = f"bytes */{error.length}"
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
        if not isinstance(error, UnknownUpload):
            # The application may hide an upload that exists.
            self._add_expiry(request, response)
        return response

    def capabilities(self, request: UploadRequest) -> Mapping[str, str]:
        """Versions, extensions, limits (Core, OPTIONS)."""
        extensions = list(EXTENSIONS)
        if not request.access.may_defer_length:
            extensions.remove("creation-defer-length")
        if trailers_arrive(request.http.environ):
            extensions.insert(extensions.index("checksum") + 1, "checksum-trailer")
        headers = {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": ",".join(extensions),
            "Tus-Checksum-Algorithm": ",".join(CHECKSUM_SIZES),
        }
        limit = request.access.max_bytes()
        if limit is not None:
            headers["Tus-Max-Size"] = str(limit)
        return headers

    def upload_headers(
        self, request: UploadRequest, upload: Upload
    ) -> Mapping[str, str]:
        """The headers of HEAD (Core; creation; expiration; concatenation)."""
        headers = {"Tus-Resumable": VERSION}
        # A final upload has no offset before it is complete (concatenation).
        is_final = kind_of(upload) is Kind.FINAL
        if not is_final or upload.is_complete:
            headers["Upload-Offset"] = str(upload.offset)
        if upload.length is not None:
            headers["Upload-Length"] = str(upload.length)
        elif not is_final:
            headers["Upload-Defer-Length"] = "1"
        if upload.raw_metadata:
            headers["Upload-Metadata"] = upload.raw_metadata
        if upload.concat is not None:
            headers["Upload-Concat"] = upload.concat
        expires_at = request.engine.expiry.expires_at(upload)
        if expires_at is not None:
            headers["Upload-Expires"] = http_date(expires_at)
        return headers

    def _head(self, request: UploadRequest) -> Response:
        upload = take_over(request)
        if kind_of(upload) is Kind.FINAL:
            upload = resume_if_idle(request, upload)
        else:
            upload = complete_if_received(request, upload)
        response = empty(200)
        response.headers.update(self.upload_headers(request, upload))
        return response

    def _status(self, error: ChunkedUploadError) -> int:
        status = STATUSES.get(type(error))
        if status is not None:
            return status
        ours = getattr(exceptions, type(error).__name__, None) is type(error)
        is_refusal = type(error) is ChunkedUploadError or not ours
        if is_refusal and error.status == ChunkedUploadError.default_status:
            # A hook of the application refused.
            return 422
        return error.status

    def _add_expiry(self, request: UploadRequest, response: Response) -> None:
        """Every answer about an upload that will expire says when (expiration)."""
        upload = request.subject
        if upload is None or "Upload-Expires" in response.headers:
            return
        expires_at = request.engine.expiry.expires_at(upload)
        if expires_at is not None:
            response.headers["Upload-Expires"] = http_date(expires_at)
