"""Rows: values of required columns in partial uploads; when the ORM inserts."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Text,
    Time,
    Uuid,
    event,
)
from sqlalchemy.orm import Mapped, Session, mapped_column, validates
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
)
from flask_chunked.database.rows import RowMapper, empty_value, is_optional_column
from flask_chunked.engine.records import NewUpload
from flask_chunked.models import UTCDateTime
from tests.dialects.tus import Tus, metadata

from ..apps import registered, rows
from ..conftest import AppFactory


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class NoColor(enum.Enum):
    """It has no value at all."""


class Settings(TypeDecorator[dict[str, Any]]):
    """A type of an application's own on top of JSON."""

    impl = JSON
    cache_ok = True


class Shade(TypeDecorator[str]):
    """Another one."""

    impl = Enum("red", "blue")
    cache_ok = True


#: Type of a column -> a value of it that says nothing.
EMPTY: list[tuple[TypeEngine[Any], object]] = [
    (String(10), ""),
    (Text(), ""),
    (UTCDateTime(), datetime(1970, 1, 1)),
    (Integer(), 0),
    (Float(), 0.0),
    (Numeric(), Decimal(0)),
    (Boolean(), False),
    (LargeBinary(), b""),
    (JSON(), {}),
    (Settings(), {}),
    (Shade(), "red"),
    (Date(), date(1970, 1, 1)),
    (DateTime(), datetime(1970, 1, 1)),
    (Time(), time(0)),
    (Interval(), timedelta(0)),
    (Uuid(), UUID(int=0)),
    (Enum(Color), Color.RED),
    (Enum("red", "blue"), "red"),
    (Enum(NoColor), None),
    (NullType(), None),
]


@pytest.mark.parametrize(("kind", "value"), EMPTY, ids=lambda one: repr(one)[:30])
def test_a_type_has_a_value_that_says_nothing(
    kind: TypeEngine[Any], value: object
) -> None:
    found = empty_value(Column("own", kind, nullable=False))
    assert found == value
    assert type(found) is type(value)


def test_a_foreign_key_has_none() -> None:
    assert empty_value(Column("own", Integer, ForeignKey("other.id"))) is None


@pytest.mark.parametrize(
    ("column", "is_given"),
    [
        pytest.param(Column("own", Integer, nullable=True), True, id="nullable"),
        pytest.param(Column("own", Integer, nullable=False), False, id="demanded"),
        pytest.param(
            Column("own", Integer, nullable=False, default=1), True, id="default"
        ),
        pytest.param(
            Column("own", Integer, nullable=False, default=lambda: 1),
            True,
            id="callable",
        ),
        pytest.param(
            Column("own", Integer, nullable=False, server_default="1"),
            True,
            id="server",
        ),
        pytest.param(
            Column("own", Integer, Computed("1"), nullable=False), True, id="computed"
        ),
        pytest.param(
            Column("own", Integer, Identity(), nullable=False), True, id="identity"
        ),
    ],
)
def test_a_row_may_leave_out_what_has_a_default(
    column: Column[Any], is_given: bool
) -> None:
    assert is_optional_column(column) is is_given


class FilmSchema(ChunkedUploadSchema):
    title = fields.String(required=True)
    year = fields.Integer(required=True)


class Films(ChunkedUploadBlueprint):
    schema_class = FilmSchema
    user_restricted = False


def film_model(db: SQLAlchemy) -> type[Any]:
    """A model with demanded columns, defaults and a validator."""

    class Film(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str] = mapped_column(String(20))
        year: Mapped[int]
        color: Mapped[Color] = mapped_column(Enum(Color))
        seen: Mapped[bool] = mapped_column(default=False)
        note: Mapped[str | None]
        token: Mapped[UUID] = mapped_column(default=uuid4)

        @validates("title", "year")
        def demand(self, key: str, value: object) -> object:
            if not value:
                raise ValueError(f"{key} must say something")
            return value

    return Film


@pytest.fixture
def films(app_factory: AppFactory) -> Flask:
    db = SQLAlchemy()
    return app_factory(
        db=db,
        model=film_model(db),
        blueprint_class=Films,
        CHUNKED_UPLOAD_DOWNLOADS=True,
    )


TOLD = metadata(filename="a.mp4", title="Alien", year="1979", color="blue")


