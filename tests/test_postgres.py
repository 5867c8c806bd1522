"""The life of uploads on PostgreSQL, where nobody queues for one writer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_login import LoginManager, UserMixin, login_user
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy import URL, String, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    MissingColumnError,
    MissingTableError,
    check,
    create_tables,
    delete_expired,
    deliver_pending,
)
from flask_chunked.database import transactions

from .aging import age_row, set_row
from .apps import registered, rows, stored_files
from .conftest import AppFactory
from .database.test_missing_tables import (
    FIRST_USES,
    UNKNOWN,
    Limited,
    Misspelt,
    OfAnother,
)
from .database.test_session_guard import PUT_TYPES, Site, Watched
from .dialects.tus import BYTES
from .exchange import begin, finish, id_of, post_whole, put_form, put_raw, send
from .postgres import as_setting, new_database, run_sql, running_server

pytestmark = pytest.mark.slow

#: Threads that fight for one upload.
FIGHTERS = 4
#: Chunks of an upload that is fought for.
ROUNDS = 25


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    with running_server() as url:
        yield url


@pytest.fixture
def database(server: URL) -> URL:
    return new_database(server)


@pytest.fixture
def pg_app(app_factory: AppFactory, database: URL) -> Callable[..., Flask]:
    """``make_app`` on a fresh PostgreSQL database."""

    def make(**options: object) -> Flask:
        options.setdefault("SQLALCHEMY_DATABASE_URI", as_setting(database))
        return app_factory(**options)

    return make


def at_once(count: int, act: Callable[[int], TestResponse]) -> list[TestResponse]:
    """Run it in so many threads, from one starting line."""
    line = threading.Barrier(count)
    answers: list[TestResponse | None] = [None] * count

    def one(number: int) -> None:
        line.wait(30)
        answers[number] = act(number)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [answer for answer in answers if answer is not None]


class Noting(ChunkedUploadBlueprint):
    """Counts deliveries; fails while it is told to."""

    fail = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delivered: list[bytes] = []

    def deliver(self, upload: Any) -> None:
        if self.fail:
            raise ConnectionError
        with self.open(upload) as file:
            self.delivered.append(file.read())


def policy_of(app: Flask) -> Noting:
    blueprint = registered(app).policy
    assert isinstance(blueprint, Noting)
    return blueprint


def test_a_whole_life(pg_app: Callable[..., Flask], tmp_path: Path) -> None:
    app = pg_app(blueprint_class=Noting)
    client = app.test_client()
    url = begin(client, b"abc", 9)
    assert put_form(client, b"def", start=3, total=9, url=url).status_code == 200
    assert client.head(url).headers["Upload-Offset"] == "6"
    assert put_raw(client, b"xyz", start=3, total=9, url=url).status_code == 400
    assert put_raw(client, b"def", start=3, total=9, url=url).status_code == 200
    assert put_raw(client, b"ghi", start=6, url=url).status_code == 200
    for _ in range(2):
        assert finish(client, url, b"abcdefghi").status_code == 200
    assert policy_of(app).delivered == [b"abcdefghi"]
    assert post_whole(client, b"whole").status_code == 200
    assert client.delete(url).status_code == 204
    (row,) = rows(app)
    assert row.digest is not None
    assert row.created_at.tzinfo is not None
    assert len(stored_files(tmp_path)) == 1


def test_engine_is_the_applications_own(pg_app: Callable[..., Flask]) -> None:
    app = pg_app()
    here = registered(app)
    with app.app_context():
        assert here.database.engine() is here.db.engine


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE", "READ COMMITTED"])
@pytest.mark.parametrize("as_option", [False, True], ids=["engine", "options"])
def test_transactions_are_the_usual_ones_whatever_the_engine_has(
    pg_app: Callable[..., Flask], level: str, as_option: bool
) -> None:
    chosen: dict[str, object] = {"isolation_level": level}
    options = {"execution_options": chosen} if as_option else chosen
    app = pg_app(SQLALCHEMY_ENGINE_OPTIONS=options)
    begin(app.test_client(), b"abc", 6)
    here = registered(app)
    with app.app_context():
        with suppress(ZeroDivisionError), here.database.transaction() as connection:
            found = connection.execute(text("SHOW transaction_isolation")).scalar_one()
            connection.execute(here.table.update().values(filename="changed"))
            connection.execute(here.table.delete())
            raise ZeroDivisionError
        assert found == "read committed"
        # The application's connections are as it wants them.
        with here.db.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            assert driver.autocommit is (level == "AUTOCOMMIT")
            if not driver.autocommit:
                assert connection.get_isolation_level() == level
    (row,) = rows(app)
    assert row.filename != "changed"
    assert send(app.test_client(), b"abc").status_code == 200


def test_duel_has_one_winner_for_each_offset(pg_app: Callable[..., Flask]) -> None:
    app = pg_app()
    client = app.test_client()
    size = 7
    url = begin(client, b"-" * size, size * (ROUNDS + 1))
    content = b"-" * size
    for turn in range(ROUNDS):
        start = size * (turn + 1)

        def act(number: int, start: int = start) -> TestResponse:
            send_chunk = put_raw if number % 2 else put_form
            return send_chunk(
                app.test_client(),
                b"abcd"[number : number + 1] * size,
                start=start,
                total=size * (ROUNDS + 1),
                url=url,
            )

        answers = at_once(FIGHTERS, act)
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200, *[400] * (FIGHTERS - 1)]
        winner = [answer.status_code for answer in answers].index(200)
        content += b"abcd"[winner : winner + 1] * size
        assert rows(app)[0].offset == len(content)
    assert finish(client, url, content).status_code == 200


def test_completions_at_once_are_one(pg_app: Callable[..., Flask]) -> None:
    app = pg_app(blueprint_class=Noting)
    for _ in range(5):
        policy_of(app).delivered.clear()
        url = begin(app.test_client(), b"abc", 3)

        def act(number: int, url: str = url) -> TestResponse:
            return finish(app.test_client(), url, b"abc")

        answers = at_once(FIGHTERS, act)
        assert [answer.status_code for answer in answers] == [200] * FIGHTERS
        assert len({answer.data for answer in answers}) == 1
        assert policy_of(app).delivered == [b"abc"]


def test_deletion_beside_appends_leaves_nothing(
    pg_app: Callable[..., Flask], tmp_path: Path
) -> None:
    app = pg_app()
    for _ in range(10):
        url = begin(app.test_client(), b"abc", 6)

        def act(number: int, url: str = url) -> TestResponse:
            client = app.test_client()
            if number == 0:
                return client.delete(url)
            return put_raw(client, b"def", start=3, url=url)

        answers = at_once(FIGHTERS, act)
        assert answers[0].status_code == 204
        assert {one.status_code for one in answers[1:]} <= {200, 400, 404}
        assert rows(app) == []
        assert stored_files(tmp_path) == []


def test_a_removal_waits_for_a_new_reference_and_not_for_long(
    pg_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "BUSY_TIMEOUT", 0.2)
    app = pg_app()
    client = app.test_client()
    url = begin(client, b"abc", 6)
    here = registered(app)
    with app.app_context(), here.db.engine.connect() as other:
        other.execute(
            text(
                "CREATE TABLE album (video uuid REFERENCES chunked_upload "
                "DEFERRABLE INITIALLY DEFERRED)"
            )
        )
        other.commit()
        other.execute(text(f"INSERT INTO album VALUES ('{id_of(url)}')"))
        other.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        # The other transaction holds a lock on the upload's row.
        answer = client.delete(url)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert len(rows(app)) == 1
        other.commit()
        assert client.delete(url).status_code == 409
        other.execute(text("DROP TABLE album"))
        other.commit()
    assert client.delete(url).status_code == 204
    assert rows(app) == []


def test_expiry_delivery_and_check(pg_app: Callable[..., Flask]) -> None:
    app = pg_app(blueprint_class=Noting)
    policy_of(app).fail = True
    client = app.test_client()
    old = begin(client, b"abc", 6)
    age_row(app, id_of(old))
    assert send(client, b"xyz").status_code == 200
    stuck = begin(client, b"abc", 6)
    with app.app_context():
        assert [one.id for one in delete_expired()] == [id_of(old)]
        here = registered(app)
        here.repository.terminate(id_of(stuck), here.engine.clock())
        assert [one.kind for one in check(repair=True)] == ["half-removed"]
        assert list(check()) == []
        assert list(deliver_pending()) == []
        policy_of(app).fail = False
        (done,) = deliver_pending(older_than=timedelta(0), retry_now=True)
        assert done.delivered
    assert policy_of(app).delivered == [b"xyz"]
    assert [row.is_complete for row in rows(app)] == [True]


# -- connections -----------------------------------------------------------------------


def test_one_pooled_connection_is_enough_for_a_request(
    pg_app: Callable[..., Flask],
) -> None:
    """A user from the same pool must not hold it while we need it."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    app = pg_app(
        db=db,
        blueprint_class=Noting,
        CHUNKED_UPLOAD_DOWNLOADS=True,
        SQLALCHEMY_ENGINE_OPTIONS={
            "pool_size": 1,
            "max_overflow": 0,
            "pool_timeout": 0.5,
        },
    )
    LoginManager(app).user_loader(lambda user_id: db.session.get(User, int(user_id)))

    @app.post("/login")
    def login() -> str:
        login_user(db.session.get(User, 1))
        return "welcome"

    with app.app_context():
        db.create_all()
        db.session.add(User(id=1))
        db.session.commit()
    client = app.test_client()
    client.post("/login")
    url = begin(client, b"abc", 6)
    assert client.head(url).status_code == 200
    assert put_form(client, b"def", start=3, url=url).status_code == 200
    assert len(client.get("/uploads/?count=1").json or []) == 1
    assert finish(client, url, b"abcdef").status_code == 200
    with client.get(f"{url}/file") as content:
        assert content.data == b"abcdef"
    assert post_whole(client, b"abc").status_code == 200
    assert client.delete(url).status_code == 204
    assert policy_of(app).delivered == [b"abcdef", b"abc"]


