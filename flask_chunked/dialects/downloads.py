"""The content of a finished upload: ranges, conditions, safe headers."""

from __future__ import annotations

import re
from datetime import datetime

from flask import Response, redirect
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import parse_date, parse_etags, parse_range_header
from werkzeug.wsgi import wrap_file

from ..engine.gate import Action
from ..exceptions import RangeNotSatisfiable, UnknownUpload
from ..protocol.filename import to_disposition
from ..request.context import UploadRequest
from ..storage.base import Blob
from .resources import empty

_SUFFIX_OF_NO_BYTES = re.compile(r"bytes\s*=\s*-0+\s*", re.I)


def send_content(request: UploadRequest) -> Response:
    """Answer GET and HEAD of ``/<id>/file`` (RFC 9110, sections 13 and 14).

    The client's media type is never trusted: the content is always an attachment of the
    type ``application/octet-stream``.

    :raises UnknownUpload: the upload is unknown, not complete or moved away, or
        downloads are off.
    :raises RangeNotSatisfiable: the requested range is empty.
    """
    if not request.settings.downloads:
        raise UnknownUpload()
    upload = request.find(Action.DOWNLOAD)
    if not upload.is_complete or upload.blob is None:
        raise UnknownUpload()
    request.access.authorize(Action.DOWNLOAD, upload)
    disposition = to_disposition(upload.filename)
    if request.method == "GET":
        url = request.engine.storage.download_url(upload.blob, disposition)
        if url is not None:
            return _redirect(request, url)
    # A complete upload never changes, so its id and event identify its content.
    etag = f"{upload.id}-{upload.event_id}"
    modified = upload.completed_at or upload.created_at
    status = _failed_condition(request, etag, modified.replace(microsecond=0))
    response = _content(request, upload.blob) if status is None else empty(status)
    response.headers["Content-Disposition"] = disposition
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(etag)
    response.last_modified = modified
    if status is not None:
        return response
    if request.method == "GET":
        _choose_range(request, response, upload.offset)
        return response
    # Werkzeug sends no body for HEAD and would never close it.
    response.headers["Accept-Ranges"] = "bytes"
    response.close()
    response.response = []
    return response


def _failed_condition(
    request: UploadRequest, etag: str, modified: datetime
) -> int | None:
    """412 or 304 if a condition of the request fails (RFC 9110, section 13.2.2).

    :param modified: in whole seconds, the resolution of HTTP dates.
    """
    wanted = parse_etags(request.header("If-Match"))
    unmodified_since = parse_date(request.header("If-Unmodified-Since"))
    if wanted:
        if not wanted.contains(etag):
            return 412
    elif unmodified_since is not None and modified > unmodified_since:
        return 412
    # 304 is for GET and HEAD only, not for a POST with a method override.
    is_post = request.http.method == "POST"
    known = parse_etags(request.header("If-None-Match"))
    if known:
        if not known.contains_weak(etag):
            return None
        return 412 if is_post else 304
    modified_since = parse_date(request.header("If-Modified-Since"))
    if is_post or modified_since is None or modified > modified_since:
        return None
    return 304


def _content(request: UploadRequest, blob: Blob) -> Response:
    """All of the content."""
    reader = request.engine.storage.open(blob)
    response = Response(
        wrap_file(request.http.environ, reader),
        mimetype="application/octet-stream",
        direct_passthrough=True,
    )
    response.call_on_close(reader.close)
    response.content_length = blob.size
    return response


def _choose_range(request: UploadRequest, response: Response, length: int) -> None:
    """Reduce the response to the requested range.

    :raises RangeNotSatisfiable: the content has no byte of the range.
    """
    # A POST with a method override has no range (RFC 9110, section 14.2).
    environ = {"REQUEST_METHOD": request.http.method}
    wanted = _wanted_range(request.header("Range"), length)
    unless_changed = request.header("If-Range")
    if wanted is not None:
        environ["HTTP_RANGE"] = wanted
    if unless_changed is not None:
        environ["HTTP_IF_RANGE"] = unless_changed
    try:
        response.make_conditional(environ, accept_ranges=True, complete_length=length)
    except RequestedRangeNotSatisfiable as error:
        response.close()
        raise RangeNotSatisfiable(length) from error


def _wanted_range(header: str | None, length: int) -> str | None:
    """The header's only range of bytes, for Werkzeug.

    Unknown units, malformed ranges and several ranges are ignored (RFC 9110, section
    14.2). A suffix that is longer than the content means all of it (section 14.1.2).

    :return: ``None``: all of the content.
    """
    if header is not None and _SUFFIX_OF_NO_BYTES.fullmatch(header):
        return f"bytes={length}-"
    wanted = parse_range_header(header)
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    ((begin, end),) = wanted.ranges
    if begin < 0:
        begin = max(0, length + begin)
    return f"bytes={begin}-" if end is None else f"bytes={begin}-{end - 1}"


def _redirect(request: UploadRequest, url: str) -> Response:
    """Redirect to the storage's own URL, which is for this client alone."""
    # 307 repeats the method; a POST that stands for GET must become a GET.
    code = 307 if request.http.method == "GET" else 303
    response = redirect(url, code=code, Response=Response)
    assert isinstance(response, Response)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
