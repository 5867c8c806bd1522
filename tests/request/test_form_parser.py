"""``request.form`` and ``request.files`` on the URLs of uploads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask, Request, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from flask_chunked.request.form_parser import share_body
from tests.apps import FLASK

BOUNDARY = "----WebKitFormBoundary0123456789abcdef"
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
KIND = f"multipart/form-data; boundary={BOUNDARY}"


def part(head: str, content: bytes) -> bytes:
    """A part, with the line break after it."""
    text = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n"
    return text.encode() + content + b"\r\n"


@contextmanager
def parsed(app: Flask, body: bytes, **config: Any) -> Iterator[Request]:
    """The request as a before_request function sees it."""
    app.config.update(config)
    with app.test_request_context(
        "/uploads/", method="POST", data=body, content_type=KIND
    ):
        share_body(app)
        http: Request = request._get_current_object()  # type: ignore[attr-defined]
        http.form  # noqa: B018
        yield http


def test_all_fields_and_files_are_there(app: Flask) -> None:
    body = b"".join(
        [
            part('name="a"', b"1"),
            part('name="a"', "ü".encode()),
            part('name="f"; filename="x.bin"\r\nX-More: y', b"content"),
            part('name="f"; filename=""', b""),
        ]
    )
    with parsed(app, body[:-2] + TAIL) as http:
        assert http.form.getlist("a") == ["1", "ü"]
        first, second = http.files.getlist("f")
        assert (first.filename, first.read()) == ("x.bin", b"content")
        assert first.headers["X-More"] == "y"
        assert (second.filename, second.read()) == ("", b"")


def test_a_boundary_at_the_end_of_a_read_adds_no_byte(app: Flask) -> None:
    head = 'name="file"; filename="a.bin"'
    overhead = len(part(head, b"")) - 2
    for into in range(len(TAIL) + 1):
        content = b"x" * (65536 - overhead - into)
        with parsed(app, part(head, content)[:-2] + TAIL) as http:
            assert http.files["file"].read() == content, into


@pytest.mark.skipif(
    FLASK < (3, 1), reason="the settings of Flask 3.0 have no limits of forms"
)
def test_the_applications_limits_bind_its_forms(app: Flask) -> None:
    body = part('name="a"', b"12345") + part('name="b"', b"12345")
    body = body[:-2] + TAIL
    with parsed(app, body, MAX_FORM_MEMORY_SIZE=5) as http:
        assert len(http.form) == 2
    for limit in ({"MAX_FORM_MEMORY_SIZE": 4}, {"MAX_FORM_PARTS": 1}):
        app.config.update(MAX_FORM_MEMORY_SIZE=None)
        with pytest.raises(RequestEntityTooLarge), parsed(app, body, **limit):
            pass


def test_a_malformed_form_is_empty_and_its_files_are_closed(app: Flask) -> None:
    opened: list[Any] = []

    class Watching(Request):
        def _get_file_stream(self, *arguments: Any, **named: Any) -> Any:
            opened.append(io.BytesIO())
            return opened[-1]

    app.request_class = Watching
    with parsed(app, part('name="f"; filename="x"', b"content")) as http:
        assert (http.form.to_dict(), http.files.to_dict()) == ({}, {})
    assert [file.closed for file in opened] == [True]


def test_a_form_that_is_not_for_uploads_is_left_alone(app: Flask) -> None:
    app.add_url_rule("/other", "other", lambda: "", methods=["POST"])
    with app.test_request_context("/other", method="POST"):
        share_body(app)
        assert request.form_data_parser_class is FormDataParser
        assert "flask_chunked.stream" not in request.environ


def test_a_parser_of_the_application_stays(app: Flask) -> None:
    class Own(FormDataParser):
        """The application's."""

    class OwnRequest(Request):
        form_data_parser_class = Own

    app.request_class = OwnRequest
    with app.test_request_context("/uploads/", method="POST"):
        share_body(app)
        assert request.form_data_parser_class is Own
