"""The base class of all refusals, and errors that are never sent to a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ChunkedUploadError(Exception):
    """Base of all refusals. A policy hook raises it or a subclass to refuse a request.

    :param detail: what was wrong and what was expected; sent to the client.
    :param status: HTTP status of the response, if not the default of the class.
    :param retry_after: seconds after which the client may try again.
    """

    code: ClassVar[str] = "rejected"
    default_status: ClassVar[int] = 400
    default_detail: ClassVar[str] = "Upload was rejected"

    def __init__(
        self,
        detail: str | None = None,
        *,
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.detail = self.default_detail if detail is None else detail
        self.status = self.default_status if status is None else status
        self.retry_after = retry_after
        super().__init__(self.detail)


class ConfigurationError(ValueError):
    """A ``CHUNKED_UPLOAD_*`` key, a policy attribute or a model is invalid.

    Raised at start-up and never sent to a client.
    """


class InvalidPlace(RuntimeError):
    """``get_path()`` or ``new_name()`` chose a place that no file can have.

    Never sent to a client.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"get_path() or new_name() chose a bad place: {reason}")


class MissingTableError(RuntimeError):
    """The database lacks one of the tables; the message names it.

    :param table: name of the table.
    """

    def __init__(self, table: str, detail: str | None = None) -> None:
        self.table = table
        super().__init__(
            detail
            or f"The database has no table {table!r}. Call flask_chunked.create_tables"
            "(app), or run the application's migrations."
        )


class MissingColumnError(MissingTableError):
    """A table of an older version lacks columns; the message names them.

    :param columns: names of the missing columns.
    """

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        noun = "column" if len(self.columns) == 1 else "columns"
        names = ", ".join(map(repr, self.columns))
        super().__init__(
            table,
            f"The table {table!r} lacks the {noun} {names}. Migrate the database (see "
            "examples/migrations): create_tables() changes no table that exists.",
        )
