"""The S3 storage: keys and limits, and whole uploads to a real server."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

import flask_chunked
from flask_chunked.engine.records import Upload
from flask_chunked.engine.writer import UploadWriter
from flask_chunked.exceptions import (
    NotLocal,
)
from flask_chunked.storage.base import Blob, Place, StoredItem
from flask_chunked.storage.s3.bucket import Bucket, BucketObject
from flask_chunked.storage.s3.plan import MAX_PART_SIZE, MIB, UploadState
from tests.aging import age_row
from tests.apps import blueprint_of, rows
from tests.conftest import AppFactory
from tests.dialects.tus import Tus, checksum
from tests.exchange import content_range, finish, id_of, put_raw, send
from tests.s3 import S3Server, left_in, s3_blueprint, storage_of

from ..contract import CREATED
from .names import ID, KEY, new_storage
from .uploads import CONTENT, S3App, check_much_later, parts_in_table, require_only


@pytest.mark.parametrize(
    ("options", "part_size", "usable"),
    [
        pytest.param({}, 8 * MIB, 9_000, id="as-it-comes"),
        pytest.param({"part_size": 64 * MIB}, 64 * MIB, 9_000, id="large-parts"),
        pytest.param({"max_parts": 1_000}, 8 * MIB, 900, id="fewer-parts"),
    ],
)
def test_max_length_leaves_a_tenth_of_the_parts(
    options: dict[str, Any], part_size: int, usable: int
) -> None:
    storage = new_storage(**options)
    assert storage.max_length() == MAX_PART_SIZE * usable
    # Without a length, and with none of the row's, parts have the preferred size.
    for state in (storage.new_state(None), storage.new_state(1), {}):
        assert storage.max_length(state) == part_size * usable
    longer = storage.new_state(part_size * usable + 1)
    assert storage.max_length(longer) == (part_size + MIB) * usable


def test_key_has_the_day_and_the_id() -> None:
    elsewhere = CREATED.astimezone(timezone(timedelta(hours=14)))
    assert new_storage().new_key(ID, elsewhere) == KEY


def test_key_has_the_place_that_the_application_chooses() -> None:
    place = Place.from_names("projects/7", "a film")
    key = new_storage().new_key(ID, CREATED, place)
    assert key == f"films/projects/7/a film-{ID}"


@pytest.mark.parametrize(
    ("piece", "finished", "used"),
    [
        pytest.param(None, False, True, id="object"),
        pytest.param(None, True, True, id="finished-object"),
        pytest.param(f"object {KEY}.tail.x", False, True, id="tail"),
        pytest.param(f"object {KEY}.tail.y", False, False, id="another-tail"),
        pytest.param(f"object {KEY}.tail.x", True, False, id="tail-of-a-finished-one"),
        pytest.param("upload id", False, True, id="multipart"),
        pytest.param("upload other", False, False, id="another-multipart"),
        pytest.param("upload id", True, False, id="multipart-of-a-finished-one"),
    ],
)
def test_piece_is_used_where_the_row_names_it(
    piece: str | None, finished: bool, used: bool
) -> None:
    state = UploadState(5 * MIB, "id", 2, 1, f"{KEY}.tail.x", 17)
    blob = Blob(KEY, state.size, state.to_row())
    item = StoredItem(KEY, 1, CREATED, piece=piece)
    assert new_storage().uses(blob, item, finished=finished) is used


@pytest.mark.slow
@pytest.mark.parametrize("remembers", [True, False], ids=["in-passing", "read-again"])
def test_chunks_of_any_size_become_the_file(
    app: Flask, remembers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not remembers:
        monkeypatch.setattr(UploadWriter, "_dump_at", lambda *_: None)
    client = app.test_client()
    url, start = "/uploads/", 0
    for size in (1, 3 * MIB, 7 * MIB, 11, len(CONTENT)):
        chunk = CONTENT[start : start + size]
        answer = put_raw(client, chunk, start=start, total=len(CONTENT), url=url)
        assert answer.status_code == 200, answer.text
        url, start = answer.get_json()["url"], start + len(chunk)
        assert answer.get_json()["offset"] == start
    assert parts_in_table(app) == 2
    assert finish(client, url, CONTENT).status_code == 200
    assert finish(client, url, CONTENT).status_code == 200
    with client.get(url + "/file") as content:
        assert content.get_data() == CONTENT
    with client.get(url + "/file", headers={"Range": "bytes=6000000-6000009"}) as part:
        assert (part.status_code, part.data) == (206, CONTENT[6000000:6000010])
    require_only(app, *rows(app))
    assert client.delete(url).status_code == 204
    assert left_in(storage_of(app)) == ([], [])


@pytest.mark.slow
def test_wrong_checksum_leaves_the_upload_open_for_the_right_one(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UploadWriter, "_dump_at", lambda *_: None)
    client = app.test_client()
    url = put_raw(client, CONTENT).get_json()["url"]
    assert finish(client, url, b"something else").status_code == 400
    assert rows(app)[0].status.value == "uploading"
    assert finish(client, url, CONTENT).status_code == 200
    require_only(app, *rows(app))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 10 * MIB])
def test_file_that_is_no_part_or_some_whole_ones(app: Flask, size: int) -> None:
    client = app.test_client()
    answer = send(client, CONTENT[:size])
    assert answer.status_code == 200, answer.text
    with client.get(answer.get_json()["url"] + "/file") as content:
        assert content.get_data() == CONTENT[:size]
    require_only(app, *rows(app))


def form(client: FlaskClient, method: str, url: str, data: bytes, **told: str) -> Any:
    """A chunk in a form, made without the test client's temporary files."""
    fields = {"file": FileStorage(io.BytesIO(data), "name.bin")}
    if method == "POST":
        fields["md5"] = hashlib.md5(data).hexdigest()  # type: ignore[assignment]
    boundary, body = encode_multipart(fields)
    kind = f"multipart/form-data; boundary={boundary}"
    headers = {name.replace("_", "-"): value for name, value in told.items()}
    return client.open(
        url, method=method, data=body, content_type=kind, headers=headers
    )


