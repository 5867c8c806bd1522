"""tus: PATCH, and how an upload whose bytes are all there is finished."""

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
from .concat import make_waiting_finals


@dataclass(frozen=True, slots=True)
class Patch:
    """What the headers of a PATCH say.

    :param length: of the upload, declared now, before or not at all yet.
    """

    offset: int
    length: int | None
    checksum: ChecksumDemand | None


def append(request: UploadRequest) -> Response:
    """PATCH (Core): bytes at the offset; at the length, completion."""
    upload = request.find(Action.APPEND)
    request.access.authorize(Action.APPEND, upload)
    if not request.has_mimetype(CONTENT_TYPE):
        raise UnsupportedMediaType(f"Content-Type must be {CONTENT_TYPE}")
    patch = _parse(request, upload)
    request.engine.require_live(upload)
    _check(request, upload, patch)
    request.release_session()
    received = _take(request, upload, patch)
    return _answer(request, received)


def receive(request: UploadRequest, upload: Upload, *, is_new: bool = False) -> Upload:
    """The request's body behind the upload's offset, whatever is left of it.

    :param is_new: this request made the upload.
    :raises TooLarge: more than fits; what fits is kept.
    """
    stop = upload.length
    if stop is None:
        stop = request.access.max_bytes()
    announced = request.announced_length()
    if announced == 0:
        return upload
    if upload.offset == upload.length:
        # All is there, in a finished file perhaps, whose writer died before it said so.
        _require_no_more(request.body, upload.offset)
        return upload
    finishing = _may_finish_with(request, upload, announced)
    try:
        return request.engine.append_stream(
            upload,
            upload.offset,
            stop,
            request.body,
            exact=False,
            finishing=finishing,
            is_new=is_new,
        )
    except ChunkSizeMismatch as error:
        # A body without a length went on behind the end.
        raise TooLarge(stop or 0) from error


def _require_no_more(reader: BodyReader, length: int) -> None:
    """The body is empty after all.

    :raises TooLarge: it is not.
    """
    while not reader.ended:
        if reader.read():
            raise TooLarge(length)
        if not reader.ended:
            reader.wait()


def _receive_checked(
    request: UploadRequest, upload: Upload, length: int | None, checksum: ChecksumDemand
) -> Upload:
    """The same for a body with a digest: all of it or nothing, a new length too.

    :raises TooLarge: more than fits.
    :raises ChecksumMismatch: the body is not what the client took the digest of.
    """
    engine = request.engine
    stop = request.access.max_bytes() if length is None else length
    digest = engine.file_digest(upload)
    with receive_checked(request, checksum, stop, upload.offset, digest) as part:
        if length is not None and upload.length is None:
            upload = engine.declare_length(upload, length)
        if not part.size or part.stage is None:
            return upload
        return engine.append_whole(
            upload,
            upload.offset,
            part.stage,
            part.file_digest,
            finishing=_may_finish_with(request, upload, part.size),
        )


def _may_finish_with(request: UploadRequest, upload: Upload, size: int | None) -> bool:
    """Are so many bytes the last ones, and may the caller complete the upload?

    Who may not is told so when the bytes are stored.
    """
    if size is None or upload.offset + size != upload.length:
        return False
    return request.access.is_authorized(Action.COMPLETE, upload)


def finish_received(request: UploadRequest, received: Upload) -> Upload:
    """Go on behind the body of this request: complete what is all there."""
    if received.status is Status.COMPLETING:
        return _completed(request, request.engine.finish(received))
    return finish_if_all_is_there(request, received)


def finish_if_all_is_there(request: UploadRequest, upload: Upload) -> Upload:
    """Offset = length: complete what is not, whoever created it.

    Also where a completion was begun: it may have died, and who sent the bytes asks
    only once more.
    """
    is_open = upload.status in (Status.UPLOADING, Status.COMPLETING)
    if not is_open or upload.offset != upload.length:
        return upload
    request.access.authorize(Action.COMPLETE, upload)
    request.release_session()
    engine = request.engine
    try:
        done = engine.complete(upload, None)
    except CompletionInProgress:
        done = engine.wait_for_completion(upload)
    return _completed(request, done)


def _completed(request: UploadRequest, done: Completion) -> Upload:
    if done.upload.partial and done.first:
        # The last member of a final upload, perhaps.
        make_waiting_finals(request, done.upload)
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
    """Refuse before the body is read what cannot be taken."""
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
        # A repeat after a lost answer; an announced body would have been refused above.
        finished = finish_if_all_is_there(request, upload)
        if request.announced_length() is None:
            _require_no_more(request.body, upload.offset)
        return finished
    if patch.checksum is not None:
        received = _receive_checked(request, upload, patch.length, patch.checksum)
    else:
        if patch.length is not None and upload.length is None:
            # Before the body: a length that was told survives a body that is cut.
            upload = engine.declare_length(upload, patch.length)
        try:
            received = receive(request, upload)
        except TooLarge:
            # What fits counts.
            finish_if_all_is_there(request, request.find(Action.APPEND))
            raise
    request.subject = received
    return finish_received(request, received)


def _answer(request: UploadRequest, upload: Upload) -> Response:
    response = completion_answer(request, upload, 204)
    response.headers["Upload-Offset"] = str(upload.offset)
    return response
