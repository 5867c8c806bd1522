"""The content of finished uploads at ``/<id>/file``."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps import registered
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, md5, part, told

NOT_FOUND = (404, {"detail": "Not found."})


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    """An app that serves what it received."""
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


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=99-100"])
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
        here.blueprint.move(upload, tmp_path / "moved.bin")
    assert (tmp_path / "moved.bin").read_bytes() == DATA
    shown = client.get(done["url"]).get_json()
    assert (shown["file"], shown["status"], shown["offset"]) == (None, 2, 10)
    assert told(client.get(done["file"])) == NOT_FOUND


@pytest.mark.local_disk
def test_bytes_that_were_lost_are_told(app: Flask, client: FlaskClient) -> None:
    done = finish(client)
    here = registered(app)
    with app.app_context():
        (upload,) = here.repository.matching()
        here.blueprint.path(upload).unlink()
    detail = "Stored bytes of the upload are missing"
    assert told(client.get(done["file"])) == (410, {"detail": detail})


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_content_is_only_read(client: FlaskClient, method: str) -> None:
    done = finish(client)
    answer = client.open(done["file"], method=method)
    detail = f"Method '{method}' is not allowed here"
    assert told(answer) == (405, {"detail": detail})
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("method", "headers"),
    [("HEAD", {}), ("HEAD", {"Range": "bytes=1-2"}), ("GET", "If-None-Match")],
    ids=["head", "head of a range", "not modified"],
)
def test_answers_without_content_leave_no_file_open(
    client: FlaskClient, method: str, headers: Any
) -> None:
    url = finish(client)["file"]
    if headers == "If-None-Match":
        headers = {headers: client.head(url).headers["ETag"]}
    # What tests before this one have left goes now, and not meanwhile.
    gc.collect()
    opened = len(list(Path("/proc/self/fd").iterdir()))
    # Kept, so that no garbage collector closes what we did not.
    kept = [client.open(url, method=method, headers=headers) for _ in range(5)]
    assert len(list(Path("/proc/self/fd").iterdir())) <= opened
    assert {answer.data for answer in kept} == {b""}
