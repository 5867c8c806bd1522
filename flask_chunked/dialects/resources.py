"""What every dialect answers alike: JSON status, removal, OPTIONS."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Response, jsonify

from ..engine.gate import Action, allows
from ..engine.records import Upload
from ..engine.states import Status
from .base import Call


def show(call: Call) -> Response:
    """The upload as JSON; never takes it over."""
    upload = call.find(Action.READ)
    call.host.authorize(Action.READ, upload)
    call.host.engine.require_live(upload)
    response = jsonify(call.host.represent(upload))
    for dialect in call.dialects:
        response.headers.update(dialect.describe(call, upload))
    content = call.host.content_url(upload)
    if content is not None:
        response.headers["Link"] = f'<{content}>; rel="enclosure"'
    return response


def remove(call: Call) -> Response:
    """DELETE: give an unfinished upload up, or remove a finished one."""
    upload = call.find(Action.TERMINATE)
    action = Action.DELETE if upload.is_complete else Action.TERMINATE
    call.host.authorize(action, upload)
    call.host.release_session()
    call.host.engine.terminate(upload)
    return empty(204)


def take_over(call: Call) -> Upload:
    """HEAD: from here on only appends at the offset told are taken.

    Whoever may not append only reads, and so does everybody once it is not open.
    """
    upload = call.find(Action.READ)
    call.host.authorize(Action.READ, upload)
    call.host.engine.require_live(upload)
    if upload.status is not Status.UPLOADING:
        return upload
    if not allows(upload, Action.APPEND, call.spoken):
        return upload
    if not call.host.is_authorized(Action.APPEND, upload):
        return upload
    call.host.release_session()
    call.subject = call.host.engine.take_over(upload)
    return call.subject


def options(call: Call, allowed: Iterable[str]) -> Response:
    """The methods of the resource and what the dialects can do."""
    response = empty(204)
    response.headers["Allow"] = ", ".join(allowed)
    for dialect in call.dialects:
        response.headers.update(dialect.capabilities(call))
    return response


class _Empty(Response):
    default_mimetype = None


def empty(status: int) -> Response:
    """An answer without a body, and without a type for it."""
    return _Empty(status=status)
