"""A PostgreSQL server for the fault suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from tests.postgres import new_database, running_server


@pytest.fixture(scope="module")
def postgres() -> Iterator[URL]:
    """A server for one module."""
    with running_server() as url:
        yield url


@pytest.fixture
def postgres_database(postgres: URL) -> URL:
    """A fresh database on it."""
    return new_database(postgres)
