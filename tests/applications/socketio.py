"""Flask-SocketIO: pages hear how far an upload is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_socketio import SocketIO
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import (
    ChunkedUploadBlueprint,
    Upload,
    chunk_received,
    create_tables,
    upload_completed,
)

db = SQLAlchemy()
sockets = SocketIO()


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.from_mapping(config, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True)
    db.init_app(app)
    sockets.init_app(app, async_mode="threading")
    uploads = ChunkedUploadBlueprint("uploads", __name__)
    app.register_blueprint(uploads, url_prefix="/uploads")
    create_tables(app)
    chunk_received.connect(show_progress, app)
    upload_completed.connect(show_end, app)
    return app


def show_progress(app: Flask, upload: Upload) -> None:
    """Send the share that has arrived."""
    if upload.length:
        percent = 100 * upload.offset // upload.length
        sockets.emit("progress", {"id": str(upload.id), "percent": percent})


def show_end(app: Flask, upload: Upload) -> None:
    """Send that the file is there."""
    sockets.emit("complete", {"id": str(upload.id), "name": upload.filename})
