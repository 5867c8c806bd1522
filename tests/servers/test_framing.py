"""Answers end where they say: the next one on the connection is the next request's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.dialects.tus import BYTES, TUS
from tests.servers.gunicorn import Server, serve
from tests.servers.wire import Wire

CONTENT = "x" * 100
BEFORE = "Sun, 06 Nov 1994 08:49:37 GMT"
ETAG = "(the real one)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp = tmp_path_factory.mktemp("server")
    with serve(tmp, CHUNKED_UPLOAD_DOWNLOADS=True) as running:
        yield running


@pytest.fixture(scope="module")
def path(server: Server) -> str:
    """The path of a finished upload of a hundred bytes."""
    headers = {**BYTES, "Upload-Length": "100"}
    answer = requests.post(server.url, data=CONTENT, headers=headers, timeout=60)
    return str(answer.headers["Location"])


#: Method, path below the upload, headers; then status, length as announced, content.
ANSWERS = {
    "get": ("GET", "/file", {}, 200, "100", CONTENT),
    "head": ("HEAD", "/file", {}, 200, "100", None),
    "head in tus": ("HEAD", "/file", TUS, 200, "100", None),
    "post for head": ("POST HEAD", "/file", TUS, 200, "0", None),
    "post for get": ("POST GET", "/file", TUS, 200, "100", CONTENT),
    "get that is not overridden": ("GET HEAD", "/file", TUS, 200, "100", CONTENT),
    "head that is not overridden": ("HEAD GET", "/file", TUS, 200, "100", None),
    "post for head of the upload": ("POST HEAD", "", TUS, 200, "0", None),
    "post for head of nothing": ("POST HEAD", "/no/where", TUS, 404, "0", None),
    "post for a method that is none": ("POST BREW", "", TUS, 405, "34", ...),
    "no match": ("GET", "/file", {"If-Match": '"x"'}, 412, "0", None),
    "changed": ("GET", "/file", {"If-Unmodified-Since": BEFORE}, 412, "0", None),
    "no match of a range": (
        *("GET", "/file", {"If-Match": '"x"', "Range": "bytes=1-2"}),
        *(412, "0", None),
    ),
    "not modified": ("GET", "/file", {"If-None-Match": ETAG}, 304, None, None),
    "range": ("GET", "/file", {"Range": "bytes=1-2"}, 206, "2", "xx"),
    "no such range": ("GET", "/file", {"Range": "bytes=200-"}, 416, "81", ...),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_next_request_on_the_connection_gets_its_own_answer(
    server: Server, path: str, name: str
) -> None:
    method, below, headers, status, length, content = ANSWERS[name]
    real, _, override = method.partition(" ")
    etag = requests.head(f"{server.origin}{path}/file", timeout=60).headers["ETag"]
    told = {key: value.replace(ETAG, etag) for key, value in headers.items()}
    if override:
        told["X-HTTP-Method-Override"] = override
    if real == "POST":
        told["Content-Length"] = "0"
    with Wire(server.port) as wire:
        wire.head(real, path + below, **told)
        found, body = wire.answer(real)
        assert found == status
        assert wire.fields.get("content-length") == length
        assert content is ... or body == content
        wire.head("GET", "/uploads/")
        assert wire.answer() == (200, [])
