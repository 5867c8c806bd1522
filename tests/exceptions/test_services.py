"""Errors of storage and database: code, status, text, and when to try again."""

from __future__ import annotations

import pytest

from flask_chunked.exceptions import services
from flask_chunked.exceptions.services import (
    BytesMissing,
    CommitUnanswered,
    DatabaseUnavailable,
    NotLocal,
    StorageBusy,
    StorageError,
    StorageFull,
)

from .table import Row, defined_in, name_of

NO_DATABASE = ("database_unavailable", 503, "Database is not available", 2)
ROWS = [
    Row(StorageError(), "storage_error", 503, "Storage is not available", 5),
    Row(StorageFull(), "storage_full", 507, "Not enough space to store the upload", 5),
    Row(
        StorageBusy(),
        "storage_busy",
        503,
        "Upload is being written by another request",
        1,
    ),
    Row(
        BytesMissing(),
        "bytes_missing",
        410,
        "Stored bytes of the upload are missing",
        5,
    ),
    Row(
        NotLocal(),
        "not_local",
        500,
        "This storage has no local paths; use open() instead",
        5,
    ),
    Row(DatabaseUnavailable(), *NO_DATABASE),
    Row(CommitUnanswered(), *NO_DATABASE),
]


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_error_says_what_failed_and_when_to_try_again(row: Row) -> None:
    row.check()


def test_table_has_every_error_of_the_module() -> None:
    assert {type(row.error) for row in ROWS} == defined_in(services)


def test_storage_may_say_what_failed_and_when_to_try_again() -> None:
    error = StorageError("the tape is full", retry_after=60)
    assert (error.detail, error.status, error.retry_after) == (
        "the tape is full",
        503,
        60,
    )


@pytest.mark.parametrize("kind", [StorageFull, StorageBusy, BytesMissing, NotLocal])
def test_failure_of_the_storage_is_caught_with_the_general_one(
    kind: type[Exception],
) -> None:
    assert issubclass(kind, StorageError)
    assert not issubclass(kind, DatabaseUnavailable)


def test_unanswered_commit_is_caught_with_an_unavailable_database() -> None:
    assert issubclass(CommitUnanswered, DatabaseUnavailable)
