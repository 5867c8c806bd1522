"""Flask-Admin: a page for the uploads, which removes rows together with their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Flask
from flask_admin import Admin
from flask_admin.contrib.sqla import ModelView
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadMixin

db = SQLAlchemy()


class Video(ChunkedUploadMixin, db.Model):
    """An upload with a title."""

    title: Mapped[str] = mapped_column(default="")


uploads = ChunkedUploadBlueprint("uploads", __name__, model=Video)


class VideoView(ModelView):
    """Only the columns that the application may change can be edited."""

    can_create = False
    column_list = ("filename", "title", "user", "status", "created_at")
    form_columns = ("filename", "title")

    def get_one(self, id: str) -> Video | None:
        return db.session.get(Video, UUID(id))

    def delete_model(self, model: Video) -> bool:
        uploads.delete_upload(model)
        return True


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.from_mapping(config, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True)
    db.init_app(app)
    app.register_blueprint(uploads, url_prefix="/uploads")
    Admin(app).add_view(VideoView(Video, db, endpoint="videos"))
    with app.app_context():
        db.create_all()
    return app
