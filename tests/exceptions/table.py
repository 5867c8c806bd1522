"""A table of errors, and the errors that a module defines, for the tests of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType

from flask_chunked.exceptions import ChunkedUploadError


@dataclass(frozen=True)
class Row:
    """What a client gets of an error, and what the code that catches it can read.

    :param evidence: attributes and their values.
    """

    error: ChunkedUploadError
    code: str
    status: int
    detail: str
    retry_after: int | None = None
    evidence: dict[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """Compare the error with the row."""
        error = self.error
        assert (error.code, error.status) == (self.code, self.status)
        assert (error.detail, str(error)) == (self.detail, self.detail)
        assert error.retry_after == self.retry_after
        assert {name: getattr(error, name) for name in self.evidence} == self.evidence


def name_of(row: Row) -> str:
    """The name of the error's class."""
    return type(row.error).__name__


def defined_in(module: ModuleType) -> set[type[ChunkedUploadError]]:
    """The errors that a module defines."""
    return {
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, ChunkedUploadError)
        and kind.__module__ == module.__name__
    }
