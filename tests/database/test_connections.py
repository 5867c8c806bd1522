"""The library's connections are made as the application's are."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, Engine, ForeignKey, Pool, create_engine, event, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.pool import AssertionPool, NullPool, StaticPool

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    create_tables,
    dispose,
)

from ..apps import registered, rows
from ..conftest import AppFactory
from ..exchange import begin, finish, post_whole, put_form, put_raw, send
from ..statements import executor_of


def fetch(app: Flask, sql: str) -> Any:
    """What a connection of the library answers."""
    with app.app_context(), registered(app).database.transaction() as connection:
        return connection.execute(text(sql)).scalar_one()


def exchange(app: Flask) -> None:
    """Uploads on the usual roads."""
    client = app.test_client()
    url = begin(client, b"abc", 6)
    assert put_form(client, b"def", start=3, url=url).status_code == 200
    assert finish(client, url, b"abcdef").status_code == 200
    assert post_whole(client, b"abc").status_code == 200
    assert client.delete(url).status_code == 204
    assert len(rows(app)) == 1


class Counted(sqlite3.Connection):
    """A connection of the application's class."""

    made: list[Counted] = []

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.made.append(self)


# -- listeners and options -------------------------------------------------------------

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize(
    "where", ["engine", "engine-class", "pool-class", "do_connect"]
)
def test_listeners_of_the_application_are_called_once_for_each_connection(
    app_factory: AppFactory, where: str
) -> None:
    app = app_factory()
    heard: list[object] = []

    def listen(connection: Any, _record: object) -> None:
        heard.append(connection)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=OFF")

    def connect(_dialect: object, _record: object, args: Any, options: Any) -> Any:
        connection = sqlite3.connect(*args, **options)
        listen(connection, None)
        return connection

    with app.app_context():
        engine = registered(app).db.engine
    targets: dict[str, Any] = {
        "engine": (engine, "connect", listen),
        "engine-class": (Engine, "connect", listen),
        "pool-class": (Pool, "connect", listen),
        "do_connect": (engine, "do_connect", connect),
    }
    event.listen(*targets[where])
    try:
        dispose(app)
        assert fetch(app, "PRAGMA foreign_keys") == 1
        # The library's own settings come last.
        assert fetch(app, "PRAGMA synchronous") == 2
        assert fetch(app, "PRAGMA journal_mode") == "wal"
        exchange(app)
        assert len(heard) == len(set(map(id, heard))) <= 2
    finally:
        event.remove(*targets[where])


