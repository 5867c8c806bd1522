"""Refuses a model whose columns cannot hold what the engine stores in them.

The mixin's own columns are the measure. Knows mapped classes and types of databases;
nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Enum,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    TypeDecorator,
    inspect,
    make_url,
)
from sqlalchemy.exc import ArgumentError, NoInspectionAvailable, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

from ..exceptions import ConfigurationError
from .columns import FILENAME, Ownership
from .mixin import CORE_COLUMNS, ChunkedUploadMixin

#: Where the database is not known yet, one of these must do.
_USUAL = ("sqlite://", "postgresql://")
#: Databases that give a time back with its zone, if the column has one.
_KEEP_ZONES = frozenset({"postgresql", "cockroachdb"})
#: Defaults that are the application's to choose.
_FREE_DEFAULTS = frozenset({"blueprint", FILENAME})
#: Bytes or characters that a column without a length must hold.
_UNLIMITED = 2**16
#: A value of each kind that fills its column: of its type in the mixin.
_SAMPLES: Mapping[type, Callable[[Any], object]] = {
    UUID: lambda kind: UUID(int=2**128 - 1),
    str: lambda kind: "a" * (kind.length or _UNLIMITED),
    int: lambda kind: _largest(kind),
    bool: lambda kind: True,
    bytes: lambda kind: bytes(kind.length or _UNLIMITED),
    datetime: lambda kind: datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc),
    dict: lambda kind: {"a": [1]},
}


def require_model(
    model: type[Any], user_field: str, config: Mapping[str, Any], blueprint: str
) -> None:
    """The model must carry uploads in the columns of the mixin.

    :param user_field: the model's attribute that holds the owner; of any type.
    :param config: of the app, which names the database.
    :param blueprint: the name that errors give.
    :raises ConfigurationError: it does not; each fault is named with what is right.
    """
    name = getattr(model, "__name__", repr(model))
    subject = f"Model {name} of blueprint {blueprint!r}"
    if not _is_upload(model):
        raise ConfigurationError(
            f"{subject} is no mapped class with the columns of an upload. Derive it "
            "from ChunkedUploadMixin and db.Model"
        )
    mapper = inspect(model)
    table = mapper.persist_selectable
    if not isinstance(table, Table) or table is not model.__table__:
        raise ConfigurationError(
            f"{subject} has its columns in more than one table ({table}). Name the "
            "class whose table has those of the upload as the model, or keep all "
            "columns in one table"
        )
    owner = mapper.column_attrs.get(user_field)
    if owner is not None and owner.columns[0].name in CORE_COLUMNS - {"user"}:
        raise ConfigurationError(
            f"user_field_name {user_field!r} of blueprint {blueprint!r} is a column "
            "that the library fills. Name the attribute that holds the owner"
        )
    faults = list(_faults(model, user_field, config))
    if faults:
        raise ConfigurationError(
            f"{subject} cannot hold uploads: {'; '.join(faults)}. Leave these columns "
            "to ChunkedUploadMixin, and give the application's own other names"
        )


def _is_upload(model: type[Any]) -> bool:
    try:
        inspect(model)
    except NoInspectionAvailable:
        return False
    return isinstance(model, type) and issubclass(model, ChunkedUploadMixin)


@cache
def _mixin_columns() -> Mapping[str, Column[Any]]:
    """The mixin's columns, in a table of their own."""

    class Base(DeclarativeBase):
        pass

    class Plain(ChunkedUploadMixin, Base):
        __tablename__ = "plain"

    return Ownership(Plain, "user").columns


def _faults(
    model: type[Any], user_field: str, config: Mapping[str, Any]
) -> Iterator[str]:
    """What keeps the model from holding uploads."""
    mapper = inspect(model)
    table = model.__table__
    ownership = Ownership(model, user_field)
    dialects = _dialects(config, getattr(model, "__bind_key__", None))
    for name, right in _mixin_columns().items():
        column = ownership.columns.get(name)
        if name == "user":
            yield from _faults_of_user(column, user_field)
        elif column is None:
            kind = ownership.describe(name) or "not mapped"
            yield f"{name!r} is {kind} and must be a column, {right.type!r}"
        else:
            yield from _faults_of(name, column, right, dialects)
    if [column.name for column in table.primary_key] != ["id"]:
        keys = ", ".join(repr(column.name) for column in table.primary_key)
        yield f"the primary key is {keys} and must be 'id'"
    for role in ("polymorphic_on", "version_id_col"):
        used = getattr(mapper, role)
        if getattr(used, "name", None) in CORE_COLUMNS:
            yield f"{used.name!r} is the mapper's {role} and must not be"


def _faults_of_user(column: Column[Any] | None, user_field: str) -> Iterator[str]:
    """The owner's column is the application's; the mixin's may be left unused."""
    if column is None or user_field == "user" or column.nullable:
        return
    if column.default is None and column.server_default is None:
        yield (
            f"'user' is NOT NULL and must be nullable, since {user_field!r} holds the "
            "owner and nothing fills it"
        )


