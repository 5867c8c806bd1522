"""How single values go to SQLite's driver and come back, as SQLAlchemy would have it.

Its own converters are general; those of the mixin's types are a call or two here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import JSON, Dialect
from sqlalchemy.types import TypeEngine

from ..models import UTCDateTime

Convert = Callable[[Any], Any]


def binder(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """What a value of this type goes through; ``None``: it goes as it is."""
    if type(kind) is UTCDateTime:
        return _write_moment
    convert: Convert | None = kind.dialect_impl(dialect).bind_processor(dialect)
    if convert is not None and type(kind) is JSON:
        return _nothing_at_once(convert)
    return convert


def reader(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """What a column's value, unless it is NULL, comes back through; or ``None``."""
    if type(kind) is UTCDateTime:
        return _read_moment
    convert: Convert | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    if convert is not None and type(kind) is JSON:
        return _past_null(convert)
    return convert


def _write_moment(value: datetime | None) -> str | None:
    """As SQLAlchemy stores a datetime: in UTC, with microseconds, without an offset."""
    if value is None:
        return None
    return value.astimezone(timezone.utc).isoformat(" ", "microseconds")[:26]


def _read_moment(text: str) -> datetime:
    # With the offset in the text it is made in one step.
    return datetime.fromisoformat(text + "+00:00")


def _nothing_at_once(convert: Convert) -> Convert:
    nothing = convert(None)

    def write(value: Any) -> Any:
        return nothing if value is None else convert(value)

    return write


def _past_null(convert: Convert) -> Convert:
    def read(text: str) -> Any:
        return None if text == "null" else convert(text)

    return read
