"""Answers to errors: in the dialect's form, by a handler of the application, or 500.

Knows how Flask keeps error handlers. It asks those for ``ChunkedUploadError`` only: a
client of uploads cannot read a page that is made for people.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, current_app, got_request_exception
from werkzeug.exceptions import HTTPException

from .dialects.base import Dialect
from .exceptions import (
    Aborted,
    ChunkedUploadError,
    HookError,
    InternalError,
    UnsupportedEncoding,
)
from .hook_calls import refusal_from, synchronous
from .request.aborts import take_abort, take_body
from .request.context import UploadRequest


def answer_error(
    request: UploadRequest, dialect: Dialect, error: Exception
) -> Response:
    """The answer to an error that ended the request; called while it is handled.

    :raises Exception: the error itself, if the application lets errors propagate.
    """
    if isinstance(error, HTTPException):
        # Not of a hook: of a schema, of a validator of the model, of Werkzeug.
        error = refusal_from(error)
    if isinstance(error, HookError) or not isinstance(error, ChunkedUploadError):
        _report(error)
        return answer_failure(request, dialect)
    return answer_refusal(request, dialect, error)


def answer_refusal(
    request: UploadRequest, dialect: Dialect, error: ChunkedUploadError
) -> Response:
    """The answer to a refusal: of ``abort()``, of a handler, or of the dialect."""
    response = dialect.render_error(request, error)
    if isinstance(error, UnsupportedEncoding):
        # RFC 9110, section 15.5.16.
        response.headers["Accept-Encoding"] = "identity"
    if isinstance(error, Aborted):
        take_abort(response, error)
        if error.response is not None:
            return response
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    handler = _handler_of(app, error, request.http.blueprints)
    if handler is not None:
        waiting = synchronous(app, handler, f"The error handler of {error.code}")
        take_body(response, app.make_response(waiting(error)))
    return response


def answer_failure(request: UploadRequest, dialect: Dialect) -> Response:
    """The answer to an unexpected error.

    The application's log has its cause; the client does not see it.
    """
    return dialect.render_error(request, InternalError())


def _report(error: Exception) -> None:
    """Log the error and send Flask's signal, as Flask does for errors of views.

    :raises Exception: the error itself, if the application lets errors propagate.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    if app.testing or app.debug if propagate is None else propagate:
        raise error
    got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    app.log_exception(sys.exc_info())


def _handler_of(
    app: Flask, error: ChunkedUploadError, blueprints: Iterable[str]
) -> Callable[[Any], Any] | None:
    """The application's handler of the error's class, in the order of Flask.

    A handler of a blueprint comes first, then that of the nearest class.
    """
    kinds = [one for one in type(error).__mro__ if issubclass(one, ChunkedUploadError)]
    for name in (*blueprints, None):
        # Handlers of statuses are kept apart, under the status.
        handlers = app.error_handler_spec[name][None]
        for kind in kinds:
            if kind in handlers:
                return handlers[kind]
    return None
