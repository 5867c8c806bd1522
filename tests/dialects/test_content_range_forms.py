"""Clients of jQuery-File-Upload and django-chunked-upload: chunks and ids by POST."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint
from tests.apps import registered, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, MOMENT, OCTETS, md5, part, state, told


class Unchecked(ChunkedUploadBlueprint):
    do_checksum_check = False


def post(client: FlaskClient, data: bytes, value: str, **fields: str) -> Any:
    """A chunk as these clients send it."""
    return client.post(
        "/uploads/",
        data={"file": part(data), **fields},
        headers={"Content-Range": value},
    )


@pytest.fixture
def upload_id(client: FlaskClient) -> str:
    """The id of an upload that has five of ten bytes."""
    return str(post(client, DATA[:5], "bytes 0-4/10").get_json()["upload_id"])


# -- chunks by POST --------------------------------------------------------------------


def test_post_with_content_range_is_a_first_chunk(client: FlaskClient) -> None:
    answer = post(client, DATA[:5], "bytes 0-4/10", filename="a.bin")
    body = answer.get_json()
    assert re.fullmatch(MOMENT, body["expires"])
    assert told(answer) == (
        200,
        {
            "id": body["upload_id"],
            "upload_id": body["upload_id"],
            "url": f"http://localhost/uploads/{body['upload_id']}",
            "file": None,
            "filename": "a.bin",
            "offset": 5,
            "created_at": body["created_at"],
            "completed_at": None,
            "expires": body["expires"],
            "status": 1,
            "user": None,
            "length": 10,
            "digest": None,
        },
    )
    assert answer.headers["Range"] == "bytes=0-4"
    created, expires = (
        datetime.fromisoformat(body[key].rstrip("Z"))
        for key in ("created_at", "expires")
    )
    assert timedelta(0) <= expires - created - timedelta(days=1) < timedelta(minutes=1)


def test_uploads_that_never_expire_say_so(app_factory: AppFactory) -> None:
    client = app_factory(CHUNKED_UPLOAD_EXPIRATION_DELTA=None).test_client()
    assert post(client, DATA[:5], "bytes 0-4/10").get_json()["expires"] is None


def test_post_with_one_chunk_of_all_bytes_does_not_complete(
    client: FlaskClient,
) -> None:
    assert state(post(client, DATA, "bytes 0-9/10", md5=MD5)) == (200, 1, 10)


@pytest.mark.parametrize("where", ["form", "query", "form of the upload's own URL"])
def test_field_upload_id_names_the_upload(
    client: FlaskClient, upload_id: str, where: str
) -> None:
    url, fields = {
        "form": ("/uploads/", {"upload_id": upload_id}),
        "query": (f"/uploads/?upload_id={upload_id}", {}),
        "form of the upload's own URL": (f"/uploads/{upload_id}", {}),
    }[where]
    answer = client.post(
        url,
        data={"file": part(DATA[5:]), **fields},
        headers={"Content-Range": "bytes 5-9/10"},
    )
    assert state(answer) == (200, 1, 10)
    assert answer.get_json()["upload_id"] == upload_id
    assert answer.get_json()["expires"] is not None


def test_upload_id_after_the_file_counts_as_well(
    client: FlaskClient, upload_id: str
) -> None:
    body = (
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        "56789\r\n"
        '--b\r\nContent-Disposition: form-data; name="upload_id"\r\n\r\n'
        f"{upload_id}\r\n--b--\r\n"
    )
    answer = client.post(
        "/uploads/",
        data=body.encode(),
        headers={"Content-Range": "bytes 5-9/10"},
        content_type="multipart/form-data; boundary=b",
    )
    assert state(answer) == (200, 1, 10)


def test_raw_chunk_by_post_names_the_upload_in_the_query(
    client: FlaskClient, upload_id: str
) -> None:
    answer = client.post(
        f"/uploads/?upload_id={upload_id}",
        data=DATA[5:],
        headers={"Content-Range": "bytes 5-9/10"},
        content_type=OCTETS,
    )
    assert state(answer) == (200, 1, 10)


@pytest.mark.parametrize("name", [str(UUID(int=1)), "", "1", "../etc"])
@pytest.mark.parametrize("where", ["form", "query"])
def test_upload_id_that_is_none_is_unknown(
    app: Flask, client: FlaskClient, name: str, where: str
) -> None:
    answer = client.post(
        "/uploads/",
        data={"file": part(DATA), **({"upload_id": name} if where == "form" else {})},
        headers={"Content-Range": "bytes 0-9/10"},
        query_string={"upload_id": name} if where == "query" else None,
    )
    assert told(answer) == (404, {"detail": "Not found."})
    assert rows(app) == []


def test_later_chunk_without_upload_id_is_no_first_chunk(
    app: Flask, client: FlaskClient
) -> None:
    answer = post(client, DATA[5:], "bytes 5-9/10")
    assert told(answer) == (
        400,
        {"detail": "Offsets do not match", "expected_offset": 0, "provided_offset": 5},
    )
    assert rows(app) == []


def test_last_chunk_by_post_may_be_repeated(
    client: FlaskClient, upload_id: str
) -> None:
    post(client, DATA[5:7], "bytes 5-6/10", upload_id=upload_id)
    again = post(client, DATA[5:7], "bytes 5-6/10", upload_id=upload_id)
    assert state(again) == (200, 1, 7)
    other = post(client, b"xx", "bytes 5-6/10", upload_id=upload_id)
    assert other.get_json() == {
        "detail": "Offsets do not match",
        "code": "offset_mismatch",
        "expected_offset": 7,
        "provided_offset": 5,
    }


# -- completion ------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [None, "multipart/form-data"])
def test_post_with_upload_id_and_checksum_completes(
    client: FlaskClient, upload_id: str, encoding: str | None
) -> None:
    post(client, DATA[5:], "bytes 5-9/10", upload_id=upload_id)
    form = {"upload_id": upload_id, "md5": MD5}
    answer = client.post("/uploads/", data=form, content_type=encoding)
    assert state(answer) == (200, 2, 10)
    body = answer.get_json()
    assert (body["upload_id"], body["expires"]) == (upload_id, None)
    again = client.post("/uploads/", data=form, content_type=encoding)
    assert told(again) == (200, body)


@pytest.mark.parametrize(
    ("form", "detail"),
    [
        ({}, "Checksum of type 'md5' is required"),
        ({"md5": "wrong"}, "Upload is incomplete: 5 of 10 bytes received"),
    ],
)
def test_completion_by_upload_id_is_refused_as_by_url(
    client: FlaskClient, upload_id: str, form: dict[str, str], detail: str
) -> None:
    answer = client.post("/uploads/", data={"upload_id": upload_id, **form})
    assert told(answer) == (400, {"detail": detail})


def test_completion_of_an_unknown_upload_id(client: FlaskClient) -> None:
    answer = client.post("/uploads/", data={"upload_id": str(UUID(int=1)), "md5": MD5})
    assert told(answer) == (404, {"detail": "Not found."})


def test_upload_id_with_a_file_but_no_range_is_no_completion(
    client: FlaskClient, upload_id: str, tmp_path: Path
) -> None:
    form = {"file": part(DATA[5:]), "upload_id": upload_id, "md5": MD5}
    answer = client.post("/uploads/", data=form)
    assert told(answer) == (
        400,
        {
            "detail": "Error in request headers",
            "reason": "Content-Range: missing on a chunk",
        },
    )
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [DATA[:5]]


# -- names -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_part_may_be_named_files(client: FlaskClient, method: str) -> None:
    answer = client.open(
        "/uploads/",
        method=method,
        data={"files[]": part(DATA[:5], "a.bin")},
        headers={"Content-Range": "bytes 0-4/10"},
    )
    assert state(answer) == (200, 1, 5)
    assert answer.get_json()["filename"] == "a.bin"


DISPOSITIONS = {
    "percent-decoded": ('attachment; filename="n%C3%A4me.bin"', "näme.bin"),
    "plain": ('attachment; filename="name.bin"', "name.bin"),
    "extended": ("attachment; filename*=UTF-8''%e2%82%ac.bin", "€.bin"),
    "bare percent": ('attachment; filename="100%.bin"', "100%.bin"),
    "path": ('attachment; filename="..%2F..%2Fetc%2Fpasswd"', "passwd"),
    "nothing left": ('attachment; filename="..%2F"', "upload"),
    "invalid": ('attachment; filename="a', "upload"),
}


@pytest.mark.parametrize(
    ("value", "name"), DISPOSITIONS.values(), ids=DISPOSITIONS.keys()
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_content_disposition_names_a_raw_file(
    client: FlaskClient, value: str, name: str, method: str
) -> None:
    answer = client.open(
        "/uploads/",
        method=method,
        data=DATA[:5],
        headers={"Content-Range": "bytes 0-4/10", "Content-Disposition": value},
        content_type=OCTETS,
    )
    assert answer.get_json()["filename"] == name


def test_jquery_file_upload_sends_blob_parts_and_a_disposition_header(
    client: FlaskClient,
) -> None:
    answer = client.post(
        "/uploads/",
        data={"files[]": part(DATA[:5], "blob")},
        headers={
            "Content-Range": "bytes 0-4/10",
            "Content-Disposition": 'attachment; filename="n%C3%A4me.bin"',
        },
    )
    assert answer.get_json()["filename"] == "näme.bin"


# -- files smaller than a chunk --------------------------------------------------------


def test_small_file_without_range_and_checksum_completes_where_none_is_wanted(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    client = app_factory(blueprint_class=Unchecked).test_client()
    answer = client.post("/uploads/", data={"files[]": part(DATA, "small.bin")})
    assert state(answer) == (200, 2, 10)
    body = answer.get_json()
    assert body["upload_id"] == body["id"]
    assert (body["filename"], body["expires"]) == ("small.bin", None)
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [DATA]


def test_small_file_without_checksum_is_refused_where_one_is_wanted(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    answer = client.post("/uploads/", data={"files[]": part(DATA)})
    assert told(answer) == (400, {"detail": "Checksum of type 'md5' is required"})
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_checksum_that_is_not_wanted_is_not_compared(app_factory: AppFactory) -> None:
    client = app_factory(blueprint_class=Unchecked).test_client()
    form = {"file": part(DATA), "md5": md5(b"other")}
    assert state(client.post("/uploads/", data=form)) == (200, 2, 10)


def test_the_whole_exchange_of_such_a_client(
    client: FlaskClient, tmp_path: Path
) -> None:
    first = post(client, DATA[:4], "bytes 0-3/10").get_json()
    fields = {"upload_id": first["upload_id"]}
    second = post(client, DATA[4:8], "bytes 4-7/10", **fields)
    third = post(client, DATA[8:], "bytes 8-9/10", **fields)
    assert [a.get_json()["offset"] for a in (second, third)] == [8, 10]
    done = client.post("/uploads/", data={**fields, "md5": MD5})
    assert state(done) == (200, 2, 10)
    assert stored_files(tmp_path)[0].read_bytes() == DATA


# -- where a chunk of a form goes ------------------------------------------------------


def form_with(*parts: tuple[str, str | None, bytes]) -> bytes:
    """A form of parts: name, filename, content."""
    body = b""
    for name, filename, content in parts:
        named = "" if filename is None else f'; filename="{filename}"'
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + b"--b--\r\n"


def stages_made(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The stages of the storage, from now on."""
    storage = registered(app).storage
    made: list[object] = []
    real = storage.stage

    def stage() -> object:
        made.append(real())
        return made[-1]

    monkeypatch.setattr(storage, "stage", stage)
    return made


