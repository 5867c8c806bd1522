"""Forms that are malformed or truncated, and what no answer may show."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps import registered, rows, stored_files
from tests.dialects.wire import DATA, MD5, cut, part, state, told


def half(client: FlaskClient) -> str:
    """The URL of an upload that has five of ten bytes."""
    answer = client.put(
        "/uploads/",
        data={"file": part(DATA[:5])},
        headers={"Content-Range": "bytes 0-4/10"},
    )
    return str(answer.get_json()["url"])


BOUNDARIES = {
    "no boundary": "multipart/form-data",
    "empty": "multipart/form-data; boundary=",
    "not ascii": "multipart/form-data; boundary=\xe4\xe4",
    "too long": f"multipart/form-data; boundary={'x' * 201}",
    "not the body's": "multipart/form-data; boundary=other",
}


@pytest.mark.parametrize("content_type", BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_bad_boundary_is_reported(
    app: Flask, client: FlaskClient, content_type: str, method: str
) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    answer = client.open(
        "/uploads/",
        method=method,
        data=body + DATA + b"\r\n--x--\r\n",
        headers={"Content-Range": "bytes 0-9/10"} if method == "PUT" else {},
        content_type=content_type,
    )
    assert answer.status_code == 400
    assert set(answer.get_json()) == {"detail", "code"}
    assert rows(app) == []


@pytest.mark.parametrize("names", [("file", "file"), ("file", "files[]"), ("x", "y")])
def test_second_file_part_is_reported(
    app: Flask, client: FlaskClient, tmp_path: Path, names: tuple[str, str]
) -> None:
    body = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'
        f"0123456789\r\n"
        for name in names
    )
    answer = client.put(
        "/uploads/",
        data=f"{body}--b--\r\n".encode(),
        headers={"Content-Range": "bytes 0-9/10"},
        content_type="multipart/form-data; boundary=b",
    )
    assert told(answer) == (400, {"detail": "More than one file in the form"})
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_cut_form_keeps_nothing_of_its_chunk(
    client: FlaskClient, tmp_path: Path
) -> None:
    url = half(client)
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n56'
    answer = client.put(
        url,
        headers={"Content-Range": "bytes 5-9/10"},
        content_type="multipart/form-data; boundary=b",
        environ_overrides=cut(body, announced=len(body) + 20),
    )
    detail = "Request body ended before its announced length"
    assert told(answer) == (400, {"detail": detail})
    assert state(client.get(url)) == (200, 1, 5)
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [DATA[:5]]


def test_no_answer_shows_where_bytes_are_stored(
    app: Flask, client: FlaskClient
) -> None:
    url = half(client)
    upload = rows(app)[0]
    storage = registered(app).storage
    answers = [
        client.put(
            url,
            data={"file": part(DATA[5:])},
            headers={"Content-Range": "bytes 5-9/10"},
        ),
        client.post(url, data={"md5": "wrong"}),
        client.post(url, data={"md5": MD5}),
        client.get(url),
    ]
    for answer in answers:
        assert str(upload.storage_key).encode() not in answer.data
        assert storage.identity.partition(":")[2].encode() not in answer.data
        assert b".part" not in answer.data and b".done" not in answer.data


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_encoded_form_is_refused(client: FlaskClient, method: str) -> None:
    answer = client.open(
        "/uploads/",
        method=method,
        data={"file": part(DATA), "md5": MD5},
        headers={"Content-Range": "bytes 0-9/10", "Content-Encoding": "gzip"},
    )
    detail = "Content-Encoding is not supported; send plain bytes"
    assert told(answer) == (415, {"detail": detail})


@pytest.mark.parametrize(
    "body", ["[1]", "1", "{", '{"md5": ', "[" * 100_000], ids=lambda text: text[:8]
)
def test_bad_json_is_reported(client: FlaskClient, body: str) -> None:
    answer = client.post(half(client), data=body, content_type="application/json")
    assert answer.status_code in (400, 413)
    assert set(answer.get_json()) == {"detail", "code"}


def test_too_many_parts_are_reported(app: Flask, client: FlaskClient) -> None:
    form = {"file": part(DATA), **{f"f{i}": "x" for i in range(20)}}
    answer = client.post("/uploads/", data=form)
    detail = "Form has more than 10 parts, or text fields of more than 65536 bytes"
    assert told(answer) == (413, {"detail": detail})
    assert rows(app) == []


@pytest.mark.parametrize("kind", ["multipart/form-data", None])
def test_too_large_fields_are_reported(client: FlaskClient, kind: str | None) -> None:
    answer = client.post(half(client), data={"md5": "x" * 66_000}, content_type=kind)
    assert answer.status_code == 413
    assert set(answer.get_json()) == {"detail", "code"}


def test_text_fields_of_a_first_chunk_that_are_not_known_are_ignored(
    client: FlaskClient,
) -> None:
    form = {"file": part(DATA), "csrf_token": "x", "status": "2", "offset": "99"}
    answer = client.put(
        "/uploads/", data=form, headers={"Content-Range": "bytes 0-9/10"}
    )
    assert state(answer) == (200, 1, 10)
