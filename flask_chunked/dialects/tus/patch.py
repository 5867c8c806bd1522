"""tus: PATCH, and the completion of an upload that has all its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response

from ...engine.gate import Action
from ...engine.records import Completion, Upload
from ...engine.states import Status
from ...exceptions import (
    ChunkBeyondLength,
    ChunkSizeMismatch,
    CompletionInProgress,
    LengthBelowOffset,
    LengthChanged,
    MalformedHeader,
    OffsetMismatch,
    TooLarge,
    UnsupportedMediaType,
)
from ...protocol.tus import CONTENT_TYPE, parse_number
from ...request.body import BodyReader
from ...request.context import UploadRequest
from ..resources import completion_answer
from .checksum import ChecksumDemand, checksum_demand, receive_checked
from .concat import assemble_waiting_finals


@dataclass(frozen=True, slots=True)
class Patch:
    """The headers of a PATCH.

    :param length: of the upload, declared now or before; ``None``: still unknown.
    """

    offset: int
    length: int | None
    checksum: ChecksumDemand | None


def append(request: UploadRequest) -> Response:
    """PATCH (Core): append at the offset; complete the upload at its length."""
    upload = request.find(Action.APPEND)
    request.access.authorize(Action.APPEND, upload)
    if not request.has_mimetype(CONTENT_TYPE):
        raise UnsupportedMediaType(f"Content-Type must be {CONTENT_TYPE}")
    patch = _parse(request, upload)
    request.engine.expiry.require_live(upload)
    _check(request, upload, patch)
    request.release_session()
    received = _take(request, upload, patch)
    return _answer(request, received)


def receive(request: UploadRequest, upload: Upload, *, is_new: bool = False) -> Upload:
    """Append the request's body at the upload's offset.

    :param is_new: True if this request created the upload.
    :raises TooLarge: the body goes beyond the length; the bytes up to it are kept.
    """
    stop = upload.length
    if stop is None:
        stop = request.access.max_bytes()
    announced = request.announced_length()
    if announced == 0:
        return upload
    if upload.offset == upload.length:
        # All bytes are there. The file may already have its final name, if the writer
        # died before it committed the completion.
        _require_end_of_body(request.body, upload.offset)
        return upload
    finishing = _may_finish_with(request, upload, announced)
    append, body = request.engine.append, request.body
    try:
        if is_new:
            return append.stream_first(
                upload, stop, body, exact=False, finishing=finishing
            )
        return append.stream(
            upload, upload.offset, stop, body, exact=False, finishing=finishing
        )
    except ChunkSizeMismatch as error:
        # A body without Content-Length went on beyond the end.
        raise TooLarge(stop or 0) from error


def _require_end_of_body(reader: BodyReader, length: int) -> None:
    """Read to the end of a body that must be empty.

    :raises TooLarge: it is not empty.
    """
    while not reader.ended:
        if reader.read():
            raise TooLarge(length)
        if not reader.ended:
            reader.wait()


def _receive_checked(
    request: UploadRequest, upload: Upload, length: int | None, checksum: ChecksumDemand
) -> Upload:
    """As :func:`receive`, for a body with a digest: it counts as a whole or not at all.

    :param length: of the upload, declared only if the digest matches.
    :raises TooLarge: the body goes beyond the length.
    :raises ChecksumMismatch: the digest is not that of the body.
    """
    engine = request.engine
    stop = request.access.max_bytes() if length is None else length
    digest = engine.append.file_digest(upload)
    with receive_checked(request, checksum, stop, upload.offset, digest) as part:
        if length is not None and upload.length is None:
            upload = engine.declare.length(upload, length)
        if not part.size or part.stage is None:
            return upload
        return engine.append.whole(
            upload,
            upload.offset,
            part.stage,
            part.file_digest,
            finishing=_may_finish_with(request, upload, part.size),
        )


def _may_finish_with(request: UploadRequest, upload: Upload, size: int | None) -> bool:
    """True if so many bytes are the last ones and the caller may complete the upload.

    A caller who may not is refused after the bytes are stored.
    """
    if size is None or upload.offset + size != upload.length:
        return False
    return request.access.is_authorized(Action.COMPLETE, upload)


def complete_received(request: UploadRequest, received: Upload) -> Upload:
    """Complete the upload if the body of this request was its last part."""
    if received.status is Status.COMPLETING:
        return _completed(request, request.engine.complete.finish(received))
    return complete_if_received(request, received)


def complete_if_received(request: UploadRequest, upload: Upload) -> Upload:
    """Complete the upload if it has all its bytes, whichever dialect created it.

    This includes a completion that has begun: its process may have died, and the client
    asks only once more.
    """
    is_open = upload.status in (Status.UPLOADING, Status.COMPLETING)
    if not is_open or upload.offset != upload.length:
        return upload
    request.access.authorize(Action.COMPLETE, upload)
    request.release_session()
    engine = request.engine
    try:
        done = engine.complete.request(upload, None)
    except CompletionInProgress:
        done = engine.complete.wait(upload)
    return _completed(request, done)


def _completed(request: UploadRequest, done: Completion) -> Upload:
    if done.upload.partial and done.completed_now:
        # It may be the last member of a final upload.
        assemble_waiting_finals(request, done.upload)
    request.subject = done.upload
    return done.upload


def _parse(request: UploadRequest, upload: Upload) -> Patch:
    text = request.header("Upload-Offset")
    if text is None:
        raise MalformedHeader("Upload-Offset", "", "is required")
    offset = parse_number("Upload-Offset", text)
    declared = request.header("Upload-Length")
    length = upload.length
    if declared is not None:
        provided = parse_number("Upload-Length", declared)
        if length is not None and length != provided:
            raise LengthChanged(length, provided)
        length = provided
    return Patch(offset, length, checksum_demand(request))


def _check(request: UploadRequest, upload: Upload, patch: Patch) -> None:
    """Refuse a request that does not fit the upload before its body is read."""
    limit = request.access.max_bytes()
    if patch.length is not None and patch.length < upload.offset:
        raise LengthBelowOffset(upload.offset, patch.length)
    declared_now = patch.length if upload.length is None else None
    if declared_now is not None and limit is not None and declared_now > limit:
        raise TooLarge(limit)
    if patch.offset != upload.offset:
        raise OffsetMismatch(expected=upload.offset, provided=patch.offset)
    announced = request.announced_length()
    end = patch.length if patch.length is not None else limit
    if end is not None and announced is not None and patch.offset + announced > end:
        raise ChunkBeyondLength(end)


def _take(request: UploadRequest, upload: Upload, patch: Patch) -> Upload:
    engine = request.engine
    if upload.status is not Status.UPLOADING:
        # A repeat after a lost answer. _check() has refused a body with Content-Length.
        finished = complete_if_received(request, upload)
        if request.announced_length() is None:
            _require_end_of_body(request.body, upload.offset)
        return finished
    if patch.checksum is not None:
        received = _receive_checked(request, upload, patch.length, patch.checksum)
    else:
        if patch.length is not None and upload.length is None:
            # Declare it before reading: it must survive a client that disconnects.
            upload = engine.declare.length(upload, patch.length)
        try:
            received = receive(request, upload)
        except TooLarge:
            # The bytes up to the length are kept, and may complete the upload.
            complete_if_received(request, request.find(Action.APPEND))
            raise
    request.subject = received
    return complete_received(request, received)


def _answer(request: UploadRequest, upload: Upload) -> Response:
    response = completion_answer(request, upload, 204)
    response.headers["Upload-Offset"] = str(upload.offset)
    return response
