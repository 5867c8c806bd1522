"""The application's ``db.session``: never committed, and released before a wait."""

from __future__ import annotations

import io
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_user,
)
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, event, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app

from flask_chunked import (
    ChunkedUploadBlueprint,
    Upload,
    delete_expired,
    deliver_pending,
    uploads,
)
from flask_chunked.signals import BY_EVENT

from ..apps import blueprint_of, dispose, make_app, registered, rows, stored_files
from ..conftest import AppFactory
from ..exchange import begin, content_range, finish, post_whole, put_form, put_raw, send
from ..places import DATABASE
from ..session_writes import (
    POSTGRESQL_READS,
    POSTGRESQL_WRITES,
    RAW_WRITES,
    READS,
    SQLITE_READS,
    WRITES,
    Way,
)

PUT_TYPES = {
    "raw": ("application/octet-stream", b"%s"),
    "form": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s'
        b"\r\n--b--\r\n",
    ),
}


class Watched(io.BytesIO):
    """A request's body that looks at something each time it is read."""

    def __init__(self, body: bytes, look: Callable[[], object]) -> None:
        super().__init__(body)
        self.look = look
        self.seen: list[object] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.seen.append(self.look())
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        self.seen.append(self.look())
        return super().readinto(buffer)


@cache
def _models() -> tuple[SQLAlchemy, type[Any], type[Any]]:
    """A database, its users and its notes; the same for all sites."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Note(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(String(20))

    return db, User, Note


class Site:
    """An app whose users and notes live in the same ``db`` as its uploads."""

    def __init__(
        self, app_factory: AppFactory, policy: type[ChunkedUploadBlueprint]
    ) -> None:
        self.db, user, self.note = db, user, note = _models()
        self.app: Flask = app_factory(
            db=db, blueprint_class=policy, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False
        )
        manager = LoginManager(self.app)
        manager.user_loader(lambda user_id: db.session.get(user, int(user_id)))

        @self.app.post("/login")
        def login() -> str:
            login_user(db.session.get(user, 1))
            return "welcome"

        with self.app.app_context():
            db.create_all()
            db.session.add(user(id=1))
            db.session.add(note(text="first"))
            db.session.commit()

    def client(self) -> FlaskClient:
        """Somebody who is logged in."""
        client = self.app.test_client()
        client.post("/login")
        return client

    def connections(self) -> int:
        """How many of the application's pooled connections are out."""
        with self.app.app_context():
            return int(self.db.engine.pool.checkedout())  # type: ignore[attr-defined]

    def notes(self) -> list[str]:
        """What is committed."""
        with self.app.app_context():
            return list(self.db.session.scalars(self.db.select(self.note.text)))


# -- connections while a body is read --------------------------------------------------


@pytest.mark.parametrize("kind", PUT_TYPES)
@pytest.mark.parametrize("first", [True, False], ids=["create", "append"])
def test_no_connection_is_held_while_a_body_is_read(
    app_factory: AppFactory, kind: str, first: bool
) -> None:
    asked: list[int] = []

    class Uploads(ChunkedUploadBlueprint):
        def authorize(self, action: str, upload: Upload | None) -> bool:
            assert current_user.id == 1
            asked.append(site.connections())
            return True

    site = Site(app_factory, Uploads)
    client = site.client()
    url = "/uploads/" if first else begin(client, b"abc", 6)
    start = 0 if first else 3
    content_type, shape = PUT_TYPES[kind]
    body = Watched(shape % b"def", site.connections)
    asked.clear()
    answer = client.put(
        url,
        input_stream=body,
        content_type=content_type,
        headers={
            "Content-Range": content_range(b"def", start, 6),
            "Content-Length": str(len(body.getvalue())),
        },
    )
    assert answer.status_code == 200, answer.text
    assert asked == [1]  # Flask-Login's user came through the application's pool
    assert body.seen
    assert set(body.seen) == {0}
    assert site.connections() == 0


