"""Flask-CORS: pages of another origin upload, and send a header of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_cors import CORS
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import (
    CORS_ALLOW_HEADERS,
    CORS_ALLOW_METHODS,
    CORS_EXPOSE_HEADERS,
    ChunkedUploadBlueprint,
    create_tables,
)

db = SQLAlchemy()


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.from_mapping(config, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True)
    db.init_app(app)
    uploads = ChunkedUploadBlueprint("uploads", __name__)
    CORS(
        app,
        origins=["https://app.example"],
        methods=list(CORS_ALLOW_METHODS),
        allow_headers=[*CORS_ALLOW_HEADERS, "X-Tenant"],
        expose_headers=list(CORS_EXPOSE_HEADERS),
    )
    app.register_blueprint(uploads, url_prefix="/uploads")
    create_tables(app)
    return app