@pytest.mark.slow
def test_forms_are_taken_whole(app: Flask) -> None:
    client = app.test_client()
    first, rest = CONTENT[: 6 * MIB], CONTENT[6 * MIB :]
    said = content_range(first, 0, len(CONTENT))
    url = form(client, "PUT", "/uploads/", first, Content_Range=said).json["url"]
    said = content_range(rest, 6 * MIB, len(CONTENT))
    for _ in ("once", "and its repeat"):
        answer = form(client, "PUT", url, rest, Content_Range=said)
        assert answer.status_code == 200, answer.text
    assert finish(client, url, CONTENT).status_code == 200
    assert form(client, "POST", "/uploads/", first).status_code == 200
    require_only(app, *rows(app))


@pytest.mark.slow
def test_tus_upload_in_pieces(app: Flask, tus: Tus) -> None:
    url = tus.create(len(CONTENT))
    for start in range(0, len(CONTENT), 5 * MIB + 1):
        assert tus.offset(url) == start
        chunk = CONTENT[start : start + 5 * MIB + 1]
        told = {"Upload_Checksum": checksum("sha256", chunk)} if start else {}
        assert tus.patch(url, start, chunk, **told).status_code == 204
    assert tus.content(url) == CONTENT
    require_only(app, *rows(app))


@pytest.mark.slow
def test_length_that_the_store_cannot_take_is_refused_at_once(
    app: Flask, tus: Tus
) -> None:
    created = tus.post(Upload_Length=str(2**60))
    first = app.test_client().put(
        "/uploads/", data=b"abc", headers={"Content-Range": f"bytes 0-2/{2**60}"}
    )
    for answer in (created, first):
        assert answer.status_code == 413
        assert "exceeds the limit" in answer.text
    assert rows(app) == []


@pytest.mark.slow
def test_length_that_comes_with_an_empty_request(app: Flask, tus: Tus) -> None:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    assert tus.patch(url, 0, CONTENT[: 6 * MIB]).status_code == 204
    answer = tus.patch(url, 6 * MIB, b"", Upload_Length=str(6 * MIB))
    assert answer.status_code == 204
    assert tus.content(url) == CONTENT[: 6 * MIB]
    require_only(app, *rows(app))


@pytest.mark.slow
@pytest.mark.parametrize("end", ["terminate", "expire"])
def test_upload_that_ends_early_leaves_nothing(app: Flask, tus: Tus, end: str) -> None:
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[: 6 * MIB]).status_code == 204
    objects, pending = left_in(storage_of(app))
    assert (len(objects), len(pending), parts_in_table(app)) == (1, 1, 1)
    if end == "terminate":
        assert tus.delete(url).status_code == 204
    else:
        age_row(app, id_of(url))
        with app.app_context():
            assert len(flask_chunked.delete_expired()) == 1
    require_only(app)


@pytest.mark.parametrize(
    ("prefix", "key", "ours"),
    [
        ("films/", f"films/2026/11/23/{ID}", True),
        ("films/", f"films/{ID}", True),
        ("films/", f"films/a-{ID}", True),
        ("films/", f"films/projects/7/a b-{ID}", True),
        ("films/", f"films/projects/7/{ID}.tail.{'0' * 32}", True),
        ("films/", f"films/projects/7/a{ID}", False),
        ("films/", f"films/projects/7/-{ID}", False),
        ("films/", f"films/projects//{ID}", False),
        ("films/", f"films/{ID}.bak", False),
        ("films/", f"filmsx/{ID}", False),
        ("", f"2026/11/23/{ID}", True),
        ("", f"projects/7/a-{ID}", False),
        ("", f"{ID}", False),
    ],
)
def test_object_is_an_uploads_if_its_key_ends_in_an_id(
    monkeypatch: pytest.MonkeyPatch, prefix: str, key: str, ours: bool
) -> None:
    """Without a prefix only below a day: the rest of the bucket may be of others."""
    storage = new_storage(prefix=prefix)
    found = [BucketObject(key, 3, CREATED)]
    monkeypatch.setattr(Bucket, "objects", lambda *_: iter(found))
    monkeypatch.setattr(Bucket, "open_uploads", lambda *_: iter(()))
    listed = [item.key for item in storage.stored()]
    assert listed == ([key.partition(".tail.")[0]] if ours else [])


