"""The usual fixtures of tests that roll everything back leave nothing of uploads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Engine, Transaction, orm, text
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import ChunkedUploadBlueprint

from .apps import rows
from .conftest import AppFactory
from .exchange import begin, finish, post_whole, put_form, put_raw

#: Rolls back what the block has done.
Fixture = Callable[[Flask, SQLAlchemy], AbstractContextManager[None]]


def begun(engine: Engine) -> tuple[Connection, Transaction]:
    """A connection in a transaction that a savepoint's end does not commit."""
    connection = engine.connect()
    transaction = connection.begin()
    if engine.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
    return connection, transaction


@contextmanager
def swapped_engines(app: Flask, db: SQLAlchemy) -> Iterator[None]:
    """Connections in the place of engines (Flask-SQLAlchemy, issue 1171)."""
    with app.app_context():
        engines: Any = db.engines
    kept = []
    for key, engine in engines.items():
        connection = engine.connect()
        kept.append((key, engine, connection, connection.begin()))
        engines[key] = connection
    yield
    for key, engine, connection, transaction in kept:
        transaction.rollback()
        connection.close()
        engines[key] = engine


@contextmanager
def swapped_engines_with_savepoints(app: Flask, db: SQLAlchemy) -> Iterator[None]:
    """The same with a session that keeps to its own savepoint."""
    with app.app_context():
        db.session.configure(join_transaction_mode="create_savepoint")
    with swapped_engines(app, db):
        with app.app_context():
            for connection in db.engines.values():
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]
        yield
    with app.app_context():
        db.session.configure(join_transaction_mode="conditional_savepoint")


@contextmanager
def bound_session(app: Flask, db: SQLAlchemy) -> Iterator[None]:
    """Another registry of sessions, bound to a connection."""
    kept = db.session
    with app.app_context():
        connection, transaction = begun(db.engine)
        sessions: Any = orm.sessionmaker(
            connection, join_transaction_mode="create_savepoint"
        )
        db.session = orm.scoped_session(sessions)
        yield
        db.session.remove()
        transaction.rollback()
        connection.close()
        db.session = kept


@contextmanager
def one_session(app: Flask, db: SQLAlchemy) -> Iterator[None]:
    """One session in the place of the registry."""
    kept = db.session
    with app.app_context():
        connection, transaction = begun(db.engine)
        session = orm.Session(connection, join_transaction_mode="create_savepoint")
        # Flask-SQLAlchemy calls it at the end of each request.
        session.remove = session.close  # type: ignore[attr-defined]
        db.session = session  # type: ignore[assignment]
        yield
        session.close()
        transaction.rollback()
        connection.close()
        db.session = kept


FIXTURES: dict[str, Fixture] = {
    "swapped-engines": swapped_engines,
    "swapped-engines-savepoints": swapped_engines_with_savepoints,
    "bound-session": bound_session,
    "one-session": one_session,
}


@pytest.fixture(
    params=["file", pytest.param("sqlite://", marks=pytest.mark.sqlite, id="memory")]
)
def site(
    app_factory: AppFactory, request: pytest.FixtureRequest
) -> tuple[Flask, SQLAlchemy, type[Any]]:
    """An app whose hooks use ``db.session``, and a model of the app."""
    db = SQLAlchemy()

    class Note(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Uploads(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return db.session.get(Note, 1).id  # type: ignore[union-attr]

        def verify(self, upload: Any) -> None:
            assert upload.filename
            assert db.session.get(Note, 1)

        def deliver(self, upload: Any) -> None:
            db.session.add(Note(id=2 + db.session.query(Note).count()))
            db.session.commit()

        def on_completion(self, upload: Any) -> None:
            assert db.session.get(Note, 1)

    config: dict[str, Any] = {"db": db, "blueprint_class": Uploads}
    if request.param != "file":
        config["SQLALCHEMY_DATABASE_URI"] = request.param
    app = app_factory(CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False, **config)
    with app.app_context():
        db.create_all()
    return app, db, Note


@pytest.mark.parametrize("fixture", FIXTURES.values(), ids=FIXTURES)
def test_everything_works_and_is_rolled_back(
    site: tuple[Flask, SQLAlchemy, type[Any]], fixture: Fixture
) -> None:
    app, db, note = site
    # Twice: what the first test leaves would disturb the second.
    for _ in range(2):
        with fixture(app, db):
            with app.app_context():
                db.session.add(note(id=1))
                db.session.commit()
            client = app.test_client()
            url = begin(client, b"abc", 6)
            assert put_form(client, b"def", start=3, url=url).status_code == 200
            assert finish(client, url, b"abcdef").status_code == 200
            assert post_whole(client, b"abc").status_code == 200
            assert client.get(url).status_code == 200
            assert len(client.get("/uploads/?status=all").json or []) == 2
            assert client.delete(url).status_code == 204
            (row,) = rows(app)
            assert row.delivered_at is not None
        assert rows(app) == []
        with app.app_context():
            assert db.session.query(note).count() == 0


def test_guard_sees_writes_in_a_fixture(
    app_factory: AppFactory,
) -> None:
    db = SQLAlchemy()

    class Note(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Uploads(ChunkedUploadBlueprint):
        def validate(self, upload: Any) -> None:
            db.session.execute(text("INSERT INTO note (id) VALUES (1)"))

    app = app_factory(db=db, blueprint_class=Uploads)
    with app.app_context():
        db.create_all()
    with (
        swapped_engines_with_savepoints(app, db),
        pytest.raises(RuntimeError, match=r"commit\(\)"),
    ):
        put_raw(app.test_client(), b"abc")


def test_fixture_comes_after_a_request(
    site: tuple[Flask, SQLAlchemy, type[Any]],
) -> None:
    app, db, note = site
    with app.app_context():
        db.session.add(note(id=1))
        db.session.commit()
    client = app.test_client()
    begin(client, b"abc", 6)
    with swapped_engines(app, db):
        begin(client, b"abc", 6)
        assert len(rows(app)) == 2
    assert len(rows(app)) == 1
    begin(client, b"abc", 6)
    assert len(rows(app)) == 2
