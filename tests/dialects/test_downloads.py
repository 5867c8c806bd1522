"""The content of finished uploads at ``/<id>/file``."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from tests.apps import blueprint_of, registered
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, md5, part, told

NOT_FOUND = (404, {"detail": "Not found."})


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    """An app with downloads."""
    return app_factory(CHUNKED_UPLOAD_DOWNLOADS=True)


def finish(client: FlaskClient, name: str = "a.bin") -> dict[str, Any]:
    """A complete upload; its JSON."""
    answer = client.post("/uploads/", data={"file": part(DATA, name), "md5": MD5})
    body: dict[str, Any] = answer.get_json()
    return body


def test_downloads_are_off_by_default(app_factory: AppFactory) -> None:
    client = app_factory().test_client()
    done = finish(client)
    assert done["file"] is None
    for method in ("GET", "HEAD"):
        answer = client.open(f"{done['url']}/file", method=method)
        assert answer.status_code == 404
    assert told(client.get(f"{done['url']}/file")) == NOT_FOUND
    assert "Link" not in client.get(done["url"]).headers


def test_json_and_link_name_the_content(client: FlaskClient) -> None:
    done = finish(client)
    assert done["file"] == f"{done['url']}/file"
    shown = client.get(done["url"])
    assert shown.get_json() == {
        key: value for key, value in done.items() if key not in ("upload_id", "expires")
    }
    assert shown.headers["Link"] == f'<{done["file"]}>; rel="enclosure"'


def test_content_with_headers_that_no_browser_runs(client: FlaskClient) -> None:
    answer = client.get(finish(client, "x<script>.html")["file"])
    assert (answer.status_code, answer.data) == (200, DATA)
    answer.close()
    headers = answer.headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Length"] == "10"
    assert headers["Content-Disposition"] == (
        "attachment; filename=\"x<script>.html\"; filename*=UTF-8''x%3Cscript%3E.html"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Accept-Ranges"] == "bytes"
    assert "ETag" in headers and "Last-Modified" in headers


def test_head_has_the_headers_and_no_content(client: FlaskClient) -> None:
    url = finish(client)["file"]
    with client.get(url) as full:
        wanted = {k: v for k, v in full.headers if k != "Date"}
    answer = client.head(url)
    assert (answer.status_code, answer.data) == (200, b"")
    assert {k: v for k, v in answer.headers if k != "Date"} == wanted


@pytest.mark.parametrize(
    ("value", "content", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=5-99", b"56789", "bytes 5-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=-10", DATA, "bytes 0-9/10"),
        ("bytes=-99", DATA, "bytes 0-9/10"),
        ("Bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes= 2-4 ", b"234", "bytes 2-4/10"),
        ("bytes=2-" + "9" * 30, b"23456789", "bytes 2-9/10"),
    ],
)
def test_range_of_the_content(
    client: FlaskClient, value: str, content: bytes, content_range: str
) -> None:
    answer = client.get(finish(client)["file"], headers={"Range": value})
    assert (answer.status_code, answer.data) == (206, content)
    answer.close()
    assert answer.headers["Content-Range"] == content_range
    assert answer.headers["Content-Length"] == str(len(content))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("bytes=0-1,5-6", id="two"),
        pytest.param("bytes=" + ",".join(["0-"] * 1000), id="a thousand"),
        pytest.param("items=0-3", id="unknown unit"),
        pytest.param("bytes=abc", id="no number"),
        pytest.param("bytes=", id="nothing"),
        pytest.param("bytes", id="only the unit"),
        pytest.param("bytes=5-2", id="last before first"),
        pytest.param("bytes=0-" + "9" * 5000, id="5000 digits"),
        pytest.param(
            "bytes=\u0660-\u0663".encode().decode("latin-1"), id="other digits"
        ),
    ],
)
def test_range_that_is_not_understood_is_ignored(
    client: FlaskClient, value: str
) -> None:
    answer = client.get(finish(client)["file"], headers={"Range": value})
    assert (answer.status_code, answer.data) == (200, DATA)
    answer.close()
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("value", ["bytes=2-4", "bytes=99-", "items=0-3"])
def test_range_of_head_is_ignored(client: FlaskClient, value: str) -> None:
    url = finish(client)["file"]
    answer = client.head(url, headers={"Range": value})
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == "10"
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"])
def test_range_of_empty_content_is_ignored(client: FlaskClient, value: str) -> None:
    begun = client.post(
        "/uploads/", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "0"}
    )
    answer = client.get(f"{begun.location}/file", headers={"Range": value})
    assert (answer.status_code, answer.data) == (200, b"")
    answer.close()


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_range_outside_is_416_as_json(client: FlaskClient, value: str) -> None:
    answer = client.get(finish(client)["file"], headers={"Range": value})
    assert told(answer) == (416, {"detail": "No such range in a file of 10 bytes"})
    assert answer.headers["Content-Range"] == "bytes */10"


def test_if_none_match_gets_304(client: FlaskClient) -> None:
    url = finish(client)["file"]
    with client.get(url) as full:
        etag = full.headers["ETag"]
    assert re.fullmatch('"[^"]+"', etag)
    answer = client.get(url, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == etag
    other = client.get(url, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.data) == (200, DATA)
    other.close()


def test_if_range_of_another_file_gets_all_of_it(client: FlaskClient) -> None:
    url = finish(client)["file"]
    headers = {"Range": "bytes=2-4", "If-Range": '"other"'}
    answer = client.get(url, headers=headers)
    assert (answer.status_code, answer.data) == (200, DATA)
    answer.close()


def test_empty_file_is_served(client: FlaskClient) -> None:
    form = {"file": part(b""), "md5": md5(b"")}
    url = client.post("/uploads/", data=form).get_json()["file"]
    answer = client.get(url)
    assert (answer.status_code, answer.data) == (200, b"")
    answer.close()
    assert answer.headers["Content-Length"] == "0"


def test_only_complete_uploads_have_content(client: FlaskClient) -> None:
    created = client.put(
        "/uploads/",
        data=DATA,
        headers={"Content-Range": "bytes 0-9/10"},
        content_type=OCTETS,
    )
    assert created.get_json()["file"] is None
    url = created.get_json()["url"]
    assert told(client.get(f"{url}/file")) == NOT_FOUND
    assert "Link" not in client.get(url).headers


def test_file_that_was_moved_away_has_no_content(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    done = finish(client)
    here = registered(app)
    with app.app_context():
        (upload,) = here.repository.matching()
        blueprint_of(app).move(upload, tmp_path / "moved.bin")
    assert (tmp_path / "moved.bin").read_bytes() == DATA
    shown = client.get(done["url"]).get_json()
    assert (shown["file"], shown["status"], shown["offset"]) == (None, 2, 10)
    assert told(client.get(done["file"])) == NOT_FOUND


@pytest.mark.local_disk
def test_lost_bytes_are_reported(app: Flask, client: FlaskClient) -> None:
    done = finish(client)
    here = registered(app)
    with app.app_context():
        (upload,) = here.repository.matching()
        blueprint_of(app).path(upload).unlink()
    detail = "Stored bytes of the upload are missing"
    assert told(client.get(done["file"])) == (410, {"detail": detail})


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_content_is_only_read(client: FlaskClient, method: str) -> None:
    done = finish(client)
    answer = client.open(done["file"], method=method)
    detail = f"Method '{method}' is not allowed here"
    assert told(answer) == (405, {"detail": detail})
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


# -- conditions (RFC 9110, section 13) -------------------------------------------------

BEFORE = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Sun, 06 Nov 2094 08:49:37 GMT"
#: Conditions and the status that they lead to. ``ETAG`` stands for the real one.
CONDITIONS: tuple[tuple[dict[str, str], int], ...] = (
    ({"If-Match": "ETAG"}, 200),
    ({"If-Match": '"other", ETAG'}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": '"other"'}, 412),
    ({"If-Match": "W/ETAG"}, 412),
    ({"If-Match": '"other"', "If-None-Match": "ETAG"}, 412),
    ({"If-Match": '"other"', "Range": "bytes=2-4"}, 412),
    ({"If-Match": "ETAG", "If-None-Match": "ETAG"}, 304),
    ({"If-Match": "ETAG", "If-Unmodified-Since": BEFORE}, 200),
    ({"If-Unmodified-Since": BEFORE}, 412),
    ({"If-Unmodified-Since": AFTER}, 200),
    ({"If-Unmodified-Since": "LAST-MODIFIED"}, 200),
    ({"If-Unmodified-Since": "yesterday"}, 200),
    ({"If-Unmodified-Since": BEFORE, "Range": "bytes=2-4"}, 412),
    ({"If-None-Match": "W/ETAG"}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": '"other"'}, 200),
    ({"If-None-Match": '"other"', "If-Modified-Since": AFTER}, 200),
    ({"If-None-Match": "ETAG", "Range": "bytes=2-4"}, 304),
    ({"If-Modified-Since": "LAST-MODIFIED"}, 304),
    ({"If-Modified-Since": BEFORE}, 200),
    ({"If-Modified-Since": "yesterday"}, 200),
)


def conditions(client: FlaskClient, url: str, told: Mapping[str, str]) -> Headers:
    """The request's headers, with the real values of this file."""
    real = client.head(url).headers
    named = {"LAST-MODIFIED": real["Last-Modified"], "ETAG": real["ETag"]}
    headers = Headers()
    for name, value in told.items():
        for word, text in named.items():
            value = value.replace(word, text)
        headers.add(name, value)
    return headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("told", "status"), CONDITIONS, ids=lambda case: str(case).strip("{}")
)
def test_what_a_condition_makes_of_the_content(
    client: FlaskClient, told: dict[str, str], status: int, method: str
) -> None:
    url = finish(client)["file"]
    headers = conditions(client, url, told)
    with client.open(url, method=method, headers=headers) as answer:
        assert answer.status_code == status
        content = DATA if status == 200 and method == "GET" else b""
        assert answer.data == content
        length = {200: "10", 412: "0", 304: None}[status]
        assert answer.headers.get("Content-Length") == length
        assert "Content-Range" not in answer.headers
        assert "ETag" in answer.headers


