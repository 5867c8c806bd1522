"""Models whose columns cannot hold an upload are refused at registration."""

from __future__ import annotations

import types
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from flask import current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    CHAR,
    JSON,
    URL,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Dialect,
    Enum,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    Unicode,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    mapped_column,
    relationship,
    synonym,
)

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ConfigurationError,
)
from flask_chunked.engine.states import Status
from flask_chunked.models import CORE_COLUMNS, UTCDateTime, default_model
from flask_chunked.models.checks import require_model

from ..apps import rows
from ..conftest import AppFactory
from ..exchange import begin, finish, send
from ..postgres import as_setting, new_database, running_server

SQLITE = {"SQLALCHEMY_DATABASE_URI": "sqlite://"}
POSTGRES = {"SQLALCHEMY_DATABASE_URI": "postgresql+psycopg://localhost/x"}


class _Base(DeclarativeBase):
    pass


class _Plain(ChunkedUploadMixin, _Base):
    __tablename__ = "plain"


#: The mixin's columns; the owner's is the application's to change.
RIGHT = {name: column for name, column in _Plain.__table__.c.items() if name != "user"}


def model_of(attributes: dict[str, Any], db: SQLAlchemy | None = None) -> type[Any]:
    """``Video`` with these attributes."""
    base: Any = (db or SQLAlchemy()).Model
    return type(
        "Video", (ChunkedUploadMixin, base), {"__module__": __name__, **attributes}
    )


def refusal(
    model: type[Any], config: dict[str, Any] = SQLITE, user_field: str = "user"
) -> str:
    """Why the model is refused."""
    with pytest.raises(ConfigurationError) as caught:
        require_model(model, user_field, config, "videos")
    told = str(caught.value)
    assert "'videos'" in told
    return told


def copy_of(name: str, **changes: Any) -> Any:
    """The mixin's column with some changes."""
    column = RIGHT[name]
    values: dict[str, Any] = {
        "nullable": column.nullable,
        "primary_key": column.primary_key,
        **changes,
    }
    return mapped_column(values.pop("type_", column.type), **values)


def test_tables_of_this_test_are_whole() -> None:
    assert set(RIGHT) | {"user"} == CORE_COLUMNS
    require_model(_Plain, "user", SQLITE, "videos")
    require_model(_Plain, "user", POSTGRES, "videos")
    require_model(_Plain, "user", {}, "videos")


@pytest.mark.parametrize("config", [SQLITE, POSTGRES, {}], ids=["lite", "pg", "none"])
def test_copies_of_the_columns_are_taken(config: dict[str, Any]) -> None:
    model = model_of({name: copy_of(name) for name in RIGHT})
    require_model(model, "user", config, "videos")


# -- types -----------------------------------------------------------------------------

#: Types that hold no value of any other kind.
KINDS = (String(400), Float(), Numeric(20, 0), Date(), Boolean(), LargeBinary(), JSON())


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_column_of_another_type_is_refused(kind: Any) -> None:
    others = {
        name: column.type
        for name, column in RIGHT.items()
        if not isinstance(column.type, type(kind))
    }
    assert len(others) > 10
    told = refusal(model_of({name: copy_of(name, type_=kind) for name in others}))
    for name, right in others.items():
        assert f"'{name}' is {kind!r} and must be {right!r}" in told


class NaiveTime(TypeDecorator[datetime]):
    """Takes aware times and gives back naive ones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return None if value is None else value.replace(tzinfo=None)


class Hidden(TypeDecorator[str]):
    """Stored longer than it is, as what is encrypted."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else f"<{value}>"

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value[1:-1]


class Keyed(TypeDecorator[str]):
    """Needs the application's configuration."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else current_app.name + value

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.removeprefix(current_app.name)


class Wrapped(TypeDecorator[int]):
    """Adds nothing to 32 bits."""

    impl = Integer
    cache_ok = True


class Shouting(TypeDecorator[str]):
    """Gives back another text."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.upper()