@pytest.mark.parametrize("kind", [*PUT_TYPES, "tus"])
def test_nothing_is_open_on_the_server_while_a_body_is_read(
    app_factory: AppFactory, database: URL, server: URL, kind: str
) -> None:
    """Of a user who came through the same pool."""
    setting = as_setting(database)
    site = Site(
        partial(app_factory, SQLALCHEMY_DATABASE_URI=setting), ChunkedUploadBlueprint
    )
    client = site.client()
    url = begin(client, b"abc", 6)
    busy = (
        "SELECT state, query FROM pg_stat_activity WHERE state <> 'idle' "
        f"AND datname = '{database.database}'"
    )
    # A user that is known leaves a transaction open, so that there is one to be seen.
    with site.app.test_request_context():
        site.db.session.execute(text("SELECT 1"))
        assert [state for state, _ in run_sql(server, busy)] == ["idle in transaction"]

    def look() -> tuple[int, list[Any]]:
        return site.connections(), run_sql(server, busy)

    if kind == "tus":
        headers = {**BYTES, "Upload-Offset": "3"}
        body = Watched(b"def", look)
        send_chunk = client.patch
    else:
        content_type, shape = PUT_TYPES[kind]
        headers = {"Content-Range": "bytes 3-5/6", "Content-Type": content_type}
        body = Watched(shape % b"def", look)
        send_chunk = client.put
    headers["Content-Length"] = str(len(body.getvalue()))
    answer = send_chunk(url, input_stream=body, headers=headers)
    assert answer.status_code in (200, 204), answer.text
    assert body.seen
    assert [seen for seen in body.seen if seen != (0, [])] == []


