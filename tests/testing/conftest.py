"""The application of these tests."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_chunked import create_tables
from flask_chunked.testing import MemoryStorage
from tests.conftest import NewApp
from tests.testing.notes import NoteUploads, db


@pytest.fixture
def notes(new_app: NewApp) -> Flask:
    """An app with that policy and nothing on a disk."""
    app = new_app(
        db,
        SQLALCHEMY_DATABASE_URI="sqlite://",
        CHUNKED_UPLOAD_STORAGE_CLASS=MemoryStorage,
    )
    app.register_blueprint(NoteUploads("notes", __name__), url_prefix="/notes")
    create_tables(app)
    return app
