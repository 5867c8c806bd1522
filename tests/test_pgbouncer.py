"""PostgreSQL behind PgBouncer in transaction mode: few connections, in turn."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import URL

from .apps import registered, rows
from .conftest import AppFactory
from .dialects.tus import Tus
from .exchange import begin, finish, put_form, put_raw
from .pgbouncer import POOL, pgbouncer
from .postgres import as_setting, new_database, run_sql, running_server

pytestmark = pytest.mark.slow

#: Clients at once, of each dialect: more than there are connections to the server.
CLIENTS = 4
#: Chunks of each upload; each statement is repeated often enough to be prepared.
CHUNKS = 15
SIZE = 1000
#: Of the application, so that nobody waits in it.
OPTIONS = {"pool_size": 2 * CLIENTS}


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    with running_server() as url:
        yield url


@pytest.fixture
def pooled(server: URL) -> Iterator[URL]:
    """A fresh database, through the pooler."""
    database = new_database(server)
    with pgbouncer(database) as url:
        yield url


@pytest.fixture
def site(app_factory: AppFactory, pooled: URL) -> Callable[..., Flask]:
    """An app on that database."""

    def make(**options: Any) -> Flask:
        return app_factory(
            SQLALCHEMY_DATABASE_URI=as_setting(pooled),
            CHUNKED_UPLOAD_DOWNLOADS=True,
            **options,
        )

    return make


def upload_by_ranges(client: FlaskClient, content: bytes) -> str:
    """In chunks, raw and in forms; the URL of the finished upload."""
    url = begin(client, content[:SIZE], len(content))
    for number, start in enumerate(range(SIZE, len(content), SIZE)):
        chunk = content[start : start + SIZE]
        send = put_form if number % 2 else put_raw
        answer = send(client, chunk, start=start, total=len(content), url=url)
        assert answer.status_code == 200, answer.text
        assert client.head(url).headers["Upload-Offset"] == str(start + len(chunk))
    answer = finish(client, url, content)
    assert answer.status_code == 200, answer.text
    return url


def upload_by_tus(client: FlaskClient, content: bytes) -> str:
    """The same."""
    tus = Tus(client)
    url = tus.create(len(content))
    for start in range(0, len(content), SIZE):
        chunk = content[start : start + SIZE]
        assert tus.patch(url, start, chunk).status_code == 204
        assert tus.offset(url) == start + len(chunk)
    return url


DIALECTS = {"content-range": upload_by_ranges, "tus": upload_by_tus}


def together(acts: Sequence[Callable[[], None]]) -> list[BaseException]:
    """Each in a thread; what they raised."""
    failures: list[BaseException] = []
    line = threading.Barrier(len(acts))

    def run(act: Callable[[], None]) -> None:
        line.wait(30)
        try:
            act()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return failures


@pytest.mark.parametrize("chosen", [{}, {"prepare_threshold": None}], ids=str)
def test_many_clients_share_few_connections_in_both_dialects(
    site: Callable[..., Flask],
    server: URL,
    chosen: dict[str, None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = site(SQLALCHEMY_ENGINE_OPTIONS={**OPTIONS, "connect_args": chosen})
    chance = random.Random(1)

    def act(dialect: str, content: bytes) -> None:
        client = app.test_client()
        url = DIALECTS[dialect](client, content)
        with client.get(f"{url}/file") as answer:
            assert answer.data == content
        if dialect == "tus":
            assert client.delete(url).status_code == 204

    acts = [
        partial(act, dialect, chance.randbytes(SIZE * CHUNKS))
        for dialect in DIALECTS
        for _ in range(CLIENTS)
    ]
    with caplog.at_level(logging.WARNING):
        assert together(acts) == []
    assert caplog.records == []
    assert Counter(row.status.value for row in rows(app)) == {"complete": CLIENTS}
    database = registered(app).database.engine().url.database
    connections = run_sql(
        server,
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE datname = '{database}' AND backend_type = 'client backend'",
    )
    assert connections[0][0] <= POOL


def thresholds(app: Flask) -> list[int | None]:
    """psycopg's, of a connection of ours and of the application's session."""
    here = registered(app)
    with app.app_context(), here.database.transaction() as ours:
        theirs = here.db.session.connection()
        return [
            each.connection.dbapi_connection.prepare_threshold  # type: ignore[union-attr]
            for each in (ours, theirs)
        ]


def test_statements_are_prepared_where_the_connection_is_the_servers(
    app_factory: AppFactory, server: URL, site: Callable[..., Flask]
) -> None:
    direct = as_setting(new_database(server))
    assert thresholds(app_factory(SQLALCHEMY_DATABASE_URI=direct)) == [5, 5]
    assert thresholds(site()) == [None, None]
    chosen = {"connect_args": {"prepare_threshold": 7}}
    assert thresholds(site(SQLALCHEMY_ENGINE_OPTIONS=chosen)) == [7, 7]


def test_prepared_statements_that_the_pooler_loses_are_told_with_the_setting(
    site: Callable[..., Flask], pooled: URL, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {"connect_args": {"prepare_threshold": 1}}
    client = site(SQLALCHEMY_ENGINE_OPTIONS=chosen).test_client()
    # The connection that created the tables has left statements of the same names.
    run_sql(pooled, "DEALLOCATE ALL")
    url = begin(client, b"abc", 30)
    for start in range(3, 12, 3):
        assert (
            put_raw(client, b"def", start=start, total=30, url=url).status_code == 200
        )
    # As if another of the pooler's connections came next.
    run_sql(pooled, "DEALLOCATE ALL")
    with caplog.at_level(logging.ERROR):
        answer = put_raw(client, b"def", start=12, total=30, url=url)
    assert answer.status_code == 503
    assert "prepare_threshold" in caplog.text