def test_lost_connections_are_503_and_then_made_anew(
    pg_app: Callable[..., Flask], database: URL, server: URL
) -> None:
    app = pg_app()
    client = app.test_client()
    url = begin(client, b"abc", 6)
    before = rows(app)
    run_sql(
        server,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database.database}'",
    )
    answer = put_raw(client, b"def", start=3, url=url)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert rows(app) == before
    assert put_raw(client, b"def", start=3, url=url).status_code == 200
    assert finish(client, url, b"abcdef").status_code == 200


def test_server_that_is_not_there_is_503(
    app_factory: AppFactory,
    database: URL,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("psycopg")
    gone = database.update_query_dict({"host": str(tmp_path)})
    app = Flask("gone", instance_path=str(tmp_path))
    app.config.update(
        TESTING=True,
        SQLALCHEMY_DATABASE_URI=as_setting(gone),
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True,
    )
    SQLAlchemy(app)
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
    )
    with caplog.at_level(logging.WARNING):
        answer = put_raw(app.test_client(), b"abc")
    assert answer.status_code == 503
    assert str(tmp_path) not in answer.text


# -- tables and values -----------------------------------------------------------------


def test_tables_are_created_by_many_at_once(
    app_factory: AppFactory, database: URL
) -> None:
    apps = []
    for _ in range(FIGHTERS):
        app = Flask("racer")
        app.config["SQLALCHEMY_DATABASE_URI"] = as_setting(database)
        SQLAlchemy(app)
        app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))
        apps.append(app)
    failures: list[BaseException] = []
    line = threading.Barrier(FIGHTERS)

    def create(app: Flask) -> None:
        line.wait(30)
        try:
            create_tables(app)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=create, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for app in apps:
        with app.app_context():
            app.extensions["sqlalchemy"].engine.dispose()
    assert failures == []
    assert len(run_sql(database, "SELECT id FROM chunked_upload")) == 0


def test_missing_table_is_named(pg_app: Callable[..., Flask], database: URL) -> None:
    app = pg_app()
    run_sql(database, "DROP TABLE chunked_upload")
    with pytest.raises(MissingTableError, match="chunked_upload"):
        put_raw(app.test_client(), b"abc")


TABLES = ["chunked_upload", "chunked_upload_member", "chunked_upload_removal"]


