"""Databases for races: SQLite's file, and PostgreSQL where it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import URL

from tests.conftest import AppFactory
from tests.postgres import as_setting, new_database, running_server

from . import rivals


@pytest.fixture(scope="package")
def postgres() -> Iterator[URL]:
    """A server for all tests of this folder that want one."""
    with running_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("pg", marks=pytest.mark.slow)])
def raced(
    request: pytest.FixtureRequest,
    app_factory: AppFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Flask]:
    """``app_factory`` on either database."""
    if request.param == "sqlite":
        monkeypatch.setattr(rivals, "MOMENT", rivals.MOMENT_ON_SQLITE)
        return app_factory
    url = as_setting(new_database(request.getfixturevalue("postgres")))
    return lambda **config: app_factory(SQLALCHEMY_DATABASE_URI=url, **config)
