"""Fixtures of the dialects' tests."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.conftest import AppFactory
from tests.dialects.tus import Tus


@pytest.fixture
def tus_app(app_factory: AppFactory) -> Flask:
    """An app whose finished uploads can be downloaded, so that tests can compare."""
    return app_factory(CHUNKED_UPLOAD_DOWNLOADS=True)


@pytest.fixture
def tus(tus_app: Flask) -> Tus:
    """A tus client of that app."""
    return Tus(tus_app.test_client())
