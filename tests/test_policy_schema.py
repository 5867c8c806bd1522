"""``model`` and ``schema_class``: the application's own columns and fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields, validate
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
)
from flask_chunked.models import CORE_COLUMNS

from .apps import rows, stored_files
from .conftest import AppFactory
from .exchange import begin, post_whole, put_form, put_raw


class TitledSchema(ChunkedUploadSchema):
    """Names the model's own column, which clients may send."""

    title = fields.String()


class Titled(ChunkedUploadBlueprint):
    """A policy with a schema of its own."""

    schema_class = TitledSchema


def titled_model(db: SQLAlchemy) -> type[Any]:
    """A model with a required column without a default."""

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str] = mapped_column(String(20))

    return Video


@pytest.fixture
def titled(app_factory: AppFactory) -> Flask:
    """An app whose uploads need a title."""
    db = SQLAlchemy()
    model = titled_model(db)
    return app_factory(db=db, model=model, blueprint_class=Titled)


def test_model_is_where_rows_go(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    class Videos(ChunkedUploadBlueprint):
        model = Video

    app = app_factory(db=db, blueprint_class=Videos)
    begin(app.test_client(), b"abc", 6)
    with app.app_context():
        assert [video.offset for video in db.session.scalars(db.select(Video))] == [3]
    assert "chunked_upload" not in db.metadata.tables


def test_own_required_column_comes_from_the_form(titled: Flask) -> None:
    answer = put_form(
        titled.test_client(), b"abc", total=6, fields={"title": "Holidays"}
    )
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["title"] == "Holidays"
    assert rows(titled)[0].title == "Holidays"


def test_own_required_column_of_a_raw_chunk_comes_from_the_query(
    titled: Flask,
) -> None:
    answer = put_raw(
        titled.test_client(), b"abc", total=6, fields={"title": "Holidays"}
    )
    assert answer.status_code == 200
    assert rows(titled)[0].title == "Holidays"


def test_own_required_column_of_a_whole_file_comes_from_the_form(
    titled: Flask,
) -> None:
    answer = post_whole(titled.test_client(), b"abc", fields={"title": "Holidays"})
    assert answer.status_code == 200
    assert rows(titled)[0].title == "Holidays"


@pytest.mark.parametrize("request_of", [put_raw, put_form, post_whole])
def test_missing_required_column_is_refused_and_leaves_nothing(
    titled: Flask, tmp_path: Path, request_of: Callable[..., Any]
) -> None:
    answer = request_of(titled.test_client(), b"abc")
    assert answer.status_code == 400
    assert "title" in answer.json["errors"]
    assert rows(titled) == []
    assert stored_files(tmp_path) == []


def test_schema_refuses_a_field_by_its_validator(app_factory: AppFactory) -> None:
    class Strict(ChunkedUploadSchema):
        title = fields.String(required=True, validate=validate.Length(min=3))

    class Uploads(ChunkedUploadBlueprint):
        schema_class = Strict

    db = SQLAlchemy()
    app = app_factory(db=db, model=titled_model(db), blueprint_class=Uploads)
    answer = put_form(app.test_client(), b"abc", fields={"title": "no"})
    assert answer.status_code == 400
    assert answer.json is not None
    assert list(answer.json["errors"]) == ["title"]
    assert rows(app) == []


@pytest.mark.parametrize("field", sorted(CORE_COLUMNS - {"filename"}))
def test_our_own_columns_cannot_be_sent(app: Flask, field: str) -> None:
    answer = put_form(app.test_client(), b"abc", total=6, fields={field: "7"})
    assert answer.status_code == 200
    (row,) = rows(app)
    assert (row.offset, row.length, row.user, row.status.value) == (
        3,
        6,
        None,
        "uploading",
    )


@pytest.mark.parametrize(
    "fields_sent",
    [
        pytest.param({"number": "9" * 30}, id="huge-integer"),
        pytest.param({"number": "9" * 5000}, id="5000-digits"),
        pytest.param({"number": "-" + "9" * 30}, id="huge-negative"),
        pytest.param({"shot_at": "noon"}, id="no-datetime"),
    ],
)
def test_value_that_a_column_cannot_hold_is_refused(
    app_factory: AppFactory, tmp_path: Path, fields_sent: dict[str, str]
) -> None:
    class Loose(ChunkedUploadSchema):
        number = fields.Integer()
        shot_at = fields.String()

    class Uploads(ChunkedUploadBlueprint):
        schema_class = Loose

    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        number: Mapped[int | None]
        shot_at: Mapped[datetime | None]

    app = app_factory(db=db, model=Video, blueprint_class=Uploads)
    answer = put_form(app.test_client(), b"abc", fields=fields_sent)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["errors"]
    assert rows(app) == []
    assert stored_files(tmp_path) == []
