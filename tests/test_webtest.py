"""WSGI as PEP 3333 has it, on every route and method: WebTest with its lint."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from webtest import TestApp  # type: ignore[import-untyped,unused-ignore]

from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS

UNKNOWN = "/uploads/00000000-0000-4000-8000-000000000001"
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]


@pytest.fixture
def web(app_factory: AppFactory) -> Any:
    """WebTest with lint on an app that serves downloads."""
    return TestApp(app_factory(CHUNKED_UPLOAD_DOWNLOADS=True), lint=True)


def put(web: Any, url: str, data: bytes, value: str, **options: Any) -> Any:
    """A raw chunk."""
    return web.put(
        url,
        params=data,
        headers={"Content-Range": value},
        content_type=OCTETS,
        **options,
    )


def path_of(answer: Any) -> str:
    """The path of the upload that an answer is about."""
    return str(urlsplit(answer.json["url"]).path)


def post(web: Any, url: str, form: dict[str, str], **options: Any) -> Any:
    """A form without files."""
    return web.post(
        url,
        params=form,
        content_type="application/x-www-form-urlencoded",
        **options,
    )


def form(data: bytes) -> dict[str, Any]:
    """A file and its checksum, as WebTest wants them."""
    return {"params": {"md5": MD5}, "upload_files": [("file", "a.bin", data)]}


def test_chunks_and_completion(web: Any) -> None:
    created = put(web, "/uploads/", DATA[:3], "bytes 0-2/10")
    path = path_of(created)
    for send in (web.put, web.post):
        send(path, headers={"Content-Range": "bytes 3-5/10"}, **form(DATA[3:6]))
    assert put(web, path, DATA[6:], "bytes 6-9/10").json["offset"] == 10
    assert web.head(path).headers["Upload-Offset"] == "10"
    assert post(web, path, {"md5": MD5}).json["status"] == 2
    assert web.get(path).json["file"].endswith(f"{path}/file")
    assert web.get(f"{path}/file").body == DATA
    assert web.head(f"{path}/file").headers["Content-Length"] == "10"
    assert web.delete(path, status=204).body == b""


def test_whole_file(web: Any) -> None:
    answer = web.post("/uploads/", **form(DATA))
    assert answer.json["status"] == 2


def test_empty_file(web: Any) -> None:
    answer = put(web, "/uploads/", b"", "bytes */0")
    assert answer.json["offset"] == 0
    empty = "d41d8cd98f00b204e9800998ecf8427e"
    path = path_of(answer)
    assert post(web, path, {"md5": empty}).json["status"] == 2
    assert web.get(f"{path}/file").body == b""
    assert web.head(f"{path}/file").headers["Content-Length"] == "0"


def test_list_and_options(web: Any) -> None:
    for path in ("/uploads", "/uploads/"):
        assert web.get(path).json == []
        assert web.head(path).status_int == 200
    for path in ("/uploads/", UNKNOWN, f"{UNKNOWN}/file"):
        assert "OPTIONS" in web.options(path, status=204).headers["Allow"]


def test_content_in_part_and_not_modified(web: Any) -> None:
    path = path_of(web.post("/uploads/", **form(DATA))) + "/file"
    some = web.get(path, headers={"Range": "bytes=2-4"}, status=206)
    assert some.body == b"234"
    # Only GET has ranges (RFC 9110, section 14.2).
    web.head(path, headers={"Range": "bytes=2-4"}, status=200)
    web.get(path, headers={"If-None-Match": some.headers["ETag"]}, status=304)
    none = web.get(path, headers={"Range": "bytes=10-"}, status=416)
    assert none.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path", ["/uploads/", UNKNOWN, f"{UNKNOWN}/file", "/uploads/x", "/uploads/x//y"]
)
def test_every_method_on_every_route(web: Any, path: str, method: str) -> None:
    has_body = method in ("PUT", "POST", "PATCH")
    answer = web.request(
        path,
        method=method,
        body=DATA if has_body else b"",
        headers={"Content-Type": OCTETS} if has_body else {},
        expect_errors=True,
    )
    if method == "PATCH":
        # Only tus has it, and this client did not name its version.
        assert answer.status_int == 412
        assert answer.headers["Tus-Version"] == "1.0.0"
        return
    assert answer.status_int in (200, 204, 400, 404, 405)
    if answer.status_int >= 400 and method != "HEAD":
        assert set(answer.json) <= {"detail", "code", "reason"}


@pytest.mark.parametrize(
    ("value", "status"),
    [("bytes 0-4/10", 400), ("bytes 6-9/10", 400), ("bytes 5-9/11", 400), ("x", 400)],
    ids=["behind", "ahead", "another total", "malformed"],
)
def test_refused_chunks(web: Any, value: str, status: int) -> None:
    path = path_of(put(web, "/uploads/", DATA[:5], "bytes 0-4/10"))
    put(web, path, b"xxxxx", value, status=status)
    post(web, path, {"md5": MD5}, status=400)
    post(web, path, {}, status=400)
    post(web, "/uploads/", {"upload_id": path.rpartition("/")[2]}, status=400)


def test_method_override(web: Any) -> None:
    path = path_of(put(web, "/uploads/", DATA[:5], "bytes 0-4/10"))
    headers = {"X-HTTP-Method-Override": "DELETE"}
    post(web, path, {}, headers=headers, status=204)
    web.get(path, status=404)
