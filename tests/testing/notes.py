"""An application with a column, a schema and a policy of its own."""

from __future__ import annotations

from typing import Any

from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    Upload,
)

db = SQLAlchemy()


class Note(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
    """An upload with a column of the application's."""

    title: Mapped[str] = mapped_column(default="")


class NoteSchema(ChunkedUploadSchema):
    """What a client may say about it."""

    title = fields.String()


class NoteUploads(ChunkedUploadBlueprint):
    """Refuses at three points, and answers in its own way."""

    model = Note
    schema_class = NoteSchema
    checksum = "sha256"
    field_name = "content"

    def validate(self, upload: Upload) -> None:
        """By the name."""
        if upload.filename.endswith(".exe"):
            raise ChunkedUploadError("No programs", status=422)

    def inspect(self, upload: Upload, head: bytes) -> None:
        """By the first bytes."""
        if head.startswith(b"MZ"):
            raise ChunkedUploadError("No programs inside", status=422)

    def verify(self, upload: Any) -> None:
        """By the content."""
        with self.open_file(upload) as file:
            if b"virus" in file.read(100):
                raise ChunkedUploadError("A virus", status=422)

    def on_completion(self, upload: Any) -> dict[str, str]:
        """Neither id nor URL."""
        return {"thanks": upload.title}
