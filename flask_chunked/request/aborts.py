"""Puts what ``abort()`` or an error handler has given into the answer of a dialect.

The dialect's status and headers stay: its clients depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable

from flask import Response, current_app

from ..exceptions import Aborted

#: Headers that describe a body.
_OF_BODY = ("Content-Type", "Content-Length", "Content-Encoding")


def take_abort(response: Response, aborted: Aborted) -> None:
    """Add the exception's headers, and the body of the response that it has."""
    _add_headers(response, aborted.headers)
    if aborted.response is not None:
        # A response of Werkzeug becomes one of Flask.
        take_body(response, current_app.make_response(aborted.response))  # type: ignore[arg-type]


def take_body(response: Response, theirs: Response) -> None:
    """Give the response another body and its media type, and add further headers."""
    theirs.direct_passthrough = False
    body = theirs.get_data()
    theirs.close()
    for name in _OF_BODY:
        response.headers.pop(name, None)
    _add_headers(response, theirs.headers)
    response.set_data(body)


def _add_headers(response: Response, headers: Iterable[tuple[str, str]]) -> None:
    """Add headers that the response does not have."""
    known = {name.lower() for name, _ in response.headers}
    for name, value in headers:
        if name.lower() not in known:
            response.headers.add(name, value)
