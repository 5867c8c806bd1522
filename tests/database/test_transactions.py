"""The engine's own short transactions: SQLite files, memory, locks and refusals."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.test import TestResponse

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.database.connections import CHECKPOINT_PAGES
from flask_chunked.exceptions import DatabaseUnavailable

from ..apps import registered, rows, stored_files
from ..conftest import AppFactory
from ..exchange import begin, detail, finish, post_whole, put_form, put_raw, send


def pragma(app: Flask, name: str) -> object:
    """What our own connection to the app's SQLite file says."""
    with app.app_context(), registered(app).database.transaction() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar_one()


# -- SQLite files ----------------------------------------------------------------------

SYNCHRONOUS = {"normal": 1, "full": 2}


@pytest.mark.parametrize(
    ("config", "journal", "synchronous"),
    [
        pytest.param({}, "wal", "full", id="default"),
        pytest.param({"DURABLE": False}, "wal", "normal", id="not-durable"),
        pytest.param({"SQLITE_WAL": False}, "delete", "full", id="no-wal"),
        pytest.param(
            {"SQLITE_WAL": False, "DURABLE": False},
            "delete",
            "normal",
            id="no-wal-not-durable",
        ),
    ],
)
def test_pragmas_of_the_engines_connections(
    app_factory: AppFactory, config: dict[str, object], journal: str, synchronous: str
) -> None:
    app = app_factory(**{f"CHUNKED_UPLOAD_{k}": v for k, v in config.items()})
    assert pragma(app, "journal_mode") == journal
    assert pragma(app, "synchronous") == SYNCHRONOUS[synchronous]
    if journal == "wal":
        assert pragma(app, "wal_autocheckpoint") == CHECKPOINT_PAGES


def test_pragmas_are_on_the_engines_connections_only(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_DURABLE=False)
    here = registered(app)
    with app.app_context():
        assert here.database.engine() is not here.db.engine
        assert here.database.engine().url == here.db.engine.url
        with here.db.engine.connect() as connection:
            theirs = connection.execute(text("PRAGMA synchronous")).scalar_one()
    assert theirs == SYNCHRONOUS["full"]


