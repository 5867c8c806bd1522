"""What a client may set on a row: ``filename`` and the application's own columns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from marshmallow import INCLUDE, Schema, fields, post_load, pre_load, validate
from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Mapped,
    column_property,
    composite,
    mapped_column,
    relationship,
    synonym,
    validates,
)
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    ConfigurationError,
)
from flask_chunked.database.rows import RowMapper
from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.models import CORE_COLUMNS
from flask_chunked.models.fields import FieldLoader

from ..apps import rows, stored_files
from ..conftest import AppFactory
from ..dialects.tus import Tus, metadata
from ..exchange import detail, post_whole, put_form, put_raw

OURS = sorted(CORE_COLUMNS - {"filename"})
#: Those that ``ChunkedUploadSchema`` declares, as fields that it only dumps.
DECLARED = set(ChunkedUploadSchema().fields)


class Pair:
    """What a composite of two columns makes."""

    def __init__(self, first: object, second: object) -> None:
        self.first, self.second = first, second

    def __composite_values__(self) -> tuple[object, object]:
        return self.first, self.second


def film_model(db: SQLAlchemy) -> type[Any]:
    """A model with own columns and with each kind of attribute that is none."""

    class Person(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Review(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        film_id: Mapped[UUID] = mapped_column(ForeignKey("film.id"))

    class Film(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        person_id: Mapped[int | None] = mapped_column("person", ForeignKey("person.id"))
        critic_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
        title: Mapped[str | None] = mapped_column(String(20))
        settings: Mapped[dict[str, Any] | None] = mapped_column(JSON)
        person: Mapped[Person] = relationship(foreign_keys=[person_id])
        critic: Mapped[Person] = relationship(foreign_keys=[critic_id])
        reviews: Mapped[list[Review]] = relationship()
        size: Mapped[int] = synonym("length")
        weight: Mapped[int] = synonym("size")
        label: Mapped[str] = synonym("title")
        span: Mapped[Pair] = composite(Pair, "offset", "length")

        @hybrid_property
        def mood(self) -> str:
            return self.status

        @mood.inplace.setter
        def _set_mood(self, value: str) -> None:
            self.status = value

        @property
        def place(self) -> str | None:
            return self.storage_key

        @place.setter
        def place(self, value: str | None) -> None:
            self.storage_key = value

    Film.total = column_property(Film.__table__.c.length)
    Film.double = column_property(Film.__table__.c.length * 2)
    model: type[Any] = Film
    return model


@pytest.fixture(scope="module")
def film() -> type[Any]:
    return film_model(SQLAlchemy())


def schema_of(declared: Mapping[str, Any], **meta: object) -> ChunkedUploadSchema:
    """An instance of a schema with these fields and options."""
    options = type("Meta", (ChunkedUploadSchema.Meta,), dict(meta))
    made: type[Any] = type(
        "FilmSchema", (ChunkedUploadSchema,), {"Meta": options, **declared}
    )
    schema: ChunkedUploadSchema = made()
    return schema


def refusal(schema: Schema, model: type[Any], user_field: str = "user") -> str:
    """Why the schema is refused for the model."""
    with pytest.raises(ConfigurationError) as caught:
        FieldLoader(schema, model, user_field, "films")
    return str(caught.value)


# -- columns of the library ------------------------------------------------------------

#: Way to name a column -> (name of the field that loads it, the schema's instance).
WAYS: dict[str, Callable[[str], tuple[str, ChunkedUploadSchema]]] = {
    "name": lambda name: (name, schema_of({name: fields.Raw()})),
    "attribute": lambda name: ("x", schema_of({"x": fields.Raw(attribute=name)})),
    "dotted": lambda name: ("x", schema_of({"x": fields.Raw(attribute=f"{name}.y")})),
    "data-key": lambda name: (name, schema_of({name: fields.Raw(data_key="x")})),
    "load-only": lambda name: (name, schema_of({name: fields.Raw(load_only=True)})),
    "meta-load-only": lambda name: (
        name,
        schema_of({name: fields.Raw()}, load_only=(name,)),
    ),
    "required": lambda name: (name, schema_of({name: fields.Raw(required=True)})),
    "load-default": lambda name: (name, schema_of({name: fields.Raw(load_default=1)})),
    "constant": lambda name: (name, schema_of({name: fields.Constant(1)})),
    "nested": lambda name: (
        "x",
        schema_of({"x": fields.Nested({"y": fields.Raw()}, attribute=name)}),
    ),
    "pluck": lambda name: (
        "x",
        schema_of({"x": fields.Pluck(ChunkedUploadSchema, "filename", attribute=name)}),
    ),
    "list": lambda name: (name, schema_of({name: fields.List(fields.Raw())})),
    "function": lambda name: (
        name,
        schema_of({name: fields.Function(deserialize=lambda value: value)}),
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", OURS)
def test_field_that_loads_a_library_column_is_refused(
    film: type[Any],
    name: str,
    way: Callable[[str], tuple[str, ChunkedUploadSchema]],
) -> None:
    field, schema = way(name)
    told = refusal(schema, film)
    assert "FilmSchema of blueprint 'films'" in told
    assert repr(field) in told
    assert repr(name) in told
    assert "dump_only=True" in told


@pytest.mark.skipif(
    not hasattr(ChunkedUploadSchema().opts, "additional"),
    reason="marshmallow 4 makes no fields of names",
)
@pytest.mark.parametrize("option", ["fields", "additional"])
@pytest.mark.parametrize("name", sorted(set(OURS) - DECLARED))
def test_field_that_meta_makes_is_refused(
    film: type[Any], name: str, option: str
) -> None:
    made = schema_of({}, **{option: ("filename", name)})
    assert repr(name) in refusal(made, film)


#: The ways out that the error names.
CURES: dict[str, Callable[[str], ChunkedUploadSchema]] = {
    "dump-only": lambda name: schema_of({name: fields.Raw(dump_only=True)}),
    "meta-dump-only": lambda name: schema_of({name: fields.Raw()}, dump_only=(name,)),
    "meta-exclude": lambda name: schema_of({name: fields.Raw()}, exclude=(name,)),
    "serializing-function": lambda name: schema_of(
        {name: fields.Function(lambda upload: 1)}
    ),
}


@pytest.mark.parametrize("cure", CURES.values(), ids=CURES)
@pytest.mark.parametrize("name", OURS)
def test_field_that_only_dumps_a_library_column_is_accepted(
    film: type[Any], name: str, cure: Callable[[str], ChunkedUploadSchema]
) -> None:
    loader = FieldLoader(cure(name), film, "user", "films")
    assert loader.load({name: "1", "filename": "a"}) == {"filename": "a"}


def test_every_field_is_named_at_once(film: type[Any]) -> None:
    told = refusal(schema_of({name: fields.Raw() for name in OURS}), film)
    assert [name for name in OURS if repr(name) not in told] == []


@pytest.mark.parametrize(
    ("attribute", "described"),
    [
        ("person_id", "column 'person'"),
        ("person", "a relationship"),
        ("reviews", "a relationship"),
        ("size", "a synonym of 'length'"),
        ("weight", "a synonym of 'size'"),
        ("span", "a composite"),
        ("total", "column 'length'"),
    ],
)
@pytest.mark.parametrize("by_name", [True, False], ids=["name", "attribute"])
def test_attribute_that_leads_to_a_library_column_is_refused(
    film: type[Any], attribute: str, described: str, by_name: bool
) -> None:
    declared = fields.Raw() if by_name else fields.Raw(attribute=attribute)
    name = attribute if by_name else "x"
    told = refusal(schema_of({name: declared}), film, "person_id")
    assert "lets clients set columns of the library" in told
    assert described in told
    assert repr(name) in told


def test_owner_column_of_any_name_belongs_to_the_library(film: type[Any]) -> None:
    schema = schema_of({"person_id": fields.Integer()})
    assert "'person_id'" in refusal(schema, film, "person_id")
    FieldLoader(schema, film, "user", "films")


def test_registration_asks(app_factory: AppFactory) -> None:
    class Sized(ChunkedUploadSchema):
        length = fields.Integer()

    class Uploads(ChunkedUploadBlueprint):
        schema_class = Sized

    with pytest.raises(ConfigurationError, match=r"Sized of .*'uploads'.*'length'"):
        app_factory(blueprint_class=Uploads)


def test_automatic_schema_is_refused_for_what_it_loads(film: type[Any]) -> None:
    automatic = pytest.importorskip("marshmallow_sqlalchemy")

    class Auto(ChunkedUploadSchema, automatic.SQLAlchemyAutoSchema):  # type: ignore[misc,name-defined]
        class Meta(ChunkedUploadSchema.Meta):
            model = film

    class Cured(ChunkedUploadSchema, automatic.SQLAlchemyAutoSchema):  # type: ignore[misc,name-defined]
        class Meta(ChunkedUploadSchema.Meta):
            model = film
            dump_only = tuple({*OURS, "total", "double"} - DECLARED)

    class Single(ChunkedUploadSchema, automatic.SQLAlchemySchema):  # type: ignore[misc,name-defined]
        class Meta(ChunkedUploadSchema.Meta):
            model = film

        title = automatic.auto_field()
        storage_key = automatic.auto_field()

    told = refusal(Auto(), film)
    forgeable = set(OURS) - DECLARED
    assert [name for name in forgeable if repr(name) not in told] == []
    assert "'storage_key'" in refusal(Single(), film)
    loader = FieldLoader(Cured(), film, "user", "films")
    sent = {name: "1" for name in OURS} | {"title": "t"}
    assert loader.load(sent) == {"title": "t"}


def test_schema_that_makes_instances_is_refused(film: type[Any]) -> None:
    schema = schema_of({"title": fields.String()})
    schema.opts.load_instance = True
    assert "load_instance = True" in refusal(schema, film)


# -- what the model has no column for --------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "described"),
    [
        ("nothing", "'nothing'"),
        ("url", "'url'"),
        ("metadata", "'metadata'"),
        ("critic", "a relationship"),
        ("label", "a synonym of 'title'"),
        ("double", "an SQL expression"),
        ("mood", "a hybrid property"),
        ("place", "a property"),
        ("is_complete", "a property"),
    ],
)
def test_field_without_a_column_is_refused(
    film: type[Any], attribute: str, described: str
) -> None:
    told = refusal(schema_of({attribute: fields.Raw()}), film)
    assert "Film has no column of its own" in told
    assert repr(attribute) in told
    assert described in told
    assert "dump_only=True" in told


def test_default_model_has_no_column_for_a_title(app_factory: AppFactory) -> None:
    class Titled(ChunkedUploadSchema):
        title = fields.String(required=True)

    class Uploads(ChunkedUploadBlueprint):
        schema_class = Titled

    with pytest.raises(ConfigurationError, match=r"'title'.*model = \.\.\."):
        app_factory(blueprint_class=Uploads)


# -- what is loaded --------------------------------------------------------------------


class Docs(ChunkedUploadBlueprint):
    """Keys of its own on the wire, and a dotted attribute."""

    class schema_class(ChunkedUploadSchema):
        filename = fields.String(data_key="name")
        relative_path = fields.String(
            data_key="relativePath", validate=validate.Length(max=12)
        )
        color = fields.String(attribute="settings.color")


@pytest.fixture
def docs(app_factory: AppFactory) -> Flask:
    db = SQLAlchemy()

    class Doc(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        relative_path: Mapped[str | None] = mapped_column(unique=True)
        settings: Mapped[dict[str, Any] | None] = mapped_column(JSON)

        @validates("relative_path")
        def check_path(self, key: str, value: str) -> str:
            if value.startswith("/"):
                raise ValueError("Must be relative")
            return value

    return app_factory(db=db, model=Doc, blueprint_class=Docs)


def post_tus(client: FlaskClient, data: bytes, *, fields: dict[str, str]) -> Any:
    """A whole upload, the fields as its metadata."""
    headers = {"Upload_Length": str(len(data)), "Upload_Metadata": metadata(**fields)}
    return Tus(client).post(data, **headers)


#: Every road that fields come by.
ROADS: dict[str, Callable[..., TestResponse]] = {
    "raw": put_raw,
    "form": put_form,
    "whole": post_whole,
    "tus": post_tus,
}
each_road = pytest.mark.parametrize("send", ROADS.values(), ids=ROADS)


@each_road
def test_data_key_is_what_clients_send(
    docs: Flask, send: Callable[..., TestResponse]
) -> None:
    sent = {"relativePath": "x/a.txt", "relative_path": "y/b.txt", "color": "red"}
    answer = send(docs.test_client(), b"abc", fields=sent)
    assert answer.status_code in (200, 201), answer.text
    (row,) = rows(docs)
    assert (row.relative_path, row.settings) == ("x/a.txt", {"color": "red"})


@each_road
def test_filename_may_have_a_data_key(
    docs: Flask, send: Callable[..., TestResponse]
) -> None:
    send(docs.test_client(), b"abc", fields={"name": "report.pdf"})
    assert [row.filename for row in rows(docs)] == ["report.pdf"]


@each_road
@pytest.mark.parametrize(
    "path",
    [
        pytest.param("x" * 13, id="schema"),
        pytest.param("/etc", id="validator"),
        pytest.param("taken", id="database"),
    ],
)
def test_errors_are_keyed_by_the_data_key(
    docs: Flask, send: Callable[..., TestResponse], path: str
) -> None:
    client = docs.test_client()
    put_raw(client, b"abc", fields={"relativePath": "taken"})
    answer = send(client, b"abc", fields={"relativePath": path})
    assert answer.status_code == 400
    if answer.is_json:
        assert list(answer.json["errors"]) == ["relativePath"]  # type: ignore[index]
    else:
        assert "relativePath" in answer.text
    assert len(rows(docs)) == 1


# -- what load() returns ---------------------------------------------------------------


class Greedy(ChunkedUploadSchema):
    """Hooks add values that no client and no hook may set."""

    class Meta(ChunkedUploadSchema.Meta):
        unknown = INCLUDE  # type: ignore[assignment]

    title = fields.String()

    @pre_load
    def add_before(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {**data, "length": 1, "user": "bob", "junk": "x" * 500}

    @post_load
    def add_after(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {**data, "status": "complete", "storage_key": "../../passwd", "id": 7}


@pytest.fixture
def greedy(app_factory: AppFactory) -> Flask:
    class Uploads(ChunkedUploadBlueprint):
        schema_class = Greedy

    db = SQLAlchemy()

    class Film(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str | None]

    return app_factory(
        db=db, model=Film, blueprint_class=Uploads, CHUNKED_UPLOAD_MAX_BYTES=10
    )


@each_road
def test_other_values_of_hooks_are_dropped_with_one_warning(
    greedy: Flask,
    send: Callable[..., TestResponse],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "flask_chunked")
    for title in ("one", "two"):
        answer = send(greedy.test_client(), b"abc", fields={"title": title})
        assert answer.status_code in (200, 201), answer.text
    assert {row.title for row in rows(greedy)} == {"one", "two"}
    for row in rows(greedy):
        assert (row.length, row.offset, row.user) == (3, 3, None)
        assert row.storage_key is not None
        assert row.storage_key.endswith(str(row.id))
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    told = warning.getMessage()
    assert "Greedy of blueprint 'uploads'" in told
    for name in ("id", "junk", "length", "status", "storage_key", "user"):
        assert repr(name) in told


def test_warning_shows_no_more_than_200_characters_of_a_request(
    film: type[Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Wide(ChunkedUploadSchema):
        @post_load
        def add(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            return {**data, "x\n" * 500: 1}

    caplog.set_level(logging.WARNING, "flask_chunked")
    assert FieldLoader(Wide(), film, "user", "films").load({}) == {}
    assert len(caplog.messages[0]) < 400
    assert "\n" not in caplog.messages[0]


@each_road
def test_load_that_returns_no_mapping_is_an_error_of_the_application(
    app_factory: AppFactory, tmp_path: Path, send: Callable[..., TestResponse]
) -> None:
    class Form:
        pass

    class Objects(ChunkedUploadSchema):
        @post_load
        def make(self, data: dict[str, Any], **kwargs: Any) -> Form:
            return Form()

    class Uploads(ChunkedUploadBlueprint):
        schema_class = Objects

    app = app_factory(blueprint_class=Uploads)
    with pytest.raises(RuntimeError, match=r"Objects of .*'uploads'.*Form.*post_load"):
        send(app.test_client(), b"abc", fields={})
    assert rows(app) == []
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize("name", [*OURS, "total", "size", "weight"])
def test_engine_keeps_its_values_whatever_fields_say(
    film: type[Any], name: str
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    draft = Upload(
        id=UUID(int=1),
        blueprint="films",
        user=None,
        filename="a",
        offset=0,
        length=3,
        status=Status.UPLOADING,
        fence=0,
        created_at=moment,
        last_activity_at=moment,
        dialect="tus",
    )
    mapper = RowMapper(film, "person_id")
    made = mapper.instance(draft, {name: "forged", "person_id": 7, "title": "t"})
    plain = mapper.instance(draft, {})
    assert getattr(made, name) == getattr(plain, name)
    assert made.length == 3
    assert (made.person_id, made.title) == (None, "t")


def test_own_error_of_a_field_names_it(docs: Flask) -> None:
    answer = put_form(docs.test_client(), b"abc", fields={"relativePath": "x" * 13})
    assert "relativePath" in detail(answer)
