"""Which attributes of a model belong to the library, and which to the application.

Knows mapped classes; nothing of schemas and requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import getattr_static
from typing import Any

from sqlalchemy import JSON, Column, inspect
from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    RelationshipProperty,
    SynonymProperty,
)
from sqlalchemy.types import TypeEngine

from .mixin import CORE_COLUMNS

#: The only column of the library that a client may set.
FILENAME = "filename"


class Ownership:
    """Separates the library's columns of a model from the application's.

    :param user_field: the model's attribute that holds the owner.
    """

    def __init__(self, model: type[Any], user_field: str) -> None:
        self._model = model
        self._mapper = inspect(model)
        in_table = set(model.__table__.c)
        #: Attribute -> column, for all columns of the table.
        self.columns: dict[str, Column[Any]] = {
            attribute.key: attribute.columns[0]
            for attribute in self._mapper.column_attrs
            if attribute.columns[0] in in_table
        }
        self._core_names = CORE_COLUMNS | {user_field}
        core = {c.name for key, c in self.columns.items() if key in self._core_names}
        self._core_columns = core | CORE_COLUMNS
        #: Attribute -> column, for the columns of the application.
        self.own: dict[str, Column[Any]] = {
            name: column
            for name, column in self.columns.items()
            if name not in self._core_names and column.name not in self._core_columns
        }

    def is_core(self, name: str) -> bool:
        """True if setting the attribute changes a column of the library.

        The attribute may be a relationship, a synonym, a composite or a second name of
        a column.
        """
        if name in self._core_names:
            return True
        attribute = self._mapper.attrs.get(name)
        if isinstance(attribute, SynonymProperty):
            return self.is_core(attribute.name)
        columns: Iterable[object] = ()
        if isinstance(attribute, RelationshipProperty):
            # One to many: the other table's foreign key gets the upload's id.
            columns = attribute.local_columns
        elif isinstance(attribute, CompositeProperty):
            columns = [part.columns[0] for part in attribute.props]
        elif isinstance(attribute, ColumnProperty):
            columns = attribute.columns
        return any(
            column.table is self._model.__table__ and column.name in self._core_columns
            for column in columns
            if isinstance(column, Column)
        )

    def describe(self, name: str) -> str | None:
        """Describe an attribute; ``None``: the model has no attribute of this name."""
        attribute = self._mapper.attrs.get(name)
        if isinstance(attribute, SynonymProperty):
            return f"a synonym of {attribute.name!r}"
        if isinstance(attribute, ColumnProperty):
            column = attribute.columns[0]
            is_plain = isinstance(column, Column)
            return f"column {column.name!r}" if is_plain else "an SQL expression"
        if isinstance(attribute, RelationshipProperty):
            return "a relationship"
        if isinstance(attribute, CompositeProperty):
            return "a composite"
        kind = self._mapper.all_orm_descriptors.get(name)
        if kind is not None:
            extension: Any = kind.extension_type
            return f"a {extension.value.lower().replace('_', ' ')}"
        # getattr() would call a property of the class.
        is_property = isinstance(getattr_static(self._model, name, None), property)
        return "a property" if is_property else None


def python_type(kind: TypeEngine[Any]) -> type[Any] | None:
    """The Python type of a column's values. For JSON it is the library's: ``dict``.

    :return: ``None`` or ``object``: the column's type does not have a Python type.
    """
    if isinstance(kind, JSON):
        return dict
    try:
        return kind.python_type
    except NotImplementedError:
        return None