# -- X-HTTP-Method-Override ------------------------------------------------------------


def ask(
    client: FlaskClient, url: str, override: str, told: Mapping[str, str] | None = None
) -> TestResponse:
    """A tus client's POST that stands for another method."""
    headers = conditions(client, url, told or {})
    headers.update({"Tus-Resumable": "1.0.0", "X-HTTP-Method-Override": override})
    return client.post(url, headers=headers)


def test_a_post_that_stands_for_get_has_the_content(client: FlaskClient) -> None:
    with ask(client, finish(client)["file"], "GET") as answer:
        assert (answer.status_code, answer.data) == (200, DATA)
        assert answer.headers["Content-Length"] == "10"


def test_a_post_that_stands_for_head_announces_no_content(client: FlaskClient) -> None:
    answer = ask(client, finish(client)["file"], "HEAD")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == "0"


@pytest.mark.parametrize("override", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"If-None-Match": "ETAG"}, 412),
        ({"If-Match": '"other"'}, 412),
        ({"If-Modified-Since": AFTER}, 200),
        ({"Range": "bytes=2-4"}, 200),
    ],
)
def test_a_post_never_gets_what_only_get_knows(
    client: FlaskClient, told: dict[str, str], status: int, override: str
) -> None:
    with ask(client, finish(client)["file"], override, told) as answer:
        content = DATA if status == 200 and override == "GET" else b""
        assert (answer.status_code, answer.data) == (status, content)


