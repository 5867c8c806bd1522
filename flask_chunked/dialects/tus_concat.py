"""tus: final uploads (extensions concatenation and concatenation-unfinished)."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import unquote, urljoin, urlsplit
from uuid import UUID

from flask import Response

from ..engine.concatenation import Members
from ..engine.records import NewUpload, Upload
from ..engine.states import Status
from ..exceptions import (
    FinalUpload,
    InvalidCreation,
    PartialMissing,
    Superseded,
    TooLarge,
    UnknownUpload,
)
from ..protocol.tus import CONTENT_TYPE, Concat
from ..protocol.upload_id import parse_upload_id
from .base import Action, Call
from .tus_answers import created

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
    if call.request.mimetype == CONTENT_TYPE and call.announced_length() != 0:
        raise FinalUpload()
    ids = member_ids(call, concat)
    for upload_id in dict.fromkeys(ids):
        call.host.authorize(Action.READ, call.host.find(upload_id))
    engine = call.host.engine
    try:
        members = engine.members(ids)
    except PartialMissing as error:
        raise UnknownUpload() from error
    limit = call.host.max_bytes()
    length = members.length
    if limit is not None and length is not None and length > limit:
        raise TooLarge(limit)
    call.host.release_session()
    upload = engine.create(new)
    upload = call.subject = engine.assemble(upload, members)
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
    """A partial upload is complete: perhaps it was the last one of a final upload."""
    for final in call.host.engine.finals_waiting_for(partial):
        _go_on(call, final)


def resume_if_idle(call: Call, final: Upload) -> Upload:
    """HEAD of a final upload: go on with what a crash has left.

    :raises PartialMissing: a member is gone, so that it can never be made.
    """
    engine = call.host.engine
    if final.status is not Status.UPLOADING:
        return final
    members = _members(call, final)
    if not members.are_complete or engine.clock() - final.last_activity_at < IDLE:
        return final
    return _go_on(call, final)


def _go_on(call: Call, final: Upload) -> Upload:
    try:
        return call.host.engine.assemble(final, _members(call, final))
    except (PartialMissing, Superseded):
        # Never to be made, or just being made by somebody else; HEAD tells which.
        return final


def _members(call: Call, final: Upload) -> Members:
    concat = Concat.from_header(final.concat or "")
    return call.host.engine.members(member_ids(call, concat))
