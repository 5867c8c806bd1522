"""The list of uploads as JSON pages: keyset cursors, page numbers, counts."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

from flask import Response, jsonify

from ..database.queries import Page
from ..engine.gate import Action
from ..engine.records import Upload
from ..engine.states import Status
from ..exceptions import InvalidQuery
from ..request.context import UploadRequest

#: Rows of a page if the query has no ``per_page``.
DEFAULT_SIZE = 100
#: The most rows of a page, and the last page that a query may select by number.
MAX_SIZE = 100
MAX_PAGE = 100

_STATUSES = {
    "pending": (Status.UPLOADING, Status.COMPLETING),
    "complete": (Status.COMPLETE,),
    "all": (Status.UPLOADING, Status.COMPLETING, Status.COMPLETE),
}


def list_uploads(request: UploadRequest) -> Response:
    """A page of the caller's uploads, with ``Link`` to the next one.

    :raises InvalidQuery: a query argument is malformed or out of range.
    """
    request.access.authorize(Action.LIST)
    page = _page(request)
    # One extra row shows whether there is a next page.
    rows = request.access.page(replace(page, limit=page.limit + 1))
    shown = rows[: page.limit]
    response = jsonify([request.representation.to_json(upload) for upload in shown])
    if len(rows) > len(shown):
        response.headers["Link"] = f'<{_next_url(request, shown[-1])}>; rel="next"'
    if request.http.args.get("count") == "1":
        response.headers["X-Total-Count"] = str(request.access.count(page))
    return response


def _page(request: UploadRequest) -> Page:
    args = request.http.args
    chosen = args.get("status", "pending")
    if chosen not in _STATUSES:
        raise InvalidQuery("status", "one of: " + ", ".join(_STATUSES))
    size = _number(request, "per_page", DEFAULT_SIZE, MAX_SIZE)
    number = _number(request, "page", 1, MAX_PAGE)
    cursor = args.get("cursor")
    return Page(
        statuses=_STATUSES[chosen],
        limit=size,
        after=None if cursor is None else _parse_cursor(cursor),
        skip=(number - 1) * size,
        cutoff=request.engine.expiry.cutoff(),
        partial=_number(request, "partial", 0, 1, least=0) == 1,
    )


def _number(
    request: UploadRequest, name: str, default: int, most: int, least: int = 1
) -> int:
    text = request.http.args.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= 4
    if is_number and least <= int(text) <= most:
        return int(text)
    raise InvalidQuery(name, f"a number from {least} to {most}")


def _next_url(request: UploadRequest, last: Upload) -> str:
    kept = {
        name: value
        for name, value in request.http.args.items()
        if name in ("status", "per_page", "count", "partial")
    }
    plain = json.dumps([last.created_at.isoformat(), str(last.id)]).encode("ascii")
    kept["cursor"] = base64.urlsafe_b64encode(plain).decode("ascii").rstrip("=")
    url = request.representation.collection_url()
    return f"{url}{'&' if '?' in url else '?'}{urlencode(kept)}"


def _parse_cursor(text: str) -> tuple[datetime, UUID]:
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        moment, upload_id = json.loads(base64.b64decode(padded, b"-_", validate=True))
        created_at = datetime.fromisoformat(moment)
        if created_at.tzinfo is None:
            raise ValueError("no time zone")
        return created_at.astimezone(), UUID(upload_id)
    except (
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        binascii.Error,
    ) as error:
        raise InvalidQuery("cursor", "taken from a Link header") from error
