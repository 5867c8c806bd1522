"""Flask-Migrate: ``flask db migrate`` and ``flask db upgrade`` make the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadMixin
from flask_chunked.models import UTCDateTime

db = SQLAlchemy()
migrate = Migrate()


class Video(ChunkedUploadMixin, db.Model):
    """An upload with a column of the application's."""

    stars: Mapped[int | None]


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application; its database is empty until ``flask db upgrade``."""
    app = Flask(__name__)
    app.config.from_mapping(config, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True)
    db.init_app(app)
    uploads = ChunkedUploadBlueprint("uploads", __name__, model=Video)
    app.register_blueprint(uploads, url_prefix="/uploads")
    # After the blueprint, which adds tables and an index to the metadata.
    migrate.init_app(app, db, app.config["MIGRATIONS"], render_item=render_item)
    return app


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write plain types into migrations, so that these import nothing."""
    return "sa.DateTime()" if isinstance(item, UTCDateTime) else False
