"""tus: final uploads (extensions concatenation and concatenation-unfinished)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import unquote, urljoin, urlsplit
from uuid import UUID

from flask import Response

from ...engine.concatenate import Members, members_from
from ...engine.gate import Action
from ...engine.records import NewUpload, Upload
from ...engine.states import Status
from ...exceptions import (
    AlreadyComplete,
    ChunkedUploadError,
    CompletionInProgress,
    FinalUpload,
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

#: A final upload that no request makes for so long is gone on with by the next HEAD.
IDLE = timedelta(seconds=10)


def create_final(request: UploadRequest, concat: Concat, new: NewUpload) -> Response:
    """POST with ``Upload-Concat: final;...``; refused or failed, it leaves nothing.

    :raises InvalidCreation: it carries a length.
    :raises FinalUpload: it carries bytes.
    :raises UnknownUpload: a member is not for this caller, or was removed.
    :raises UploadExpired: a member is too old.
    :raises NotAPartial: a member is no partial upload.
    :raises TooLarge, QuotaExceeded, TooManyUploads, TooManyFinals: there is no room.
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
        engine.require_live(member)
    members = members_from([known[upload_id] for upload_id in ids])
    request.release_session()
    try:
        upload = engine.create_final(new, members)
        with request.creating(upload):
            # With members read anew: one that was completed meanwhile did not find
            # this row.
            upload = _go_on(request, upload)
    except PartialMissing as error:
        raise UnknownUpload() from error
    request.subject = upload
    return created(request, upload)


def member_ids(request: UploadRequest, concat: Concat) -> list[UUID]:
    """The ids in the URLs, which may be absolute or relative.

    Only the path counts, because proxies change the rest.

    :raises UnknownUpload: a URL is none of this blueprint's.
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


def make_waiting_finals(request: UploadRequest, partial: Upload) -> None:
    """A partial upload is complete: perhaps it was the last one of a final upload.

    Its own request is answered as ever. A final upload that is refused is removed; what
    else hinders one is reported to the client that asks for it.
    """
    for final in request.engine.finals_waiting_for(partial):
        try:
            with _removed_if_refused(request, final):
                _go_on(request, final)
        except ChunkedUploadError as error:
            logger.info("final upload %s was not made: %s", final.id, error.code)
        # A hook's own fault: the bytes of this request are safe, and its client is told
        # so.
        except Exception:
            logger.exception("final upload %s was not made", final.id)


def resume_if_idle(request: UploadRequest, final: Upload) -> Upload:
    """HEAD of a final upload: go on with what a crash has left.

    :raises PartialMissing: a member is gone, so that it can never be made.
    :raises TooLarge: members whose length came late are more than the limit.
    """
    engine = request.engine
    is_idle = engine.clock() - final.last_activity_at >= IDLE
    if final.status is Status.COMPLETING:
        # All bytes are there, whatever became of the members.
        if not is_idle or not request.access.is_authorized(Action.COMPLETE, final):
            return final
        with _removed_if_refused(request, final):
            return _complete(request, final)
    if final.status is not Status.UPLOADING:
        return final
    members = _members(request, final)
    if members is None:
        return engine.repository.get(final.id) or final
    may_go_on = is_idle and members.are_complete
    is_told = final.length is None and members.length is not None
    if not (may_go_on or is_told):
        return final
    if may_go_on and not request.access.is_authorized(Action.COMPLETE, final):
        return final
    # Stored as soon as it can be computed, whichever request makes the upload. Limits
    # of the client that asks are no reason to remove it.
    final = engine.note_length(final, members)
    if not may_go_on:
        return final
    with _removed_if_refused(request, final):
        return _assemble(request, final, members)


def _complete(request: UploadRequest, final: Upload) -> Upload:
    engine = request.engine
    request.release_session()
    try:
        return engine.complete_final(final)
    except CompletionInProgress:
        return engine.wait_for_completion(final).upload


def _go_on(request: UploadRequest, final: Upload) -> Upload:
    """Make the final upload, if its members are complete and the caller may.

    :raises NotAuthorized: the policy does not let this request complete it.
    """
    engine = request.engine
    members = _members(request, final)
    if members is None:
        return engine.repository.get(final.id) or final
    final = engine.note_length(final, members)
    if final.status is not Status.UPLOADING or not members.are_complete:
        return final
    request.access.authorize(Action.COMPLETE, final)
    return _assemble(request, final, members)


def _assemble(request: UploadRequest, final: Upload, members: Members) -> Upload:
    engine = request.engine
    request.release_session()
    try:
        return engine.assemble(final, members)
    except (OffsetMismatch, AlreadyComplete, CompletionInProgress):
        # Another request is making it, or has made it.
        return engine.repository.get(final.id) or final


def _members(request: UploadRequest, final: Upload) -> Members | None:
    """The members; ``None``: the final upload has all its bytes and needs none.

    Another request made it since it was looked at, and its members went.

    :raises PartialMissing: one is gone that is still needed.
    """
    engine = request.engine
    try:
        return engine.members(final)
    except PartialMissing:
        row = engine.repository.get(final.id)
        if row is None or row.status not in (Status.COMPLETING, Status.COMPLETE):
            raise
        return None


@contextmanager
def _removed_if_refused(request: UploadRequest, final: Upload) -> Iterator[None]:
    """Remove the final upload if the policy refuses it in here.

    It stays where storage or database failed, so that the next HEAD goes on with it,
    and where it can never be made, so that HEAD says so.
    """
    try:
        yield
    except (StorageError, PartialMissing, UploadExpired):
        raise
    except ChunkedUploadError as error:
        if error.status < 500:
            request.engine.abandon(final)
        raise