def test_no_connection_is_held_while_a_completion_form_is_read(
    app_factory: AppFactory,
) -> None:
    site = Site(app_factory, ChunkedUploadBlueprint)
    client = site.client()
    url = begin(client, b"", 0)
    body = Watched(b"md5=d41d8cd98f00b204e9800998ecf8427e", site.connections)
    answer = client.post(
        url,
        input_stream=body,
        content_type="application/x-www-form-urlencoded",
        headers={"Content-Length": str(len(body.getvalue()))},
    )
    assert answer.status_code == 200, answer.text
    assert set(body.seen) == {0}


def test_finding_an_upload_needs_one_connection_only(
    app_factory: AppFactory,
) -> None:
    held: list[int] = []

    class Uploads(ChunkedUploadBlueprint):
        def get_query(self) -> Any:
            held.append(site.connections())
            return super().get_query()

    site = Site(app_factory, Uploads)
    client = site.client()
    url = begin(client, b"abc", 6)
    for answer in (client.get(url), client.head(url), client.get("/uploads/?count=1")):
        assert answer.status_code == 200
    assert held == [0, 0, 0, 0]


def test_refused_body_is_drained_without_a_connection(
    app_factory: AppFactory,
) -> None:
    site = Site(app_factory, ChunkedUploadBlueprint)
    builder = EnvironBuilder(
        "/uploads/3b241101-e2bb-4255-8caf-4136c566a962", method="PUT"
    )
    environ = builder.get_environ()
    body = Watched(b"x" * 100, site.connections)
    environ.update({"wsgi.input": body, "CONTENT_LENGTH": "100", "CONTENT_TYPE": "a/b"})
    _, status, _ = run_wsgi_app(site.app, environ)
    assert status.startswith("404")
    assert set(body.seen) <= {0}


# -- uncommitted work ------------------------------------------------------------------


def add(site: Site) -> None:
    site.db.session.add(site.note(text="pending"))


def flush(site: Site) -> None:
    add(site)
    site.db.session.flush()


def insert_in_bulk(site: Site) -> None:
    site.db.session.execute(insert(site.note).values(text="pending"))


IS_SQLITE = os.environ.get(DATABASE) != "postgresql"
ALL_WRITES = {**WRITES, **(RAW_WRITES if IS_SQLITE else POSTGRESQL_WRITES)}
ALL_READS = {**READS, **(SQLITE_READS if IS_SQLITE else POSTGRESQL_READS)}

REQUESTS: dict[str, Callable[[FlaskClient, str], TestResponse]] = {
    "create-raw": lambda client, url: put_raw(client, b"abc"),
    "create-form": lambda client, url: put_form(client, b"abc"),
    "create-whole": lambda client, url: post_whole(client, b"abc"),
    "append-raw": lambda client, url: put_raw(client, b"def", start=3, url=url),
    "append-form": lambda client, url: put_form(client, b"def", start=3, url=url),
    "head": lambda client, url: client.head(url),
    "delete": lambda client, url: client.delete(url),
}


class Working(ChunkedUploadBlueprint):
    """Does work in ``authorize`` and does not commit it.

    :ivar work: what it does.
    """

    work: Callable[[], None] = staticmethod(lambda: None)

    def authorize(self, action: str, upload: Upload | None) -> bool:
        self.work()
        return True


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    """A site for all cases, because none of them leaves anything, and its directory."""
    directory = tmp_path_factory.mktemp("working")
    with pytest.MonkeyPatch.context() as patch:
        # A request that waited for its own lock would wait for long.
        patch.setattr("flask_chunked.database.transactions.BUSY_TIMEOUT", 0.0)
        site = Site(partial(make_app, directory), Working)
        begin(site.client(), b"abc", 6)
    yield site, directory
    dispose(site.app)


