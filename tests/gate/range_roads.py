"""The model's Content-Range dialect: chunks raw and in forms, completion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.gate.requests import OCTETS
from tests.gate.roads import (
    COLLECTION,
    FILE,
    UPLOAD,
    Answer,
    Call,
    Handler,
    content,
    handle,
    listing,
    remove,
    show,
)
from tests.gate.rules import SHAPED
from tests.gate.tus_roads import described, look
from tests.gate.uploads import COMPLETE, FINAL, ORDINARY, PARTIAL, Refused, Upload

_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})\Z")
#: The first byte that no file may have.
_FORMS = ("application/x-www-form-urlencoded", "application/json")


@dataclass(frozen=True, slots=True)
class Chunk:
    """``Content-Range``; ``stop`` is half-open."""

    start: int
    stop: int
    total: int

    @property
    def size(self) -> int:
        """Bytes of the chunk."""
        return self.stop - self.start


def answer(call: Call) -> Answer:
    """A request without ``Tus-Resumable``."""
    return handle(call, HANDLERS, 0)


# -- chunks ----------------------------------------------------------------------------


def _range(call: Call) -> Chunk:
    text = call.header("Content-Range")
    if text == "bytes */0":
        return Chunk(0, 0, 0)
    match = _RANGE.match(text or "")
    if match is None:
        raise Refused("malformed_header", name="Content-Range")
    start, end, total = map(int, match.groups())
    if max(start, end, total) > 2**63 - 1 or end < start:
        raise Refused("malformed_header", name="Content-Range")
    if end >= total:
        raise Refused("chunk_beyond_length")
    call.model.require_limit(total)
    return Chunk(start, end + 1, total)


def _put_first(call: Call) -> Answer:
    chunk = _range(call)
    return _shown(call, _receive(call, None, chunk), form_style=False)


def _put_next(call: Call) -> Answer:
    upload = call.find()
    _require_kind(call, upload, "append")
    chunk = _range(call)
    return _shown(call, _receive(call, upload, chunk), form_style=False)


def _post_chunk(call: Call, upload: Upload | None) -> Answer:
    """As jQuery-File-Upload and django-chunked-upload's clients send it."""
    if upload is not None:
        _require_kind(call, upload, "append")
    chunk = _range(call)
    request, named = call.request, call.request.fields.get("upload_id")
    if upload is None and named is not None:
        in_form = request.form is not None and "upload_id" not in request.query
        if in_form and chunk.start == 0:
            # Before the form is read, it may be the first chunk of a new upload.
            _require_creator(call, chunk.total)
        upload = call.model.find(named, call.caller)
        _require_kind(call, upload, "append")
    return _shown(call, _receive(call, upload, chunk), form_style=True)


def _shown(call: Call, upload: Upload, *, form_style: bool) -> Answer:
    there = f"bytes=0-{upload.offset - 1}" if upload.offset else None
    return Answer(
        200,
        headers={"Range": there},
        shows=upload,
        form_style=form_style,
        created=upload if upload.id is None else None,
    )


def _require_creator(call: Call, length: int) -> None:
    call.require_owner()
    call.model.authorize("create")
    call.model.take_room(call.caller, length)


def _receive(call: Call, upload: Upload | None, chunk: Chunk) -> Upload:
    _require_position(call, upload, chunk)
    body = _body_of(call, chunk)
    if upload is None:
        return _begin(call, chunk.total, body)
    if upload.offset != chunk.start:
        _require_whole(call)
        if body != upload.content[chunk.start : chunk.stop]:
            raise _refused_offset(upload, chunk.start)
        call.model.declare(upload, chunk.total)
        return upload
    call.model.declare(upload, chunk.total)
    call.model.append(upload, body)
    _require_whole(call)
    return upload


def _require_whole(call: Call) -> None:
    if call.request.cut:
        raise Refused("body_interrupted")


def _require_position(call: Call, upload: Upload | None, chunk: Chunk) -> None:
    model = call.model
    if upload is None:
        _require_creator(call, chunk.total)
        if chunk.start:
            raise _refused_offset(None, chunk.start)
        return
    model.authorize("append", upload)
    model.require_live(upload)
    is_last = (chunk.start, chunk.stop) == (upload.last_start, upload.offset)
    repeat = is_last and chunk.size > 0
    if upload.status == COMPLETE and not repeat:
        raise Refused("already_complete")
    if upload.length not in (None, chunk.total):
        raise Refused("length_changed")
    if upload.offset != chunk.start and not repeat:
        raise _refused_offset(upload, chunk.start)


def _require_kind(call: Call, upload: Upload, action: str) -> None:
    """Permission is asked before the kind is told."""
    if upload.kind in (PARTIAL, FINAL):
        call.model.authorize(action, upload)
        raise Refused("partial_upload" if upload.kind == PARTIAL else "final_upload")


