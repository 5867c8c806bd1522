"""Between the rows of a model's table and the engine's frozen snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Column, Table, inspect
from sqlalchemy import Enum as EnumType
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.types import TypeEngine

from ..engine.records import Upload
from ..engine.states import Status
from ..exceptions import ChunkedUploadError, InvalidFields, OwnerRequired
from ..models import CORE_COLUMNS
from ..models.columns import Ownership

_STORED = tuple(sorted(CORE_COLUMNS - {"user"}))
#: What a snapshot is made of, in its order; ``extra`` is the last.
_SNAPSHOT = tuple(field.name for field in fields(Upload))[:-1]
_STATUS = _SNAPSHOT.index("status")
_of_draft = attrgetter(*_STORED)

#: What an application may listen to where the ORM inserts.
_MAPPER_EVENTS = ("before_insert", "after_insert")
_SESSION_EVENTS = (
    *("before_attach", "after_attach", "transient_to_pending"),
    *("before_flush", "after_flush", "after_flush_postexec", "pending_to_persistent"),
    *("after_begin", "before_commit", "after_commit"),
)
_of_mapper = attrgetter(*_MAPPER_EVENTS)
_of_session = attrgetter(*_SESSION_EVENTS)
_of_column = attrgetter("set")


class Plainness:
    """Does a model leave nothing to do for the ORM when a row is inserted?

    Its class is looked at once. Who listens is asked anew: that may come at any time.

    :param is_bare: it has no columns but the mixin's.
    """

    def __init__(self, model: type[Any], is_bare: bool) -> None:
        mapper = inspect(model)
        manager: Any = mapper.class_manager
        constructor = getattr(manager.original_init, "__module__", "")
        self._is_bare = (
            is_bare
            and not mapper.validators
            and mapper.inherits is None
            and mapper.polymorphic_on is None
            and mapper.version_id_col is None
            and not any("__setattr__" in vars(base) for base in model.__mro__[:-1])
            and constructor.startswith("sqlalchemy.")
        )
        # One listener of new instances is SQLAlchemy's own.
        self._instances = manager.dispatch
        self._columns = [getattr(model, name).dispatch for name in _STORED]
        self._mapper = mapper.dispatch
        self._session = Session().dispatch

    def holds(self) -> bool:
        """By what is listened to now."""
        return (
            self._is_bare
            and len(self._instances.init) == 1
            and not any(_of_mapper(self._mapper))
            and not any(_of_session(self._session))
            and not any(map(_of_column, self._columns))
        )


class RowMapper:
    """Knows which column of a model is whose.

    :param user_field: the model's attribute that holds the owner.
    """

    def __init__(self, model: type[Any], user_field: str) -> None:
        self.model = model
        self.table: Table = model.__table__
        self._names = [column.name for column in self.table.c]
        self._empty = dict.fromkeys(self._names)
        self._user_field = user_field
        ownership = Ownership(model, user_field)
        self.user_column = ownership.columns[user_field].name
        #: Attribute -> column of what the application added to the mixin.
        self._own_columns = {
            name: column.name for name, column in ownership.own.items()
        }
        #: Attribute -> key that clients know it by, where that is another name.
        self.keys: Mapping[str, str] = {}

        places = {name: number for number, name in enumerate(self._names)}
        self._id_place = places["id"]
        places_of_core = {**places, "user": places[self.user_column]}
        self._of_row = itemgetter(*(places_of_core[name] for name in _SNAPSHOT))
        #: A further name of one of our columns can be read, too.
        self._own_places = {
            name: places[column.name]
            for name, column in ownership.columns.items()
            if name not in CORE_COLUMNS and name != user_field
        }
        self._plainness = Plainness(model, not self._own_places)

    def refusal(
        self, error: StatementError | OverflowError
    ) -> InvalidFields | OwnerRequired:
        """What the client is told about a row that the database refused."""
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        names = [name for name, column in self._own_columns.items() if column in reason]
        if not names and self.user_column in reason:
            return OwnerRequired()
        return InvalidFields(
            {
                self.keys.get(name, name): ["Missing or not allowed."]
                for name in names or ["fields"]
            }
        )

    def instance(self, draft: Upload, own: Mapping[str, object]) -> Any:
        """A new instance of the model for the draft of an upload.

        :param own: values of the application's own columns; any others are ignored.
        :raises InvalidFields: a validator of the model refuses a value.
        """
        values = self._core_values(draft)
        values[self._user_field] = draft.user
        # Never ours: the engine alone sets those.
        values.update((name, own[name]) for name in self._own_columns if name in own)
        instance = self.model()
        if draft.partial:
            self._fill(instance)
        errors: dict[str, list[str]] = {}
        for name, value in values.items():
            try:
                setattr(instance, name, value)
            except ChunkedUploadError:
                raise
            except (ValueError, TypeError) as error:
                # Validators of the application's model say no this way.
                errors[self.keys.get(name, name)] = [str(error)]
        if errors:
            raise InvalidFields(errors)
        return instance

    def _fill(self, instance: Any) -> None:
        """Give a partial upload what its row must have of the application's own.

        It is material and never shown; only its final upload has fields.
        """
        for name, column in self._own_columns.items():
            is_given = column_is_given(self.table.c[column])
            if is_given or getattr(instance, name, None) is not None:
                continue
            # Validators are about a file's values, and not asked.
            set_committed_value(instance, name, empty_value(self.table.c[column]))

    def values(self, draft: Upload) -> dict[str, object]:
        """Column -> value of a new row, for a model that :meth:`is_plain`."""
        values: dict[str, object] = {**self._empty, **self._core_values(draft)}
        values[self.user_column] = draft.user
        return values

    def is_plain(self) -> bool:
        """Would the ORM do nothing but write the columns of the mixin?"""
        return self._plainness.holds()

    def _core_values(self, draft: Upload) -> dict[str, Any]:
        values = dict(zip(_STORED, _of_draft(draft), strict=True))
        values["status"] = draft.status.value
        return values

    def to_upload_or_none(self, row: Sequence[Any]) -> Upload | None:
        """The same of an outer join, which gives NULLs where there is no row."""
        return None if row[self._id_place] is None else self.to_upload(row)

    def to_upload(self, row: Sequence[Any]) -> Upload:
        """The snapshot of a row with all columns of the table, in their order."""
        core = list(self._of_row(row))
        core[_STATUS] = Status(core[_STATUS])
        core.append({name: row[place] for name, place in self._own_places.items()})
        return Upload(*core)


def column_is_given(column: Column[Any]) -> bool:
    """May a row leave the column out?"""
    defaults = (column.default, column.server_default, column.computed, column.identity)
    return column.nullable or any(default is not None for default in defaults)


def empty_value(column: Column[Any]) -> object:
    """A value of the column's type that says nothing; ``None``: there is none.

    A foreign key has none either: it would have to name a row.
    """
    if column.foreign_keys:
        return None
    impl = getattr(column.type, "impl_instance", column.type)
    if isinstance(impl, JSON):
        return {}
    kind = _python_type(column.type) or _python_type(impl)
    if kind is None:
        return None
    if isinstance(impl, EnumType):
        return next(iter(impl.enum_class or impl.enums), None)
    if issubclass(kind, date):
        return kind(1970, 1, 1)
    if kind is UUID:
        return UUID(int=0)
    try:
        return kind()
    except TypeError:
        return None


def _python_type(stored: TypeEngine[Any]) -> type[Any] | None:
    try:
        kind = stored.python_type
    except NotImplementedError:
        return None
    return None if kind is object else kind
