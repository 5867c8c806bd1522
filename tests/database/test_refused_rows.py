"""Which columns a database means when it refuses a row, on both databases."""

from __future__ import annotations

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.database.refused_rows import refused_columns
from flask_chunked.models import ChunkedUploadMixin
from flask_chunked.schemas import ChunkedUploadSchema
from tests.apps import rows
from tests.conftest import AppFactory
from tests.exchange import put_raw

#: Values of own columns -> the fields that the client reads of; ``None``: a 500, since
#: no client can set the column.
REFUSALS: list[tuple[dict[str, object], list[str] | None]] = [
    ({"slug": "taken"}, ["slug"]),
    ({"level": 11}, ["level"]),
    ({"lu": "taken"}, None),
    ({"tenant": None}, None),
]


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        # Names that are parts of other names, and of what databases write.
        slug: Mapped[str | None] = mapped_column(unique=True)
        lu: Mapped[str | None] = mapped_column(unique=True)
        type: Mapped[str | None]
        key: Mapped[str | None]
        level: Mapped[int | None] = mapped_column(
            CheckConstraint("level < 10", name="low")
        )
        tenant: Mapped[str]

    class VideoSchema(ChunkedUploadSchema):
        slug = fields.String()
        type = fields.String()
        key = fields.String()
        level = fields.Integer()

    class Uploads(ChunkedUploadBlueprint):
        model = Video
        schema_class = VideoSchema
        given: dict[str, object] = {}

        def get_fields(self) -> dict[str, object]:
            return {"tenant": "t", **self.given}

    return app_factory(db=db, blueprint_class=Uploads)


@pytest.mark.parametrize(("values", "told"), REFUSALS, ids=lambda part: str(part))
def test_refused_row_names_what_clients_can_set(
    app: Flask, values: dict[str, object], told: list[str] | None
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    policy = app.blueprints["uploads"]
    assert isinstance(policy, ChunkedUploadBlueprint)
    assert hasattr(policy, "given")
    policy.given = {"slug": "taken", "lu": "taken"}
    assert put_raw(client, b"abc").status_code == 200
    policy.given = values
    answer = put_raw(client, b"abc")
    if told is None:
        assert answer.status_code == 500
        assert answer.json == {
            "code": "internal_error",
            "detail": "Internal Server Error",
        }
    else:
        assert answer.status_code == 400
        assert list((answer.json or {})["errors"]) == told
    assert len(rows(app)) == 1


def test_sqlite_means_any_foreign_key() -> None:
    table = Table(
        "video",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("project_id", ForeignKey("project.id")),
    )
    error = IntegrityError("INSERT", {}, Exception("FOREIGN KEY constraint failed"))
    assert refused_columns(table, error) == {"project_id"}


@pytest.mark.parametrize(
    "text", ["", "UNIQUE constraint failed: other.id", "datatype mismatch"]
)
def test_text_without_a_column_of_the_table_means_none(text: str) -> None:
    table = Table("video", MetaData(), Column("id", Integer, primary_key=True))
    assert refused_columns(table, IntegrityError("", {}, Exception(text))) == set()
