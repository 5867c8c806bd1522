"""Own columns, users through Flask-Login, own policy: videos of at most 5 GiB.

``flask --app examples.custom_model run``; log in with POST /login (name=ann).
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, current_app, request
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_user,
)
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields, validate
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    Upload,
)


class Base(DeclarativeBase):
    """Of all models; with it, type checkers know them."""


db = SQLAlchemy(model_class=Base)


class User(UserMixin, Base):  # type: ignore[misc] # Flask-Login has no types
    """Somebody who logs in by name; a real application asks for more."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)


class Video(ChunkedUploadMixin, Base):
    """An upload with a title, of a user."""

    __tablename__ = "video"
    user: Mapped[int] = mapped_column(ForeignKey("user.id"))
    title: Mapped[str] = mapped_column(String(200))


class VideoSchema(ChunkedUploadSchema):
    """The upload's JSON, and what a client may say about it."""

    title = fields.String(required=True, validate=validate.Length(1, 200))


class VideoUploads(ChunkedUploadBlueprint):
    """Only MP4 files, moved to the library when they are complete."""

    model = Video
    schema_class = VideoSchema
    max_bytes = "5GiB"
    checksum = "sha256"

    def authorize(self, action: str, upload: Upload | None) -> bool:
        """Finished videos are not deleted by their owners."""
        return action != "delete"

    def validate(self, upload: Upload) -> None:
        """By the name, before the first byte."""
        if not upload.filename.lower().endswith(".mp4"):
            raise ChunkedUploadError("Only .mp4 files are taken", status=422)

    def inspect(self, upload: Upload, head: bytes) -> None:
        """By the first bytes, whatever the name says."""
        if head[4:8] != b"ftyp":
            raise ChunkedUploadError("This is no MP4 file", status=422)

    def deliver(self, upload: Video) -> None:
        """At least once, so a repeat must do no harm."""
        library = Path(current_app.instance_path) / "library"
        library.mkdir(parents=True, exist_ok=True)
        self.move_file(upload, library / f"{upload.id}.mp4")

    def on_completion(self, upload: Video) -> dict[str, str]:
        """What the client reads."""
        return {"id": str(upload.id), "title": upload.title, "state": "in the library"}


def load_user(user_id: str) -> User | None:
    """The user of a session."""
    return db.session.get(User, int(user_id))


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "dev"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///videos.db"
    app.config.from_prefixed_env()
    db.init_app(app)
    LoginManager(app).user_loader(load_user)

    @app.post("/login")
    def log_in() -> Response:
        name = request.form["name"]
        user = db.session.scalar(db.select(User).filter_by(name=name))
        if user is None:
            user = User(name=name)
            db.session.add(user)
            db.session.commit()
        login_user(user)
        return Response(f"Hello {current_user.name}\n")

    app.register_blueprint(VideoUploads("videos", __name__), url_prefix="/videos")
    with app.app_context():
        db.create_all()
    return app
