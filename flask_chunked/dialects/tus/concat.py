"""tus: final uploads (extensions concatenation and concatenation-unfinished)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import unquote, urljoin, urlsplit
from uuid import UUID

from flask import Response

from ...engine.gate import Action
from ...engine.members import Members, members_from
from ...engine.records import NewUpload, Upload
from ...engine.states import Status
from ...exceptions import (
    AlreadyComplete,
    ChunkedUploadError,
    CompletionInProgress,
    FinalUpload,
    HookError,
    InvalidCreation,
    OffsetMismatch,
    PartialMissing,
    StorageError,
    UnknownUpload,
    UploadExpired,
)
from ...protocol.tus import CONTENT_TYPE, Concat
from ...protocol.upload_id import parse_upload_id
from ...request.context import UploadRequest
from ..resources import created

logger = logging.getLogger("flask_chunked")

#: The next HEAD assembles a final upload that no request has touched for so long.
IDLE = timedelta(seconds=10)


def create_final(request: UploadRequest, concat: Concat, new: NewUpload) -> Response:
    """POST with ``Upload-Concat: final;...``; an error leaves no upload.

    :raises InvalidCreation: the request has a length.
    :raises FinalUpload: the request has a body.
    :raises UnknownUpload: the caller may not see a member, or a member was removed.
    :raises UploadExpired: a member has expired.
    :raises NotAPartial: a member is not a partial upload.
    :raises TooLarge, QuotaExceeded, TooManyUploads, TooManyFinals: a limit is exceeded.
    """
    headers = request.http.headers
    if "Upload-Length" in headers or "Upload-Defer-Length" in headers:
        raise InvalidCreation("A final upload carries no length")
    if request.has_mimetype(CONTENT_TYPE) and request.announced_length() != 0:
        raise FinalUpload()
    engine = request.engine
    known: dict[UUID, Upload] = {}
    ids = member_ids(request, concat)
    for upload_id in dict.fromkeys(ids):
        known[upload_id] = member = request.access.find(upload_id)
        request.access.authorize(Action.READ, member)
        engine.expiry.require_live(member)
    members = members_from([known[upload_id] for upload_id in ids])
    request.release_session()
    try:
        upload = engine.concatenate.create(new, members)
        with request.creating(upload):
            # This reads the members again: a member that was completed meanwhile did
            # not find this row.
            upload = _try_assemble(request, upload)
    except PartialMissing as error:
        raise UnknownUpload() from error
    request.subject = upload
    return created(request, upload)


def member_ids(request: UploadRequest, concat: Concat) -> list[UUID]:
    """The ids in the URLs, which may be absolute or relative.

    Only the path counts, because proxies change the rest.

    :raises UnknownUpload: a URL does not belong to this blueprint.
    """
    here = urlsplit(request.representation.collection_url()).path
    base = here if here.endswith("/") else here + "/"
    prefix = unquote(base)
    ids: list[UUID] = []
    for url in concat.urls:
        try:
            path = unquote(urlsplit(urljoin(base, url)).path, errors="strict")
        except ValueError as error:
            raise UnknownUpload() from error
        parent, _, last = path.rstrip("/").rpartition("/")
        upload_id = parse_upload_id(last)
        if upload_id is None or parent + "/" != prefix:
            raise UnknownUpload()
        ids.append(upload_id)
    return ids


def assemble_waiting_finals(request: UploadRequest, partial: Upload) -> None:
    """Assemble final uploads whose last member was completed now.

    The request of the partial upload is answered as usual. A final upload that the
    policy refuses is removed; other errors are reported to the client that asks for it.
    """
    for final in request.engine.concatenate.finals_waiting_for(partial):
        try:
            with _removed_if_refused(request, final):
                _try_assemble(request, final)
        except HookError:
            logger.exception("final upload %s was not assembled", final.id)
        except ChunkedUploadError as error:
            logger.info("final upload %s was not assembled: %s", final.id, error.code)
        # A hook may raise anything. The bytes of this request are committed, and its
        # client must learn that.
        except Exception:
            logger.exception("final upload %s was not assembled", final.id)


def resume_if_idle(request: UploadRequest, final: Upload) -> Upload:
    """HEAD of a final upload: continue an assembly that a crash has interrupted.

    :raises PartialMissing: a member is gone, so the upload can never be assembled.
    :raises TooLarge: members that declared their length late exceed the limit.
    """
    engine = request.engine
    is_idle = engine.clock() - final.last_activity_at >= IDLE
    if final.status is Status.COMPLETING:
        # All bytes are there, so the members are not needed.
        if not is_idle or not request.access.is_authorized(Action.COMPLETE, final):
            return final
        with _removed_if_refused(request, final):
            return _complete(request, final)
    if final.status is not Status.UPLOADING:
        return final
    members = _members(request, final)
    if members is None:
        return engine.repository.get(final.id) or final
    may_try_assemble = is_idle and members.are_complete
    has_new_length = final.length is None and members.length is not None
    if not (may_try_assemble or has_new_length):
        return final
    if may_try_assemble and not request.access.is_authorized(Action.COMPLETE, final):
        return final
    # Store the length as soon as it is known, whichever request assembles the upload.
    # The limits of the client that asks are no reason to remove it.
    final = engine.concatenate.note_length(final, members)
    if not may_try_assemble:
        return final
    with _removed_if_refused(request, final):
        return _assemble(request, final, members)


def _complete(request: UploadRequest, final: Upload) -> Upload:
    engine = request.engine
    request.release_session()
    try:
        return engine.concatenate.complete(final)
    except CompletionInProgress:
        return engine.complete.wait(final).upload


def _try_assemble(request: UploadRequest, final: Upload) -> Upload:
    """Assemble the final upload if its members are complete and the caller may.

    :raises NotAuthorized: the policy does not let this caller complete it.
    """
    engine = request.engine
    members = _members(request, final)
    if members is None:
        return engine.repository.get(final.id) or final
    final = engine.concatenate.note_length(final, members)
    if final.status is not Status.UPLOADING or not members.are_complete:
        return final
    request.access.authorize(Action.COMPLETE, final)
    return _assemble(request, final, members)


def _assemble(request: UploadRequest, final: Upload, members: Members) -> Upload:
    engine = request.engine
    request.release_session()
    try:
        return engine.concatenate.assemble(final, members)
    except (OffsetMismatch, AlreadyComplete, CompletionInProgress):
        # Another request is assembling it, or has done so.
        return engine.repository.get(final.id) or final


def _members(request: UploadRequest, final: Upload) -> Members | None:
    """The members; ``None``: the final upload has all its bytes and needs none.

    That is so if another request has assembled it meanwhile and removed the members.

    :raises PartialMissing: a member is gone that is still needed.
    """
    engine = request.engine
    try:
        return engine.concatenate.members(final)
    except PartialMissing:
        row = engine.repository.get(final.id)
        if row is None or row.status not in (Status.COMPLETING, Status.COMPLETE):
            raise
        return None


@contextmanager
def _removed_if_refused(request: UploadRequest, final: Upload) -> Iterator[None]:
    """Remove the final upload if the policy refuses it in the block.

    It stays if storage or database failed, so that the next HEAD can continue, and if
    it can never be assembled, so that HEAD can report that.
    """
    try:
        yield
    except (StorageError, PartialMissing, UploadExpired):
        raise
    except ChunkedUploadError as error:
        if error.status < 500:
            request.engine.remove.discard(final)
        raise