def test_a_partial_upload_needs_no_field_and_has_none(films: Flask) -> None:
    tus = Tus(films.test_client())
    for told in ("", TOLD):
        headers = {"Upload_Metadata": told} if told else {}
        response = tus.post(
            b"abc", Upload_Length="3", Upload_Concat="partial", **headers
        )
        assert response.status_code == 201, response.text
    for row in rows(films):
        assert row.is_complete
        assert (row.title, row.year, row.note, row.seen) == ("", 0, None, False)
        assert row.color is Color.RED
    assert len({row.token for row in rows(films)}) == 2


@pytest.mark.parametrize(
    ("told", "status"),
    [
        pytest.param("", 400, id="nothing"),
        pytest.param(metadata(title="Alien"), 400, id="not-all"),
        pytest.param(metadata(title="", year="1979"), 400, id="refused-by-the-model"),
    ],
)
def test_a_final_upload_needs_its_fields(films: Flask, told: str, status: int) -> None:
    tus = Tus(films.test_client())
    headers = {"Upload_Metadata": told} if told else {}
    part = tus.partial(b"abc")
    assert tus.final(part, **headers).status_code == status
    assert [row.partial for row in rows(films)] == [True]


def ordinary(tus: Tus) -> int:
    return tus.post(Upload_Length="3").status_code


def test_an_ordinary_upload_needs_its_fields(films: Flask) -> None:
    assert ordinary(Tus(films.test_client())) == 400
    assert rows(films) == []


def keyed_model(db: SQLAlchemy) -> type[Any]:
    """A model whose rows must name another one."""

    class Shelf(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Book(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))

    return Book


def test_a_partial_upload_that_must_name_another_row_is_refused(
    app_factory: AppFactory,
) -> None:
    db = SQLAlchemy()
    app = app_factory(db=db, model=keyed_model(db))
    response = Tus(app.test_client()).post(Upload_Length="3", Upload_Concat="partial")
    assert response.status_code == 400
    assert "shelf_id" in response.text
    assert rows(app) == []


# -- when the ORM inserts --------------------------------------------------------------


def _column(db: SQLAlchemy) -> type[Any]:
    class Titled(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str | None] = mapped_column()

    return Titled


def _validator(db: SQLAlchemy) -> type[Any]:
    class Validated(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        @validates("filename")
        def short(self, _key: str, value: str) -> str:
            return value[:5]

    return Validated


def _constructor(db: SQLAlchemy) -> type[Any]:
    class Constructed(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__(attempts=3)

    return Constructed


def _setter(db: SQLAlchemy) -> type[Any]:
    class Set(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)

    return Set


def _bare(db: SQLAlchemy) -> type[Any]:
    class Bare(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    return Bare


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (_bare, True),
        (_column, False),
        (_validator, False),
        (_constructor, False),
        (_setter, False),
    ],
    ids=["mixin alone", "column", "validator", "constructor", "__setattr__"],
)
def test_model_with_its_own_behaviour_is_inserted_by_the_orm(
    make: Callable[[SQLAlchemy], type[Any]], plain: bool
) -> None:
    db = SQLAlchemy()
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(app)
    assert RowMapper(make(db), "user").can_bypass_orm() is plain


def _listen_to_mapper(model: type[Any], listener: Callable[..., None]) -> Any:
    return model, "before_insert", listener


def _listen_to_attribute(model: type[Any], listener: Callable[..., None]) -> Any:
    return model.filename, "set", listener


def _listen_to_instances(model: type[Any], listener: Callable[..., None]) -> Any:
    return model, "init", listener


def _listen_to_sessions(model: type[Any], listener: Callable[..., None]) -> Any:
    return Session, "before_flush", listener


@pytest.mark.parametrize(
    "listen",
    [
        _listen_to_mapper,
        _listen_to_attribute,
        _listen_to_instances,
        _listen_to_sessions,
    ],
    ids=["before_insert", "set", "init", "before_flush"],
)
def test_listener_that_is_added_later_is_called(
    tmp_path: Path, app_factory: Callable[..., Flask], listen: Callable[..., Any]
) -> None:
    app = app_factory()
    here = registered(app)
    called: list[object] = []

    def listener(*arguments: object, **_: object) -> None:
        called.append(arguments)

    new = NewUpload("ada", "a", 1, dialect="tus")
    with app.app_context():
        here.engine.create.upload(new)
        assert not called
        where = listen(here.model, listener)
        event.listen(*where)
        try:
            made = here.engine.create.upload(new)
        finally:
            event.remove(*where)
        assert called
        assert here.repository.get(made.id) == made
