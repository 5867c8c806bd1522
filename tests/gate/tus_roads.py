"""The model's tus 1.0.0: creation, PATCH, HEAD, final uploads."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from tests.gate import finals
from tests.gate.model import Model
from tests.gate.requests import TUS_OCTETS
from tests.gate.roads import (
    COLLECTION,
    FILE,
    UPLOAD,
    VERSION,
    Answer,
    Call,
    Handler,
    content,
    handle,
    is_id,
    listing,
    number,
    remove,
    show,
)
from tests.gate.rules import SHAPED
from tests.gate.uploads import (
    COMPLETE,
    FINAL,
    ORDINARY,
    PARTIAL,
    UPLOADING,
    Refused,
    Upload,
)

_SIZES = {"sha1": 20, "md5": 16, "sha256": 32, "sha512": 64, "crc32": 4}


class Metadata(NamedTuple):
    """``Upload-Metadata``: as it came, and its texts."""

    raw: str
    texts: Mapping[str, str]


def answer(call: Call) -> Answer:
    """A request with ``Tus-Resumable``, or a PATCH."""
    version = call.header("Tus-Resumable")
    if version != VERSION and call.method != "GET":
        return Answer(412, "unsupported_version", headers={"Tus-Version": VERSION})
    found = handle(call, HANDLERS, 1)
    found.headers["Tus-Resumable"] = VERSION
    return found


# -- creation --------------------------------------------------------------------------


def _create(call: Call) -> Answer:
    call.require_owner()
    call.model.authorize("create")
    concat = _concat(call.header("Upload-Concat"))
    metadata = _metadata(call.header("Upload-Metadata") or "")
    if concat:
        return _create_final(call, concat, metadata)
    length = _length(call)
    checksum = _checksum(call)
    call.model.require_limit(length)
    with_body = call.request.content_type == TUS_OCTETS
    body = call.request.body if with_body else b""
    end = call.model.rules.max_bytes if length is None else length
    announced = call.request.announced if with_body else 0
    over = end is not None and len(body) > end
    if end is not None and announced is not None and announced > end:
        raise Refused("chunk_beyond_length")
    partial = call.header("Upload-Concat") == "partial"
    upload = _new(call, metadata, PARTIAL if partial else ORDINARY, length)
    if checksum is not None and with_body:
        call.model.take_room(upload.user, length)
        if over:
            raise Refused("too_large")
        _require_digest(call, checksum, body)
    call.model.create(upload)
    if call.request.cut and with_body:
        # It stays, for those who can tell its address.
        _take_cut(call, upload, body)
    try:
        if over:
            # It does not announce its length, so that its end comes as a surprise.
            call.model.append(upload, body[:end])
            raise Refused("too_large")
        foreseen = checksum is None and not call.request.chunked
        _take(call, upload, body, foreseen=foreseen)
    except Refused:
        # A creation that fails leaves nothing.
        if not upload.gone:
            call.model.remove(upload)
        raise
    offset = str(upload.offset) if with_body else None
    return _created(call, upload, {"Upload-Offset": offset})


def _created(call: Call, upload: Upload, headers: dict[str, str | None]) -> Answer:
    shaped = call.model.shaped(upload)
    return Answer(
        SHAPED[1] if shaped else 201,
        created=upload,
        subject=upload,
        headers=headers,
        body=SHAPED[0].encode() if shaped else b"",
    )


def _new(call: Call, metadata: Metadata, kind: str, length: int | None) -> Upload:
    texts, now = metadata.texts, call.model.now
    title = texts.get("title")
    if call.model.rules.titled and title is None and kind != PARTIAL:
        raise Refused("invalid_fields")
    return Upload(
        kind=kind,
        user=call.caller,
        filename=texts.get("filename") or texts.get("name") or "upload",
        length=length,
        created=now,
        active=now,
        dialect="tus",
        metadata=metadata.raw,
        concat=call.header("Upload-Concat"),
        title=title if call.model.rules.titled and kind != PARTIAL else None,
    )


def _create_final(call: Call, urls: list[str], metadata: Metadata) -> Answer:
    model = call.model
    upload = _new(call, metadata, FINAL, None)
    if call.header("Upload-Length") or call.header("Upload-Defer-Length"):
        raise Refused("invalid_creation")
    if call.request.content_type == TUS_OCTETS and call.request.announced != 0:
        raise Refused("final_upload")
    ids = [url.rstrip("/").rpartition("/")[2] for url in urls]
    if not all(map(is_id, ids)):
        raise Refused("unknown_upload")
    for upload_id in dict.fromkeys(ids):
        member = model.find(upload_id, call.caller)
        model.authorize("read", member)
        model.require_live(member)
    upload.members = [model.find(upload_id, call.caller) for upload_id in ids]
    finals.require_members(model, upload.members)
    upload.length = finals.sum_of(upload.members)
    model.require_length(finals.least_of(upload.members))
    model.create(upload)
    for member in upload.members:
        member.active = model.now
    finals.make(model, upload)
    return _created(call, upload, {})


def _concat(text: str | None) -> list[str]:
    """URLs of a final upload's members; none: it is another upload."""
    if text in (None, "partial"):
        return []
    kind, separator, rest = (text or "").partition(";")
    urls = [url for url in rest.split(" ") if url]
    if kind != "final" or not separator or not urls:
        raise Refused("malformed_header", name="Upload-Concat")
    return urls


