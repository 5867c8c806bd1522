"""The body that application and upload share: who may read, and what is refused.

tests/test_looking_at_bodies.py looks at bodies through whole requests.
"""

from __future__ import annotations

import gc
import io
import weakref
from typing import Any

import pytest
from flask import Flask, Request, request
from flask.testing import FlaskClient
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder

from flask_chunked.exceptions import MalformedHeader
from flask_chunked.request.body import BodyReader
from flask_chunked.request.shared_stream import SharedStream

from ..apps import rows, stored_files
from ..conftest import AppFactory
from ..exchange import md5, post_whole, put_raw, send

CONTENT = bytes(range(251)) * 40


def request_with(content: bytes = CONTENT, **options: Any) -> Request:
    """A request that no application has seen."""
    environ = EnvironBuilder(method="PUT", data=content).get_environ()
    environ.update(options)
    return Request(environ)


def everything(reader: BodyReader) -> bytes:
    """The body as the engine reads it."""
    found = b""
    while not reader.ended:
        found += bytes(reader.read())
    return found


def test_the_stream_takes_the_place_of_the_requests_own() -> None:
    http = request_with()
    servers_own = http.environ["wsgi.input"]
    shared = SharedStream.of(http)
    stream: object = http.stream
    assert stream is shared
    assert http.environ["wsgi.input"] is shared
    assert shared.server_input is servers_own
    assert SharedStream.of(http) is shared


def test_an_untouched_body_is_read_from_the_server() -> None:
    http = request_with()
    shared = SharedStream.of(http)
    assert shared.is_untouched(http)
    assert everything(shared.take(http, 5)) == CONTENT
    assert http.stream.read(10) == b""


def test_the_application_cannot_read_what_an_upload_reads() -> None:
    http = request_with()
    reader = SharedStream.of(http).take(http, 5)
    with pytest.raises(RuntimeError, match="before_request or authorize"):
        http.stream.read(1)
    assert everything(reader) == CONTENT


def test_the_stream_has_ended_after_the_upload_was_answered() -> None:
    http = request_with()
    shared = SharedStream.of(http)
    shared.take(http, 5)
    shared.end()
    assert http.stream.read(10) == b""
    assert http.get_data() == b""


@pytest.mark.parametrize("sizes", [[1], [7], [100_000], [-1]])
def test_what_was_read_as_a_whole_and_kept_is_read_again(sizes: list[int]) -> None:
    http = request_with()
    shared = SharedStream.of(http)
    assert http.get_data() == CONTENT
    assert shared.tell() == len(CONTENT)
    assert everything(shared.take(http, 5)) == CONTENT


@pytest.mark.parametrize("size", [1, 16, len(CONTENT) - 1, len(CONTENT)])
def test_what_was_read_and_not_kept_is_refused(size: int) -> None:
    http = request_with()
    shared = SharedStream.of(http)
    assert http.stream.read(size) == CONTENT[:size]
    with pytest.raises(RuntimeError, match=rf"\({size} of them by the application\)"):
        shared.take(http, 5)


def test_a_body_that_was_kept_without_its_beginning_is_refused() -> None:
    http = request_with()
    shared = SharedStream.of(http)
    http.stream.read(3)
    assert http.get_data() == CONTENT[3:]
    with pytest.raises(RuntimeError):
        shared.take(http, 5)


def test_an_empty_body_is_never_refused() -> None:
    http = request_with(b"")
    shared = SharedStream.of(http)
    assert http.stream.read(1) == b""
    assert everything(shared.take(http, 5)) == b""


def test_a_body_that_was_touched_before_the_stream_was_there_is_refused() -> None:
    http = request_with()
    http.stream.read(1)
    with pytest.raises(RuntimeError):
        SharedStream.of(http).take(http, 5)


def test_a_body_is_taken_once() -> None:
    http = request_with()
    shared = SharedStream.of(http)
    shared.take(http, 5)
    with pytest.raises(RuntimeError):
        shared.take(http, 5)


def test_a_second_request_on_the_same_environ_goes_on_counting() -> None:
    http = request_with()
    SharedStream.of(http).read(5)
    again = Request(http.environ)
    with pytest.raises(RuntimeError):
        SharedStream.of(again).take(again, 5)


class Wrapper:
    """Changes nothing and counts."""

    def __init__(self, stream: Any) -> None:
        self.seen = 0
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.seen += len(data)
        return data


