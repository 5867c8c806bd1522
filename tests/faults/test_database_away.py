"""The database goes away while clients upload: 503, nothing half-done, all finish."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import URL, create_engine, text

from tests.exchange import finish, put_form, put_raw
from tests.figures import figure, run_seed
from tests.postgres import Postgres, as_setting, new_database, running_postgres
from tests.s3 import S3Server
from tests.servers.gunicorn import serve
from tests.servers.uploaders import APP, Stored, crowd

from .ground import Ground, content, on_database
from .invariants import Known, broken_after_repair, broken_at_rest
from .outside import Answer, Answers
from .s3_ground import ground_at

pytestmark = pytest.mark.slow

#: The server stops as if its machine had lost power, and starts again.
STOPS = figure("POSTGRESQL_STOPS", 5, 50)
#: Connections that an administrator ends.
TERMINATED = figure("POSTGRESQL_TERMINATED", 50, 1_000)
#: SQLite files that somebody else holds for ``LOCKED`` seconds, ``AT_ONCE`` of them.
LOCKS = figure("SQLITE_LOCKS", 10, 50)
LOCKED, AT_ONCE = 10.0, 5
#: Bytes of an upload.
LENGTH = 40_000


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as running:
        yield running


@pytest.fixture
def database(server: Postgres) -> URL:
    return new_database(server.url)


@pytest.fixture(params=["local", "s3"])
def bucket(request: pytest.FixtureRequest) -> dict[str, Any] | None:
    """Options of the storage; ``None``: the local disk."""
    if request.param == "local":
        return None
    found: S3Server = request.getfixturevalue("s3_server")
    return found.options()


def served_with(database: URL, bucket: dict[str, Any] | None) -> dict[str, Any]:
    """Settings of the server."""
    settings: dict[str, Any] = {"SQLALCHEMY_DATABASE_URI": as_setting(database)}
    if bucket is not None:
        settings["storage_class"] = "flask_chunked.storage.s3:S3Storage"
        settings["storage_options"] = bucket
    return settings


@pytest.fixture
def stored(
    tmp_path: Path, bucket: dict[str, Any] | None, request: pytest.FixtureRequest
) -> Iterator[Callable[[], Stored] | None]:
    """What finds finished uploads in the bucket; ``None``: they are files."""
    if bucket is None:
        yield None
        return
    s3_server: S3Server = request.getfixturevalue("s3_server")
    with s3_server.storage(tmp_path, prefix=bucket["prefix"]) as storage:
        place = storage.bucket

        def read(key: str) -> bytes:
            got = place.client.get_object(Bucket=place.settings.name, Key=key)
            return bytes(got["Body"].read())

        def find() -> Stored:
            keys = [found.key for found in place.objects(storage.prefix)]
            return {key.rpartition("/")[2]: partial(read, key) for key in keys}

        yield find


def check_at_rest(
    directory: Path, database: URL, bucket: dict[str, Any] | None
) -> None:
    options = None if bucket is None else json.dumps(bucket)
    ground = ground_at(directory, options, **on_database(as_setting(database)))
    with ground.open():
        assert broken_after_repair(ground) == []


def test_postgresql_stops_and_starts_again(
    tmp_path: Path,
    server: Postgres,
    database: URL,
    bucket: dict[str, Any] | None,
    stored: Callable[[], Stored] | None,
) -> None:
    seed = run_seed()
    chance = random.Random(seed)
    settings = served_with(database, bucket)
    with serve(tmp_path, "--preload", app=APP, **settings) as served:
        with crowd(served, seed, stored) as clients:
            for _ in range(STOPS):
                time.sleep(chance.uniform(0.2, 1.0))
                server.stop_at_once()
                time.sleep(chance.uniform(0, 0.5))
                server.start_again()
        assert clients.answers.statuses[503] >= STOPS
    check_at_rest(tmp_path, database, bucket)


def test_connections_are_terminated(
    tmp_path: Path,
    database: URL,
    bucket: dict[str, Any] | None,
    stored: Callable[[], Stored] | None,
) -> None:
    seed = run_seed()
    chance = random.Random(seed)
    admin = create_engine(database, isolation_level="AUTOCOMMIT")
    with (
        serve(
            tmp_path, "--preload", app=APP, **served_with(database, bucket)
        ) as served,
        admin.connect() as connection,
    ):
        with crowd(served, seed, stored) as clients:
            ended = 0
            while ended < TERMINATED and clients.is_busy:
                time.sleep(chance.uniform(0, 0.05))
                others = connection.execute(
                    text(
                        "SELECT pid FROM pg_stat_activity WHERE datname = "
                        "current_database() AND pid <> pg_backend_pid()"
                    )
                ).scalars()
                if pids := list(others):
                    end = text("SELECT pg_terminate_backend(:pid)")
                    values = {"pid": chance.choice(pids)}
                    ended += bool(connection.execute(end, values).scalar())
        assert ended == TERMINATED
        assert clients.answers.statuses[503] > 0
    admin.dispose()
    check_at_rest(tmp_path, database, bucket)


class LockedOut:
    """A ground whose database somebody holds, and two clients that want to upload."""

    def __init__(self, directory: Path, seed: int, *, wal: bool) -> None:
        directory.mkdir()
        self.ground = Ground(directory, CHUNKED_UPLOAD_SQLITE_WAL=wal)
        self.answers = Answers()
        self.problems: list[str] = []
        self._seed = seed

    def run(self) -> None:
        """One lock, from its beginning to the end of the uploads."""
        try:
            self._run()
        except BaseException as error:
            self.problems.append(f"{error!r}")
            raise

    def _run(self) -> None:
        app = self.ground.app
        with self.ground.open():
            uploads = [self.ground.create(LENGTH) for _ in range(2)]
        known = [Known(one.id, content(one.id, LENGTH), acked=0) for one in uploads]
        urls = [f"/uploads/{one.id}" for one in uploads]
        for one, url in zip(known, urls, strict=True):
            chunk = one.content[:1_000]
            got = put_raw(app.test_client(), chunk, total=LENGTH, url=url)
            assert got.status_code == 200
            one.acked = 1_000
        with closing(sqlite3.connect(self.ground.directory / "app.db")) as holder:
            holder.isolation_level = None
            holder.execute("BEGIN EXCLUSIVE")
            until = time.monotonic() + LOCKED
            threads = [
                threading.Thread(target=self._upload, args=(app.test_client(), *pair))
                for pair in zip(known, urls, strict=True)
            ]
            for thread in threads:
                thread.start()
            while time.monotonic() < until:
                time.sleep(0.1)
            holder.execute("ROLLBACK")
        for thread in threads:
            thread.join(60)
        with self.ground.open():
            self.problems += broken_at_rest(self.ground, known)
        self.problems += self.answers.problems
        if not self.answers.statuses[503]:
            self.problems.append("nobody was told to come again")

    def _upload(self, client: FlaskClient, known: Known, url: str) -> None:
        chance = random.Random(self._seed)
        while known.acked < LENGTH:
            stop = min(LENGTH, known.acked + chance.randint(1, LENGTH // 3))
            put = chance.choice([put_raw, put_form])
            chunk = known.content[known.acked : stop]
            got = put(client, chunk, start=known.acked, total=LENGTH, url=url)
            self._hear(got.status_code, dict(got.headers), got.data)
            if got.status_code == 200:
                known.acked = stop
            elif got.status_code != 503:
                self.problems.append(f"PUT at {known.acked}: {got.status} {got.text}")
                return
        done = finish(client, url, known.content)
        self._hear(done.status_code, dict(done.headers), done.data)
        known.completed = done.status_code == 200

    def _hear(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.answers.hear("upload", Answer(status, headers, body))


def test_sqlite_is_locked_for_longer_than_a_request_waits(tmp_path: Path) -> None:
    seed = run_seed()
    for first in range(0, LOCKS, AT_ONCE):
        numbers = range(first, min(LOCKS, first + AT_ONCE))
        all_ = [
            # Without a write-ahead log a writer keeps readers out, too.
            LockedOut(tmp_path / str(number), seed + number, wal=number % 2 == 0)
            for number in numbers
        ]
        threads = [threading.Thread(target=one.run) for one in all_]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert [one.problems for one in all_] == [[] for _ in all_]