@pytest.mark.local_disk
@pytest.mark.parametrize(
    ("order", "stages"),
    [
        pytest.param(("upload_id", "file"), 0, id="named before the file"),
        pytest.param(("file", "upload_id"), 1, id="named after the file"),
    ],
)
def test_a_chunk_whose_upload_is_known_is_written_where_it_will_be(
    app: Flask,
    client: FlaskClient,
    upload_id: str,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[str, str],
    stages: int,
) -> None:
    made = stages_made(app, monkeypatch)
    parts = {
        "upload_id": ("upload_id", None, upload_id.encode()),
        "file": ("file", "a", DATA[5:]),
    }
    answer = client.post(
        "/uploads/",
        data=form_with(*(parts[name] for name in order)),
        headers={"Content-Range": "bytes 5-9/10"},
        content_type="multipart/form-data; boundary=b",
    )
    assert state(answer) == (200, 1, 10)
    assert len(made) == stages
    done = client.post(f"/uploads/{upload_id}", data={"md5": MD5})
    assert done.status_code == 200


@pytest.mark.local_disk
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        pytest.param(
            form_with(("file", "a", DATA[5:]), ("file", "b", b"x")),
            "More than one file in the form",
            id="second file",
        ),
        pytest.param(
            form_with(("file", "a", DATA[5:]))[:-7],
            "Malformed multipart/form-data body",
            id="no end",
        ),
        pytest.param(form_with(("file", "a", DATA[5:8])), None, id="too short"),
        pytest.param(form_with(("file", "a", DATA[5:] + b"x")), None, id="too long"),
    ],
)
def test_a_form_that_is_not_right_leaves_the_upload_as_it_was(
    app: Flask,
    client: FlaskClient,
    upload_id: str,
    tmp_path: Path,
    body: bytes,
    detail: str | None,
) -> None:
    answer = client.put(
        f"/uploads/{upload_id}",
        data=body,
        headers={"Content-Range": "bytes 5-9/10"},
        content_type="multipart/form-data; boundary=b",
    )
    assert answer.status_code == 400
    assert detail in (None, answer.get_json()["detail"])
    (file,) = tmp_path.rglob("*.part")
    assert file.read_bytes() == DATA[:5]
    answer = post(client, DATA[5:], "bytes 5-9/10", upload_id=upload_id)
    assert state(answer) == (200, 1, 10)


@pytest.mark.local_disk
def test_an_encoded_body_is_refused_before_it_has_a_target(
    client: FlaskClient, tmp_path: Path
) -> None:
    headers = {"Content-Encoding": "gzip"}
    answer = client.post("/uploads/", data=DATA, headers=headers, content_type=OCTETS)
    assert answer.status_code == 415
    assert stored_files(tmp_path) == []