def test_a_wrapper_of_the_applications_functions_sees_every_byte() -> None:
    http = request_with()
    shared = SharedStream.of(http)
    wrapper = http.environ["wsgi.input"] = Wrapper(http.environ["wsgi.input"])
    reader = shared.take(http, 5)
    with pytest.raises(RuntimeError):
        http.stream.read(1)
    assert everything(reader) == CONTENT
    assert wrapper.seen == len(CONTENT)


def test_a_malformed_length_is_an_error_of_the_client() -> None:
    http = request_with(CONTENT_LENGTH="x")
    shared = SharedStream.of(http)
    with pytest.raises(MalformedHeader):
        shared.take(http, 5)


def test_the_applications_limit_binds_the_application(app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10

    with app.test_request_context("/", method="PUT", data=CONTENT):
        SharedStream.of(request._get_current_object())  # type: ignore[attr-defined]
        with pytest.raises(RequestEntityTooLarge):
            request.get_data()


def test_the_limit_binds_no_upload_that_it_does_not_read(app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    assert send(app.test_client(), CONTENT).status_code == 200


@pytest.mark.parametrize("extra", [0, 1])
def test_a_body_of_unknown_length_is_whole_at_its_end(extra: int) -> None:
    """As from a server that ends chunked bodies itself."""
    chunked: dict[str, Any] = {
        "CONTENT_LENGTH": "",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": True,
        "wsgi.input": io.BytesIO(CONTENT),
    }
    http = request_with(**chunked)
    shared = SharedStream.of(http)
    if extra:
        assert http.get_data() == CONTENT
        assert everything(shared.take(http, 5)) == CONTENT
        return
    http.stream.read(len(CONTENT))
    with pytest.raises(RuntimeError):
        shared.take(http, 5)


def test_a_request_leaves_no_cycle() -> None:
    http = request_with()
    http.environ["werkzeug.request"] = None  # Flask does so at the end of a request.
    shared = weakref.ref(SharedStream.of(http))
    gc.collect()
    gc.disable()
    try:
        del http
        assert shared() is None
    finally:
        gc.enable()


# -- forms that the application has parsed ---------------------------------------------


def looking(app_factory: AppFactory, look: Any) -> Flask:
    """An app with a before_request function."""
    app = app_factory(TESTING=False, CHUNKED_UPLOAD_DOWNLOADS=True)

    @app.before_request
    def look_before() -> None:
        if request.method != "GET":
            look()

    return app


def stored(client: FlaskClient, answer: Any) -> bytes:
    with client.get(answer.json["url"] + "/file") as got:
        content: bytes = got.data
    return content


@pytest.mark.parametrize("read", [0, 3, 100_000])
def test_a_file_of_a_form_is_taken_from_its_beginning(
    app_factory: AppFactory, read: int
) -> None:
    app = looking(app_factory, lambda: request.files["file"].read(read))
    client = app.test_client()
    answer = post_whole(client, CONTENT)
    assert answer.status_code == 200
    assert stored(client, answer) == CONTENT


def begin_and_parse() -> None:
    request.stream.read(3)
    assert not request.files


def close_the_file() -> None:
    request.files["file"].close()


def read_all_and_parse() -> None:
    request.get_data(cache=False)
    assert not request.form


@pytest.mark.parametrize("look", [begin_and_parse, close_the_file, read_all_and_parse])
@pytest.mark.local_disk
def test_a_form_that_cannot_be_read_again_is_refused(
    app_factory: AppFactory, look: Any, tmp_path: Any
) -> None:
    app = looking(app_factory, look)
    answer = post_whole(app.test_client(), CONTENT)
    assert (answer.status_code, answer.json) == (
        500,
        {"detail": "Internal Server Error", "code": "internal_error"},
    )
    assert rows(app) == []
    assert stored_files(tmp_path) == []


def test_fields_that_were_read_without_their_beginning_are_refused(
    app_factory: AppFactory,
) -> None:
    def look() -> None:
        if request.mimetype == "application/x-www-form-urlencoded":
            request.stream.read(1)
            assert request.form

    client = looking(app_factory, look).test_client()
    url = put_raw(client, CONTENT).json["url"]  # type: ignore[index]
    answer = client.post(url, data={"md5": md5(CONTENT)})
    assert answer.status_code == 500


def test_a_malformed_form_stays_the_clients_mistake(app_factory: AppFactory) -> None:
    app = looking(app_factory, lambda: request.form)
    answer = app.test_client().post(
        "/uploads/", data=b"no form", content_type="multipart/form-data; boundary=b"
    )
    assert answer.status_code == 400
    assert answer.json == {
        "detail": "Malformed multipart/form-data body",
        "code": "malformed_body",
    }
