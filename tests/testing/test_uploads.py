"""Uploads of tests: sent, begun, resumed, deleted, refused, and of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from flask import Blueprint, Flask, g
from flask_login import (
    FlaskLoginClient,
    LoginManager,
    UserMixin,
)
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables
from flask_chunked.exceptions import BytesMissing
from flask_chunked.testing import (
    DIALECTS,
    DialectName,
    SentUpload,
    UploadRefused,
    begin,
    refusal,
    upload,
)
from tests.apps import rows
from tests.conftest import AppFactory, NewApp
from tests.testing.notes import Note, db

CONTENT = b"0123456789"

every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@every_dialect
@pytest.mark.parametrize("stop", [None, 9])
@pytest.mark.parametrize("then", [*DIALECTS, None])
def test_begun_upload_is_resumed_in_every_dialect(
    notes: Flask, dialect: DialectName, stop: int | None, then: DialectName | None
) -> None:
    options: Any = {"dialect": dialect, "chunk_size": 3}
    half = begin(notes.test_client(), "/notes/", CONTENT, stop, **options)
    assert half.offset() == (stop or 5)
    assert half.json()["status"] == 1
    done = half.resume(then)
    assert (done.id, done.read()) == (half.id, CONTENT)
    assert done.json()["status"] == 2
    assert done.offset() == len(CONTENT)


@every_dialect
def test_resuming_a_complete_upload_changes_nothing(
    notes: Flask, dialect: DialectName
) -> None:
    done = upload(notes.test_client(), "/notes/", CONTENT, dialect=dialect)
    before = rows(notes, "notes")
    assert done.resume().response.status_code in (200, 204)
    assert rows(notes, "notes") == before


@every_dialect
@pytest.mark.parametrize("is_done", [True, False], ids=["complete", "begun"])
def test_upload_is_deleted(notes: Flask, dialect: DialectName, is_done: bool) -> None:
    send = upload if is_done else begin
    sent = send(notes.test_client(), "/notes/", CONTENT, dialect=dialect)
    assert sent.delete().status_code == 204
    assert rows(notes, "notes") == []
    with pytest.raises(UploadRefused, match="404"):
        sent.json()


REFUSED = {
    "validate": ("a.exe", CONTENT, "No programs"),
    "inspect": ("a.txt", b"MZ, and more", "No programs inside"),
    "verify": ("a.txt", b"a virus", "A virus"),
}


@every_dialect
@pytest.mark.parametrize("hook", REFUSED)
def test_refusal_raises_or_is_returned(
    notes: Flask, dialect: DialectName, hook: str
) -> None:
    filename, content, reason = REFUSED[hook]
    client = notes.test_client()
    options: Any = {"filename": filename, "dialect": dialect}
    with pytest.raises(AssertionError, match=f"422 .*{reason}") as caught:
        upload(client, "/notes/", content, **options)
    assert isinstance(caught.value, UploadRefused)
    assert caught.value.response.status_code == 422
    answer = refusal(client, "/notes/", content, **options)
    assert answer.status_code == 422
    assert reason in answer.text


@every_dialect
def test_refusal_of_an_accepted_upload_fails(
    notes: Flask, dialect: DialectName
) -> None:
    with pytest.raises(AssertionError, match=r"was accepted: .*upload\.bin"):
        refusal(notes.test_client(), "/notes/", CONTENT, dialect=dialect)


def test_answer_of_something_else_is_no_upload(app: Flask) -> None:
    app.before_request(lambda: "a page")
    with pytest.raises(UploadRefused, match="200 OK: a page"):
        upload(app.test_client(), "/uploads/", CONTENT)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/upload/", "at '/upload/'; the app has them at: /uploads/"),
        ("/uploads/static/", "at '/uploads/static/'"),
        ("/uploads/6b57f113-2647-4e47-bf2e-6bc55e410c58", "the app has them at"),
    ],
)
def test_other_url_is_an_error_that_names_the_right_one(
    app: Flask, url: str, reason: str
) -> None:
    with pytest.raises(LookupError, match=reason):
        upload(app.test_client(), url, CONTENT)


def test_app_without_a_blueprint_is_an_error(new_app: NewApp) -> None:
    with pytest.raises(LookupError, match="has them at: none"):
        upload(new_app().test_client(), "/uploads/", CONTENT)


@pytest.mark.parametrize(
    ("content", "stop"), [(b"", None), (b"1", None), (b"12", 2), (b"12", 0)]
)
def test_begin_leaves_something(app: Flask, content: bytes, stop: int | None) -> None:
    with pytest.raises(ValueError, match="to leave a file of"):
        begin(app.test_client(), "/uploads/", content, stop)
    assert rows(app) == []


class User(UserMixin):  # type: ignore[misc]
    """A user of Flask-Login."""

    def __init__(self, name: str) -> None:
        self.id = name


@pytest.fixture
def members(app_factory: AppFactory) -> Flask:
    """An app with Flask-Login and its own test client."""
    app = app_factory(CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False)
    LoginManager(app).user_loader(User)
    app.test_client_class = FlaskLoginClient
    return app


@every_dialect
def test_sessions_of_flask_login_own_their_uploads(
    members: Flask, dialect: DialectName
) -> None:
    ann = members.test_client(user=User("ann"))
    bob = members.test_client(user=User("bob"))
    half = begin(ann, "/uploads/", CONTENT, dialect=dialect)
    assert half.json()["user"] == "ann"
    with pytest.raises(UploadRefused, match="404"):
        half.seen_by(bob).resume()
    assert half.resume().json()["status"] == 2
    assert refusal(members.test_client(), "/uploads/", CONTENT).status_code >= 400


@every_dialect
def test_prefix_may_have_variables_and_a_parent(
    new_app: NewApp, dialect: DialectName
) -> None:
    app = new_app(SQLAlchemy(), SERVER_NAME="example.org")
    api = Blueprint("api", __name__, url_prefix="/<tenant>")
    blueprint = ChunkedUploadBlueprint("files", __name__)
    api.register_blueprint(blueprint, url_prefix="/files")
    app.register_blueprint(api)
    create_tables(app)
    half = begin(app.test_client(), "/acme/files/", CONTENT, dialect=dialect)
    assert half.url == f"/acme/files/{half.id}"
    assert half.resume().read() == CONTENT


def test_file_that_was_moved_away_cannot_be_read(app: Flask, tmp_path: Path) -> None:
    sent = upload(app.test_client(), "/uploads/", CONTENT)
    blueprint = cast(ChunkedUploadBlueprint, app.blueprints["uploads"])
    with app.app_context():
        blueprint.move_file(sent.id, tmp_path / "moved")
    with pytest.raises(BytesMissing):
        sent.read()


def test_context_of_the_test_stays_as_it_is(notes: Flask) -> None:
    with notes.app_context():
        g.mine = 1
        sent = upload(notes.test_client(), "/notes/", CONTENT, fields={"title": "T"})
        assert g.mine == 1
        note = db.session.get(Note, sent.id)
        assert note is not None
        assert note.title == "T"


def test_memory_storage_leaves_nothing_on_the_disk(notes: Flask) -> None:
    for dialect in DIALECTS:
        begin(notes.test_client(), "/notes/", CONTENT, dialect=dialect).resume()
    assert not Path(notes.instance_path).exists()


def test_memory_storage_has_a_dotted_path(app_factory: AppFactory) -> None:
    name = "flask_chunked.testing:MemoryStorage"
    app = app_factory(CHUNKED_UPLOAD_STORAGE_CLASS=name)
    assert upload(app.test_client(), "/uploads/", CONTENT).read() == CONTENT


def test_repr_of_an_upload_is_short(app: Flask) -> None:
    sent = upload(app.test_client(), "/uploads/", CONTENT)
    assert isinstance(sent, SentUpload)
    assert "0123" not in repr(sent)
    assert str(sent.id) in repr(sent)