@pytest.mark.parametrize(("override", "status"), [("GET", 303), ("HEAD", 200)])
def test_a_post_is_not_repeated_at_the_storage(
    app: Flask,
    client: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    status: int,
) -> None:
    url = finish(client)["file"]
    elsewhere = "https://bucket.example/key"
    storage = registered(app).engine.storage
    monkeypatch.setattr(storage, "download_url", lambda *arguments: elsewhere)
    answer = ask(client, url, override)
    assert answer.status_code == status
    assert answer.headers.get("Location") == (elsewhere if status == 303 else None)
    assert client.get(url).status_code == 307
    assert client.head(url).status_code == 200


# -- open files ------------------------------------------------------------------------

#: Answers that are not read to their end, or have no content: method, headers, status.
UNREAD: dict[str, tuple[str, dict[str, str], int]] = {
    "head": ("HEAD", {}, 200),
    "head of a range": ("HEAD", {"Range": "bytes=1-2"}, 200),
    "no such range": ("GET", {"Range": "bytes=99-"}, 416),
    "not modified": ("GET", {"If-None-Match": "ETAG"}, 304),
    "not modified since": ("GET", {"If-Modified-Since": AFTER}, 304),
    "no match": ("GET", {"If-Match": '"other"'}, 412),
    "modified since": ("GET", {"If-Unmodified-Since": BEFORE}, 412),
    "content": ("GET", {}, 200),
    "range": ("GET", {"Range": "bytes=1-2"}, 206),
    "post for head": ("POST HEAD", {}, 200),
    "post for get": ("POST GET", {}, 200),
}


@pytest.mark.parametrize("name", UNREAD)
def test_no_answer_leaves_a_file_open(client: FlaskClient, name: str) -> None:
    method, told, status = UNREAD[name]
    url = finish(client)["file"]
    headers = conditions(client, url, told)
    real, _, override = method.partition(" ")
    if override:
        headers.update({"Tus-Resumable": "1.0.0", "X-HTTP-Method-Override": override})
    # Collect garbage of earlier tests now, not during this one.
    gc.collect()
    opened = len(list(Path("/proc/self/fd").iterdir()))
    # Keep it, so that the garbage collector does not close it for us.
    kept = [client.open(url, method=real, headers=headers) for _ in range(5)]
    if "content" in name or name in ("range", "post for get"):
        # As a server closes it after its client has disconnected.
        for answer in kept:
            answer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= opened
    assert {answer.status_code for answer in kept} == {status}
