"""The content of a finished upload: ranges, conditions, safe headers."""

from __future__ import annotations

from flask import Response, redirect
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from ..engine.gate import Action
from ..exceptions import RangeNotSatisfiable, UnknownUpload
from ..protocol.filename import to_disposition
from .base import Call


def send_content(call: Call) -> Response:
    """Answer GET and HEAD of ``/<id>/file`` (RFC 9110, sections 13 and 14).

    The client's own type and markup are never trusted: always an attachment, always
    ``application/octet-stream``.

    :raises UnknownUpload: not there, not complete, moved away or not offered.
    :raises RangeNotSatisfiable: the range asked for is empty.
    """
    if not call.host.settings.downloads:
        raise UnknownUpload()
    upload = call.find(Action.DOWNLOAD)
    if not upload.is_complete or upload.blob is None:
        raise UnknownUpload()
    call.host.authorize(Action.DOWNLOAD, upload)
    storage = call.host.engine.storage
    disposition = to_disposition(upload.filename)
    if call.method == "GET":
        url = storage.download_url(upload.blob, disposition)
        if url is not None:
            return _elsewhere(url)
    reader = storage.open(upload.blob)
    environ = call.request.environ
    response = Response(
        wrap_file(environ, reader),
        mimetype="application/octet-stream",
        direct_passthrough=True,
    )
    response.call_on_close(reader.close)
    response.content_length = upload.offset
    response.headers["Content-Disposition"] = disposition
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "private, no-cache"
    # A complete upload never changes, so its id and event name its content for ever.
    response.set_etag(f"{upload.id}-{upload.event_id}")
    response.last_modified = upload.completed_at
    try:
        response.make_conditional(
            environ, accept_ranges=True, complete_length=upload.offset
        )
    except RequestedRangeNotSatisfiable as error:
        response.close()
        raise RangeNotSatisfiable(upload.offset) from error
    if call.method == "HEAD" or response.status_code == 304:
        # Werkzeug sends no body then and never closes what would have been it.
        response.close()
        response.response = []
    return response


def _elsewhere(url: str) -> Response:
    """The storage hands the content out itself; the URL is for this client alone."""
    response = redirect(url, code=307, Response=Response)
    assert isinstance(response, Response)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
