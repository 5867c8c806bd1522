"""What all refusals have, and errors that no client sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ChunkedUploadError(Exception):
    """Base of all refusals. Policy hooks raise it (or a subclass) to refuse.

    :param detail: what was wrong and what was expected; shown to the client.
    :param status: HTTP status to answer with, where the class's own does not fit.
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
    """A ``CHUNKED_UPLOAD_*`` key, a policy attribute or a model that cannot work.

    Raised at start-up and never sent to a client.
    """


class MissingTableError(RuntimeError):
    """The database lacks one of the tables; the message names it.

    :param table: its name.
    """

    def __init__(self, table: str, detail: str | None = None) -> None:
        self.table = table
        super().__init__(
            detail
            or f"The database has no table {table!r}. Call flask_chunked.create_tables"
            "(app), or run the application's migrations."
        )


class MissingColumnError(MissingTableError):
    """A table was made for an older version; the message names what it lacks.

    :param columns: their names.
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
