"""What all refusals have, and errors that no client sees."""

from __future__ import annotations

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
    """The database has no table for a model; the message names the table."""
