"""Headers and bodies of others in the answer of a dialect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask, Response
from werkzeug.wrappers import Response as PlainResponse

from flask_chunked.exceptions import Aborted
from flask_chunked.request.aborts import take_abort, take_body


@pytest.fixture
def ours() -> Response:
    return Response("ours", 409, {"Upload-Offset": "3"}, mimetype="text/plain")


def test_a_body_replaces_the_body_and_its_headers_only(ours: Response) -> None:
    headers = {"Upload-Offset": "9", "X-Own": "1", "Content-Encoding": "br"}
    take_body(ours, Response("their answer", 200, headers, mimetype="text/html"))
    assert (ours.status_code, ours.data) == (409, b"their answer")
    assert ours.content_type == "text/html; charset=utf-8"
    assert ours.headers["Content-Length"] == "12"
    assert ours.headers["Content-Encoding"] == "br"
    assert (ours.headers["Upload-Offset"], ours.headers["X-Own"]) == ("3", "1")


def test_a_body_in_blocks_is_joined_and_closed(ours: Response) -> None:
    closed: list[bool] = []

    def blocks() -> Iterator[bytes]:
        try:
            yield from (b"a", b"b")
        finally:
            closed.append(True)

    take_body(ours, Response(blocks(), direct_passthrough=True))
    assert (ours.data, closed) == (b"ab", [True])


def test_headers_may_come_several_times(ours: Response) -> None:
    challenges = [("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Bearer")]
    take_abort(ours, Aborted("no", status=401, headers=challenges))
    assert ours.headers.getlist("WWW-Authenticate") == ["Basic", "Bearer"]
    assert ours.data == b"ours"


def test_a_response_of_werkzeug_is_taken_too(ours: Response) -> None:
    with Flask(__name__).test_request_context():
        take_abort(ours, Aborted(status=409, response=PlainResponse("theirs")))
    assert ours.data == b"theirs"