#: Kind of the mixin's column -> types of the same kind that hold less.
NARROW: dict[str, tuple[type, Any]] = {
    "32-bit": (BigInteger, Integer()),
    "16-bit": (BigInteger, SmallInteger()),
    "32-bit-decorated": (BigInteger, Wrapped()),
    "16-bit-counter": (Integer, SmallInteger()),
    "32-bit-but-elsewhere": (BigInteger, Integer().with_variant(BigInteger(), "mysql")),
    "id-as-text": (Uuid, CHAR(36)),
    "id-as-text-type": (Uuid, Uuid(as_uuid=False)),
    "id-as-number": (Uuid, Integer()),
    "naive": (UTCDateTime, DateTime()),
    "naive-on-sqlite": (UTCDateTime, DateTime(timezone=True)),
    "naive-decorated": (UTCDateTime, NaiveTime()),
    "short-text": (Text, String(255)),
    "other-text": (Text, Shouting()),
    "flag-as-number": (Boolean, Integer()),
    "short-bytes": (LargeBinary, LargeBinary(255)),
    "json-as-text": (JSON, Text()),
}


@pytest.mark.parametrize(("right", "kind"), NARROW.values(), ids=NARROW)
def test_column_of_a_narrower_type_is_refused(right: type, kind: Any) -> None:
    names = [name for name, column in RIGHT.items() if type(column.type) is right]
    assert names
    told = refusal(model_of({name: copy_of(name, type_=kind) for name in names}))
    for name in names:
        assert f"'{name}' is {kind!r} and must be {RIGHT[name].type!r}" in told


LENGTHS = {n: c.type.length for n, c in RIGHT.items() if isinstance(c.type, String)}


@pytest.mark.parametrize("name", [n for n, length in LENGTHS.items() if length])
def test_shorter_text_is_refused_and_longer_is_taken(name: str) -> None:
    length = LENGTHS[name] or 0
    short = String(length - 1)
    told = refusal(model_of({name: copy_of(name, type_=short)}))
    assert f"'{name}' is {short!r} and must be {RIGHT[name].type!r} or longer" in told
    hidden = Hidden(length + 1)
    assert f"'{name}' is" in refusal(model_of({name: copy_of(name, type_=hidden)}))
    for kind in (String(length), Unicode(length + 1), Text(), Hidden(length + 2)):
        model = model_of({name: copy_of(name, type_=kind)})
        require_model(model, "user", SQLITE, "videos")


@pytest.mark.parametrize("values", [Status, [status.value for status in Status]])
def test_enumerated_status_is_refused(values: Any) -> None:
    kind = Enum(values, length=30) if values is Status else Enum(*values, length=30)
    assert "'status' is Enum" in refusal(
        model_of({"status": copy_of("status", type_=kind)})
    )


TIMES = [name for name, c in RIGHT.items() if isinstance(c.type, UTCDateTime)]


@pytest.mark.parametrize("name", TIMES)
def test_time_with_a_zone_is_taken_where_the_database_keeps_zones(name: str) -> None:
    model = model_of({name: copy_of(name, type_=DateTime(timezone=True))})
    require_model(model, "user", POSTGRES, "videos")
    # It may be PostgreSQL: nothing names the database yet.
    require_model(model, "user", {}, "videos")
    told = refusal(model, SQLITE)
    assert f"'{name}' is DateTime(timezone=True) and must be UTCDateTime()" in told
    assert "PostgreSQL" in told


@pytest.mark.parametrize(
    "config",
    [
        {"SQLALCHEMY_DATABASE_URI": URL.create("sqlite")},
        {**POSTGRES, "SQLALCHEMY_BINDS": {None: "sqlite://"}},
        {**POSTGRES, "SQLALCHEMY_BINDS": {None: {"url": "sqlite://"}}},
    ],
)
def test_database_is_known_however_it_is_named(config: dict[str, Any]) -> None:
    kind = DateTime(timezone=True)
    assert refusal(model_of({"created_at": copy_of("created_at", type_=kind)}), config)


def test_database_of_a_bind_is_the_one_that_counts() -> None:
    config = {**POSTGRES, "SQLALCHEMY_BINDS": {"media": "sqlite://"}}
    kind = DateTime(timezone=True)
    attributes = {"created_at": copy_of("created_at", type_=kind)}
    require_model(model_of(attributes), "user", config, "videos")
    attributes = {"created_at": copy_of("created_at", type_=kind)}
    assert refusal(model_of({"__bind_key__": "media", **attributes}), config)


# -- what else a column can be ---------------------------------------------------------


def property_of(db: Any, name: str) -> dict[str, Any]:
    return {name: property(lambda self: 1)}


