"""Converts rows of a model's table to the engine's snapshots, and drafts to rows."""

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

from ..engine.records import Upload
from ..engine.states import Status
from ..exceptions import ChunkedUploadError, InvalidFields, OwnerRequired
from ..models import CORE_COLUMNS
from ..models.columns import Ownership, python_type
from .refused_rows import refused_columns

_STORED = tuple(sorted(CORE_COLUMNS - {"user"}))
#: The fields of a snapshot in their order, without ``extra``, the last one.
_SNAPSHOT = tuple(field.name for field in fields(Upload))[:-1]
_STATUS = _SNAPSHOT.index("status")
_of_draft = attrgetter(*_STORED)

#: Events of an ORM insert that an application may listen to.
_MAPPER_EVENTS = ("before_insert", "after_insert")
_SESSION_EVENTS = (
    *("before_attach", "after_attach", "transient_to_pending"),
    *("before_flush", "after_flush", "after_flush_postexec", "pending_to_persistent"),
    *("after_begin", "before_commit", "after_commit"),
)
_of_mapper = attrgetter(*_MAPPER_EVENTS)
_of_session = attrgetter(*_SESSION_EVENTS)
_of_column = attrgetter("set")


class OrmBypass:
    """Finds out whether a plain INSERT of a model's row has the effects of the ORM.

    The class is inspected once. Event listeners may be added at any time, so each call
    of :meth:`is_possible` looks for them.

    :param is_bare: the model has no columns but the mixin's.
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
        # SQLAlchemy itself has one listener for new instances.
        self._instances = manager.dispatch
        self._columns = [getattr(model, name).dispatch for name in _STORED]
        self._mapper = mapper.dispatch
        self._session = Session().dispatch

    def is_possible(self) -> bool:
        """True if the ORM would only write the columns of the mixin."""
        return (
            self._is_bare
            and len(self._instances.init) == 1
            and not any(_of_mapper(self._mapper))
            and not any(_of_session(self._session))
            and not any(map(_of_column, self._columns))
        )


class RowMapper:
    """Converts between the rows of one model and :class:`Upload`.

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
        #: Attribute -> column, for the columns that the application added.
        self._own_columns = {
            name: column.name for name, column in ownership.own.items()
        }
        #: Attribute -> the key that clients use for it, if that is another name.
        self.keys: Mapping[str, str] = {}

        indexes = {name: number for number, name in enumerate(self._names)}
        self._id_index = indexes["id"]
        core_indexes = {**indexes, "user": indexes[self.user_column]}
        self._of_row = itemgetter(*(core_indexes[name] for name in _SNAPSHOT))
        #: Attribute -> index in a row. An attribute may also be a second name of one of
        #: the library's columns.
        self._own_indexes = {
            name: indexes[column.name]
            for name, column in ownership.columns.items()
            if name not in CORE_COLUMNS and name != user_field
        }
        self._bypass = OrmBypass(model, is_bare=not self._own_indexes)

    def refusal(
        self, error: StatementError | OverflowError, draft: Upload
    ) -> Exception:
        """The error that a refusal of the database means.

        :return: ``InvalidFields``, ``OwnerRequired``; or a ``RuntimeError`` if only
            columns are concerned that clients cannot set.
        """
        refused = refused_columns(self.table, error)
        own = [name for name, column in self._own_columns.items() if column in refused]
        keys = [self.keys[name] for name in own if name in self.keys]
        if self.user_column in refused:
            return OwnerRequired()
        if own and draft.partial:
            # Whatever a client sends, a partial upload has an empty value.
            wrong = ["No partial upload can have a value here."]
            return InvalidFields(dict.fromkeys(own, wrong))
        if own and not keys:
            return RuntimeError(
                f"The database refuses a new upload because of {', '.join(own)}, which "
                "no client sets. Give the column a value that it allows: by a default, "
                "by get_fields(), or by a field of the schema"
            )
        wrong = ["Missing or not allowed."]
        return InvalidFields(dict.fromkeys(keys or ["fields"], wrong))

    def instance(self, draft: Upload, own: Mapping[str, object]) -> Any:
        """A new instance of the model for the draft of an upload.

        :param own: values of the application's own columns; others are ignored.
        :raises InvalidFields: a validator of the model refuses a value.
        """
        values = self._core_values(draft)
        values[self._user_field] = draft.user
        # Only the engine sets the library's columns.
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
                # The application's validators raise these errors.
                errors[self.keys.get(name, name)] = [str(error)]
        if errors:
            raise InvalidFields(errors)
        return instance

    def _fill(self, instance: Any) -> None:
        """Fill the application's required columns in the row of a partial upload.

        Clients set these columns for the final upload only, and lists never show a
        partial upload.
        """
        for name, column in self._own_columns.items():
            is_optional = is_optional_column(self.table.c[column])
            if is_optional or getattr(instance, name, None) is not None:
                continue
            # This calls no validator: validators expect the values of a file.
            set_committed_value(instance, name, empty_value(self.table.c[column]))

    def values(self, draft: Upload) -> dict[str, object]:
        """Column -> value of a new row, if :meth:`can_bypass_orm`."""
        values: dict[str, object] = {**self._empty, **self._core_values(draft)}
        values[self.user_column] = draft.user
        return values

    def can_bypass_orm(self) -> bool:
        """True if a plain INSERT has the same effects as the ORM."""
        return self._bypass.is_possible()

    def _core_values(self, draft: Upload) -> dict[str, Any]:
        values = dict(zip(_STORED, _of_draft(draft), strict=True))
        values["status"] = draft.status.value
        return values

    def to_upload_or_none(self, row: Sequence[Any]) -> Upload | None:
        """The snapshot of an outer join's row; ``None``: its columns are NULL."""
        return None if row[self._id_index] is None else self.to_upload(row)

    def to_upload(self, row: Sequence[Any]) -> Upload:
        """The snapshot of a row that has all columns of the table, in their order."""
        core = list(self._of_row(row))
        core[_STATUS] = Status(core[_STATUS])
        core.append({name: row[index] for name, index in self._own_indexes.items()})
        return Upload(*core)


def is_optional_column(column: Column[Any]) -> bool:
    """True if an INSERT may omit the column."""
    defaults = (column.default, column.server_default, column.computed, column.identity)
    return column.nullable or any(default is not None for default in defaults)


def empty_value(column: Column[Any]) -> object:
    """An empty value of the column's type; ``None``: the type has none.

    A foreign key has no empty value, because it must name an existing row.
    """
    if column.foreign_keys:
        return None
    impl = getattr(column.type, "impl_instance", column.type)
    if isinstance(impl, JSON):
        return {}
    kinds = (python_type(column.type), python_type(impl))
    kind = next((kind for kind in kinds if kind not in (None, object)), None)
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