@pytest.mark.slow
def test_check_removes_what_no_row_names(app: Flask, tus: Tus) -> None:
    storage = storage_of(app)
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[: 6 * MIB]).status_code == 204
    (upload,) = rows(app)
    key = str(upload.storage_key)
    stranger = storage.new_key(UUID(int=1), upload.created_at)
    storage.bucket.put(storage.layout.tail_name(key, "0" * 32), io.BytesIO(b"old"), 3)
    storage.bucket.put(
        storage.layout.tail_name(stranger, "1" * 32), io.BytesIO(b"old"), 3
    )
    storage.bucket.put(stranger, io.BytesIO(b"whole"), 5)
    storage.bucket.begin(key)
    storage.bucket.begin(stranger)
    storage.bucket.put(f"{storage.prefix}of-others", io.BytesIO(b"left alone"), 10)
    found = check_much_later(app)
    assert sorted(finding.kind for finding in found) == ["orphan"] * 5
    assert all(finding.repaired for finding in found)
    objects, pending = left_in(storage)
    assert (len(objects), len(pending)) == (2, 1)
    # The upload's own tail and parts are still there, and it goes on.
    assert check_much_later(app) == []
    assert tus.patch(url, 6 * MIB, CONTENT[6 * MIB :]).status_code == 204
    assert tus.content(url) == CONTENT


@pytest.mark.slow
def test_check_reports_missing_bytes(app: Flask, tus: Tus) -> None:
    storage = storage_of(app)
    tail, parts = tus.create(100), tus.create(len(CONTENT))
    tus.patch(tail, 0, b"0123456789")
    tus.patch(parts, 0, CONTENT[: 6 * MIB])
    for pending in list(storage.bucket.open_uploads(storage.prefix)):
        storage.bucket.abort(pending.key, pending.upload)
    for found in list(storage.bucket.objects(storage.prefix)):
        storage.bucket.delete(found.key)
    assert sorted(finding.kind for finding in check_much_later(app)) == ["missing"] * 2
    assert rows(app) == []


@pytest.mark.slow
def test_missing_bucket_is_not_reported_as_lost_bytes(s3_app: S3App) -> None:
    app = s3_app()
    tus, storage = Tus(app.test_client()), storage_of(app)
    assert tus.patch(tus.create(10), 0, b"0123").status_code == 204
    storage.bucket.close()
    # This server creates a missing bucket for a write, but not for a read.
    missing = Bucket(replace(storage.bucket.settings, name="missing"))
    storage.layout = replace(storage.layout, bucket=missing)
    with app.app_context():
        findings = flask_chunked.check(repair=True)
    assert {one.kind for one in findings} == {"unchecked"}
    assert "files" in {one.subject for one in findings}
    assert len(rows(app)) == 1


@pytest.mark.slow
def test_download_may_be_the_stores_own(s3_app: S3App) -> None:
    app = s3_app(storage={"presign": 60})
    client = app.test_client()
    url = send(client, CONTENT).get_json()["url"]
    answer = client.get(url + "/file")
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "no-store"
    with urllib.request.urlopen(answer.headers["Location"]) as content:
        assert content.read() == CONTENT
        assert content.headers["Content-Disposition"].startswith("attachment")
        assert content.headers["Content-Type"] == "application/octet-stream"
    head = client.head(url + "/file")
    assert (head.status_code, head.content_length) == (200, len(CONTENT))


@pytest.mark.slow
def test_finished_file_is_opened_and_moved(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    assert send(client, CONTENT).status_code == 200
    (upload,) = rows(app)
    blueprint = blueprint_of(app)
    with app.app_context():
        with blueprint.open(upload) as reader:
            reader.seek(5 * MIB)
            assert reader.read(9) == CONTENT[5 * MIB : 5 * MIB + 9]
        with pytest.raises(NotLocal):
            blueprint.path(upload)
        blueprint.move(upload, tmp_path / "film")
    assert (tmp_path / "film").read_bytes() == CONTENT
    require_only(app)


@pytest.mark.slow
def test_inspect_sees_the_first_bytes_of_a_long_chunk(
    s3_app: S3App, server: S3Server, app_factory: AppFactory
) -> None:
    seen = []

    class Inspecting(s3_blueprint(server)):  # type: ignore[misc]
        def inspect(self, upload: Upload, head: bytes) -> None:
            seen.append(head)

    app = app_factory(blueprint_class=Inspecting, CHUNKED_UPLOAD_DOWNLOADS=True)
    tus = Tus(app.test_client())
    assert send(app.test_client(), CONTENT).status_code == 200
    answer = tus.final(tus.partial(CONTENT), tus.partial(b"abc"))
    assert answer.status_code == 201, answer.text
    # Of the ordinary upload and of the final one; partial uploads are no files.
    assert seen == [CONTENT[:4096]] * 2
    storage_of(app).bucket.close()