def hybrid_of(db: Any, name: str) -> dict[str, Any]:
    return {name: hybrid_property(lambda self: 1)}


def synonym_of(db: Any, name: str) -> dict[str, Any]:
    return {"other": mapped_column(Integer), name: synonym("other")}


def nothing(db: Any, name: str) -> dict[str, Any]:
    return {name: None}


def expression_of(db: Any, name: str) -> dict[str, Any]:
    other: Any = mapped_column(Integer)
    return {"other": other, name: column_property(other * 2)}


def relationship_of(db: Any, name: str) -> dict[str, Any]:
    person = type(
        "Person", (db.Model,), {"id": mapped_column(Integer, primary_key=True)}
    )
    key = mapped_column(ForeignKey("person.id"))
    return {"other_id": key, name: relationship(person, foreign_keys=[key])}


REPLACED: dict[str, tuple[Callable[[Any, str], dict[str, Any]], str]] = {
    "property": (property_of, "is a property"),
    "hybrid": (hybrid_of, "is a hybrid property"),
    "synonym": (synonym_of, "is a synonym of 'other'"),
    "none": (nothing, "is not mapped"),
    "expression": (expression_of, "is an SQL expression"),
    "relationship": (relationship_of, "is a relationship"),
}


@pytest.mark.parametrize(("way", "told"), REPLACED.values(), ids=REPLACED)
# Without its key SQLAlchemy maps no class at all.
@pytest.mark.parametrize("name", [name for name in RIGHT if name != "id"])
def test_column_that_is_something_else_is_refused(
    name: str, way: Callable[[Any, str], dict[str, Any]], told: str
) -> None:
    db = SQLAlchemy()
    refused = refusal(model_of(way(db, name), db))
    assert f"'{name}' {told} and must be a column, {RIGHT[name].type!r}" in refused


def other_name(name: str) -> Any:
    column = RIGHT[name]
    return mapped_column(
        "other", column.type, nullable=column.nullable, primary_key=column.primary_key
    )


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "id"])
def test_column_of_another_name_is_refused(name: str) -> None:
    told = refusal(model_of({name: other_name(name)}))
    assert f"'{name}' is column 'other' and must be column '{name}'" in told


@pytest.mark.parametrize("name", [n for n, c in RIGHT.items() if c.nullable])
def test_column_that_must_be_nullable_is_so(name: str) -> None:
    told = refusal(model_of({name: copy_of(name, nullable=False)}))
    assert f"'{name}' is NOT NULL and must be nullable" in told


@pytest.mark.parametrize("name", [n for n, c in RIGHT.items() if c.nullable])
@pytest.mark.parametrize("kind", ["default", "server_default"])
def test_null_must_not_become_a_default(name: str, kind: str) -> None:
    told = refusal(model_of({name: copy_of(name, **{kind: "1"})}))
    assert f"'{name}' has a default and must have none" in told


@pytest.mark.parametrize(
    ("name", "default"),
    [
        *(("status", value) for value in ("draft", "complete", "")),
        *((name, 1) for name in ("offset", "fence", "attempts")),
        ("partial", True),
    ],
)
def test_other_default_is_refused(name: str, default: object) -> None:
    usual = RIGHT[name].default.arg
    told = refusal(model_of({name: copy_of(name, default=default)}))
    assert f"'{name}' has the default {default!r} and must have {usual!r}" in told


@pytest.mark.parametrize("name", ["length", "reserved", "last_start"])
def test_column_that_the_database_makes_is_refused(name: str) -> None:
    made = mapped_column(BigInteger, Computed("1"))
    assert f"'{name}' is computed by the database" in refusal(model_of({name: made}))


def test_another_primary_key_is_refused() -> None:
    tenant = mapped_column(Integer, primary_key=True)
    assert "the primary key is" in refusal(model_of({"tenant": tenant}))


@pytest.mark.parametrize("role", ["polymorphic_on", "version_id_col"])
def test_library_column_with_a_role_in_the_mapper_is_refused(role: str) -> None:
    name = "fence" if role == "version_id_col" else "content_type"
    column = copy_of(name)
    attributes = {name: column, "__mapper_args__": {role: column}}
    assert f"'{name}' is the mapper's {role}" in refusal(model_of(attributes))