def _refused_offset(upload: Upload | None, start: int) -> Refused:
    if upload is not None and upload.status == COMPLETE:
        return Refused("already_complete")
    expected = 0 if upload is None else upload.offset
    told = {"expected_offset": expected, "provided_offset": start}
    return Refused("offset_mismatch", **told)


def _body_of(call: Call, chunk: Chunk) -> bytes:
    form = call.request.form
    if form is None:
        body = call.request.body
    elif form.file is None or form.part not in ("file", "files[]"):
        raise Refused("chunk_missing")
    else:
        body = form.file
    if len(body) + call.request.cut != chunk.size:
        raise Refused("chunk_size_mismatch")
    return body


def _begin(call: Call, length: int, body: bytes) -> Upload:
    upload = call.model.create(_new(call, length))
    call.model.append(upload, body)
    if call.request.cut and not body:
        # An upload without a byte is not kept; one with some is in its owner's list.
        call.model.remove(upload)
    _require_whole(call)
    return upload


def _new(call: Call, length: int) -> Upload:
    fields, form, now = call.request.fields, call.request.form, call.model.now
    if call.model.rules.titled and "title" not in fields:
        raise Refused("invalid_fields")
    return Upload(
        kind=ORDINARY,
        user=call.caller,
        filename=fields.get("filename") or (form.filename if form else "upload"),
        length=length,
        created=now,
        active=now,
        dialect="content-range",
        title=fields.get("title") if call.model.rules.titled else None,
    )


# -- completion ------------------------------------------------------------------------


def _post_collection(call: Call) -> Answer:
    if call.header("Content-Range") is not None:
        return _post_chunk(call, None)
    request, model = call.request, call.model
    if request.content_type not in ("", *_FORMS) and "upload_id" not in request.query:
        _require_creator(call, 0)
    limit = model.rules.max_bytes
    file = request.form.file if request.form is not None else None
    if request.content_type == OCTETS:
        file = request.body
    announced = len(file or b"") + request.cut
    if limit is not None and announced > limit:
        raise Refused("too_large")
    _require_whole(call)
    named = request.fields.get("upload_id")
    if named is None:
        return _take_whole(call, file)
    if file is not None:
        raise Refused("malformed_header", name="Content-Range")
    return _complete(call, model.find(named, call.caller), form_style=True)


def _take_whole(call: Call, file: bytes | None) -> Answer:
    model = call.model
    if file is None:
        raise Refused("chunk_missing")
    md5 = _md5(call)
    _require_creator(call, len(file))
    upload = model.create(_new(call, len(file)))
    try:
        model.authorize("complete", upload)
        model.append(upload, file)
        model.complete(upload, md5)
    except Refused:
        # Its client never learned an id: a failure leaves nothing.
        if not upload.gone:
            model.remove(upload)
        raise
    return _completed(call, upload, form_style=True)


def _md5(call: Call) -> str | None:
    if not call.model.rules.checksums:
        return None
    provided = call.request.fields.get("md5")
    if not provided:
        raise Refused("checksum_required")
    return provided.lower()


def _post_upload(call: Call) -> Answer:
    upload = call.find()
    if call.header("Content-Range") is not None:
        return _post_chunk(call, upload)
    return _complete(call, upload, form_style=False)


def _complete(call: Call, upload: Upload, *, form_style: bool) -> Answer:
    model = call.model
    if upload.kind != FINAL or upload.status != COMPLETE:
        _require_kind(call, upload, "complete")
    model.authorize("complete", upload)
    model.require_live(upload)
    if upload.kind == FINAL:
        provided = call.request.fields.get("md5")
        if not provided:
            raise Refused("final_upload")
        model.complete(upload, provided.lower())
        return _completed(call, upload, form_style=form_style)
    model.complete(upload, _md5(call))
    return _completed(call, upload, form_style=form_style)


def _completed(call: Call, upload: Upload, *, form_style: bool) -> Answer:
    created = upload if upload.id is None else None
    if call.model.shaped(upload):
        return Answer(SHAPED[1], body=SHAPED[0].encode(), created=created)
    return Answer(200, shows=upload, form_style=form_style, created=created)


# -- looking ---------------------------------------------------------------------------


def _head(call: Call) -> Answer:
    upload = look(call, ORDINARY)
    return Answer(
        200, headers={**described(upload), "Upload-Offset": str(upload.offset)}
    )


HANDLERS: Mapping[tuple[str, str], Handler] = {
    (COLLECTION, "GET"): listing,
    (COLLECTION, "HEAD"): listing,
    (COLLECTION, "POST"): _post_collection,
    (COLLECTION, "PUT"): _put_first,
    (UPLOAD, "GET"): show,
    (UPLOAD, "HEAD"): _head,
    (UPLOAD, "PUT"): _put_next,
    (UPLOAD, "POST"): _post_upload,
    (UPLOAD, "DELETE"): remove,
    (FILE, "GET"): content,
    (FILE, "HEAD"): content,
}
