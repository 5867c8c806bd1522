"""The Content-Range dialect: drf-chunked-upload's protocol, PUT, POST and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from flask import Response, jsonify

from ..engine.records import Expected, NewUpload, Upload
from ..engine.states import Status
from ..exceptions import (
    AlreadyComplete,
    ChecksumRequired,
    ChunkBeyondLength,
    ChunkedUploadError,
    ChunkMissing,
    ChunkSizeMismatch,
    InvalidFields,
    LengthChanged,
    MalformedHeader,
    MethodNotAllowed,
    OffsetMismatch,
    TooLarge,
    UnknownUpload,
)
from ..protocol.content_range import ContentRange, to_range_header
from ..protocol.filename import display_name
from ..protocol.upload_id import parse_upload_id
from . import listing
from .base import Action, Call, Dialect, Target
from .downloads import send_content
from .forms import (
    FORM_TYPES,
    Form,
    PartLimits,
    is_multipart,
    raw_filename,
    receive_form,
    receive_raw,
    refuse_content_encoding,
)

Handler = Callable[[Call], Response]

#: Bytes that a form may need beside its file before it is surely too large.
FORM_OVERHEAD = 2**20


@dataclass(frozen=True, slots=True)
class Names:
    """What a request says about the file beside its bytes."""

    filename: str | None
    fields: Mapping[str, str]
    content_type: str | None


class ContentRangeDialect(Dialect):
    """``protocols`` of the README: one chunk a request, POST completes."""

    name = "content-range"

    def __init__(self) -> None:
        self._handlers: Mapping[Target, Mapping[str, Handler]] = {
            Target.COLLECTION: {
                "GET": self._list,
                "HEAD": self._list,
                "POST": self._post_collection,
                "PUT": self._put_collection,
            },
            Target.UPLOAD: {
                "GET": self._show,
                "HEAD": self._head,
                "PUT": self._put_upload,
                "POST": self._post_upload,
                "DELETE": self._delete,
            },
            Target.FILE: {"GET": send_content, "HEAD": send_content},
        }

    def speaks(self, call: Call) -> bool:
        """Whatever no other dialect claims."""
        return True

    def handle(self, call: Call, others: Sequence[Dialect]) -> Response:
        """Answer by target and method."""
        handlers = self._handlers.get(call.target)
        if handlers is None:
            raise UnknownUpload()
        allowed = (*handlers, "OPTIONS")
        if call.method == "OPTIONS":
            response = Response(status=204, headers={"Allow": ", ".join(allowed)})
            del response.headers["Content-Type"]
            return response
        handler = handlers.get(call.method)
        if handler is None:
            raise MethodNotAllowed(call.method, allowed)
        response = handler(call)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def render_error(self, call: Call, error: ChunkedUploadError) -> Response:
        """``{"detail": ...}``, with both offsets where those differ."""
        body: dict[str, object] = {"detail": error.detail}
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
        return response

    def describe(self, call: Call, upload: Upload) -> Mapping[str, str]:
        """Offset and length."""
        headers = {"Upload-Offset": str(upload.offset)}
        if upload.length is not None:
            headers["Upload-Length"] = str(upload.length)
        return headers

    # -- collection ----------------------------------------------------------------

    def _list(self, call: Call) -> Response:
        call.host.authorize(Action.LIST)
        return listing.answer(call)

    def _put_collection(self, call: Call) -> Response:
        call.host.require_owner()
        return self._receive_chunk(call, None, self._required_range(call))

    def _post_collection(self, call: Call) -> Response:
        """A whole file, or a jQuery-File-Upload / django-chunked-upload form."""
        ranged = "Content-Range" in call.request.headers
        if ranged and not is_multipart(call.request):
            chunk = self._required_range(call)
            named = call.request.args.get("upload_id")
            upload = None if named is None else self._named(call, named)
            return self._receive_chunk(call, upload, chunk, form_style=True)
        if ranged:
            return self._form_chunk(call, self._required_range(call), None)
        if "upload_id" not in call.request.args:
            call.host.require_owner()
        limit = call.host.max_bytes()
        with self._whole_body(call, limit) as form:
            named = form.fields.get("upload_id")
            if named is None:
                return self._take_whole(call, form)
            if form.part is not None:
                raise MalformedHeader("Content-Range", "", "missing on a chunk")
            return self._complete(
                call, self._named(call, named), form.fields, form_style=True
            )

    def _take_whole(self, call: Call, form: Form) -> Response:
        host = call.host
        part = form.part
        if part is None or part.stage is None:
            raise ChunkMissing()
        expected = self._expected(call, form.fields)
        names = Names(part.filename, form.fields, part.content_type)
        upload = self._create(call, names, part.size)
        try:
            if part.size:
                host.engine.append_whole(upload, 0, part.stage, part.digest)
            done = host.engine.complete(upload, expected).upload
        except BaseException:
            # The client never learned an id: a failed whole-file POST leaves nothing.
            host.engine.abandon(upload)
            raise
        return self._completed(call, done, form_style=True)

    def _whole_body(self, call: Call, limit: int | None) -> Form:
        """The form; or a raw body staged as if it were a form's file."""
        length = call.announced_length()
        mimetype = call.request.mimetype
        is_form = mimetype in FORM_TYPES or (not mimetype and length == 0)
        room = FORM_OVERHEAD if is_form else 0
        if limit is not None and length is not None and length > limit + room:
            raise TooLarge(limit)
        limits = PartLimits(refuse_above=limit)
        return receive_form(call, limits) if is_form else receive_raw(call, limits)

    # -- one upload ----------------------------------------------------------------

    def _show(self, call: Call) -> Response:
        upload = call.find()
        call.host.authorize(Action.READ, upload)
        call.host.engine.require_live(upload)
        response = jsonify(call.host.represent(upload))
        content = call.host.content_url(upload)
        if content is not None:
            response.headers["Link"] = f'<{content}>; rel="enclosure"'
        return response

    def _head(self, call: Call) -> Response:
        upload = call.find()
        call.host.authorize(Action.READ, upload)
        call.host.engine.require_live(upload)
        open_ = upload.status is Status.UPLOADING
        if open_ and call.host.is_authorized(Action.APPEND, upload):
            upload = call.host.engine.take_over(upload)
        response = Response(headers=dict(self.describe(call, upload)))
        del response.headers["Content-Type"]
        return response

    def _put_upload(self, call: Call) -> Response:
        upload = call.find()
        return self._receive_chunk(call, upload, self._required_range(call))

    def _post_upload(self, call: Call) -> Response:
        upload = call.find()
        if "Content-Range" in call.request.headers:
            chunk = self._required_range(call)
            return self._receive_chunk(call, upload, chunk, form_style=True)
        with receive_form(call, PartLimits(keep=0)) as form:
            return self._complete(call, upload, form.fields)

    def _delete(self, call: Call) -> Response:
        upload = call.find()
        action = Action.DELETE if upload.is_complete else Action.TERMINATE
        call.host.authorize(action, upload)
        call.host.engine.terminate(upload)
        response = Response(status=204)
        del response.headers["Content-Type"]
        return response

    # -- chunks --------------------------------------------------------------------

    def _required_range(self, call: Call) -> ContentRange:
        """The range of the chunk, checked as far as no upload is needed for it."""
        header = call.request.headers.get("Content-Range")
        if header is None:
            raise MalformedHeader("Content-Range", "", "missing on a chunk")
        chunk = ContentRange.from_header(header)
        if chunk.stop > chunk.length:
            raise ChunkBeyondLength(chunk.length)
        limit = call.host.max_bytes()
        if limit is not None and chunk.length > limit:
            raise TooLarge(limit)
        return chunk

    def _check_position(
        self, call: Call, upload: Upload | None, chunk: ContentRange
    ) -> None:
        """Refuse before the body is read what cannot be taken; a repeat may pass."""
        if upload is None:
            call.host.require_owner()
            if chunk.start != 0:
                raise OffsetMismatch(expected=0, provided=chunk.start)
            return
        call.host.authorize(Action.APPEND, upload)
        engine = call.host.engine
        engine.require_live(upload)
        repeat = engine.may_repeat(upload, chunk.start, chunk.stop)
        if upload.is_complete and not repeat:
            raise AlreadyComplete()
        if upload.length is not None and upload.length != chunk.length:
            raise LengthChanged(upload.length, chunk.length)
        if upload.offset != chunk.start and not repeat:
            raise engine.refuse_offset(upload, chunk.start)

    def _receive_chunk(
        self,
        call: Call,
        upload: Upload | None,
        chunk: ContentRange,
        *,
        form_style: bool = False,
    ) -> Response:
        if is_multipart(call.request):
            return self._form_chunk(call, chunk, upload, form_style=form_style)
        self._check_position(call, upload, chunk)
        refuse_content_encoding(call.request)
        length = call.announced_length()
        if length is not None and length != chunk.size:
            raise ChunkSizeMismatch(length, chunk.size)
        engine = call.host.engine
        if upload is not None and upload.offset != chunk.start:
            return self._raw_repeat(call, upload, chunk, form_style=form_style)
        if upload is not None:
            received = upload
            if chunk.size:
                received = engine.append_stream(
                    upload, chunk.start, chunk.stop, call.body
                )
            return self._chunk_answer(call, received, form_style=form_style)
        created = self._create(call, raw_names(call), chunk.length)
        if not chunk.size:
            return self._chunk_answer(call, created, form_style=form_style)
        try:
            received = engine.append_stream(created, 0, chunk.stop, call.body)
        except BaseException:
            engine.abandon(created, unless_started=True)
            raise
        return self._chunk_answer(call, received, form_style=form_style)

    def _raw_repeat(
        self, call: Call, upload: Upload, chunk: ContentRange, *, form_style: bool
    ) -> Response:
        """The range of the last chunk again: the same bytes get the same answer."""
        with receive_raw(call, PartLimits(keep=chunk.size), stage=False) as form:
            self._require_repeat(call, upload, chunk, form)
        return self._chunk_answer(call, upload, form_style=form_style)

    def _require_repeat(
        self, call: Call, upload: Upload, chunk: ContentRange, form: Form
    ) -> None:
        engine = call.host.engine
        digest = "" if form.part is None else form.part.digest
        if not engine.is_repeat(upload, chunk.start, chunk.stop, digest):
            raise engine.refuse_offset(upload, chunk.start)

    def _form_chunk(
        self,
        call: Call,
        chunk: ContentRange,
        upload: Upload | None,
        *,
        form_style: bool = True,
    ) -> Response:
        """A chunk in a form; which upload it is for may stand in the form itself."""
        named = call.request.args.get("upload_id") if upload is None else None
        if named is not None:
            upload = self._named(call, named)
        if upload is not None or call.method == "PUT":
            self._check_position(call, upload, chunk)
        elif chunk.start == 0:
            call.host.require_owner()
        is_repeat = upload is not None and upload.offset != chunk.start
        limits = PartLimits(keep=chunk.size)
        with receive_form(call, limits, stage=not is_repeat) as form:
            if upload is None and form_style and "upload_id" in form.fields:
                upload = self._named(call, form.fields["upload_id"])
            self._check_position(call, upload, chunk)
            if form.part is None:
                raise ChunkMissing()
            if form.part.size != chunk.size:
                raise ChunkSizeMismatch(form.part.size, chunk.size)
            if is_repeat and upload is not None:
                self._require_repeat(call, upload, chunk, form)
                return self._chunk_answer(call, upload, form_style=form_style)
            received = self._append_form(call, upload, chunk, form)
        return self._chunk_answer(call, received, form_style=form_style)

    def _append_form(
        self, call: Call, upload: Upload | None, chunk: ContentRange, form: Form
    ) -> Upload:
        engine = call.host.engine
        part = form.part
        if part is None or part.stage is None:  # pragma: no cover - callers looked
            raise ChunkMissing()
        if upload is not None:
            return engine.append_whole(upload, chunk.start, part.stage, part.digest)
        names = Names(part.filename, form.fields, part.content_type)
        created = self._create(call, names, chunk.length)
        if not chunk.size:
            return created
        try:
            return engine.append_whole(created, 0, part.stage, part.digest)
        except BaseException:
            engine.abandon(created)
            raise

    def _create(self, call: Call, names: Names, length: int) -> Upload:
        host = call.host
        owner = host.require_owner()
        host.authorize(Action.CREATE)
        values = dict(host.load_fields(names.fields))
        filename = values.pop("filename", None) or names.filename
        return host.engine.create(
            NewUpload(
                user=owner,
                filename=display_name(None if filename is None else str(filename)),
                length=length,
                dialect=self.name,
                content_type=(names.content_type or "")[:255] or None,
                fields=values,
            )
        )

    def _chunk_answer(
        self, call: Call, upload: Upload, *, form_style: bool
    ) -> Response:
        response = jsonify(self._body(call, upload, form_style))
        received = to_range_header(upload.offset)
        if received is not None:
            response.headers["Range"] = received
        return response

    # -- completion ----------------------------------------------------------------

    def _expected(self, call: Call, fields: Mapping[str, str]) -> Expected | None:
        if not call.host.checksum_wanted:
            return None
        name = call.host.settings.checksum
        provided = fields.get(name)
        if not provided:
            raise ChecksumRequired(name)
        return Expected(name, provided)

    def _complete(
        self,
        call: Call,
        upload: Upload,
        fields: Mapping[str, str],
        *,
        form_style: bool = False,
    ) -> Response:
        call.host.authorize(Action.COMPLETE, upload)
        call.host.engine.require_live(upload)
        expected = self._expected(call, fields)
        done = call.host.engine.complete(upload, expected).upload
        return self._completed(call, done, form_style=form_style)

    def _completed(self, call: Call, done: Upload, *, form_style: bool) -> Response:
        response = call.host.completion_response(done)
        return (
            jsonify(self._body(call, done, form_style))
            if response is None
            else response
        )

    # -- inside --------------------------------------------------------------------

    def _body(self, call: Call, upload: Upload, form_style: bool) -> dict[str, object]:
        body = call.host.represent(upload)
        if form_style:
            # What django-chunked-upload answers its clients.
            body["upload_id"] = str(upload.id)
            expires_at = call.host.engine.expires_at(upload)
            body["expires"] = None if expires_at is None else _iso(expires_at)
        return body

    def _named(self, call: Call, text: str) -> Upload:
        upload_id = parse_upload_id(text)
        if upload_id is None:
            raise UnknownUpload()
        return call.host.find(upload_id)


def raw_names(call: Call) -> Names:
    """Name and fields of a raw body: from its headers and the query."""
    request = call.request
    fields = dict(request.args.items())
    return Names(raw_filename(request), fields, request.mimetype or None)


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
