"""The base class of all refusals, refusals by hooks, and errors that no client sees."""

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


class Aborted(ChunkedUploadError):
    """A hook refused with an ``HTTPException``, for instance by ``flask.abort()``.

    :param detail: description of the exception.
    :param headers: of the exception, for the answer to the client.
    :param response: the response that the hook gave to ``abort()``; ``None``: none.
    """

    def __init__(
        self,
        detail: str | None = None,
        *,
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        response: object | None = None,
    ) -> None:
        super().__init__(detail, status=status)
        self.headers = tuple(headers)
        self.response = response


class InternalError(ChunkedUploadError):
    """The server failed. The application's log has the cause; no client sees it."""

    code = "internal_error"
    default_status = 500
    default_detail = "Internal Server Error"


class HookError(ChunkedUploadError, RuntimeError):
    """A hook cannot be called, or it returned what no hook may return.

    The request is refused with 500. The client does not see the detail; the
    application's log does.
    """

    code = "hook_error"
    default_status = 500


def describe_cause(error: BaseException) -> str:
    """The error's code and what caused it, in one line, for logs and administrators."""
    code = getattr(error, "code", type(error).__name__)
    cause: object = error.__cause__
    # SQLAlchemy's errors wrap the driver's.
    cause = getattr(cause, "orig", None) or cause or error
    return f"{code}: {str(cause).partition(chr(10))[0] or repr(cause)}"


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
