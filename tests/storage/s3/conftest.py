"""Fixtures of the tests of the S3 storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.conftest import AppFactory
from tests.dialects.tus import Tus
from tests.s3 import S3Server, s3_blueprint, storage_of

from .uploads import S3App


@pytest.fixture(params=["s3_server", "swift_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of two makers' servers."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, S3Server)
    return found


@pytest.fixture
def s3_app(app_factory: AppFactory, server: S3Server) -> Iterator[S3App]:
    """Apps whose blueprint keeps its uploads on the server."""
    made = []

    def make(*, storage: dict[str, object] | None = None, **config: object) -> Flask:
        app = app_factory(
            blueprint_class=s3_blueprint(server, **(storage or {})),
            CHUNKED_UPLOAD_DOWNLOADS=True,
            **config,
        )
        made.append(app)
        return app

    yield make
    for app in made:
        storage_of(app).bucket.close()


@pytest.fixture
def app(s3_app: S3App) -> Flask:
    return s3_app()


@pytest.fixture
def tus(app: Flask) -> Tus:
    return Tus(app.test_client())
