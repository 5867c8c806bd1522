"""Chunks of the Content-Range dialect: raw bodies and forms.

The headers are checked before a byte of the body is read. Of a raw body, every byte
that arrives is kept; a chunk in a form is kept as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from ...engine.append import refused_offset
from ...engine.atomic import KEPT
from ...engine.digests import FileDigest, resume
from ...engine.gate import Action
from ...engine.records import NewUpload, Upload
from ...exceptions import (
    AlreadyComplete,
    ChunkBeyondLength,
    ChunkMissing,
    ChunkSizeMismatch,
    LengthChanged,
    MalformedHeader,
    OffsetMismatch,
    TooLarge,
)
from ...protocol.content_range import ContentRange
from ...protocol.filename import display_name
from ...protocol.upload_id import parse_upload_id
from ...request.context import UploadRequest
from ...request.forms import (
    Form,
    declared_type,
    raw_filename,
    receive_form,
    receive_raw,
)
from ...request.parts import (
    FilePart,
    PartLimits,
    PartTarget,
    memory_target,
    stage_target,
)

#: The dialect's name, stored with each of its uploads.
DIALECT = "content-range"
#: The field that names an upload.
UPLOAD_ID = "upload_id"


@dataclass(frozen=True, slots=True)
class FileDescription:
    """What a request says about the file, apart from its bytes."""

    filename: str | None
    fields: Mapping[str, str]
    content_type: str | None

    @classmethod
    def of_raw(cls, request: UploadRequest) -> FileDescription:
        """From the headers and the query of a raw body."""
        http = request.http
        fields = dict(http.args.items())
        return cls(raw_filename(http), fields, http.mimetype or None)

    @classmethod
    def of_form(cls, form: Form, part: FilePart) -> FileDescription:
        """From the fields and the file part of a form."""
        return cls(part.filename, form.fields, part.content_type)


def required_range(request: UploadRequest) -> ContentRange:
    """The range of the chunk, after the checks that need no upload.

    :raises MalformedHeader: it is absent, or not what RFC 9110, section 14.4 allows.
    :raises ChunkBeyondLength: it ends beyond the total.
    :raises TooLarge: the total is above the limit.
    """
    header = request.http.headers.get("Content-Range")
    if header is None:
        raise MalformedHeader("Content-Range", "", "missing on a chunk")
    chunk = ContentRange.from_header(header)
    if chunk.stop > chunk.length:
        raise ChunkBeyondLength(chunk.length)
    limit = request.access.max_bytes()
    if limit is not None and chunk.length > limit:
        raise TooLarge(limit)
    return chunk


def require_creator(request: UploadRequest, length: int) -> None:
    """Refuse a caller who may not create an upload; called before a body is read.

    :param length: bytes of the upload; 0 if it is unknown.
    :raises OwnerRequired: the caller is unknown, and anonymous uploads are off.
    :raises NotAuthorized: the policy refuses it.
    :raises TooManyUploads, QuotaExceeded: the caller's quota has no room.
    """
    owner = request.access.require_owner()
    request.access.authorize(Action.CREATE)
    request.engine.create.require_room(owner, length)


def named_upload(request: UploadRequest, text: str, action: Action) -> Upload:
    """The upload that a form or query field names.

    :raises UnknownUpload: the caller may not see it, or the text is not an id.
    :raises PartialUpload, FinalUpload: its kind does not allow the action.
    """
    return request.find_other(parse_upload_id(text), action)


def create_upload(request: UploadRequest, file: FileDescription, length: int) -> Upload:
    """Create an upload without bytes from the request's description.

    :raises InvalidFields: the schema or the model refuses a field.
    """
    return request.engine.create.upload(_new_upload(request, file, length))


def _new_upload(
    request: UploadRequest, file: FileDescription, length: int
) -> NewUpload:
    values = dict(request.registration.fields.load(file.fields))
    filename = values.pop("filename", None) or file.filename
    request.release_session()
    return NewUpload(
        user=request.access.require_owner(),
        filename=display_name(None if filename is None else str(filename)),
        length=length,
        dialect=DIALECT,
        content_type=declared_type(file.content_type),
        hash_name=request.checksum_in_passing,
        fields=values,
    )


def receive_raw_chunk(
    request: UploadRequest, upload: Upload | None, chunk: ContentRange
) -> Upload:
    """Take the request's body as the chunk.

    :param upload: ``None``: the chunk starts a new one.
    """
    _check_position(request, upload, chunk)
    length = request.announced_length()
    if length is not None and length != chunk.size:
        raise ChunkSizeMismatch(length, chunk.size)
    engine = request.engine
    if upload is None:
        return _receive_first(request, chunk)
    if upload.offset != chunk.start:
        # The range of the last chunk again: the same bytes get the same answer.
        limits = PartLimits(keep=chunk.size)
        with receive_raw(request, limits, PartTarget(None)) as form:
            return _require_repeat(request, upload, chunk, form)
    upload = engine.declare.length(upload, chunk.length)
    if not chunk.size:
        return upload
    return engine.append.stream(upload, chunk.start, chunk.stop, request.body)


def receive_form_chunk(
    request: UploadRequest,
    upload: Upload | None,
    chunk: ContentRange,
    *,
    may_name: bool,
) -> Upload:
    """Take the file part of the request's form as the chunk.

    :param may_name: the form or the query may name the upload in the field
        ``upload_id`` (jQuery-File-Upload, django-chunked-upload).
    """
    return _FormChunk(request, upload, chunk, may_name=may_name).receive()


class _FormChunk:
    """A chunk in a form, and its upload as soon as that is known."""

    def __init__(
        self,
        request: UploadRequest,
        upload: Upload | None,
        chunk: ContentRange,
        *,
        may_name: bool,
    ) -> None:
        self._request = request
        self._engine = request.engine
        self._upload = upload
        self._chunk = chunk
        self._may_be_named = upload is None and may_name

    def receive(self) -> Upload:
        request, chunk = self._request, self._chunk
        if not self._may_be_named:
            self._check()
        elif UPLOAD_ID not in request.http.args:
            if chunk.start == 0:
                require_creator(request, chunk.length)
        else:
            self._set_upload(request.http.args)
        limits = PartLimits(keep=chunk.size)
        with receive_form(request, limits, self._choose_target) as form:
            if self._may_be_named:
                self._set_upload(form.fields)
            return self._take(form)

    def _set_upload(self, fields: Mapping[str, str]) -> None:
        """Fix the upload: fields that follow cannot change it."""
        if UPLOAD_ID in fields:
            self._upload = named_upload(self._request, fields[UPLOAD_ID], Action.APPEND)
        self._may_be_named = False
        self._check()

    def _check(self) -> None:
        _check_position(self._request, self._upload, self._chunk)

    @property
    def _is_repeat(self) -> bool:
        return self._upload is not None and self._upload.offset != self._chunk.start

    @property
    def _fits_memory(self) -> bool:
        return 0 < self._chunk.size <= KEPT and self._engine.create.fills_first

    def _choose_target(self, fields: Mapping[str, str], arriving: bool) -> PartTarget:
        request, chunk, engine = self._request, self._chunk, self._engine
        if self._may_be_named and UPLOAD_ID in fields:
            self._set_upload(fields)
        if self._is_repeat:
            return PartTarget(None)
        upload = self._upload
        if self._may_be_named and chunk.start:
            # The field that names the upload may follow the file.
            return stage_target(request)
        ahead = engine.storage.writes_ahead and arriving
        if upload is not None and upload.length is None:
            # Its length is declared with the whole chunk, or not at all.
            ahead = False
        if upload is not None and ahead and chunk.start and chunk.size:
            return PartTarget(
                partial(engine.append.hold, upload, chunk.start, request.body)
            )
        if upload is None and not self._may_be_named and self._fits_memory:
            return memory_target()
        # The storage turns a stage into the file without copying it.
        return stage_target(request, _file_digest(request, upload))

    def _take(self, form: Form) -> Upload:
        chunk, upload, part = self._chunk, self._upload, form.part
        if part is None:
            raise ChunkMissing()
        if part.size != chunk.size:
            raise ChunkSizeMismatch(part.size, chunk.size)
        if part.writer is not None:
            return self._engine.append.commit(part.writer)
        if upload is not None and self._is_repeat:
            return _require_repeat(self._request, upload, chunk, form)
        return _append_part(self._request, upload, chunk, form, part)


def _check_position(
    request: UploadRequest, upload: Upload | None, chunk: ContentRange
) -> None:
    """Refuse a chunk that does not fit before its body is read; a repeat may pass."""
    if upload is None:
        require_creator(request, chunk.length)
        if chunk.start != 0:
            raise OffsetMismatch(expected=0, provided=chunk.start)
        return
    request.access.authorize(Action.APPEND, upload)
    engine = request.engine
    engine.expiry.require_live(upload)
    repeat = engine.append.may_repeat(upload, chunk.start, chunk.stop)
    if upload.is_complete and not repeat:
        raise AlreadyComplete()
    if upload.length is not None and upload.length != chunk.length:
        raise LengthChanged(upload.length, chunk.length)
    if upload.offset != chunk.start and not repeat:
        raise refused_offset(upload, chunk.start)


def _receive_first(request: UploadRequest, chunk: ContentRange) -> Upload:
    engine = request.engine
    new = _new_upload(request, FileDescription.of_raw(request), chunk.length)
    size = request.announced_length()
    created = engine.create.with_body(new, request.body, size, finishing=False)
    if created.offset or not chunk.size:
        return created
    # Keep the upload if any bytes arrived, so that the caller finds it in the list.
    with engine.remove.discarding(created, unless_started=True):
        return engine.append.stream_first(created, chunk.stop, request.body)


def _file_digest(request: UploadRequest, upload: Upload | None) -> FileDigest | None:
    """The digest of the whole file, which this chunk continues."""
    if upload is not None:
        return request.engine.append.file_digest(upload)
    return resume(request.checksum_in_passing, None, 0)


def _append_part(
    request: UploadRequest,
    upload: Upload | None,
    chunk: ContentRange,
    form: Form,
    part: FilePart,
) -> Upload:
    engine = request.engine
    if part.short is not None:
        new = _new_upload(request, FileDescription.of_form(form, part), chunk.length)
        return engine.create.with_content(new, part.short.content)
    if part.stage is None:  # pragma: no cover - only repeats have none
        raise ChunkMissing()
    if upload is not None:
        upload = engine.declare.length(upload, chunk.length)
        if not chunk.size:
            return upload
        return engine.append.whole(upload, chunk.start, part.stage, part.file_digest)
    created = create_upload(request, FileDescription.of_form(form, part), chunk.length)
    if not chunk.size:
        return created
    with engine.remove.discarding(created):
        return engine.append.whole(created, 0, part.stage, part.file_digest)


def _require_repeat(
    request: UploadRequest, upload: Upload, chunk: ContentRange, form: Form
) -> Upload:
    engine = request.engine
    part = form.part
    digest = "" if part is None else part.digest
    if part is not None and part.stage is not None:
        # The field that names the upload came after the file, so the bytes are staged.
        digest = part.stage.sha256().hexdigest()
    if not engine.append.is_repeat(upload, chunk.start, chunk.stop, digest):
        raise refused_offset(upload, chunk.start)
    return engine.declare.length(upload, chunk.length)
