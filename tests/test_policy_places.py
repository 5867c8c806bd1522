"""``get_fields``, ``get_path`` and ``new_name``: the choices of an application."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy.orm import Mapped
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    Upload,
    check,
)
from tests.aging import age_file
from tests.apps import blueprint_of, rows
from tests.conftest import AppFactory
from tests.dialects.tus import Tus
from tests.exchange import PREFIX, begin, finish, post_whole, put_form, put_raw, send

OCTETS = "application/offset+octet-stream"

# -- every way to create an upload -----------------------------------------------------


def _tus(client: FlaskClient, **headers: str) -> TestResponse:
    return Tus(client).post(Upload_Length="3", **headers)


def _tus_with_bytes(client: FlaskClient) -> TestResponse:
    told = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Content-Type": OCTETS}
    return client.post(PREFIX + "/", data=b"abc", headers=told)


def _tus_deferred(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Defer_Length="1")


def _tus_partial(client: FlaskClient) -> TestResponse:
    return _tus(client, Upload_Concat="partial")


def _tus_final(client: FlaskClient) -> TestResponse:
    """A final upload of no members that exist yet: two empty partial ones."""
    tus = Tus(client)
    one, two = (
        tus.post(Upload_Length="0", Upload_Concat="partial").headers["Location"]
        for _ in range(2)
    )
    return tus.final(one, two)


def _tus_empty(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Length="0")


def _put_empty(client: FlaskClient) -> TestResponse:
    return put_raw(client, b"", total=0)


def _put_raw(client: FlaskClient) -> TestResponse:
    return put_raw(client, b"abc")


def _put_form(client: FlaskClient) -> TestResponse:
    return put_form(client, b"abc")


def _post_whole(client: FlaskClient) -> TestResponse:
    return post_whole(client, b"abc")


def _put_of_many_blocks(client: FlaskClient) -> TestResponse:
    return put_raw(client, b"x" * 3_000_000)


Create = Callable[[FlaskClient], TestResponse]
WAYS: list[Create] = [
    _put_raw,
    _put_form,
    _post_whole,
    _put_empty,
    _put_of_many_blocks,
    _tus,
    _tus_with_bytes,
    _tus_deferred,
    _tus_empty,
    _tus_partial,
    _tus_final,
]
EVERY_WAY = pytest.mark.parametrize(
    "create", WAYS, ids=[way.__name__.strip("_") for way in WAYS]
)


# -- get_fields ------------------------------------------------------------------------


class Given:
    """What ``get_fields`` does in a test."""

    def __init__(self) -> None:
        self.calls = 0
        self.result: object = {"project": 7}


@cache
def _documents() -> tuple[SQLAlchemy, type[Any], type[ChunkedUploadSchema]]:
    """A database, a model and its schema; the same for all apps."""
    db = SQLAlchemy()

    class Document(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        project: Mapped[int | None]
        title: Mapped[str | None]

    class Schema(ChunkedUploadSchema):
        title = fields.String()
        project = fields.Integer()

    return db, Document, Schema


def fields_app(app_factory: AppFactory, given: Given, **more: Any) -> Flask:
    db, document, schema = _documents()

    class Documents(ChunkedUploadBlueprint):
        model = document
        schema_class = schema

        def get_fields(self) -> Mapping[str, object]:
            given.calls += 1
            if isinstance(given.result, BaseException):
                raise given.result
            return given.result  # type: ignore[return-value]

    return app_factory(db=db, blueprint_class=Documents, **more)


@EVERY_WAY
def test_fields_are_stored_with_every_new_upload(
    app_factory: AppFactory, create: Create
) -> None:
    given = Given()
    app = fields_app(app_factory, given)
    answer = create(app.test_client())
    assert answer.status_code in (200, 201), answer.text
    found = rows(app)
    assert found
    assert {upload.extra["project"] for upload in found} == {7}
    assert given.calls == len(found)


@EVERY_WAY
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"project": 7, "length": 5}, r"for 'length', but .* are: project, title"),
        ({"user": "ann"}, "for 'user'"),
        ({"filename": "x"}, "for 'filename'"),
        ({"storage_key": "x", "status": "complete"}, "for 'status', 'storage_key'"),
        ({"missing": 1}, "for 'missing'"),
        ([("project", 7)], "returned list; return a dict"),
        (None, "returned NoneType; return a dict"),
    ],
    ids=["length", "user", "filename", "several", "no column", "list", "none"],
)
def test_other_fields_are_an_error_for_the_developer(
    app_factory: AppFactory,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    create: Create,
    result: object,
    message: str,
) -> None:
    given = Given()
    given.result = result
    app = fields_app(app_factory, given, TESTING=False)
    if create is _tus_final:
        given.result = {}
        tus = Tus(app.test_client())
        urls = [
            tus.post(Upload_Length="0", Upload_Concat="partial").headers["Location"]
            for _ in range(2)
        ]
        given.result = result
        answer = tus.final(*urls)
    else:
        urls = []
        answer = create(app.test_client())
    assert answer.status_code == 500
    assert "Internal Server Error" in answer.text
    assert b"get_fields" not in answer.data
    assert len(rows(app)) == len(urls)
    assert len(files_below(tmp_path / "instance")) == 0 or urls
    with pytest.raises(RuntimeError, match=message):
        raise error_of(caplog)


def error_of(caplog: pytest.LogCaptureFixture) -> BaseException:
    """The exception that the application's log has."""
    (record,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert record.exc_info is not None and record.exc_info[1] is not None
    return record.exc_info[1]


def test_fields_of_the_application_win(
    app_factory: AppFactory,
) -> None:
    app = fields_app(app_factory, Given())
    put_form(app.test_client(), b"abc", fields={"project": "8", "title": "x"})
    (upload,) = rows(app)
    assert upload.extra == {"project": 7, "title": "x"}


def test_validate_and_the_query_see_the_fields(app_factory: AppFactory) -> None:
    db = SQLAlchemy()
    seen: list[object] = []

    class Document(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        project: Mapped[int]

    class Documents(ChunkedUploadBlueprint):
        model = Document

        def get_fields(self) -> Mapping[str, object]:
            assert request.view_args is not None
            if request.view_args["project"] > 10:
                raise ChunkedUploadError("No such project", status=404)
            return {"project": request.view_args["project"]}

        def get_query(self) -> Any:
            assert request.view_args is not None
            project = request.view_args["project"]
            return super().get_query().where(Document.project == project)

        def validate(self, upload: Upload) -> None:
            seen.append(upload.project)

    app = app_factory(
        db=db,
        blueprint_class=Documents,
        url_prefix="/projects/<int:project>/files",
    )
    client = app.test_client()
    url = begin(client, b"abc", 3, url="/projects/7/files/")
    assert seen == [7]
    assert finish(client, url, b"abc").status_code == 200
    assert client.get(url.replace("/7/", "/8/")).status_code == 404
    unknown = put_raw(client, b"abc", url="/projects/11/files/")
    assert (unknown.status_code, unknown.json) == (
        404,
        {
            "detail": "No such project",
            "code": "rejected",
        },
    )
    assert len(rows(app)) == 1


def test_refusal_of_get_fields_stores_nothing(app_factory: AppFactory) -> None:
    given = Given()
    given.result = ChunkedUploadError("Project is closed", status=403)
    app = fields_app(app_factory, given)
    answer = put_raw(app.test_client(), b"abc")
    assert (answer.status_code, answer.json) == (
        403,
        {
            "detail": "Project is closed",
            "code": "rejected",
        },
    )
    assert rows(app) == []


# -- get_path and new_name -------------------------------------------------------------


class Chosen:
    """What the hooks return in a test, and what they were asked with."""

    def __init__(self, directory: object = None, name: object = None) -> None:
        self.directory = directory
        self.name = name
        self.seen: list[tuple[str, Upload]] = []


def placing(chosen: Chosen) -> type[ChunkedUploadBlueprint]:
    class Placed(ChunkedUploadBlueprint):
        def get_path(self, upload: Upload) -> str | None:
            chosen.seen.append(("get_path", upload))
            return chosen.directory  # type: ignore[return-value]

        def new_name(self, upload: Upload) -> str | None:
            chosen.seen.append(("new_name", upload))
            return chosen.name  # type: ignore[return-value]

    return Placed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "instance" / "chunked_uploads"


@EVERY_WAY
@pytest.mark.local_disk
def test_file_is_where_the_application_wants_it(
    app_factory: AppFactory, root: Path, create: Create
) -> None:
    chosen = Chosen("films/2026 ü", "a film.mp4")
    app = app_factory(blueprint_class=placing(chosen), CHUNKED_UPLOAD_DOWNLOADS=True)
    answer = create(app.test_client())
    assert answer.status_code in (200, 201), answer.text
    uploads = rows(app)
    for upload in uploads:
        assert upload.storage_key == f"films/2026 ü/a film.mp4-{upload.id}"
    hooks = [name for name, _ in chosen.seen]
    assert hooks == ["get_path", "new_name"] * len(uploads)
    assert all(upload.offset == 0 for _, upload in chosen.seen)
    assert {upload.id for _, upload in chosen.seen} == {one.id for one in uploads}
    known = {f"{upload.storage_key}{end}" for upload in uploads for end in ENDS}
    files = {str(path.relative_to(root)) for path in files_below(root)}
    assert files <= known
    if uploads[-1].offset:
        assert files


ENDS = (".part", ".done")


def files_below(root: Path) -> list[Path]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in found if ".staging" not in path.parts]


@pytest.mark.parametrize(
    ("directory", "name", "pattern"),
    [
        (None, None, r"\d{4}/\d\d/\d\d/{id}.done"),
        (None, "film", r"\d{4}/\d\d/\d\d/film-{id}.done"),
        ("", None, "{id}.done"),
        ("", "film", "film-{id}.done"),
        ("a/b", None, "a/b/{id}.done"),
        ("...", "..film", r"\.\.\./\.\.film-{id}.done"),
        ("日本", "é" * 75, f"日本/{'é' * 75}-{{id}}.done"),
        ("x" * 150, "y" * 150, f"{'x' * 150}/{'y' * 150}-{{id}}.done"),
        ("a\nb", "c\td", "a\nb/c\td-{id}.done"),
    ],
)
@pytest.mark.local_disk
def test_whole_life_of_a_placed_file(
    app_factory: AppFactory,
    tmp_path: Path,
    root: Path,
    directory: str | None,
    name: str | None,
    pattern: str,
) -> None:
    app = app_factory(
        blueprint_class=placing(Chosen(directory, name)), CHUNKED_UPLOAD_DOWNLOADS=True
    )
    client = app.test_client()
    url = begin(client, b"abc", 6)
    assert put_raw(client, b"def", start=3, total=6, url=url).status_code == 200
    done = finish(client, url, b"abcdef")
    assert done.status_code == 200
    (upload,) = rows(app)
    with app.app_context():
        path = blueprint_of(app).file_path(upload)
        assert check() == []
    wanted = pattern.replace("{id}", str(upload.id))
    assert re.fullmatch(wanted, str(path.relative_to(root)))
    with client.get(f"{url}/file") as content:
        assert content.data == b"abcdef"
    with app.app_context():
        age_file(path)
        assert check() == []
        blueprint_of(app).move_file(upload, tmp_path / "taken")
    assert files_below(root) == []
    assert [one.name for one in root.iterdir()] == [".staging"]


@pytest.mark.local_disk
def test_two_uploads_never_share_a_file(app_factory: AppFactory, root: Path) -> None:
    app = app_factory(blueprint_class=placing(Chosen("one", "same.txt")))
    client = app.test_client()
    for data in (b"abc", b"def"):
        assert send(client, data).status_code == 200
    assert sorted(path.read_bytes() for path in files_below(root)) == [b"abc", b"def"]


@pytest.mark.local_disk
def test_answer_of_another_time_does_not_matter(app_factory: AppFactory) -> None:
    """The hooks are asked at creation; the row keeps their answer."""
    chosen = Chosen("one", "a")
    app = app_factory(blueprint_class=placing(chosen))
    client = app.test_client()
    url = begin(client, b"abc", 6)
    chosen.directory, chosen.name = "two", "b"
    put_raw(client, b"def", start=3, total=6, url=url)
    assert finish(client, url, b"abcdef").status_code == 200
    (upload,) = rows(app)
    assert upload.storage_key == f"one/a-{upload.id}"
    assert len(chosen.seen) == 2


BAD = [
    ("..", None),
    (".", None),
    ("a/../../b", None),
    ("/etc", None),
    ("a/", None),
    ("a//b", None),
    ("a\0b", None),
    ("x" * 151, None),
    ("ü" * 76, None),
    ("\udcff", None),
    (7, None),
    (".staging", None),
    ("a/.staging/b", None),
    ("/".join(["x" * 120] * 5), None),
    (None, ".."),
    (None, "."),
    (None, "a/b"),
    (None, "../a"),
    (None, "a\0"),
    (None, "x" * 151),
    (None, "\ud800"),
    (None, b"a"),
]


@pytest.mark.parametrize(("directory", "name"), BAD, ids=ascii)
@pytest.mark.parametrize("create", [_put_raw, _put_form, _post_whole, _tus_with_bytes])
@pytest.mark.local_disk
def test_bad_place_is_an_error_for_the_developer_and_stores_nothing(
    app_factory: AppFactory,
    root: Path,
    caplog: pytest.LogCaptureFixture,
    directory: object,
    name: object,
    create: Create,
) -> None:
    app = app_factory(blueprint_class=placing(Chosen(directory, name)), TESTING=False)
    answer = create(app.test_client())
    assert answer.status_code == 500
    assert b"get_path" not in answer.data
    with pytest.raises(RuntimeError, match=r"^get_path\(\) or new_name\(\) chose"):
        raise error_of(caplog)
    assert rows(app) == []
    assert files_below(root) == []


def test_refusal_of_a_hook_stores_nothing(app_factory: AppFactory, root: Path) -> None:
    class Refusing(ChunkedUploadBlueprint):
        def new_name(self, upload: Upload) -> str | None:
            raise ChunkedUploadError("No such folder", status=422)

    app = app_factory(blueprint_class=Refusing)
    answer = put_raw(app.test_client(), b"abc")
    assert (answer.status_code, answer.json) == (
        422,
        {
            "detail": "No such folder",
            "code": "rejected",
        },
    )
    assert rows(app) == []
    assert files_below(root) == []


@pytest.mark.local_disk
def test_directory_of_another_storage_is_refused(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture, root: Path
) -> None:
    """The check of that storage would remove the file: no row of its has the key."""
    app = app_factory(
        blueprint_class=placing(Chosen("inner/deep", None)), TESTING=False
    )
    inner = type(
        "Inner", (ChunkedUploadBlueprint,), {"path": "chunked_uploads/inner/%Y"}
    )
    app.register_blueprint(inner("inner", __name__), url_prefix="/inner")
    client = app.test_client()
    begin(client, b"abc", 3, url="/inner/")
    assert put_raw(client, b"abc").status_code == 500
    assert "belongs to another storage" in str(error_of(caplog))
    assert len(files_below(root)) == 1


# -- check -----------------------------------------------------------------------------


@pytest.mark.local_disk
def test_check_knows_files_by_the_id_and_leaves_others(
    app_factory: AppFactory, root: Path
) -> None:
    app = app_factory(blueprint_class=placing(Chosen("films", "film-1")))
    client = app.test_client()
    begin(client, b"abc", 6)
    send(client, b"abc")
    kept = files_below(root)
    directory = kept[0].parent
    other = "0a1b2c3d-0000-4000-8000-000000000000"
    orphans = [directory / f"film-1-{other}.part", root / f"{other}.done"]
    foreign = [
        directory / name
        for name in (
            "notes.txt",
            f"film{other}.part",
            f"film-{other}.part.bak",
            f"film-{other}",
            f"film-{other[1:]}.done",
            f"-{other}.done",
            f"{other}-film.done",
        )
    ]
    for path in (*orphans, *foreign):
        path.write_bytes(b"xyz")
    unreadable = root / "caf\udce9"
    unreadable.mkdir()
    (unreadable / f"a-{other}.done").write_bytes(b"xyz")
    for path in (*kept, *orphans, *foreign, *unreadable.iterdir()):
        age_file(path)
    with app.app_context():
        found = check(repair=True)
    assert sorted(finding.kind for finding in found) == ["orphan", "orphan"]
    assert {finding.subject for finding in found} == {f"films/film-1-{other}", other}
    assert not any(path.exists() for path in orphans)
    assert all(path.exists() for path in (*kept, *foreign, *unreadable.iterdir()))
