"""The exchange of the Content-Range dialect, step by step, with literal answers."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError, exceptions
from tests.apps import stored_files
from tests.conftest import AppFactory
from tests.dialects.wire import (
    DATA,
    ID,
    MD5,
    MOMENT,
    OCTETS,
    md5,
    part,
    state,
    told,
)


class NotThisFormat(ChunkedUploadError):
    """A refusal of the application's own."""

    code = "not_this_format"


#: Errors that are sent as they are; the others have keys of their own.
ERRORS = [
    kind
    for kind in (*vars(exceptions).values(), NotThisFormat)
    if isinstance(kind, type)
    and issubclass(kind, ChunkedUploadError)
    and kind.__init__ is ChunkedUploadError.__init__
    and not issubclass(kind, exceptions.HookError)
]


def first_half(client: FlaskClient, **fields: str) -> dict[str, Any]:
    """Send bytes 0-4 of ten; the answer's JSON."""
    answer = client.put(
        "/uploads/",
        data={"file": part(DATA[:5], "half.bin"), **fields},
        headers={"Content-Range": "bytes 0-4/10"},
    )
    assert answer.status_code == 200, answer.data
    body: dict[str, Any] = answer.get_json()
    return body


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_each_error_has_its_code(
    app_factory: AppFactory, kind: type[ChunkedUploadError]
) -> None:
    class Refusing(ChunkedUploadBlueprint):
        def validate(self, upload: Any) -> None:
            error = kind.__new__(kind)
            ChunkedUploadError.__init__(error, "not this one", status=418)
            raise error

    client = app_factory(blueprint_class=Refusing).test_client()
    answer = client.put(
        "/uploads/", data=DATA[:5], headers={"Content-Range": "bytes 0-4/10"}
    )
    assert answer.status_code == 418
    assert answer.get_json() == {"detail": "not this one", "code": kind.code}


def test_first_chunk_creates_the_upload(client: FlaskClient) -> None:
    answer = client.put(
        "/uploads/",
        data={"file": part(DATA[:5], "part.bin"), "filename": "example.bin"},
        headers={"Content-Range": "bytes 0-4/10"},
    )
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    body = answer.get_json()
    assert re.fullmatch(ID, body["id"])
    assert re.fullmatch(MOMENT, body["created_at"])
    assert body == {
        "id": body["id"],
        "url": f"http://localhost/uploads/{body['id']}",
        "file": None,
        "filename": "example.bin",
        "offset": 5,
        "created_at": body["created_at"],
        "completed_at": None,
        "status": 1,
        "user": None,
        "length": 10,
        "digest": None,
    }
    assert answer.headers["Range"] == "bytes=0-4"
    assert answer.headers["Cache-Control"] == "no-store"


def test_filename_of_the_part_is_taken_where_no_field_says_one(
    client: FlaskClient,
) -> None:
    assert first_half(client)["filename"] == "half.bin"


def test_next_chunks_move_the_offset(client: FlaskClient) -> None:
    created = first_half(client)
    for start, stop in [(5, 7), (7, 10)]:
        answer = client.put(
            created["url"],
            data={"file": part(DATA[start:stop])},
            headers={"Content-Range": f"bytes {start}-{stop - 1}/10"},
        )
        assert told(answer) == (200, {**created, "offset": stop})
        assert answer.headers["Range"] == f"bytes=0-{stop - 1}"


def test_last_chunk_does_not_complete(client: FlaskClient) -> None:
    answer = client.put(
        "/uploads/",
        data={"file": part(DATA)},
        headers={"Content-Range": "bytes 0-9/10"},
    )
    assert state(answer) == (200, 1, 10)
    assert answer.get_json()["completed_at"] is None


def test_checksum_completes(client: FlaskClient, tmp_path: Path) -> None:
    created = first_half(client)
    client.put(
        created["url"],
        data={"file": part(DATA[5:])},
        headers={"Content-Range": "bytes 5-9/10"},
    )
    answer = client.post(created["url"], data={"md5": MD5})
    body = answer.get_json()
    assert re.fullmatch(MOMENT, body["completed_at"])
    done = {
        "offset": 10,
        "status": 2,
        "completed_at": body["completed_at"],
        "digest": f"md5:{MD5}",
    }
    assert told(answer) == (200, {**created, **done})
    (file,) = stored_files(tmp_path)
    assert (file.suffix, file.read_bytes()) == (".done", DATA)


