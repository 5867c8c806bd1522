"""tus: POST (extensions creation, creation-with-upload, creation-defer-length)."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response

from ...engine.gate import Action
from ...engine.records import NewUpload, Upload
from ...exceptions import ChunkBeyondLength, InvalidCreation, TooLarge
from ...protocol.filename import display_name
from ...protocol.tus import (
    CONTENT_TYPE,
    Concat,
    Metadata,
    parse_number,
    require_defer_length,
)
from ...request.context import UploadRequest
from ...request.forms import declared_type
from ..resources import created
from .checksum import ChecksumDemand, checksum_demand, receive_checked
from .concat import create_final
from .patch import complete_received, receive

#: The dialect's name, stored with each of its uploads.
DIALECT = "tus"


@dataclass(frozen=True, slots=True)
class Creation:
    """The headers of a POST.

    :param length: in bytes; ``None``: deferred.
    """

    length: int | None
    metadata: Metadata
    concat: Concat | None
    checksum: ChecksumDemand | None
    with_body: bool


def create(request: UploadRequest) -> Response:
    """POST: create an upload, with the bytes of the body if there is one."""
    request.access.require_owner()
    request.access.authorize(Action.CREATE)
    text = request.header("Upload-Concat")
    concat = None if text is None else Concat.from_header(text)
    metadata = Metadata.from_header(request.header("Upload-Metadata") or "")
    if concat is not None and concat.is_final:
        return create_final(
            request, concat, new_upload(request, metadata, None, concat)
        )
    creation = Creation(
        length=_length(request),
        metadata=metadata,
        concat=concat,
        checksum=checksum_demand(request),
        with_body=request.has_mimetype(CONTENT_TYPE),
    )
    _check(request, creation)
    new = new_upload(request, metadata, creation.length, concat)
    request.release_session()
    if not creation.with_body:
        upload = request.subject = request.engine.create.upload(new)
    elif creation.checksum is None:
        upload = _create_streamed(request, new)
    else:
        upload = _create_checked(request, creation, creation.checksum, new)
    if not upload.is_complete:
        # If the completion is refused, the client never learns the URL.
        with request.creating(upload):
            upload = complete_received(request, upload)
    response = created(request, upload)
    if creation.with_body:
        response.headers["Upload-Offset"] = str(upload.offset)
    return response


def new_upload(
    request: UploadRequest,
    metadata: Metadata,
    length: int | None,
    concat: Concat | None,
) -> NewUpload:
    """The new upload that the headers describe.

    A partial upload has no fields: its final upload is the file, and has them.

    :raises InvalidFields: the schema refuses a value of the metadata.
    """
    is_partial = concat is not None and not concat.is_final
    fields: dict[str, object] = {}
    if not is_partial:
        fields.update(
            request.registration.fields.load(
                {
                    key: value.decode("utf-8", "replace")
                    for key, value in metadata.values.items()
                }
            )
        )
    # tus-js-client's examples send "filename" and "filetype"; Uppy adds "name" and
    # "type".
    named = fields.pop("filename", None) or metadata.text("filename", "name")
    content_type = metadata.text("filetype", "type", "contentType")
    return NewUpload(
        user=request.access.require_owner(),
        filename=display_name(None if named is None else str(named)),
        length=length,
        dialect=DIALECT,
        content_type=declared_type(content_type),
        raw_metadata=metadata.to_header() or None,
        partial=is_partial,
        concat=None if concat is None else concat.to_header(),
        fields=fields,
    )


def _length(request: UploadRequest) -> int | None:
    length = request.header("Upload-Length")
    defer = request.header("Upload-Defer-Length")
    if (length is None) == (defer is None):
        raise InvalidCreation()
    if defer is not None:
        require_defer_length(defer)
        return None
    return parse_number("Upload-Length", length or "")


def _check(request: UploadRequest, creation: Creation) -> None:
    limit = request.access.max_bytes()
    if limit is not None and creation.length is not None and creation.length > limit:
        raise TooLarge(limit)
    if not creation.with_body:
        return
    end = limit if creation.length is None else creation.length
    announced = request.announced_length()
    if end is not None and announced is not None and announced > end:
        raise ChunkBeyondLength(end)


def _create_streamed(request: UploadRequest, new: NewUpload) -> Upload:
    """Create an upload from a body without a digest; none if the body is too large."""
    engine = request.engine
    # A policy that authorizes needs the row before it decides about completion.
    finishing = not request.access.authorizes
    size = request.announced_length()
    upload = engine.create.with_body(new, request.body, size, finishing=finishing)
    request.subject = upload
    if upload.offset:
        return upload
    try:
        # Keep the upload if any bytes arrived, so that the caller finds it in the list.
        with engine.remove.discarding(upload, unless_started=True):
            return receive(request, upload, is_new=True)
    except TooLarge:
        request.discard(upload)
        raise


def _create_checked(
    request: UploadRequest, creation: Creation, checksum: ChecksumDemand, new: NewUpload
) -> Upload:
    """Create an upload from a body with a digest; none if the digest is wrong."""
    engine = request.engine
    stop = request.access.max_bytes() if creation.length is None else creation.length
    engine.create.require_room(new.user, new.length)
    with receive_checked(request, checksum, stop) as part:
        upload = request.subject = engine.create.upload(new)
        if not part.size or part.stage is None:
            return upload
        with request.creating(upload):
            return engine.append.whole(upload, 0, part.stage)
