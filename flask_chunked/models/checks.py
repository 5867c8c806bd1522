"""Refuses a model whose columns cannot store the engine's values.

Compares the model's columns with the mixin's. Knows mapped classes and column types;
nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import cache
from inspect import signature
from typing import Any
from uuid import UUID

from sqlalchemy import (
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
from .columns import FILENAME, Ownership, python_type
from .mixin import CORE_COLUMNS, ChunkedUploadMixin

#: The databases of which one must suit, if the app does not name its database yet.
_USUAL = ("sqlite://", "postgresql://")
#: Databases that return the time zone of a value, if the column stores it.
_KEEP_ZONES = frozenset({"postgresql", "cockroachdb"})
#: Columns whose default the application may choose.
_FREE_DEFAULTS = frozenset({"blueprint", FILENAME})
#: Bytes or characters that a column without a length must store.
_UNLIMITED = 2**16
#: Python type -> the largest value for a column type of the mixin.
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
    """Check that the model's columns can store uploads.

    :param user_field: the model's attribute that holds the owner, of any type.
    :param config: ``app.config``, which names the database.
    :param blueprint: the blueprint's name, for the error's text.
    :raises ConfigurationError: they cannot. The error lists each fault and its remedy.
    """
    name = getattr(model, "__name__", repr(model))
    subject = f"Model {name} of blueprint {blueprint!r}"
    if not _is_upload(model):
        raise ConfigurationError(
            f"{subject} is not a mapped class with the columns of an upload. Derive "
            "it from ChunkedUploadMixin and db.Model"
        )
    if _needs_arguments(model):
        raise ConfigurationError(
            f"{subject} has a constructor that needs arguments, and the library calls "
            "it without. Give each argument a default"
        )
    mapper = inspect(model)
    table = mapper.persist_selectable
    if not isinstance(table, Table) or table is not model.__table__:
        raise ConfigurationError(
            f"{subject} has its columns in more than one table ({table}). Keep all "
            "columns in one table, or use the class whose table has the upload's "
            "columns as the model"
        )
    owner = mapper.column_attrs.get(user_field)
    if owner is not None and owner.columns[0].name in CORE_COLUMNS - {"user"}:
        raise ConfigurationError(
            f"user_field_name {user_field!r} of blueprint {blueprint!r} is a column "
            "that the library sets. Name the attribute that holds the owner"
        )
    faults = list(_faults(model, user_field, config))
    if faults:
        raise ConfigurationError(
            f"{subject} cannot store uploads: {'; '.join(faults)}. Let "
            "ChunkedUploadMixin define these columns, and give the application's "
            "columns other names"
        )


def _is_upload(model: type[Any]) -> bool:
    try:
        inspect(model)
    except NoInspectionAvailable:
        return False
    return isinstance(model, type) and issubclass(model, ChunkedUploadMixin)


def _needs_arguments(model: type[Any]) -> bool:
    try:
        signature(model).bind()
    except TypeError:
        return True
    return False


@cache
def _mixin_columns() -> Mapping[str, Column[Any]]:
    """Attribute -> column of a model that has only the mixin's columns."""

    class Base(DeclarativeBase):
        pass

    class Plain(ChunkedUploadMixin, Base):
        __tablename__ = "plain"

    return Ownership(Plain, "user").columns


def _faults(
    model: type[Any], user_field: str, config: Mapping[str, Any]
) -> Iterator[str]:
    """Describe each reason why the model cannot store uploads."""
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
            yield f"{used.name!r} is the mapper's {role} and must not be used for it"


def _faults_of_user(column: Column[Any] | None, user_field: str) -> Iterator[str]:
    """Check ``user``, which stays unused if the application has another column."""
    if column is None or user_field == "user" or column.nullable:
        return
    if column.default is None and column.server_default is None:
        yield (
            f"'user' is NOT NULL and must be nullable, because {user_field!r} holds "
            "the owner and nothing sets 'user'"
        )