@pytest.mark.parametrize("act", FIRST_USES.values(), ids=FIRST_USES)
def test_missing_column_is_an_error_that_says_migrate(
    pg_app: Callable[..., Flask], database: URL, act: Callable[..., object]
) -> None:
    app = pg_app()
    run_sql(database, "ALTER TABLE chunked_upload DROP COLUMN attached_at")
    with pytest.raises(MissingColumnError, match="Migrate the database") as caught:
        act(app.test_client())
    assert caught.value.table == "chunked_upload"
    assert caught.value.columns == ("attached_at",)


@pytest.mark.parametrize("table", [*TABLES, "chunked_upload_quota"])
def test_each_missing_table_is_named(
    pg_app: Callable[..., Flask], database: URL, table: str
) -> None:
    here = registered(pg_app(blueprint_class=Limited))
    run_sql(database, f"DROP TABLE {table}")
    with (
        here.app.app_context(),
        pytest.raises(MissingTableError, match=f"no table '{table}'"),
        here.database.transaction() as connection,
    ):
        connection.execute(text(f"SELECT * FROM {table}"))


def test_command_says_in_one_line_which_column_is_missing(
    pg_app: Callable[..., Flask], database: URL
) -> None:
    app = pg_app()
    run_sql(database, "ALTER TABLE chunked_upload DROP COLUMN attached_at")
    result = app.test_cli_runner().invoke(args=["chunked-uploads", "list"])
    (line,) = result.output.splitlines()
    assert line.startswith("Error: The table 'chunked_upload' lacks the column")
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("kind", "name"), [(Misspelt, "hiden"), (OfAnother, "project")]
)
@pytest.mark.parametrize("url", ["/uploads/", UNKNOWN], ids=["list", "show"])
def test_names_that_the_application_misspelt_are_its_own(
    pg_app: Callable[..., Flask],
    url: str,
    kind: type[ChunkedUploadBlueprint],
    name: str,
) -> None:
    app = pg_app(blueprint_class=kind)
    with pytest.raises(ProgrammingError, match=f'{name}"? does not exist'):
        app.test_client().get(url)


@pytest.mark.parametrize(
    "values", [{"offset": -1}, {"offset": 99}, {"status": "asleep"}]
)
def test_database_refuses_what_cannot_be(
    pg_app: Callable[..., Flask], values: dict[str, object]
) -> None:
    app = pg_app()
    upload_id = id_of(begin(app.test_client(), b"abc", 6))
    with pytest.raises(IntegrityError):
        set_row(app, upload_id, **values)


def test_sizes_have_more_than_32_bits(pg_app: Callable[..., Flask]) -> None:
    app = pg_app()
    begin(app.test_client(), b"abc", 2**53 - 1)
    assert rows(app)[0].length == 2**53 - 1


class NamedSchema(ChunkedUploadSchema):
    title = fields.String()
    number = fields.Integer()


class Named(ChunkedUploadBlueprint):
    schema_class = NamedSchema


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({}, id="missing"),
        pytest.param({"title": "x" * 30}, id="too-long"),
        pytest.param({"title": "a\0b"}, id="nul"),
        pytest.param({"title": "x", "number": "9" * 12}, id="beyond-32-bits"),
        pytest.param({"title": "x", "number": "9" * 30}, id="beyond-64-bits"),
    ],
)
def test_value_that_a_column_cannot_hold_is_refused(
    pg_app: Callable[..., Flask], tmp_path: Path, sent: dict[str, str]
) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str] = mapped_column(String(20))
        number: Mapped[int | None]

    app = pg_app(db=db, model=Video, blueprint_class=Named)
    answer = put_form(app.test_client(), b"abc", fields=sent)
    assert answer.status_code == 400, answer.text
    assert rows(app) == []
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize(
    "user",
    [
        pytest.param("9" * 12, id="beyond-32-bits"),
        pytest.param("9" * 30, id="beyond-64-bits"),
        pytest.param("nobody", id="word"),
    ],
)
def test_owner_that_a_column_cannot_hold_is_nobody(
    pg_app: Callable[..., Flask], user: str
) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        owner_id: Mapped[int | None]

    class Uploads(ChunkedUploadBlueprint):
        user_field_name = "owner_id"

        def get_user_id(self) -> object:
            return user

    app = pg_app(
        db=db,
        model=Video,
        blueprint_class=Uploads,
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False,
    )
    client = app.test_client()
    assert put_raw(client, b"abc").status_code == 401
    unknown = "/uploads/3b241101-e2bb-4255-8caf-4136c566a962"
    assert client.get(unknown).status_code == 404
    assert client.get("/uploads/").json == []
    assert rows(app) == []


def test_creation_of_tables_leaves_no_connection_to_workers_that_are_forked(
    pg_app: Callable[..., Flask], server: URL, database: URL
) -> None:
    pg_app()
    others = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database.database}'"
    deadline = time.monotonic() + 10
    # The server needs a moment to see that one is closed.
    while run_sql(server, others) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run_sql(server, others) == []
