"""``validate`` and ``inspect``: refusals before the bytes are accepted."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError, Upload
from flask_chunked.engine.writer import HEAD_SIZE

from .apps import registered, rows, stored_files
from .conftest import AppFactory
from .exchange import begin, detail, finish, post_whole, put_form, put_raw

Request = Callable[..., TestResponse]
FIRST = pytest.mark.parametrize("request_of", [put_raw, put_form, post_whole])


class Watched(ChunkedUploadBlueprint):
    """Records its hooks' calls; refuses where ``refusal`` says so."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.validated: list[Upload] = []
        self.heads: list[bytes] = []
        self.refusal: ChunkedUploadError | None = None
        self.stored_at_validation = -1

    def validate(self, upload: Upload) -> None:
        self.validated.append(upload)
        self.stored_at_validation = len(list(self.registration.repository.matching()))

    def inspect(self, upload: Upload, head: bytes) -> None:
        self.heads.append(head)
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(blueprint_class=Watched)


@pytest.fixture
def policy(app: Flask) -> Watched:
    blueprint = registered(app).policy
    assert isinstance(blueprint, Watched)
    return blueprint


# -- validate --------------------------------------------------------------------------


@FIRST
def test_validate_sees_what_is_declared_before_the_first_byte(
    app: Flask, policy: Watched, request_of: Request
) -> None:
    request_of(app.test_client(), b"abcdef", fields={"filename": "a.mov"})
    (upload,) = policy.validated
    assert (upload.filename, upload.offset, upload.length) == ("a.mov", 0, 6)
    assert upload.dialect == "content-range"
    assert policy.stored_at_validation == 0
    assert rows(app)[0].id == upload.id


@FIRST
def test_refusal_by_validate_leaves_nothing(
    app_factory: AppFactory, tmp_path: Path, request_of: Request
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def validate(self, upload: Upload) -> None:
            raise ChunkedUploadError("No films on Mondays", status=451)

    app = app_factory(blueprint_class=Uploads)
    answer = request_of(app.test_client(), b"abc")
    assert (answer.status_code, detail(answer)) == (451, "No films on Mondays")
    assert rows(app) == []
    assert stored_files(tmp_path) == []


def test_refusal_without_words_is_a_400(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def validate(self, upload: Upload) -> None:
            raise ChunkedUploadError

    answer = put_raw(app_factory(blueprint_class=Uploads).test_client(), b"abc")
    assert (answer.status_code, detail(answer)) == (400, "Upload was rejected")


def test_validate_is_not_asked_again_for_later_chunks(
    app: Flask, policy: Watched
) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    put_raw(client, b"def", start=3, url=url)
    finish(client, url, b"abcdef")
    assert len(policy.validated) == 1


def test_the_snapshot_that_hooks_get_is_frozen(app: Flask, policy: Watched) -> None:
    put_raw(app.test_client(), b"abc")
    (upload,) = policy.validated
    with pytest.raises(dataclasses.FrozenInstanceError):
        upload.filename = "other"  # type: ignore[misc]


# -- inspect ---------------------------------------------------------------------------

SIZES = [1, 2, HEAD_SIZE - 1, HEAD_SIZE, HEAD_SIZE + 1, 3 * HEAD_SIZE]


@FIRST
@pytest.mark.parametrize("size", SIZES)
def test_inspect_is_called_once_with_the_first_bytes(
    app: Flask, policy: Watched, request_of: Request, size: int
) -> None:
    data = os.urandom(size)
    answer = request_of(app.test_client(), data)
    assert answer.status_code == 200
    assert policy.heads == [data[:HEAD_SIZE]]


@pytest.mark.parametrize("send", [put_raw, put_form])
@pytest.mark.parametrize("size", [10, HEAD_SIZE, HEAD_SIZE + 500])
def test_inspect_waits_until_small_chunks_fill_the_head(
    app: Flask, policy: Watched, send: Request, size: int
) -> None:
    client = app.test_client()
    data = os.urandom(size)
    step = -(-size // 7)
    head = min(HEAD_SIZE, size)
    url = "/uploads/"
    for start in range(0, size, step):
        chunk = data[start : start + step]
        assert policy.heads == ([] if start < head else [data[:head]])
        answer = send(client, chunk, start=start, total=size, url=url)
        assert answer.json is not None, answer.data
        url = answer.json["url"]
    finish(client, url, data)
    assert policy.heads == [data[:head]]


@pytest.mark.parametrize("send", [put_raw, put_form, post_whole])
def test_inspect_sees_an_empty_file(app: Flask, policy: Watched, send: Request) -> None:
    assert send(app.test_client(), b"").status_code == 200
    assert policy.heads == [b""]
    policy.refusal = ChunkedUploadError("Empty", status=422)
    assert send(app.test_client(), b"").status_code == 422
    assert len(rows(app)) == 1


@FIRST
@pytest.mark.parametrize("size", [3, HEAD_SIZE, 3 * HEAD_SIZE])
def test_refusal_by_inspect_removes_upload_and_bytes(
    app: Flask, policy: Watched, tmp_path: Path, request_of: Request, size: int
) -> None:
    policy.refusal = ChunkedUploadError("No films here", status=415)
    answer = request_of(app.test_client(), b"x" * size)
    assert (answer.status_code, detail(answer)) == (415, "No films here")
    assert rows(app) == []
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize("send", [put_raw, put_form])
def test_refusal_by_inspect_of_a_later_chunk_removes_the_earlier_ones(
    app: Flask, policy: Watched, tmp_path: Path, send: Request
) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    assert (len(rows(app)), len(stored_files(tmp_path))) == (1, 1)
    policy.refusal = ChunkedUploadError("No")
    assert send(client, b"def", start=3, url=url).status_code == 400
    assert rows(app) == []
    assert stored_files(tmp_path) == []
    assert client.get(url).status_code == 404


def test_inspect_may_go_by_the_snapshot(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def inspect(self, upload: Upload, head: bytes) -> None:
            if upload.filename.endswith(".png") and not head.startswith(b"\x89PNG"):
                raise ChunkedUploadError("Not a PNG")

    client = app_factory(blueprint_class=Uploads).test_client()
    picture = {"filename": "a.png"}
    assert put_raw(client, b"\x89PNG...", fields=picture).status_code == 200
    assert put_raw(client, b"MZ......", fields=picture).status_code == 400
    assert put_raw(client, b"MZ......", fields={"filename": "a"}).status_code == 200


@pytest.mark.parametrize("hook", ["validate", "inspect"])
def test_an_error_of_the_hook_itself_is_not_taken_for_a_refusal(
    app_factory: AppFactory, tmp_path: Path, hook: str
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    policy = type("Uploads", (ChunkedUploadBlueprint,), {hook: fail})
    app = app_factory(blueprint_class=policy)
    client: FlaskClient = app.test_client()
    with pytest.raises(ZeroDivisionError):
        put_raw(client, b"abc")
    assert [row.offset for row in rows(app)] in ([], [0])
    for url in [one["url"] for one in client.get("/uploads/").json or []]:
        client.delete(url)
    assert stored_files(tmp_path) == []