def test_every_fault_is_named_at_once() -> None:
    told = refusal(
        model_of({name: copy_of(name, type_=Date()) for name in RIGHT if name != "id"})
    )
    assert [name for name in RIGHT if name != "id" and f"'{name}' is" not in told] == []


# -- models that are none --------------------------------------------------------------


def test_class_without_the_mixin_is_refused(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match=r"Video .*ChunkedUploadMixin"):
        app_factory(db=db, model=Video)


def test_class_that_is_not_mapped_is_refused() -> None:
    class Video(ChunkedUploadMixin):
        pass

    assert "not a mapped class" in refusal(Video)


def test_model_in_two_tables_is_refused_and_its_parent_is_taken() -> None:
    db = SQLAlchemy()

    class Media(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind"}

    class Film(Media):
        id: Mapped[uuid.UUID] = mapped_column(ForeignKey("media.id"), primary_key=True)
        seconds: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "film"}

    class Song(Media):
        __mapper_args__ = {"polymorphic_identity": "song"}

    assert "more than one table (media JOIN film" in refusal(Film)
    require_model(Media, "user", SQLITE, "videos")
    require_model(Song, "user", SQLITE, "videos")


@pytest.mark.parametrize(
    "bases",
    [(DeclarativeBase, MappedAsDataclass), (MappedAsDataclass, DeclarativeBase)],
    ids=["last", "first"],
)
@pytest.mark.parametrize("options", [{}, {"init": False}, {"kw_only": True}])
def test_dataclass_is_refused_when_it_is_defined(
    bases: tuple[type, ...], options: dict[str, Any]
) -> None:
    base = types.new_class("Base", bases)
    with pytest.raises(ConfigurationError, match="MappedAsDataclass"):
        types.new_class("Video", (ChunkedUploadMixin, base), options)
    other: Any = SimpleNamespace(Model=base, metadata=MetaData())
    with pytest.raises(ConfigurationError, match="ChunkedUpload is a dataclass"):
        default_model(other)


def test_constructor_that_needs_arguments_is_refused() -> None:
    def needs(self: Any, title: str) -> None:
        self.title = title

    def takes(self: Any, title: str = "none", **columns: Any) -> None:
        self.title = title

    assert "needs arguments" in refusal(model_of({"__init__": needs}))
    require_model(model_of({"__init__": takes}), "user", SQLITE, "videos")


def test_subclass_that_hides_a_column_is_refused() -> None:
    hidden = {"digest": property(lambda self: "x")}
    assert "'digest' is a property" in refusal(type("Film", (model_of({}),), hidden))


def test_base_with_an_integer_id_of_its_own_is_refused() -> None:
    db = SQLAlchemy()

    class Base(db.Model):  # type: ignore[name-defined,misc]
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)

    first = type("First", (Base, ChunkedUploadMixin), {})
    last = type("Last", (ChunkedUploadMixin, Base), {})
    assert "'id' is Integer() and must be Uuid()" in refusal(first)
    require_model(last, "user", SQLITE, "videos")


# -- the owner -------------------------------------------------------------------------


@pytest.mark.parametrize("field", sorted(CORE_COLUMNS - {"user"}))
def test_owner_cannot_be_a_column_that_we_fill(field: str) -> None:
    assert f"user_field_name '{field}'" in refusal(model_of({}), user_field=field)


def test_owner_cannot_be_another_name_of_such_a_column() -> None:
    model = model_of({})
    model.size = column_property(model.__table__.c.length)
    assert "user_field_name 'size'" in refusal(model, user_field="size")


@pytest.mark.parametrize(
    "kind", [Integer(), BigInteger(), Uuid(), String(20), CHAR(2), Text()], ids=repr
)
@pytest.mark.parametrize("nullable", [True, False])
def test_owner_may_be_of_any_type(kind: Any, nullable: bool) -> None:
    column = mapped_column(kind, nullable=nullable)
    require_model(model_of({"user": column}), "user", SQLITE, "videos")


def test_owner_that_is_elsewhere_leaves_user_free() -> None:
    db = SQLAlchemy()
    ways: list[dict[str, Any]] = [
        {"user": None},
        {"user": property(lambda self: 1)},
        {},
    ]
    models = [
        model_of({"__tablename__": f"t{number}", "by": mapped_column(Integer), **way})
        for number, way in enumerate(ways)
    ]
    person = relationship_of(db, "user")
    models.append(model_of({**person, "by": mapped_column(Integer)}, db))
    for model in models:
        require_model(model, "by", SQLITE, "videos")
    required = {"user": mapped_column(String(20), nullable=False)}
    told = refusal(
        model_of({"by": mapped_column(Integer), **required}), user_field="by"
    )
    assert "'user' is NOT NULL and must be nullable, because 'by' holds" in told