@pytest.mark.parametrize("encoding", ["urlencoded", "multipart", "json", "query"])
def test_checksum_may_come_in_every_kind_of_form(
    client: FlaskClient, encoding: str
) -> None:
    url = client.put(
        "/uploads/",
        data=DATA,
        headers={"Content-Range": "bytes 0-9/10"},
        content_type=OCTETS,
    ).get_json()["url"]
    answer = {
        "urlencoded": lambda: client.post(url, data={"md5": MD5}),
        "multipart": lambda: client.post(
            url, data={"md5": MD5}, content_type="multipart/form-data"
        ),
        "json": lambda: client.post(url, json={"md5": MD5}),
        "query": lambda: client.post(f"{url}?md5={MD5}"),
    }[encoding]()
    assert state(answer) == (200, 2, 10)


@pytest.mark.parametrize("name", ["sha1", "sha256", "blake2b", "sha3_512"])
def test_field_is_named_after_the_checksum(app_factory: AppFactory, name: str) -> None:
    client = app_factory(CHUNKED_UPLOAD_CHECKSUM=name).test_client()
    url = first_half(client)["url"]
    client.put(
        url,
        data={"file": part(DATA[5:])},
        headers={"Content-Range": "bytes 5-9/10"},
    )
    assert told(client.post(url, data={"md5": MD5})) == (
        400,
        {"detail": f"Checksum of type '{name}' is required"},
    )
    digest = hashlib.new(name, DATA).hexdigest()
    assert state(client.post(url, data={name: digest})) == (200, 2, 10)


def test_whole_file_at_once(client: FlaskClient, tmp_path: Path) -> None:
    answer = client.post(
        "/uploads/", data={"file": part(DATA, "whole.bin"), "md5": MD5}
    )
    assert state(answer) == (200, 2, 10)
    assert answer.get_json()["filename"] == "whole.bin"
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [DATA]


def test_completion_answers_what_on_completion_says(app_factory: AppFactory) -> None:
    class Own(ChunkedUploadBlueprint):
        def on_completion(self, upload: Any) -> Any:
            return {"got": upload.filename, "bytes": upload.offset}, 201

    client = app_factory(blueprint_class=Own).test_client()
    answer = client.post("/uploads/", data={"file": part(DATA, "a.bin"), "md5": MD5})
    assert told(answer) == (201, {"got": "a.bin", "bytes": 10})


def test_list_has_the_pending_and_the_url_shows_one(app_factory: AppFactory) -> None:
    class Known(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return "anna"

    client = app_factory(blueprint_class=Known).test_client()
    client.post("/uploads/", data={"file": part(DATA), "md5": MD5})
    created = first_half(client)
    assert created["user"] == "anna"
    assert told(client.get("/uploads/")) == (200, [created])
    assert told(client.get(created["url"])) == (200, created)


def test_head_returns_the_offset_and_delete_terminates(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    url = first_half(client)["url"]
    head = client.head(url)
    assert head.status_code == 200
    assert head.data == b""
    assert head.headers["Upload-Offset"] == "5"
    assert head.headers["Upload-Length"] == "10"
    assert head.headers["Cache-Control"] == "no-store"
    gone = client.delete(url)
    assert (gone.status_code, gone.data) == (204, b"")
    assert client.get(url).status_code == 404
    assert stored_files(tmp_path) == []


def test_a_larger_file_arrives_in_uneven_chunks(
    client: FlaskClient, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 2000
    cuts = [0, 1, 4097, 70_000, 70_001, 400_000, len(data)]
    url = "/uploads/"
    for start, stop in pairwise(cuts):
        answer = client.put(
            url,
            data={"file": part(data[start:stop])},
            headers={"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"},
        )
        assert state(answer) == (200, 1, stop)
        url = answer.get_json()["url"]
    assert state(client.post(url, data={"md5": md5(data)})) == (200, 2, len(data))
    assert stored_files(tmp_path)[0].read_bytes() == data


def test_whole_raw_file_by_post_has_its_checksum_in_the_query(
    client: FlaskClient, tmp_path: Path
) -> None:
    answer = client.post(
        f"/uploads/?md5={MD5}&filename=a.bin", data=DATA, content_type=OCTETS
    )
    assert state(answer) == (200, 2, 10)
    assert answer.get_json()["filename"] == "a.bin"
    assert stored_files(tmp_path)[0].read_bytes() == DATA
