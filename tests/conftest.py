"""Fixtures that most tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps import dispose, make_app

AppFactory = Callable[..., Flask]


@pytest.fixture
def app_factory(tmp_path: Path) -> Iterator[AppFactory]:
    """``make_app`` on this test's directory; what it made is closed at the end."""
    made: list[Flask] = []

    def factory(**options: object) -> Flask:
        app = make_app(tmp_path, **options)  # type: ignore[arg-type]
        made.append(app)
        return app

    yield factory
    for app in made:
        dispose(app)


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    """An app with one blueprint at ``/uploads``."""
    return app_factory()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of that app."""
    return app.test_client()
