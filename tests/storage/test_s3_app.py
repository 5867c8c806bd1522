"""Whole uploads into a real S3 server, in both dialects, with SQLite beside."""

from __future__ import annotations

import gc
import hashlib
import io
import random
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

import flask_chunked
from flask_chunked.engine.records import Step, Upload
from flask_chunked.engine.writer import UploadWriter
from flask_chunked.exceptions import (
    DatabaseUnavailable,
    NotLocal,
    StorageError,
    Superseded,
)
from flask_chunked.maintenance import Finding
from flask_chunked.storage.s3.bucket import Bucket
from flask_chunked.storage.s3.writer import S3Appender
from tests.aging import age_row
from tests.apps import blueprint_of, registered, rows, stop_clock
from tests.conftest import AppFactory
from tests.dialects.tus import CHUNKED, Tus, checksum
from tests.dialects.wire import cut
from tests.exchange import content_range, finish, id_of, put_raw, send
from tests.s3 import S3Server, left_in, s3_blueprint, storage_of

pytestmark = pytest.mark.slow

MIB = 2**20
CONTENT = random.Random(3).randbytes(12 * MIB + 17)
S3App = Callable[..., Flask]


@pytest.fixture(params=["s3_server", "swift_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of two makers' servers."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, S3Server)
    return found


@pytest.fixture
def s3_app(app_factory: AppFactory, server: S3Server) -> Iterator[S3App]:
    """Apps whose blueprint keeps its uploads on the server."""
    made = []

    def make(*, storage: dict[str, object] | None = None, **config: object) -> Flask:
        app = app_factory(
            blueprint_class=s3_blueprint(server, **(storage or {})),
            CHUNKED_UPLOAD_DOWNLOADS=True,
            **config,
        )
        made.append(app)
        return app

    yield make
    for app in made:
        storage_of(app).bucket.close()


@pytest.fixture
def app(s3_app: S3App) -> Flask:
    return s3_app()


@pytest.fixture
def tus(app: Flask) -> Tus:
    return Tus(app.test_client())


def parts_in_table(app: Flask) -> int:
    here = registered(app)
    assert here.parts is not None
    with app.app_context(), here.database.transaction() as connection:
        statement = select(func.count()).select_from(here.parts.table)
        return int(connection.execute(statement).scalar_one())


def check_much_later(app: Flask) -> list[Finding]:
    stop_clock(app, datetime.now(timezone.utc) + timedelta(hours=1))
    with app.app_context():
        return flask_chunked.check(repair=True)


def require_only(app: Flask, *uploads: Upload) -> None:
    """Nothing is left on the server but these finished files."""
    keys = sorted(str(upload.storage_key) for upload in uploads)
    assert left_in(storage_of(app)) == (keys, [])
    assert parts_in_table(app) == 0


# -- Content-Range -------------------------------------------------------------------


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


def test_cut_request_keeps_what_arrived(app: Flask) -> None:
    client = app.test_client()
    headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    client.put(
        "/uploads/",
        headers=headers,
        environ_overrides=cut(CONTENT[: 7 * MIB], announced=len(CONTENT)),
        content_type="application/octet-stream",
    )
    (upload,) = rows(app)
    assert upload.offset == 7 * MIB
    url = f"/uploads/{upload.id}"
    rest = put_raw(
        client, CONTENT[7 * MIB :], start=7 * MIB, total=len(CONTENT), url=url
    )
    assert rest.status_code == 200
    assert finish(client, url, CONTENT).status_code == 200
    require_only(app, *rows(app))


# -- tus -----------------------------------------------------------------------------


def test_tus_upload_in_pieces(app: Flask, tus: Tus) -> None:
    url = tus.create(len(CONTENT))
    for start in range(0, len(CONTENT), 5 * MIB + 1):
        assert tus.offset(url) == start
        chunk = CONTENT[start : start + 5 * MIB + 1]
        told = {"Upload_Checksum": checksum("sha256", chunk)} if start else {}
        assert tus.patch(url, start, chunk, **told).status_code == 204
    assert tus.content(url) == CONTENT
    require_only(app, *rows(app))


def test_length_that_the_store_cannot_take_is_refused_at_once(
    app: Flask, tus: Tus
) -> None:
    created = tus.post(Upload_Length=str(2**60))
    first = app.test_client().put(
        "/uploads/", data=b"abc", headers={"Content-Range": f"bytes 0-2/{2**60}"}
    )
    for answer in (created, first):
        assert answer.status_code == 507
        assert "files of this length" in answer.text
    assert rows(app) == []


def test_length_that_comes_with_an_empty_request(app: Flask, tus: Tus) -> None:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    assert tus.patch(url, 0, CONTENT[: 6 * MIB]).status_code == 204
    answer = tus.patch(url, 6 * MIB, b"", Upload_Length=str(6 * MIB))
    assert answer.status_code == 204
    assert tus.content(url) == CONTENT[: 6 * MIB]
    require_only(app, *rows(app))


def test_concatenation_copies_inside_the_store(
    app: Flask, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, copied = storage_of(app), []
    real = storage.bucket.copy_part

    def copy_part(*arguments: object, **more: object) -> object:
        copied.append(arguments[4])
        return real(*arguments, **more)  # type: ignore[arg-type]

    a = tus.partial(CONTENT[: 11 * MIB])
    b = tus.partial(CONTENT[11 * MIB : 11 * MIB + 3])
    c = tus.partial(CONTENT)
    monkeypatch.setattr(storage.bucket, "copy_part", copy_part)
    whole = CONTENT[: 11 * MIB + 3] + CONTENT
    answer = tus.final(a, b, c)
    assert answer.status_code == 201, answer.text
    assert tus.content(answer.headers["Location"]) == whole
    # Two of the first, one of the last; and the tail of them all.
    assert copied == [5 * MIB] * 3 + [len(whole) - 20 * MIB]
    require_only(app, *rows(app))


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


def test_body_without_a_length_goes_on_for_ever(app: Flask, tus: Tus) -> None:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    answer = app.test_client().patch(
        url,
        environ_overrides={**CHUNKED, "wsgi.input": io.BytesIO(CONTENT)},
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Transfer-Encoding": "chunked",
            "Content-Type": "application/offset+octet-stream",
        },
    )
    assert answer.status_code == 204
    assert tus.offset(url) == len(CONTENT)


# -- two writers ---------------------------------------------------------------------


def test_writer_that_was_superseded_is_never_listed(app: Flask) -> None:
    """It took a part's number, slept, and sends its part after all is committed."""
    here = registered(app)
    client = app.test_client()
    total = 10 * MIB + 1
    engine, storage = here.engine, storage_of(app)
    upload = _created(app, total)
    with app.app_context():
        claimed = here.repository.claim(upload.id, 0)
        assert claimed is not None and claimed.blob is not None
        writer = UploadWriter(claimed, engine.ports)
        stale = writer._appender
        assert isinstance(stale, S3Appender)
        with stale.exclusive():
            stale.write(b"x" * (5 * MIB))
            number = stale._take_number()
    at = f"/uploads/{upload.id}"
    wanted = CONTENT[:total]
    assert put_raw(client, wanted, total=total, url=at).status_code == 200
    late = storage.bucket.send_part(
        claimed.blob.key, stale._upload, number, stale._spool.file, 5 * MIB
    )
    with app.app_context(), pytest.raises(Superseded), stale.exclusive():
        stale._sent.append(late)
        stale._state = replace(stale._state, parts=1)
        stale.position = 5 * MIB
        writer._commit()
    writer.__exit__(None, None, None)
    assert finish(client, at, wanted).status_code == 200
    with client.get(at + "/file") as answer:
        assert hashlib.md5(answer.get_data()).digest() == hashlib.md5(wanted).digest()


@pytest.mark.parametrize("happened", [True, False], ids=["committed", "not-committed"])
def test_commit_without_a_reply_loses_no_tail(
    app: Flask, tus: Tus, happened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, asked = registered(app).repository, []
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[:1000]).status_code == 204
    real = repository.advance

    def advance(step: Step) -> bool:
        asked.append(step)
        if len(asked) > 1:
            return real(step)
        if happened:
            assert real(step)
        raise DatabaseUnavailable()

    monkeypatch.setattr(repository, "advance", advance)
    tus.patch(url, 1000, CONTENT[1000:3000])
    assert len(asked) == 2
    offset = tus.offset(url)
    assert offset == 3000
    assert tus.patch(url, offset, CONTENT[offset:]).status_code == 204
    assert tus.content(url) == CONTENT
    check_much_later(app)
    require_only(app, *rows(app))


def test_tail_that_the_row_names_outlives_a_database_that_is_away(
    app: Flask, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[:1000]).status_code == 204
    with monkeypatch.context() as patch:

        def advance(step: Step) -> bool:
            raise DatabaseUnavailable()

        patch.setattr(registered(app).repository, "advance", advance)
        assert tus.patch(url, 1000, CONTENT[1000:3000]).status_code == 503
    assert tus.offset(url) == 1000
    assert tus.patch(url, 1000, CONTENT[1000:]).status_code == 204
    assert tus.content(url) == CONTENT
    check_much_later(app)
    require_only(app, *rows(app))


class Endless(io.RawIOBase):
    """A body that is made while it is read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.block = random.Random(9).randbytes(MIB)

    def read(self, size: int = -1) -> bytes:
        count = min(self.left, MIB if size < 0 else size, MIB)
        self.left -= count
        return self.block[:count]


def peak_rss() -> int:
    """Bytes that this process had resident at most, since it was last set back."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_memory_does_not_grow_with_the_body(app: Flask, tus: Tus) -> None:
    def send_much(size: int) -> None:
        answer = app.test_client().patch(
            tus.create(size),
            environ_overrides={
                "wsgi.input": Endless(size),
                "CONTENT_LENGTH": str(size),
            },
            headers={
                "Tus-Resumable": "1.0.0",
                "Upload-Offset": "0",
                "Content-Type": "application/offset+octet-stream",
            },
        )
        assert answer.status_code == 204, answer.text

    send_much(6 * MIB)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_rss()
    send_much(128 * MIB)
    assert peak_rss() - before <= 16 * MIB


def _created(app: Flask, length: int) -> Upload:
    url = Tus(app.test_client()).create(length)
    upload = registered(app).repository
    with app.app_context():
        row = upload.get(UUID(url.rpartition("/")[2]))
    assert row is not None
    return row


# -- check ---------------------------------------------------------------------------


def test_check_removes_what_no_row_names(app: Flask, tus: Tus) -> None:
    storage = storage_of(app)
    url = tus.create(len(CONTENT))
    assert tus.patch(url, 0, CONTENT[: 6 * MIB]).status_code == 204
    (upload,) = rows(app)
    key = str(upload.storage_key)
    stranger = storage.new_key(UUID(int=1), upload.created_at)
    storage.bucket.put(storage.tail_name(key, "0" * 32), io.BytesIO(b"old"), 3)
    storage.bucket.put(storage.tail_name(stranger, "1" * 32), io.BytesIO(b"old"), 3)
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


def test_check_tells_of_bytes_that_are_gone(app: Flask, tus: Tus) -> None:
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


def test_bucket_that_is_not_there_is_no_loss(s3_app: S3App) -> None:
    app = s3_app()
    tus, storage = Tus(app.test_client()), storage_of(app)
    assert tus.patch(tus.create(10), 0, b"0123").status_code == 204
    storage.bucket.close()
    # This server makes a bucket for whoever writes, but not for who reads.
    storage.bucket = Bucket(replace(storage.bucket.settings, name="nobody-made-it"))
    with app.app_context(), pytest.raises(StorageError):
        flask_chunked.check(repair=True)
    assert len(rows(app)) == 1


# -- the application -------------------------------------------------------------------


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
    assert seen == [CONTENT[:4096]] * 2 + [b"abc"] + [CONTENT[:4096]]
    storage_of(app).bucket.close()