def _metadata(text: str) -> Metadata:
    texts = {}
    for pair in filter(None, text.split(",")):
        key, _, value = pair.strip(" ").partition(" ")
        if not key or key in texts or "!" in value:
            raise Refused("malformed_header", name="Upload-Metadata")
        texts[key] = base64.b64decode(value).decode()
    return Metadata(text, texts)


def _length(call: Call) -> int | None:
    length, defer = call.header("Upload-Length"), call.header("Upload-Defer-Length")
    if (length is None) == (defer is None):
        raise Refused("invalid_creation")
    if length is not None:
        return number("Upload-Length", length)
    if defer != "1":
        raise Refused("malformed_header", name="Upload-Defer-Length")
    return None


def _checksum(call: Call) -> tuple[str, bytes] | None:
    text = call.header("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    if algorithm not in _SIZES or "!" in encoded:
        raise Refused("malformed_header", name="Upload-Checksum")
    digest = base64.b64decode(encoded)
    if len(digest) != _SIZES[algorithm]:
        raise Refused("malformed_header", name="Upload-Checksum")
    return algorithm, digest


def _require_digest(call: Call, checksum: tuple[str, bytes], body: bytes) -> None:
    """Refuse a body that is not what its client took the digest of."""
    if call.request.cut:
        raise Refused("body_interrupted")
    algorithm, digest = checksum
    if algorithm == "crc32":
        right = zlib.crc32(body).to_bytes(4, "big")
    else:
        right = hashlib.new(algorithm, body).digest()
    if digest != right:
        raise Refused("checksum_mismatch")


# -- appending -------------------------------------------------------------------------


def _patch(call: Call) -> Answer:
    model, upload = call.model, call.find()
    model.authorize("append", upload)
    if upload.kind == FINAL:
        raise Refused("final_upload")
    if call.request.content_type != TUS_OCTETS:
        raise Refused("unsupported_media_type")
    offset, length, checksum = _parsed(call, upload)
    model.require_live(upload)
    body = call.request.body
    _require_fit(call, upload, offset, length)
    if upload.status == COMPLETE:
        if body or call.request.cut:
            # Only a body that does not announce its length comes so far.
            raise Refused("too_large")
        return _patched(call, upload)
    known = length if upload.length is None else upload.length
    end = model.rules.max_bytes if known is None else known
    over = end is not None and offset + len(body) > end
    if checksum is not None and over:
        raise Refused("too_large")
    if checksum is not None:
        _require_digest(call, checksum, body)
    if length is not None:
        model.declare(upload, length)
    if over and end is not None:
        # What fits of a body that does not announce its length is kept.
        _take(call, upload, body[: end - offset], foreseen=False)
        raise Refused("too_large")
    if call.request.cut:
        _take_cut(call, upload, body)
    foreseen = checksum is not None or not call.request.chunked
    _take(call, upload, body, foreseen=foreseen)
    return _patched(call, upload)


def _parsed(
    call: Call, upload: Upload
) -> tuple[int, int | None, tuple[str, bytes] | None]:
    text = call.header("Upload-Offset")
    if text is None:
        raise Refused("malformed_header", name="Upload-Offset")
    offset = number("Upload-Offset", text)
    declared = call.header("Upload-Length")
    length = None if declared is None else number("Upload-Length", declared)
    if length is not None and upload.length not in (None, length):
        raise Refused("length_changed")
    return offset, length, _checksum(call)


def _require_fit(call: Call, upload: Upload, offset: int, length: int | None) -> None:
    """Refuse before the body is read what cannot be taken."""
    model = call.model
    if length is not None and upload.length is None:
        if length < upload.offset:
            raise Refused("length_below_offset")
        model.require_limit(length)
    if offset != upload.offset:
        raise Refused("offset_mismatch")
    known = upload.length if upload.length is not None else length
    end = model.rules.max_bytes if known is None else known
    announced = call.request.announced
    if end is not None and announced is not None and offset + announced > end:
        raise Refused("chunk_beyond_length")


def _take(call: Call, upload: Upload, body: bytes, *, foreseen: bool) -> None:
    """Append; complete what is all there.

    :param foreseen: the body is known to be the last one before it is stored, so that
        one commit may append and complete.
    """
    model = call.model
    if body and foreseen and upload.offset + len(body) == upload.length:
        model.is_authorized("complete", upload)
    model.append(upload, body)
    finish(model, upload)


def _take_cut(call: Call, upload: Upload, body: bytes) -> None:
    """What arrives of a body that ends too early is kept; nothing is completed."""
    announced = call.request.announced or 0
    if upload.offset + announced == upload.length:
        call.model.is_authorized("complete", upload)
    call.model.append(upload, body)
    raise Refused("body_interrupted")


def finish(model: Model, upload: Upload) -> None:
    """Complete an upload whose bytes are all there, whoever sent them."""
    if upload.status != UPLOADING or upload.offset != upload.length:
        return
    model.authorize("complete", upload)
    model.complete(upload)
    if upload.kind == PARTIAL:
        finals.make_waiting(model, upload)


def _patched(call: Call, upload: Upload) -> Answer:
    shaped = call.model.shaped(upload)
    return Answer(
        SHAPED[1] if shaped else 204,
        headers={"Upload-Offset": str(upload.offset)},
        body=SHAPED[0].encode() if shaped else b"",
        subject=upload,
    )


# -- looking ---------------------------------------------------------------------------


def look(call: Call, *kinds: str) -> Upload:
    """What every HEAD asks first.

    :param kinds: of uploads that the dialect may append to.
    """
    upload = call.find()
    call.model.authorize("read", upload)
    call.model.require_live(upload)
    if upload.status == UPLOADING and upload.kind in kinds:
        call.model.is_authorized("append", upload)
    return upload


def _head(call: Call) -> Answer:
    upload = look(call, ORDINARY, PARTIAL)
    if upload.kind != FINAL:
        finish(call.model, upload)
    elif upload.waits:
        finals.look(call.model, upload)
    return Answer(200, headers=described(upload), subject=upload)


def described(upload: Upload) -> dict[str, str | None]:
    """The headers of HEAD."""
    is_made = upload.kind != FINAL or upload.status == COMPLETE
    deferred = upload.length is None and upload.kind != FINAL
    return {
        "Upload-Offset": str(upload.offset) if is_made else None,
        "Upload-Length": None if upload.length is None else str(upload.length),
        "Upload-Defer-Length": "1" if deferred else None,
        "Upload-Metadata": upload.metadata or None,
        "Upload-Concat": upload.concat,
    }


HANDLERS: Mapping[tuple[str, str], Handler] = {
    (COLLECTION, "POST"): _create,
    (COLLECTION, "GET"): listing,
    (UPLOAD, "HEAD"): _head,
    (UPLOAD, "PATCH"): _patch,
    (UPLOAD, "DELETE"): remove,
    (UPLOAD, "GET"): show,
    (FILE, "GET"): content,
    (FILE, "HEAD"): content,
}