@pytest.mark.parametrize("act", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("work", ALL_WRITES.values(), ids=ALL_WRITES)
def test_uncommitted_work_is_an_error_that_names_commit(
    working: tuple[Site, Path],
    monkeypatch: pytest.MonkeyPatch,
    work: Way,
    act: Callable[[FlaskClient, str], TestResponse],
) -> None:
    site, directory = working
    client = site.client()
    before, files = rows(site.app), stored_files(directory)
    url = f"/uploads/{before[0].id}"
    blueprint = blueprint_of(site.app)
    session = site.db.session
    monkeypatch.setattr(blueprint, "work", lambda: work(session, site.note))
    with pytest.raises(RuntimeError, match=r"db\.session\.commit\(\)"):
        act(client, url)
    assert site.notes() == ["first"]
    assert len(before) == 1
    assert rows(site.app) == before
    assert stored_files(directory) == files
    assert site.connections() == 0


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    """A site for all cases, whose hooks call what ``HOOKS`` has."""
    directory = tmp_path_factory.mktemp("hooked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flask_chunked.database.transactions.BUSY_TIMEOUT", 0.0)
        yield Site(partial(make_app, directory), Hooked), directory


#: Name of a hook -> what it does, in the one test that runs.
HOOKS: dict[str, Callable[[], object]] = {}


class Hooked(ChunkedUploadBlueprint):
    """Every hook does what a test wants."""

    def get_user_id(self) -> object:
        HOOKS.get("get_user_id", int)()
        return 1

    def get_query(self) -> Any:
        HOOKS.get("get_query", int)()
        return super().get_query()

    def validate(self, upload: Upload) -> None:
        HOOKS.get("validate", int)()

    def inspect(self, upload: Upload, head: bytes) -> None:
        HOOKS.get("inspect", int)()

    def verify(self, upload: Any) -> None:
        HOOKS.get("verify", int)()

    def deliver(self, upload: Any) -> None:
        HOOKS.get("deliver", int)()


@pytest.fixture
def do_in() -> Iterator[dict[str, Callable[[], object]]]:
    """``HOOKS``, which is empty again after the test."""
    yield HOOKS
    HOOKS.clear()


REFUSING = ("get_user_id", "get_query", "validate", "inspect", "verify")


@pytest.mark.parametrize("work", ALL_WRITES.values(), ids=ALL_WRITES)
@pytest.mark.parametrize("hook", REFUSING)
def test_uncommitted_work_of_a_hook_is_an_error_too(
    hooked: tuple[Site, Path],
    do_in: dict[str, Callable[[], object]],
    hook: str,
    work: Way,
) -> None:
    site, _ = hooked
    client = site.client()
    url = begin(client, b"abc", 3)
    do_in[hook] = lambda: work(site.db.session, site.note)
    with pytest.raises(RuntimeError, match=r"uncommitted writes .*commit\(\)"):
        if hook in ("get_query", "verify"):
            finish(client, url, b"abc")
        else:
            put_raw(client, b"abc")
    do_in.clear()
    assert site.notes() == ["first"]
    assert finish(client, url, b"abc").status_code == 200


@pytest.mark.parametrize("work", ALL_WRITES.values(), ids=ALL_WRITES)
def test_delivery_with_uncommitted_work_stays_pending_and_says_so(
    hooked: tuple[Site, Path],
    do_in: dict[str, Callable[[], object]],
    caplog: pytest.LogCaptureFixture,
    work: Way,
) -> None:
    site, _ = hooked
    do_in["deliver"] = lambda: work(site.db.session, site.note)
    answer = send(site.client(), b"abc")
    assert answer.status_code == 200
    assert "call db.session.commit() first" in caplog.text
    assert site.notes() == ["first"]
    with site.app.app_context():
        (left,) = deliver_pending(older_than=timedelta(0), retry_now=True)
        assert not left.delivered
        do_in["deliver"] = lambda: site.db.session.get(site.note, 1)
        (done,) = deliver_pending(older_than=timedelta(0), retry_now=True)
        assert done.delivered


@pytest.mark.parametrize("read", ALL_READS.values(), ids=ALL_READS)
@pytest.mark.parametrize("hook", [*REFUSING, "deliver"])
def test_read_is_no_write(
    hooked: tuple[Site, Path],
    do_in: dict[str, Callable[[], object]],
    hook: str,
    read: Way,
) -> None:
    site, _ = hooked
    client = site.client()
    do_in[hook] = lambda: read(site.db.session, site.note)
    assert send(client, b"abc").status_code == 200
    do_in.clear()
    with site.app.app_context():
        assert list(deliver_pending(older_than=timedelta(0))) == []
    assert site.connections() == 0


def begin_by_listener(db: SQLAlchemy, statement: str) -> None:
    """SQLAlchemy's recipe for savepoints on SQLite."""

    @event.listens_for(db.engine, "connect")
    def leave_begin_to_us(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(db.engine, "begin")
    def begin_now(connection: Any) -> None:
        connection.exec_driver_sql(statement)


@pytest.mark.sqlite
@pytest.mark.parametrize("statement", ["BEGIN", "BEGIN IMMEDIATE"])
def test_savepoint_recipe_hides_no_write_and_makes_no_read_one(
    app_factory: AppFactory, do_in: dict[str, Callable[[], object]], statement: str
) -> None:
    site = Site(app_factory, Hooked)
    with site.app.app_context():
        site.db.engine.dispose()
        begin_by_listener(site.db, statement)
    session, note = site.db.session, site.note
    for hook in (*REFUSING, "deliver"):
        for read in ALL_READS.values():
            do_in[hook] = partial(read, session, note)
            assert send(site.client(), b"abc").status_code == 200
        do_in.clear()
    for write in ALL_WRITES.values():
        do_in["validate"] = partial(write, session, note)
        with pytest.raises(RuntimeError, match=r"commit\(\)"):
            put_raw(site.client(), b"abc")
        assert site.notes() == ["first"]


def test_flush_that_failed_leaves_nothing_to_lose(
    app_factory: AppFactory, do_in: dict[str, Callable[[], object]]
) -> None:
    site = Site(app_factory, Hooked)

    def fail() -> None:
        site.db.session.add(site.note(id=1, text="again"))
        with suppress(IntegrityError):
            site.db.session.flush()

    do_in["validate"] = fail
    assert put_raw(site.client(), b"abc").status_code == 200


@pytest.mark.parametrize("name", ["created", "completed"])
def test_uncommitted_work_of_a_receiver_is_logged(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    site = Site(app_factory, ChunkedUploadBlueprint)
    signal = BY_EVENT[name]
    with signal.connected_to(lambda *_, **__: add(site), site.app):
        put_raw(site.client(), b"")
        post_whole(site.client(), b"abc")
    assert f"uncommitted writes after a receiver of {signal.name}" in caplog.text


def test_receiver_that_reads_holds_no_connection_while_a_body_is_read(
    app_factory: AppFactory,
) -> None:
    site = Site(app_factory, ChunkedUploadBlueprint)

    def read(*_: object, **__: object) -> None:
        assert site.db.session.get(site.note, 1)

    held: list[int] = []

    def look(*_: object, **__: object) -> None:
        held.append(site.connections())

    with (
        BY_EVENT["created"].connected_to(read, site.app),
        BY_EVENT["chunk_received"].connected_to(look, site.app),
    ):
        assert put_raw(site.client(), b"abc").status_code == 200
    assert held == [0]


def test_uncommitted_work_of_verify_is_an_error_and_the_repeat_works(
    app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_chunked.database.transactions.BUSY_TIMEOUT", 0.0)
    busy = [True]

    class Uploads(ChunkedUploadBlueprint):
        def verify(self, upload: Any) -> None:
            if busy:
                flush(site)

    site = Site(app_factory, Uploads)
    client = site.client()
    url = begin(client, b"abc", 3)
    with pytest.raises(RuntimeError, match=r"verify\(\).*commit\(\)"):
        finish(client, url, b"abc")
    busy.clear()
    assert finish(client, url, b"abc").status_code == 200
    assert site.notes() == ["first"]


@pytest.mark.parametrize("hook", ["validate", "inspect", "verify", "deliver"])
def test_committed_work_of_a_hook_stays(app_factory: AppFactory, hook: str) -> None:
    def work(*args: object) -> None:
        add(site)
        site.db.session.commit()

    policy = type("Uploads", (ChunkedUploadBlueprint,), {hook: work})
    site = Site(app_factory, policy)
    assert send(site.client(), b"abc").status_code == 200
    assert site.notes() == ["first", "pending"]
    assert rows(site.app)[0].delivered_at is not None


def test_work_in_a_callers_context_is_neither_committed_nor_lost(
    app_factory: AppFactory,
) -> None:
    """A shell or a worker with pending work of its own uses our functions."""
    failing = [True]

    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            if failing:
                raise ConnectionError

    site = Site(app_factory, Uploads)
    assert send(site.client(), b"abc").status_code == 200
    failing.clear()
    with site.app.app_context():
        add(site)
        assert len(list(uploads())) == 1
        assert list(delete_expired()) == []
        # The hook would have to share the session: it is left for another time.
        (left,) = deliver_pending(older_than=timedelta(0), retry_now=True)
        assert not left.delivered
        assert site.notes() == ["first"]
        assert len(site.db.session.new) == 1
        site.db.session.commit()
        (done,) = deliver_pending(older_than=timedelta(0), retry_now=True)
        assert done.delivered
    assert site.notes() == ["first", "pending"]


def test_work_committed_before_is_no_obstacle(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def authorize(self, action: str, upload: Upload | None) -> bool:
            flush(site)
            site.db.session.rollback()
            insert_in_bulk(site)
            site.db.session.commit()
            return True

    site = Site(app_factory, Uploads)
    assert put_raw(site.client(), b"abc").status_code == 200
    assert site.notes() == ["first", "pending"]


# -- a database that goes away under the session ---------------------------------------


class Looking(ChunkedUploadBlueprint):
    """Reads the row through the application's session, before and after."""

    def verify(self, upload: Any) -> None:
        assert upload.filename

    def on_completion(self, upload: Any) -> str:
        return str(upload.filename)


def lose(*_: object) -> None:
    raise sqlite3.OperationalError("server closed the connection unexpectedly")


@pytest.mark.sqlite
def test_database_that_is_away_for_the_hooks_instance_is_503(
    app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory(blueprint_class=Looking)
    client = app.test_client()
    url = begin(client, b"abc", 3)
    with app.app_context():
        dialect = registered(app).db.engine.dialect
    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_execute", lose)
        answer = finish(client, url, b"abc")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert finish(client, url, b"abc").status_code == 200


@pytest.mark.sqlite
def test_connection_that_is_lost_while_the_session_holds_it_changes_no_answer(
    app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory(blueprint_class=Looking)
    client = app.test_client()
    with app.app_context():
        engine = registered(app).db.engine
        # The first connection of all is rolled back, too.
        engine.connect().close()
        dialect = engine.dialect
    real = dialect.do_rollback
    left = itertools.count()

    def roll_back(connection: Any) -> None:
        if next(left) == 0:
            lose()
        real(connection)

    monkeypatch.setattr(dialect, "do_rollback", roll_back)
    for lost in range(100):
        url = begin(client, b"abc", 3)
        left = itertools.count(-lost)
        assert finish(client, url, b"abc").status_code == 200, f"rollback {lost}"
        if next(left) <= 0:
            break
    # Those of verify() and of on_completion(), and what the pool does itself.
    assert lost >= 2