def _faults_of(
    name: str, column: Column[Any], right: Column[Any], dialects: list[Dialect]
) -> Iterator[str]:
    """Compare one column with the mixin's.

    :param right: the mixin's column.
    """
    if column.name != name:
        yield f"{name!r} is column {column.name!r} and must be column {name!r}"
    if column.type is not right.type and not any(
        _holds(column.type, right.type, dialect) for dialect in dialects
    ):
        yield f"{name!r} is {column.type!r} and must be {_wanted(right.type)}"
    if right.nullable and not column.nullable:
        yield f"{name!r} is NOT NULL and must be nullable"
    if column.computed is not None or column.identity is not None:
        yield f"{name!r} is computed by the database and must be an ordinary column"
        return
    if right.default is None and right.nullable:
        if column.default is not None or column.server_default is not None:
            yield f"{name!r} has a default and must have none, as NULL has a meaning"
    elif name not in _FREE_DEFAULTS:
        given, usual = _scalar(column), _scalar(right)
        if None not in (given, usual) and given != usual:
            yield f"{name!r} has the default {given!r} and must have {usual!r}"


def _scalar(column: Column[Any]) -> object:
    """The column's default, if it is a value; else ``None``."""
    default: Any = column.default
    return default.arg if default is not None and default.is_scalar else None


def _wanted(kind: TypeEngine[Any]) -> str:
    """Describe the types that are accepted for a column of this type."""
    if isinstance(kind, String) and kind.length is not None:
        return f"{kind!r} or longer"
    if isinstance(_plain(kind), DateTime):
        return (
            f"{kind!r} of flask_chunked.models, or on PostgreSQL "
            "DateTime(timezone=True), so that times are aware"
        )
    return repr(kind)


def _plain(kind: TypeEngine[Any]) -> Any:
    """The type that a decorator wraps; any other type itself."""
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def _holds(kind: TypeEngine[Any], right: TypeEngine[Any], dialect: Dialect) -> bool:
    """True if a column of this type returns what a column of the right type returns."""
    plain = _plain(right)
    known: Any = python_type(plain)
    sample = _SAMPLES[known](plain)
    try:
        result = _stored_and_read(kind, sample, dialect)
        return isinstance(result, type(sample)) and result == sample
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
        return False
    except RuntimeError:
        # A type of the application may need an app context, which does not exist yet.
        return True


def _stored_and_read(kind: TypeEngine[Any], value: Any, dialect: Dialect) -> Any:
    """The value that a column of this type returns after it stored ``value``.

    :raises ValueError: the column cannot store it.
    """
    here: Any = kind.dialect_impl(dialect)
    if isinstance(here, TypeDecorator):
        # The variant for this database may be a decorator, even if the type is not.
        decorator = kind if isinstance(kind, TypeDecorator) else here
        if type(here).process_bind_param is not TypeDecorator.process_bind_param:
            value = decorator.process_bind_param(value, dialect)
        result = _stored_and_read(decorator.load_dialect_impl(dialect), value, dialect)
        if type(here).process_result_value is TypeDecorator.process_result_value:
            return result
        return decorator.process_result_value(result, dialect)
    if type(value) is not python_type(here) or isinstance(here, Enum):
        raise ValueError(value)
    if isinstance(here, (String, LargeBinary)) and len(value) > (
        here.length or _UNLIMITED
    ):
        raise ValueError(value)
    # SQLite stores 64 bits, even if the type's variant for SQLite is narrower.
    is_wide = dialect.name == "sqlite" and isinstance(kind, BigInteger)
    if isinstance(here, Integer) and not is_wide and value > _largest(here):
        raise ValueError(value)
    if isinstance(here, DateTime):
        keeps = here.timezone and dialect.name in _KEEP_ZONES
        return value if keeps else value.replace(tzinfo=None)
    return value


def _largest(kind: Integer) -> int:
    """The largest number that a column of this type stores."""
    if isinstance(kind, BigInteger):
        return 2**63 - 1
    return 2**15 - 1 if isinstance(kind, SmallInteger) else 2**31 - 1


def _dialects(config: Mapping[str, Any], bind_key: str | None) -> list[Dialect]:
    """The dialect of the app's database, or the usual ones if it names none yet."""
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
