"""APIFlask: uploads next to documented endpoints, which use the finished files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from apiflask import APIFlask, Schema
from apiflask.fields import Integer, String
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables

db = SQLAlchemy()
uploads = ChunkedUploadBlueprint("uploads", __name__)


class Summary(Schema):
    """What an endpoint returns."""

    first = String()
    size = Integer()


def create_app(config: Mapping[str, Any]) -> APIFlask:
    """The application."""
    app = APIFlask(__name__, title="Files")
    app.config.from_mapping(config, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True)
    db.init_app(app)
    app.register_blueprint(uploads, url_prefix="/uploads")
    create_tables(app)

    @app.get("/summaries/<uuid:upload_id>")
    @app.output(Summary)
    def summary(upload_id: UUID) -> dict[str, object]:
        with uploads.open_file(upload_id) as file:
            first = file.read(5)
            return {"first": first.decode(), "size": file.seek(0, 2)}

    return app
