"""Between the rows of a model's table and the engine's frozen snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, Table, inspect
from sqlalchemy.exc import StatementError

from .engine.records import Upload
from .engine.states import Status
from .exceptions import ChunkedUploadError, InvalidFields, OwnerRequired
from .models import CORE_COLUMNS


class RowMapper:
    """Knows which column of a model is whose.

    :param user_field: the model's attribute that holds the owner.
    """

    def __init__(self, model: type[Any], user_field: str) -> None:
        self.model = model
        self.table: Table = model.__table__
        self._user_field = user_field
        columns = {
            attribute.key: attribute.columns[0].name
            for attribute in inspect(model).column_attrs
        }
        self.user_column = columns[user_field]
        #: Attribute -> column of what the application added to the mixin.
        self._own_columns = {
            name: column
            for name, column in columns.items()
            if name not in CORE_COLUMNS and name != user_field
        }

    def refusal(
        self, error: StatementError | OverflowError
    ) -> InvalidFields | OwnerRequired:
        """What the client is told about a row that the database refused."""
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        names = [name for name, column in self._own_columns.items() if column in reason]
        if not names and self.user_column in reason:
            return OwnerRequired()
        return InvalidFields(
            {name: ["Missing or not allowed."] for name in names or ["fields"]}
        )

    def instance(self, draft: Upload, own: Mapping[str, object]) -> Any:
        """A new instance of the model for the draft of an upload.

        :param own: values of the application's own columns.
        :raises InvalidFields: a validator of the model refuses a value.
        """
        values = {
            field.name: getattr(draft, field.name)
            for field in fields(Upload)
            if field.name not in ("user", "extra")
        }
        values["status"] = draft.status.value
        values[self._user_field] = draft.user
        values.update(own)
        instance = self.model()
        errors: dict[str, list[str]] = {}
        for name, value in values.items():
            try:
                setattr(instance, name, value)
            except ChunkedUploadError:
                raise
            except (ValueError, TypeError) as error:
                # Validators of the application's model say no this way.
                errors[name] = [str(error)]
        if errors:
            raise InvalidFields(errors)
        return instance

    def to_upload(self, row: Row[Any]) -> Upload:
        """The snapshot of a row with all columns of the table."""
        values = dict(row._mapping)
        owner = values.get(self.user_column)
        core = {name: values[name] for name in CORE_COLUMNS if name != "user"}
        core["status"] = Status(core["status"])
        extra = {name: values[column] for name, column in self._own_columns.items()}
        return Upload(user=owner, extra=extra, **core)
