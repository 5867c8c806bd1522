"""Every row of the dialect's table of errors, with its exact text."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint
from tests.apps import rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, let_pass, md5, part, state, told


class Named(ChunkedUploadBlueprint):
    """The user whom a header names."""

    def get_user_id(self) -> object:
        return request.headers.get("X-User")


@pytest.fixture
def url(client: FlaskClient) -> str:
    """An upload that has five of ten bytes."""
    answer = client.put(
        "/uploads/",
        data={"file": part(DATA[:5])},
        headers={"Content-Range": "bytes 0-4/10"},
    )
    return str(answer.get_json()["url"])


@pytest.fixture
def done(client: FlaskClient) -> str:
    """The URL of a complete upload."""
    answer = client.post("/uploads/", data={"file": part(DATA), "md5": MD5})
    return str(answer.get_json()["url"])


@pytest.mark.parametrize(
    ("value", "total"),
    [("bytes 0-10/10", 10), ("bytes 0-11/10", 10), ("bytes 5-9/0", 0)],
    ids=["end at total", "end past total", "bytes of an empty file"],
)
def test_end_at_or_past_the_total(
    app: Flask, client: FlaskClient, value: str, total: int
) -> None:
    answer = client.put(
        "/uploads/", data={"file": part(b"x" * 11)}, headers={"Content-Range": value}
    )
    detail = f"End of chunk exceeds reported total ({total} bytes)"
    assert told(answer) == (400, {"detail": detail})
    assert rows(app) == []


def test_end_past_the_total_of_a_next_chunk(client: FlaskClient, url: str) -> None:
    answer = client.put(
        url,
        data={"file": part(b"567890")},
        headers={"Content-Range": "bytes 5-10/10"},
    )
    detail = "End of chunk exceeds reported total (10 bytes)"
    assert told(answer) == (400, {"detail": detail})
    assert state(client.get(url)) == (200, 1, 5)


def test_total_above_the_limit_is_refused_before_the_body_is_read(
    app_factory: AppFactory,
) -> None:
    class Untouchable:
        """A body that must not be read."""

        def read(self, size: int = -1) -> bytes:
            raise AssertionError("the body was read")

    app = app_factory(CHUNKED_UPLOAD_MAX_BYTES=9)
    answer = app.test_client().open(
        "/uploads/",
        method="PUT",
        headers={"Content-Range": "bytes 0-4/10"},
        environ_overrides={"wsgi.input": Untouchable(), "CONTENT_LENGTH": "5"},
    )
    detail = "Size of file exceeds the limit (9 bytes)"
    assert told(answer) == (400, {"detail": detail})
    assert rows(app) == []


@pytest.mark.parametrize("with_range", [True, False], ids=["chunk", "whole file"])
def test_form_with_a_file_above_the_limit_leaves_nothing(
    app_factory: AppFactory, tmp_path: Path, with_range: bool
) -> None:
    app = app_factory(CHUNKED_UPLOAD_MAX_BYTES=9)
    headers = {"Content-Range": "bytes 0-9/10"} if with_range else {}
    answer = app.test_client().post(
        "/uploads/", data={"file": part(DATA), "md5": MD5}, headers=headers
    )
    detail = "Size of file exceeds the limit (9 bytes)"
    assert told(answer) == (400, {"detail": detail})
    assert (rows(app), stored_files(tmp_path)) == ([], [])


@pytest.mark.parametrize("size", [0, 4, 6, 2000])
def test_part_of_another_size_is_not_appended(
    client: FlaskClient, url: str, tmp_path: Path, size: int
) -> None:
    answer = client.put(
        url,
        data={"file": part(b"x" * size)},
        headers={"Content-Range": "bytes 5-9/10"},
    )
    detail = f"File size doesn't match headers: file size is {size} but 5 reported"
    assert told(answer) == (400, {"detail": detail})
    assert state(client.get(url)) == (200, 1, 5)
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [DATA[:5]]


@pytest.mark.parametrize("size", [0, 4, 6, 2000])
def test_first_part_of_another_size_creates_nothing(
    app: Flask, client: FlaskClient, tmp_path: Path, size: int
) -> None:
    answer = client.put(
        "/uploads/",
        data={"file": part(b"x" * size)},
        headers={"Content-Range": "bytes 0-4/10"},
    )
    detail = f"File size doesn't match headers: file size is {size} but 5 reported"
    assert told(answer) == (400, {"detail": detail})
    assert (rows(app), stored_files(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    "form",
    [{"filename": "a"}, {"other": part(DATA)}, {"file": "0123456789"}],
    ids=["no file", "another name", "a text field"],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_no_part_of_that_name(
    app: Flask, client: FlaskClient, form: dict[str, Any], method: str
) -> None:
    form = {k: part(DATA) if isinstance(v, tuple) else v for k, v in form.items()}
    headers = {"Content-Range": "bytes 0-9/10"} if method == "PUT" else {}
    answer = client.open(
        "/uploads/",
        method=method,
        data=form,
        headers=headers,
        content_type="multipart/form-data",
    )
    assert told(answer) == (400, {"detail": "No chunk file was submitted"})
    assert rows(app) == []


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 4), (4, 10), (6, 10)], ids=["before", "overlap", "ahead"]
)
@pytest.mark.parametrize("raw", [False, True], ids=["form", "raw"])
def test_start_is_not_the_offset(
    client: FlaskClient, url: str, start: int, stop: int, raw: bool
) -> None:
    data = DATA[start:stop]
    answer = client.put(
        url,
        data=data if raw else {"file": part(data)},
        headers={"Content-Range": f"bytes {start}-{stop - 1}/10"},
        content_type=OCTETS if raw else None,
    )
    assert told(answer) == (
        400,
        {
            "detail": "Offsets do not match",
            "expected_offset": 5,
            "provided_offset": start,
        },
    )
    assert state(client.get(url)) == (200, 1, 5)


@pytest.mark.parametrize("raw", [False, True], ids=["form", "raw"])
def test_complete_upload_takes_no_chunk(
    client: FlaskClient, done: str, raw: bool
) -> None:
    answer = client.put(
        done,
        data=DATA[5:] if raw else {"file": part(DATA[5:])},
        headers={"Content-Range": "bytes 5-9/10"},
        content_type=OCTETS if raw else None,
    )
    detail = 'Upload has already been marked as "complete"'
    assert told(answer) == (400, {"detail": detail})


@pytest.mark.parametrize(
    "form",
    [{}, {"md5": ""}, {"sha256": "00"}, {"MD5": MD5}],
    ids=["no field", "empty", "of another algorithm", "another case"],
)
def test_checksum_is_missing(
    client: FlaskClient, url: str, form: dict[str, str]
) -> None:
    client.put(
        url, data={"file": part(DATA[5:])}, headers={"Content-Range": "bytes 5-9/10"}
    )
    answer = client.post(url, data=form)
    assert told(answer) == (400, {"detail": "Checksum of type 'md5' is required"})
    assert state(client.get(url)) == (200, 1, 10)


@pytest.mark.parametrize(
    "digest",
    [md5(b"other"), MD5[:-1], MD5 + "0", "é" * 32, "0", "x" * 5000],
    ids=["of other bytes", "short", "long", "not ascii", "one digit", "huge"],
)
def test_checksum_differs(client: FlaskClient, url: str, digest: str) -> None:
    client.put(
        url, data={"file": part(DATA[5:])}, headers={"Content-Range": "bytes 5-9/10"}
    )
    answer = client.post(url, data={"md5": digest})
    assert told(answer) == (400, {"detail": "checksum does not match"})
    assert state(client.get(url)) == (200, 1, 10)
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)


@pytest.mark.parametrize("kind", ["form", "raw", "whole file", "form chunk by POST"])
def test_owner_is_required_and_unknown(app_factory: AppFactory, kind: str) -> None:
    app = app_factory(blueprint_class=Named, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False)
    client = app.test_client()
    headers = {} if kind == "whole file" else {"Content-Range": "bytes 0-9/10"}
    answer = client.open(
        "/uploads/",
        method="POST" if kind in ("whole file", "form chunk by POST") else "PUT",
        data=DATA if kind == "raw" else {"file": part(DATA), "md5": MD5},
        headers=headers,
        content_type=OCTETS if kind == "raw" else None,
    )
    detail = "Upload requires user authentication but user cannot be determined"
    assert told(answer) == (401, {"detail": detail})
    assert rows(app) == []


@pytest.mark.parametrize(
    ("method", "suffix", "form"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "", {"md5": MD5}),
        ("PUT", "", "chunk"),
        ("GET", "/file", None),
    ],
    ids=["show", "delete", "complete", "append", "download"],
)
@pytest.mark.parametrize("name", ["unknown", "malformed", "foreign"])
def test_unknown_malformed_and_foreign_ids_get_one_answer(
    app_factory: AppFactory, method: str, suffix: str, form: Any, name: str
) -> None:
    app = app_factory(blueprint_class=Named, CHUNKED_UPLOAD_DOWNLOADS=True)
    client = app.test_client()
    foreign = client.put(
        "/uploads/",
        data=DATA[:5],
        headers={"Content-Range": "bytes 0-4/10", "X-User": "anna"},
        content_type=OCTETS,
    ).get_json()["id"]
    upload_id = {"unknown": str(uuid4()), "malformed": "x" * 36, "foreign": foreign}
    chunk = {"data": {"file": part(DATA[5:])}} if form == "chunk" else {"data": form}
    answer = client.open(
        f"/uploads/{upload_id[name]}{suffix}",
        method=method,
        headers={"Content-Range": "bytes 5-9/10"} if form == "chunk" else {},
        **chunk,
    )
    assert told(answer) == (404, {"detail": "Not found."})
    assert set(answer.headers.keys()) == {
        "Content-Type",
        "Content-Length",
        "Cache-Control",
    }
    assert rows(app)[0].offset == 5


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e%2fetc%2fpasswd", "1", "é", "{}", "0" * 32, "a b", "x" * 5000, "%00"],
)
def test_ids_of_any_shape_are_unknown(client: FlaskClient, name: str) -> None:
    assert told(client.get(f"/uploads/{name}")) == (404, {"detail": "Not found."})


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "HEAD"])
def test_expired_upload_is_gone(
    app: Flask, client: FlaskClient, url: str, method: str
) -> None:
    let_pass(app, days=1, seconds=1)
    chunk: dict[str, Any] = {
        "data": {"file": part(DATA[5:])},
        "headers": {"Content-Range": "bytes 5-9/10"},
    }
    complete: dict[str, Any] = {"data": {"md5": MD5}}
    options: dict[str, Any] = {"PUT": chunk, "POST": complete}.get(method, {})
    answer = client.open(url, method=method, **options)
    assert answer.status_code == 410
    if method != "HEAD":
        assert answer.get_json() == {
            "detail": "Upload has expired",
            "code": "upload_expired",
        }


def test_expired_upload_may_still_be_deleted(
    app: Flask, client: FlaskClient, url: str, tmp_path: Path
) -> None:
    let_pass(app, days=2)
    assert client.delete(url).status_code == 204
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_complete_upload_never_expires(
    app: Flask, client: FlaskClient, done: str
) -> None:
    let_pass(app, days=400)
    assert state(client.get(done)) == (200, 2, 10)
    assert state(client.post(done, data={"md5": MD5})) == (200, 2, 10)