def test_other_databases_keep_the_applications_engine(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    here = registered(app)
    with app.app_context():
        theirs = create_engine("mysql+pymysql://", module=sqlite3, _initialize=False)
        engines: Any = here.db.engines
        engines[None] = theirs
        with caplog.at_level(logging.WARNING):
            assert here.database.engine() is theirs
    assert "mysql is not supported" in caplog.text


def test_forked_worker_gets_connections_of_its_own(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = registered(app).database
    with app.app_context():
        before = database.engine()
        assert database.engine() is before
        monkeypatch.setattr("os.getpid", lambda: -1)
        after = database.engine()
        assert after is not before
        before.dispose()


# -- a locked database -----------------------------------------------------------------


@pytest.fixture
def locked(
    app_factory: AppFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Any]:
    """A writer that locks the database until it is closed."""
    monkeypatch.setattr("flask_chunked.database.transactions.BUSY_TIMEOUT", 0.0)

    def lock() -> Any:
        connection = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        return closing(connection)

    return lock


LOCKED: dict[str, Callable[[FlaskClient, str], TestResponse]] = {
    "create-raw": lambda client, url: put_raw(client, b"abc"),
    "create-form": lambda client, url: put_form(client, b"abc"),
    "create-whole": lambda client, url: post_whole(client, b"abc"),
    "append-raw": lambda client, url: put_raw(client, b"def", start=3, url=url),
    "append-form": lambda client, url: put_form(client, b"def", start=3, url=url),
    "complete": lambda client, url: finish(client, url, b"abcdef"),
    "delete": lambda client, url: client.delete(url),
    "head": lambda client, url: client.head(url),
}


@pytest.mark.parametrize("act", LOCKED.values(), ids=LOCKED)
def test_locked_database_is_503_and_changes_nothing(
    locked: Callable[[], Any],
    app_factory: AppFactory,
    tmp_path: Path,
    act: Callable[[FlaskClient, str], TestResponse],
) -> None:
    app = app_factory()
    client = app.test_client()
    complete = act is LOCKED["complete"]
    url = begin(client, b"abcdef" if complete else b"abc", 6)
    before, files = rows(app), stored_files(tmp_path)
    with locked():
        answer = act(client, url)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    if answer.request.method != "HEAD":
        assert answer.json == {
            "detail": "Database is not available",
            "code": "database_unavailable",
        }
    assert rows(app) == before
    if complete:
        # The bytes are finished before the row says so.
        files = [file.with_suffix(".done") for file in files]
    assert stored_files(tmp_path) == files
    assert act(client, url).status_code in (200, 204)


def test_reading_does_not_wait_for_a_writer(
    locked: Callable[[], Any], app_factory: AppFactory
) -> None:
    client = app_factory().test_client()
    url = begin(client, b"abc", 6)
    with locked():
        assert client.get(url).status_code == 200
        assert len(client.get("/uploads/?count=1").json or []) == 0
        assert client.get("/uploads/").status_code == 200


def test_database_that_cannot_be_opened_is_503(
    app: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with app.app_context():
        registered(app).database.dispose()
    for name in ("app.db", "app.db-wal", "app.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "app.db").mkdir()
    answer = put_raw(app.test_client(), b"abc")
    assert (answer.status_code, detail(answer)) == (503, "Database is not available")
    assert str(tmp_path) not in answer.text
    assert "unable to open database file" in caplog.text


def test_errors_of_the_applications_statements_are_not_swallowed(app: Flask) -> None:
    database = registered(app).database
    with (
        app.app_context(),
        pytest.raises(ZeroDivisionError),
        database.transaction() as connection,
    ):
        connection.execute(text("DELETE FROM chunked_upload"))
        raise ZeroDivisionError


def test_failed_transaction_is_rolled_back(app: Flask) -> None:
    begin(app.test_client(), b"abc", 6)
    database = registered(app).database
    with (
        app.app_context(),
        pytest.raises(DatabaseUnavailable),
        database.transaction() as connection,
    ):
        connection.execute(text("DELETE FROM chunked_upload"))
        raise sqlite_error()
    assert len(rows(app)) == 1


def sqlite_error() -> Exception:
    return OperationalError("DELETE", {}, sqlite3.OperationalError("disk I/O error"))


# -- SQLite in memory ------------------------------------------------------------------

MEMORY = ["sqlite://", "sqlite:///:memory:"]


@pytest.fixture(params=MEMORY)
def in_memory(
    app_factory: AppFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[Flask, SQLAlchemy, type[Any]]]:
    """An app on a database in memory, with a table of its own and a user from it."""
    db = SQLAlchemy()

    class Note(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Uploads(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return db.session.get(Note, 1).id  # type: ignore[union-attr]

    app = app_factory(
        db=db,
        blueprint_class=Uploads,
        SQLALCHEMY_DATABASE_URI=request.param,
    )
    with app.app_context():
        db.create_all()
        db.session.add(Note(id=1))
        db.session.commit()
        yield app, db, Note


def test_memory_works_with_one_warning(
    in_memory: tuple[Flask, SQLAlchemy, type[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    app, _, _ = in_memory
    client = app.test_client()
    url = begin(client, b"abc", 6)
    assert put_form(client, b"def", start=3, url=url).status_code == 200
    assert client.head(url).headers["Upload-Offset"] == "6"
    assert finish(client, url, b"abcdef").status_code == 200
    assert len(client.get("/uploads/?status=all").json or []) == 1
    assert post_whole(client, b"xyz").status_code == 200
    assert client.delete(url).status_code == 204
    warned = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warned) <= 1  # the tables' creation may have warned before
    assert all("for tests" in one.getMessage() for one in warned)


def test_memory_warns_once_that_it_is_for_tests(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_factory(SQLALCHEMY_DATABASE_URI="sqlite://")
    for _ in range(3):
        send(app.test_client(), b"abc")
    warned = [one for one in caplog.records if "for tests" in one.getMessage()]
    assert len(warned) == 1


def test_memory_keeps_the_sessions_open_transaction(
    in_memory: tuple[Flask, SQLAlchemy, type[Any]],
) -> None:
    app, db, note = in_memory
    repository = registered(app).repository
    db.session.add(note(id=2))
    db.session.flush()
    assert list(repository.matching()) == []
    db.session.rollback()
    assert db.session.get(note, 2) is None
    db.session.add(note(id=3))
    db.session.flush()
    assert list(repository.matching()) == []
    db.session.commit()
    assert db.session.get(note, 3) is not None
