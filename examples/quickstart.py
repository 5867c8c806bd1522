"""The least that works: ``flask --app examples.quickstart run``."""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///uploads.db"
    app.config["CHUNKED_UPLOAD_ALLOW_ANONYMOUS"] = True
    app.config.from_prefixed_env()  # FLASK_CHUNKED_UPLOAD_MAX_BYTES=5GiB, ...
    SQLAlchemy(app)
    uploads = ChunkedUploadBlueprint("uploads", __name__)
    app.register_blueprint(uploads, url_prefix="/uploads")
    create_tables(app)
    return app
