"""A typed application: mypy --strict and pyright find nothing to report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy import ForeignKey, Select, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    Status,
    Upload,
    create_tables,
    upload_completed,
    uploads,
)


class Base(DeclarativeBase):
    """Of all models."""


db = SQLAlchemy(model_class=Base)


class User(Base):
    """Somebody with an API key; a real one is longer."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]


class Video(ChunkedUploadMixin, Base):
    """An upload of a user, with columns of the application's."""

    __tablename__ = "video"
    user: Mapped[int] = mapped_column(ForeignKey("user.id"))
    owner: Mapped[User] = relationship()
    title: Mapped[str]
    published: Mapped[bool] = mapped_column(default=False)


class VideoSchema(ChunkedUploadSchema):
    """What a client may say about it."""

    title = fields.String(required=True)


class VideoUploads(ChunkedUploadBlueprint):
    """Every hook, with the types that it has."""

    model = Video
    schema_class = VideoSchema
    checksum = "sha256"
    path = "videos/%Y"
    max_bytes = "5GiB"

    def get_user_id(self) -> int | None:
        key = request.headers.get("X-Key")
        return db.session.scalar(select(User.id).filter_by(key=key))

    def get_max_open_uploads(self) -> int | None:
        return 100

    def get_fields(self) -> Mapping[str, object]:
        return {"published": False}

    def get_path(self, upload: Upload) -> str:
        return f"users/{upload.user}"

    def new_name(self, upload: Upload) -> str:
        return Path(upload.filename).stem[:50]

    def get_query(self) -> Select[Any]:
        return super().get_query().where(Video.title != "hidden")

    def authorize(self, action: str, upload: Upload | None) -> bool:
        return action != "list"

    def validate(self, upload: Upload) -> None:
        title: str = upload.title
        if title.isspace() or not upload.filename.endswith(".mp4"):
            raise ChunkedUploadError("Only .mp4 files with a title", status=422)

    def inspect(self, upload: Upload, head: bytes) -> None:
        if head[:2] == b"MZ":
            raise ChunkedUploadError("This is a program", status=422)

    async def verify(self, upload: Video) -> None:
        with self.open_file(upload) as file:
            if b"virus" in file.read(4096):
                raise ChunkedUploadError("This file contains a virus", status=422)

    def deliver(self, upload: Video) -> None:
        library = Path(current_app.instance_path) / "library" / upload.owner.key
        library.mkdir(parents=True, exist_ok=True)
        self.move(upload, library / f"{upload.id}.mp4")
        upload.published = True
        db.session.commit()

    def on_completion(self, upload: Video) -> ResponseReturnValue:
        return {"id": str(upload.id), "title": upload.title}, 201


blueprint = VideoUploads("videos", __name__)


@blueprint.delete("/everything")
def delete_everything() -> dict[str, int]:
    """A view of the application next to the blueprint's own."""
    finished = [one for one in uploads(status=Status.COMPLETE) if one.is_complete]
    for one in finished:
        blueprint.delete(one)
    return {"deleted": len(finished)}


@upload_completed.connect
def log_completion(app: Flask, upload: Upload) -> None:
    """A receiver of a signal."""
    app.logger.info("%s is complete, %s bytes", upload.filename, upload.length)


def create_app(config: Mapping[str, Any], instance_path: str | None = None) -> Flask:
    """The application."""
    app = Flask(__name__, instance_path=instance_path)
    app.config.from_mapping(config)
    db.init_app(app)
    app.register_blueprint(blueprint, url_prefix="/videos")
    create_tables(app)
    with app.app_context():
        db.create_all()
        db.session.add(User(id=1, key="ann"))
        db.session.commit()
    return app