def _faults_of(
    name: str, column: Column[Any], right: Column[Any], dialects: list[Dialect]
) -> Iterator[str]:
    """Of one column, compared with the mixin's."""
    if column.name != name:
        yield f"{name!r} is column {column.name!r} and must be column {name!r}"
    if column.type is not right.type and not any(
        _holds(column.type, right.type, dialect) for dialect in dialects
    ):
        yield f"{name!r} is {column.type!r} and must be {_wanted(right.type)}"
    if right.nullable and not column.nullable:
        yield f"{name!r} is NOT NULL and must be nullable"
    if column.computed is not None or column.identity is not None:
        yield f"{name!r} is made by the database and must be a plain column"
        return
    if right.default is None and right.nullable:
        if column.default is not None or column.server_default is not None:
            yield f"{name!r} has a default and must have none, for NULL has a meaning"
    elif name not in _FREE_DEFAULTS:
        given, usual = _scalar(column), _scalar(right)
        if None not in (given, usual) and given != usual:
            yield f"{name!r} has the default {given!r} and must have {usual!r}"


def _scalar(column: Column[Any]) -> object:
    """The default, if it is a value; else ``None``."""
    default: Any = column.default
    return default.arg if default is not None and default.is_scalar else None


def _wanted(kind: TypeEngine[Any]) -> str:
    """The mixin's type, and what else would do."""
    if isinstance(kind, String) and kind.length is not None:
        return f"{kind!r} or longer"
    if isinstance(_plain(kind), DateTime):
        return (
            f"{kind!r} of flask_chunked.models.mixin, or on PostgreSQL "
            "DateTime(timezone=True), so that times are aware"
        )
    return repr(kind)


def _plain(kind: TypeEngine[Any]) -> Any:
    """What a type is made of, on no database in particular."""
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def _holds(kind: TypeEngine[Any], right: TypeEngine[Any], dialect: Dialect) -> bool:
    """Does a column of this type give back what the mixin's would?"""
    plain = _plain(right)
    sample = _SAMPLES[_python_type(plain)](plain)
    try:
        back = _given_back(kind, sample, dialect)
        return isinstance(back, type(sample)) and back == sample
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
        return False
    except RuntimeError:
        # An application's type may want a context that is not there yet.
        return True


def _given_back(kind: TypeEngine[Any], value: Any, dialect: Dialect) -> Any:
    """What comes back of a value that a column of this type is given.

    :raises ValueError: it cannot be stored.
    """
    here: Any = kind.dialect_impl(dialect)
    if isinstance(here, TypeDecorator):
        # A variant for this database may be one where the type itself is none.
        decorator = kind if isinstance(kind, TypeDecorator) else here
        if type(here).process_bind_param is not TypeDecorator.process_bind_param:
            value = decorator.process_bind_param(value, dialect)
        back = _given_back(decorator.load_dialect_impl(dialect), value, dialect)
        if type(here).process_result_value is TypeDecorator.process_result_value:
            return back
        return decorator.process_result_value(back, dialect)
    if type(value) is not _python_type(here) or isinstance(here, Enum):
        raise ValueError(value)
    if isinstance(here, (String, LargeBinary)) and len(value) > (
        here.length or _UNLIMITED
    ):
        raise ValueError(value)
    # A variant for SQLite may be narrower: its integers have 64 bits all the same.
    is_wide = dialect.name == "sqlite" and isinstance(kind, BigInteger)
    if isinstance(here, Integer) and not is_wide and value > _largest(here):
        raise ValueError(value)
    if isinstance(here, DateTime):
        keeps = here.timezone and dialect.name in _KEEP_ZONES
        return value if keeps else value.replace(tzinfo=None)
    return value


def _python_type(kind: TypeEngine[Any]) -> Any:
    """What a type's values are; of JSON those that the engine stores."""
    return dict if isinstance(kind, JSON) else kind.python_type


def _largest(kind: Integer) -> int:
    """The largest number in an integer column."""
    if isinstance(kind, BigInteger):
        return 2**63 - 1
    return 2**15 - 1 if isinstance(kind, SmallInteger) else 2**31 - 1


def _dialects(config: Mapping[str, Any], bind_key: str | None) -> list[Dialect]:
    """That of the database that the app names; the usual ones if it names none yet."""
    binds = dict(config.get("SQLALCHEMY_BINDS") or {})
    found: Any = binds.get(bind_key)
    if found is None and bind_key is None:
        found = config.get("SQLALCHEMY_DATABASE_URI")
    if isinstance(found, Mapping):
        found = found.get("url")
    try:
        return [make_url(found).get_dialect()()]
    except (ArgumentError, NoSuchModuleError):
        return [make_url(url).get_dialect()() for url in _USUAL]
