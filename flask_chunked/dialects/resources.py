"""Answers that are the same in every dialect: JSON status, removal, OPTIONS."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Response, jsonify

from ..engine.gate import Action, allows
from ..engine.records import Upload
from ..engine.states import Status
from ..request.context import UploadRequest


def show(request: UploadRequest) -> Response:
    """GET: the upload as JSON, without taking it over."""
    upload = request.find(Action.READ)
    request.access.authorize(Action.READ, upload)
    request.engine.expiry.require_live(upload)
    response = jsonify(request.representation.to_json(upload))
    for dialect in request.dialects:
        response.headers.update(dialect.upload_headers(request, upload))
    content = request.representation.content_url(upload)
    if content is not None:
        response.headers["Link"] = f'<{content}>; rel="enclosure"'
    return response


def remove(request: UploadRequest) -> Response:
    """DELETE: terminate an unfinished upload, or delete a finished one."""
    upload = request.find(Action.TERMINATE)
    action = Action.DELETE if upload.is_complete else Action.TERMINATE
    request.access.authorize(action, upload)
    request.release_session()
    request.engine.remove.terminate(upload)
    return empty(204)


def take_over(request: UploadRequest) -> Upload:
    """HEAD: take the upload over, so that no earlier request can change its offset.

    A caller who may not append only reads. So does every caller if the upload is not
    open any more.
    """
    upload = request.find(Action.READ)
    request.access.authorize(Action.READ, upload)
    request.engine.expiry.require_live(upload)
    if upload.status is not Status.UPLOADING:
        return upload
    if not allows(upload, Action.APPEND, request.dialect):
        return upload
    if not request.access.is_authorized(Action.APPEND, upload):
        return upload
    request.release_session()
    request.subject = request.engine.append.take_over(upload)
    return request.subject


def options(request: UploadRequest, allowed: Iterable[str]) -> Response:
    """OPTIONS: the methods of the resource and the capabilities of all dialects."""
    response = empty(204)
    response.headers["Allow"] = ", ".join(allowed)
    for dialect in request.dialects:
        response.headers.update(dialect.capabilities(request))
    return response


def created(request: UploadRequest, upload: Upload) -> Response:
    """The answer to a creation without a body of its own: 201 and ``Location``."""
    response = completion_answer(request, upload, 201)
    response.headers["Location"] = request.representation.location(upload)
    return response


def completion_answer(request: UploadRequest, upload: Upload, status: int) -> Response:
    """The answer of ``on_completion`` to a complete file, else an empty one.

    :param status: of the empty answer.
    """
    custom = None
    if upload.is_complete and not upload.partial:
        custom = request.completion_response(upload)
    return empty(status) if custom is None else custom


class _Empty(Response):
    default_mimetype = None


#: Statuses of answers that cannot have a body (RFC 9110, sections 15.3.5 and 15.4.5).
_BODILESS = (204, 304)


def empty(status: int) -> Response:
    """An answer without a body.

    Functions of ``after_request``, such as Flask-DebugToolbar's, look at the media type
    of every answer that may have a body, so that it has one. It is not JSON: they may
    parse what says that it is.
    """
    return _Empty(status=status, mimetype=None if status in _BODILESS else "text/plain")
