"""The Content-Range dialect: drf-chunked-upload's protocol, PUT, POST and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from flask import Response, jsonify

from ...engine.digests import resume
from ...engine.gate import Action, Kind, kind_of
from ...engine.records import ExpectedDigest, Upload
from ...exceptions import (
    ChecksumRequired,
    ChunkedUploadError,
    ChunkMissing,
    FinalUpload,
    InvalidFields,
    MalformedHeader,
    MethodNotAllowed,
    OffsetMismatch,
    RangeNotSatisfiable,
    TooLarge,
    UnknownUpload,
)
from ...protocol.content_range import ContentRange, to_range_header
from ...request.context import Target, UploadRequest
from ...request.fields import FIELD_TYPES
from ...request.forms import (
    FORM_TYPES,
    Form,
    is_multipart,
    receive_form,
    receive_raw,
)
from ...request.parts import PartLimits, PartTarget, stage_target
from ...schemas import format_utc
from ..base import Dialect, Handler
from ..downloads import send_content
from ..listing import list_uploads
from ..resources import empty, options, remove, show, take_over
from .chunks import (
    DIALECT,
    FileDescription,
    create_upload,
    named_upload,
    receive_form_chunk,
    receive_raw_chunk,
    require_creator,
    required_range,
)

#: Bytes that a form may need in addition to its file.
FORM_OVERHEAD = 2**20


class ContentRangeDialect(Dialect):
    """One chunk a request, POST completes; docs/content-range.rst is its reference."""

    name = DIALECT

    def __init__(self) -> None:
        self._handlers: Mapping[Target, Mapping[str, Handler]] = {
            Target.COLLECTION: {
                "GET": list_uploads,
                "HEAD": list_uploads,
                "POST": self._post_collection,
                "PUT": self._put_collection,
            },
            Target.UPLOAD: {
                "GET": show,
                "HEAD": self._head,
                "PUT": self._put_upload,
                "POST": self._post_upload,
                "DELETE": remove,
            },
            Target.FILE: {"GET": send_content, "HEAD": send_content},
        }

    def matches(self, request: UploadRequest) -> bool:
        """Always true: this dialect takes what no other one matches."""
        return True

    def handle(self, request: UploadRequest) -> Response:
        """Answer by target and method."""
        handlers = self._handlers.get(request.target)
        if handlers is None:
            raise UnknownUpload()
        allowed = (*handlers, "OPTIONS")
        if request.method == "OPTIONS":
            return options(request, allowed)
        response = self.choose(request, handlers)(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def render_error(
        self, request: UploadRequest, error: ChunkedUploadError
    ) -> Response:
        """``{"detail": ..., "code": ...}``, with both offsets if they differ."""
        body: dict[str, object] = {"detail": error.detail, "code": error.code}
        if isinstance(error, MalformedHeader):
            body["detail"] = "Error in request headers"
            body["reason"] = f"{error.name}: {error.reason}"
        elif isinstance(error, OffsetMismatch):
            body["expected_offset"] = error.expected
            body["provided_offset"] = error.provided
        elif isinstance(error, InvalidFields):
            body["errors"] = error.errors
        response = jsonify(body)
        response.status_code = error.status
        response.headers["Cache-Control"] = "no-store"
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(error.allowed)
        elif isinstance(error, RangeNotSatisfiable):
            response.headers["Content-Range"] = f"bytes */{error.length}"
        return response

    def upload_headers(
        self, request: UploadRequest, upload: Upload
    ) -> Mapping[str, str]:
        """Offset and length."""
        headers = {"Upload-Offset": str(upload.offset)}
        if upload.length is not None:
            headers["Upload-Length"] = str(upload.length)
        return headers

    # -- collection ----------------------------------------------------------------

    def _put_collection(self, request: UploadRequest) -> Response:
        return self._receive_chunk(request, None, required_range(request))

    def _post_collection(self, request: UploadRequest) -> Response:
        """A whole file, or a jQuery-File-Upload / django-chunked-upload form."""
        if "Content-Range" in request.http.headers:
            return self._post_chunk(request, None)
        fields_only = request.http.mimetype in ("", *FIELD_TYPES)
        if not fields_only and "upload_id" not in request.http.args:
            require_creator(request, 0)
        limit = request.access.max_bytes()
        with self._whole_body(request, limit) as form:
            named = form.fields.get("upload_id")
            if named is None:
                return self._take_whole(request, form)
            if form.part is not None:
                raise MalformedHeader("Content-Range", "", "missing on a chunk")
            return self._complete(
                request,
                named_upload(request, named, Action.COMPLETE),
                form.fields,
                form_style=True,
            )

    def _take_whole(self, request: UploadRequest, form: Form) -> Response:
        part = form.part
        if part is None or part.stage is None:
            raise ChunkMissing()
        expected = self._expected(request, form.fields)
        require_creator(request, part.size)
        upload = create_upload(request, FileDescription.of_form(form, part), part.size)
        with request.engine.remove.discarding(upload):
            request.access.authorize(Action.COMPLETE, upload)
            if part.size:
                upload = request.engine.append.whole(
                    upload, 0, part.stage, part.file_digest
                )
            done = request.engine.complete.request(upload, expected).upload
        return self._completed(request, done, form_style=True)

    def _whole_body(
        self, request: UploadRequest, limit: int | None
    ) -> AbstractContextManager[Form]:
        """The form; a raw body is staged as if it were the file of a form."""
        length = request.announced_length()
        mimetype = request.http.mimetype
        is_form = mimetype in FORM_TYPES or (not mimetype and length == 0)
        room = FORM_OVERHEAD if is_form else 0
        if limit is not None and length is not None and length > limit + room:
            raise TooLarge(limit)
        limits = PartLimits(refuse_above=limit)

        def target() -> PartTarget:
            return stage_target(request, resume(request.checksum_in_passing, None, 0))

        if is_form:
            return receive_form(request, limits, lambda fields, arriving: target())
        return receive_raw(request, limits, target())

    # -- one upload ----------------------------------------------------------------

    def _head(self, request: UploadRequest) -> Response:
        upload = take_over(request)
        response = empty(200)
        # A bare HEAD may come from a client of any dialect.
        for dialect in request.dialects:
            response.headers.update(dialect.upload_headers(request, upload))
        return response

    def _put_upload(self, request: UploadRequest) -> Response:
        upload = request.find(Action.APPEND)
        return self._receive_chunk(request, upload, required_range(request))

    def _post_upload(self, request: UploadRequest) -> Response:
        if "Content-Range" in request.http.headers:
            return self._post_chunk(request, request.find(Action.APPEND))
        upload = request.find(Action.COMPLETE)
        with receive_form(request, PartLimits(keep=0)) as form:
            return self._complete(request, upload, form.fields)

    # -- chunks --------------------------------------------------------------------

    def _receive_chunk(
        self, request: UploadRequest, upload: Upload | None, chunk: ContentRange
    ) -> Response:
        if is_multipart(request.http):
            received = receive_form_chunk(request, upload, chunk, may_name=False)
        else:
            received = receive_raw_chunk(request, upload, chunk)
        return self._chunk_answer(request, received, form_style=False)

    def _post_chunk(self, request: UploadRequest, upload: Upload | None) -> Response:
        """A chunk of jQuery-File-Upload or of a client of django-chunked-upload."""
        chunk = required_range(request)
        if is_multipart(request.http):
            received = receive_form_chunk(request, upload, chunk, may_name=True)
        else:
            named = request.http.args.get("upload_id")
            if upload is None and named is not None:
                upload = named_upload(request, named, Action.APPEND)
            received = receive_raw_chunk(request, upload, chunk)
        return self._chunk_answer(request, received, form_style=True)

    def _chunk_answer(
        self, request: UploadRequest, upload: Upload, *, form_style: bool
    ) -> Response:
        response = jsonify(self._body(request, upload, form_style))
        received = to_range_header(upload.offset)
        if received is not None:
            response.headers["Range"] = received
        return response

    # -- completion ----------------------------------------------------------------

    def _expected(
        self, request: UploadRequest, fields: Mapping[str, str]
    ) -> ExpectedDigest | None:
        if not request.policy.do_checksum_check:
            return None
        name = request.settings.checksum
        provided = fields.get(name)
        if not provided:
            raise ChecksumRequired(name)
        return ExpectedDigest(name, provided)

    def _compared(
        self, request: UploadRequest, fields: Mapping[str, str]
    ) -> ExpectedDigest:
        """The checksum to compare a final upload with.

        :raises FinalUpload: there is none, and nothing else may be asked of it.
        """
        name = request.settings.checksum
        provided = fields.get(name)
        if not provided:
            raise FinalUpload()
        return ExpectedDigest(name, provided)

    def _complete(
        self,
        request: UploadRequest,
        upload: Upload,
        fields: Mapping[str, str],
        *,
        form_style: bool = False,
    ) -> Response:
        request.access.authorize(Action.COMPLETE, upload)
        request.engine.expiry.require_live(upload)
        is_final = kind_of(upload) is Kind.FINAL
        demanded = self._compared if is_final else self._expected
        expected = demanded(request, fields)
        request.release_session()
        done = request.engine.complete.request(upload, expected).upload
        return self._completed(request, done, form_style=form_style)

    def _completed(
        self, request: UploadRequest, done: Upload, *, form_style: bool
    ) -> Response:
        response = request.completion_response(done)
        return (
            jsonify(self._body(request, done, form_style))
            if response is None
            else response
        )

    # -- inside --------------------------------------------------------------------

    def _body(
        self, request: UploadRequest, upload: Upload, form_style: bool
    ) -> dict[str, object]:
        body = request.representation.to_json(upload)
        if form_style:
            # The fields that django-chunked-upload returns to its clients.
            body["upload_id"] = str(upload.id)
            expires_at = request.engine.expiry.expires_at(upload)
            body["expires"] = None if expires_at is None else format_utc(expires_at)
        return body
