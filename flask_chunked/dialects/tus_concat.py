"""tus: final uploads (extensions concatenation and concatenation-unfinished)."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from urllib.parse import unquote, urljoin, urlsplit
from uuid import UUID

from flask import Response

from ..engine.concatenation import Members
from ..engine.records import NewUpload, Upload
from ..engine.states import Status
from ..exceptions import (
    AlreadyComplete,
    ChunkedUploadError,
    FinalUpload,
    InvalidCreation,
    OffsetMismatch,
    PartialMissing,
    TooLarge,
    UnknownUpload,
)
from ..protocol.tus import CONTENT_TYPE, Concat
from ..protocol.upload_id import parse_upload_id
from .base import Action, Call
from .tus_answers import created

logger = logging.getLogger("flask_chunked")

#: A final upload that nobody makes for so long is gone on with by the next HEAD.
IDLE = timedelta(seconds=10)


def create_final(call: Call, concat: Concat, new: NewUpload) -> Response:
    """POST with ``Upload-Concat: final;...``.

    :raises InvalidCreation: it carries a length.
    :raises FinalUpload: it carries bytes.
    :raises UnknownUpload: a member is not for this caller.
    :raises NotAPartial: a member is no partial upload.
    """
    headers = call.request.headers
    if "Upload-Length" in headers or "Upload-Defer-Length" in headers:
        raise InvalidCreation("A final upload carries no length")
    if call.has_mimetype(CONTENT_TYPE) and call.announced_length() != 0:
        raise FinalUpload()
    ids = member_ids(call, concat)
    for upload_id in dict.fromkeys(ids):
        call.host.authorize(Action.READ, call.host.find(upload_id))
    engine = call.host.engine
    try:
        members = engine.members(ids)
    except PartialMissing as error:
        raise UnknownUpload() from error
    _require_room(call, members)
    call.host.release_session()
    upload = call.subject = engine.create(replace(new, length=members.length))
    # With members read anew: one that was completed meanwhile did not find this row.
    upload = call.subject = _go_on(call, upload)
    return created(call, upload)


def member_ids(call: Call, concat: Concat) -> list[UUID]:
    """The ids behind the URLs, which may be absolute or relative.

    Only the path counts, because proxies change the rest.

    :raises UnknownUpload: a URL is none of this blueprint's.
    """
    here = urlsplit(call.host.collection_url()).path
    base = here if here.endswith("/") else here + "/"
    ids: list[UUID] = []
    for url in concat.urls:
        try:
            path = unquote(urlsplit(urljoin(base, url)).path, errors="strict")
        except ValueError as error:
            raise UnknownUpload() from error
        prefix, _, last = path.rstrip("/").rpartition("/")
        upload_id = parse_upload_id(last)
        if upload_id is None or prefix + "/" != base:
            raise UnknownUpload()
        ids.append(upload_id)
    return ids


def make_waiting_finals(call: Call, partial: Upload) -> None:
    """A partial upload is complete: perhaps it was the last one of a final upload.

    What hinders a final upload is told to whoever asks for that one.
    """
    for final in call.host.engine.finals_waiting_for(partial):
        try:
            _go_on(call, final)
        except ChunkedUploadError as error:
            logger.info("final upload %s was not made: %s", final.id, error.code)


def resume_if_idle(call: Call, final: Upload) -> Upload:
    """HEAD of a final upload: go on with what a crash has left.

    :raises PartialMissing: a member is gone, so that it can never be made.
    :raises TooLarge: members whose length came late are more than the limit.
    """
    engine = call.host.engine
    is_idle = engine.clock() - final.last_activity_at >= IDLE
    if final.status is Status.COMPLETING and is_idle:
        # All bytes are there, whatever became of the members.
        return engine.complete(final, None).upload
    if final.status is not Status.UPLOADING:
        return final
    members = _members(call, final)
    if final.length is None and members.length is not None:
        # Told as soon as it can be computed, whoever makes it or died over it.
        final = engine.declare_length(final, members.length)
    return _go_on(call, final) if is_idle and members.are_complete else final


def _go_on(call: Call, final: Upload) -> Upload:
    try:
        return call.host.engine.assemble(final, _members(call, final))
    except (PartialMissing, OffsetMismatch, AlreadyComplete):
        # Never to be made, or just being made by somebody else; HEAD tells which.
        return final


def _members(call: Call, final: Upload) -> Members:
    concat = Concat.from_header(final.concat or "")
    members = call.host.engine.members(member_ids(call, concat))
    _require_room(call, members)
    return members


def _require_room(call: Call, members: Members) -> None:
    limit = call.host.max_bytes()
    length = members.length
    if limit is not None and length is not None and length > limit:
        raise TooLarge(limit)
