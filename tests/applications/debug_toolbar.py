"""Flask-DebugToolbar: its pages show the app's routes and statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, url_for
from flask_debugtoolbar import DebugToolbarExtension
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables, uploads

db = SQLAlchemy()
toolbar = DebugToolbarExtension()


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application."""
    app = Flask(__name__)
    app.debug = True
    app.config.from_mapping(
        config,
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True,
        SQLALCHEMY_RECORD_QUERIES=True,
    )
    db.init_app(app)
    toolbar.init_app(app)
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    app.register_blueprint(blueprint, url_prefix="/uploads")
    create_tables(app)

    @app.get("/")
    def page() -> str:
        names = "".join(f"<li>{upload.filename}" for upload in uploads())
        goal = url_for("uploads.collection")
        return (
            f'<html><body><form action="{goal}"></form><ul>{names}</ul></body></html>'
        )

    return app