OPTIONS: dict[str, dict[str, Any]] = {
    "connect_args": {"connect_args": {"factory": Counted}},
    "null-pool": {"poolclass": NullPool, "connect_args": {"factory": Counted}},
    "one-connection": {
        "pool_size": 1,
        "max_overflow": 0,
        "pool_timeout": 1,
        "connect_args": {"factory": Counted},
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_the_application_are_used(
    app_factory: AppFactory, options: dict[str, Any]
) -> None:
    Counted.made.clear()
    app = app_factory(SQLALCHEMY_ENGINE_OPTIONS=options)
    exchange(app)
    executor = executor_of(registered(app).database)
    assert executor is not None
    assert Counted.made
    assert all(isinstance(one, Counted) for one in executor._idle)


def test_creator_of_the_application_is_used(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    def create() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "elsewhere.db", check_same_thread=False)

    app = app_factory(SQLALCHEMY_ENGINE_OPTIONS={"creator": create})
    create_tables(app)
    exchange(app)
    assert (tmp_path / "elsewhere.db").exists()


def test_pools_with_one_connection_share_the_applications(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    for pool in (StaticPool, AssertionPool):
        caplog.clear()
        app = app_factory(
            db=SQLAlchemy(), SQLALCHEMY_ENGINE_OPTIONS={"poolclass": pool}
        )
        with app.app_context():
            registered(app).db.drop_all()
            registered(app).db.create_all()
            assert registered(app).database.engine() is registered(app).db.engine
        exchange(app)
        assert f"{pool.__name__} is for tests only" in caplog.text


def test_json_is_written_as_the_application_writes_it(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        seen: Mapped[dict[str, Any]] = mapped_column(
            JSON, default=lambda: {"at": datetime(2026, 1, 2)}
        )

    app = app_factory(
        db=db,
        model=Video,
        SQLALCHEMY_ENGINE_OPTIONS={"json_serializer": partial_dumps},
    )
    assert send(app.test_client(), b"abc").status_code == 200
    assert rows(app)[0].extra["seen"] == {"at": "2026-01-02 00:00:00"}


def partial_dumps(value: object) -> str:
    return json.dumps(value, default=str)


# -- transactions ----------------------------------------------------------------------


def leave_transactions_to_a_listener(app: Flask) -> None:
    """SQLAlchemy's recipe for savepoints on SQLite."""
    engine = registered(app).db.engine

    @event.listens_for(engine, "connect")
    def do_not_begin(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin_now(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


RECIPES: dict[str, tuple[dict[str, Any], Callable[[Flask], object]]] = {
    "savepoint-recipe": ({}, leave_transactions_to_a_listener),
    "autocommit": ({"isolation_level": "AUTOCOMMIT"}, bool),
    "autocommit-option": (
        {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
        bool,
    ),
    "serializable": ({"isolation_level": "SERIALIZABLE"}, bool),
}


@pytest.mark.parametrize(("options", "prepare"), RECIPES.values(), ids=RECIPES)
def test_transactions_stay_transactions(
    app_factory: AppFactory,
    options: dict[str, Any],
    prepare: Callable[[Flask], object],
) -> None:
    assert_atomic(app_factory(SQLALCHEMY_ENGINE_OPTIONS=options), prepare)


def assert_atomic(app: Flask, prepare: Callable[[Flask], object] = bool) -> None:
    """Two statements of a transaction that fails have no effect."""
    with app.app_context():
        prepare(app)
        begin(app.test_client(), b"abc", 6)
        here = registered(app)
        with suppress(ZeroDivisionError), here.database.transaction() as connection:
            connection.execute(here.table.update().values(filename="changed"))
            connection.execute(here.table.delete())
            raise ZeroDivisionError
    (row,) = rows(app)
    assert row.filename != "changed"
    exchange_more(app)


def exchange_more(app: Flask) -> None:
    assert send(app.test_client(), b"abc").status_code == 200


# -- changes and the end ---------------------------------------------------------------


def test_listener_that_comes_later_counts_from_then_on(app: Flask) -> None:
    begin(app.test_client(), b"abc", 6)
    assert fetch(app, "PRAGMA foreign_keys") == 0
    heard: list[object] = []

    def listen(connection: Any, _record: object) -> None:
        heard.append(connection)
        connection.execute("PRAGMA foreign_keys=ON")

    with app.app_context():
        event.listen(registered(app).db.engine, "connect", listen)
    assert fetch(app, "PRAGMA foreign_keys") == 1
    begin(app.test_client(), b"abc", 6)
    executor = executor_of(registered(app).database)
    assert executor is not None
    (idle,) = executor._idle
    assert idle.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert idle in heard


def test_engine_that_the_application_replaces_counts_from_then_on(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    app = app_factory()
    begin(app.test_client(), b"abc", 6)
    with app.app_context():
        db = registered(app).db
        engines: Any = db.engines
        old = db.engine
        engines[None] = create_engine(f"sqlite:///{tmp_path}/other.db")
        create_tables(app)
        assert rows(app) == []
        begin(app.test_client(), b"abc", 6)
        assert len(rows(app)) == 1
        db.engine.dispose()
        engines[None] = old
        assert len(rows(app)) == 1


def test_dispose_closes_the_librarys_connections_only(app_factory: AppFactory) -> None:
    Counted.made.clear()
    app = app_factory(SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"factory": Counted}})
    with app.app_context(), registered(app).db.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    theirs = list(Counted.made)
    exchange(app)
    dispose(app)
    ours = [one for one in Counted.made if one not in theirs]
    assert ours
    for one in ours:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            one.execute("SELECT 1")
    for one in theirs:
        one.execute("SELECT 1")
    # The next request opens new ones.
    assert put_raw(app.test_client(), b"abc").status_code == 200


def test_create_tables_leaves_no_connection_open(app_factory: AppFactory) -> None:
    Counted.made.clear()
    app = app_factory(
        db=SQLAlchemy(),
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"factory": Counted}},
    )
    assert Counted.made
    with app.app_context():
        assert registered(app).db.engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    for one in Counted.made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            one.execute("SELECT 1")


def test_log_that_cannot_be_switched_on_now_is_switched_on_later(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    app = app_factory()
    dispose(app)
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN")
    other.execute("SELECT * FROM chunked_upload").fetchall()
    assert fetch(app, "PRAGMA journal_mode") == "delete"
    assert app.test_client().get("/uploads/").status_code == 200
    other.rollback()
    other.close()
    dispose(app)
    assert fetch(app, "PRAGMA journal_mode") == "wal"


def test_cascades_of_the_database_run(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    class Comment(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        video_id: Mapped[uuid.UUID] = mapped_column(
            ForeignKey("video.id", ondelete="CASCADE")
        )

    class Videos(ChunkedUploadBlueprint):
        model = Video
        schema_class = ChunkedUploadSchema

    app = app_factory(db=db, blueprint_class=Videos)
    with app.app_context():
        event.listen(db.engine, "connect", enforce_keys)
        db.create_all()
    client = app.test_client()
    url = begin(client, b"abc", 6)
    with app.app_context():
        db.session.add(Comment(video_id=rows(app)[0].id))
        db.session.commit()
    assert client.delete(url).status_code == 204
    with app.app_context():
        assert db.session.query(Comment).count() == 0


def enforce_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