# -- models that work ------------------------------------------------------------------


class AwareTime(TypeDecorator[datetime]):
    """An application's own type for aware times."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=timezone.utc)


class TextId(TypeDecorator[uuid.UUID]):
    """UUIDs as text, as SQLAlchemy's documentation once told to."""

    impl = CHAR(32)
    cache_ok = True

    def process_bind_param(
        self, value: uuid.UUID | None, dialect: Dialect
    ) -> str | None:
        return None if value is None else value.hex

    def process_result_value(
        self, value: str | None, dialect: Dialect
    ) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(value)


NUMBERS = [name for name, c in RIGHT.items() if isinstance(c.type, BigInteger)]
VARIANT = BigInteger().with_variant(Integer(), "sqlite")

WORKING: dict[str, dict[str, Any]] = {
    "variant-integers": {n: copy_of(n, type_=VARIANT) for n in NUMBERS},
    "own-times": {n: copy_of(n, type_=AwareTime()) for n in TIMES},
    "varied-times": {
        n: copy_of(
            n, type_=DateTime(timezone=True).with_variant(UTCDateTime(), "sqlite")
        )
        for n in TIMES
    },
    "own-ids": {
        n: copy_of(n, type_=TextId())
        for n, c in RIGHT.items()
        if isinstance(c.type, Uuid)
    },
    "long-texts": {n: copy_of(n, type_=Text()) for n in LENGTHS},
    "secret-texts": {
        n: copy_of(n, type_=Keyed()) for n in ("filename", "raw_metadata", "concat")
    },
    "binary-json": {
        "storage_state": copy_of(
            "storage_state", type_=JSON().with_variant(JSONB(), "postgresql")
        )
    },
    "own-defaults": {
        "filename": copy_of("filename", default="untitled"),
        "blueprint": copy_of("blueprint", default="videos"),
    },
    "nullable": {
        n: copy_of(n, nullable=True)
        for n, c in RIGHT.items()
        if not c.nullable and not c.primary_key
    },
    "bare-columns": {"offset": Column(BigInteger, nullable=False, default=0)},
}


@pytest.mark.parametrize("attributes", WORKING.values(), ids=WORKING)
def test_model_that_holds_the_same_works(
    app_factory: AppFactory, attributes: dict[str, Any]
) -> None:
    db = SQLAlchemy()
    # A column belongs to one table, and what is here serves one test.
    app = app_factory(db=db, model=model_of(attributes, db))
    client = app.test_client()
    url = begin(client, b"abc", 2**40)
    assert client.head(url).headers["Upload-Length"] == str(2**40)
    assert send(client, b"abc").status_code == 200
    assert len(client.get("/uploads/?status=all").json or []) == 0
    assert {row.created_at.tzinfo is None for row in rows(app)} == {False}
    assert sum(row.is_complete for row in rows(app)) == 1


def test_registration_asks(app_factory: AppFactory) -> None:
    db = SQLAlchemy()
    model = model_of({"length": mapped_column(Float)}, db)
    with pytest.raises(ConfigurationError, match=r"Video .*'length' is Float\(\)"):
        app_factory(db=db, model=model)


@pytest.mark.slow
def test_times_with_zones_work_on_postgresql(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Uploads(ChunkedUploadBlueprint):
        model = model_of(
            {n: copy_of(n, type_=DateTime(timezone=True)) for n in TIMES}, db
        )

    with running_server() as server:
        url = as_setting(new_database(server))
        app = app_factory(db=db, blueprint_class=Uploads, SQLALCHEMY_DATABASE_URI=url)
        client = app.test_client()
        begin(client, b"abc", 6)
        before = datetime.now(timezone.utc)
        upload = begin(client, b"abc", 3)
        assert finish(client, upload, b"abc").status_code == 200
        (done,) = [row for row in rows(app) if row.is_complete]
        assert done.completed_at is not None
        assert before < done.completed_at < datetime.now(timezone.utc)
