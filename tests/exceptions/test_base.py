"""The base of all refusals, start-up errors, and rules for every error."""

from __future__ import annotations

import re

import pytest

from flask_chunked import exceptions
from flask_chunked.exceptions import (
    Aborted,
    ChunkedUploadError,
    ConfigurationError,
    HookError,
    InternalError,
    InvalidPlace,
    MissingColumnError,
    MissingTableError,
    requests,
    services,
    uploads,
)

from .table import defined_in

EVERY = sorted(
    {kind for module in (requests, services, uploads) for kind in defined_in(module)},
    key=lambda kind: kind.__name__,
)


# -- refusals --------------------------------------------------------------------------


def test_refusal_without_words_is_a_400_without_a_retry() -> None:
    error = ChunkedUploadError()
    assert (error.code, error.status, error.retry_after) == ("rejected", 400, None)
    assert error.detail == str(error) == "Upload was rejected"


def test_refusal_has_the_words_and_the_status_that_it_is_given() -> None:
    error = ChunkedUploadError("no films today", status=409, retry_after=60)
    assert error.detail == str(error) == "no films today"
    assert (error.status, error.retry_after) == (409, 60)


def test_empty_words_are_words() -> None:
    assert ChunkedUploadError("").detail == ""


def test_subclass_of_an_application_has_its_own_defaults() -> None:
    class Infected(ChunkedUploadError):
        code = "infected"
        default_status = 422
        default_detail = "The file has a virus"

    error = Infected()
    assert (error.code, error.status, error.detail) == (
        "infected",
        422,
        "The file has a virus",
    )
    assert ChunkedUploadError().status == 400


# -- every error -----------------------------------------------------------------------


def test_every_error_is_public() -> None:
    known = {getattr(exceptions, name) for name in exceptions.__all__}
    assert known == {
        *EVERY,
        Aborted,
        ChunkedUploadError,
        ConfigurationError,
        HookError,
        InternalError,
        InvalidPlace,
        MissingTableError,
        MissingColumnError,
    }
    assert exceptions.__all__ == sorted(exceptions.__all__)


@pytest.mark.parametrize("kind", EVERY)
def test_code_is_the_snake_case_name_of_the_class(
    kind: type[ChunkedUploadError],
) -> None:
    if "code" not in vars(kind):
        # To a client, an unanswered commit is an unavailable database.
        assert kind is exceptions.CommitUnanswered
        return
    assert kind.code == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


@pytest.mark.parametrize("kind", EVERY)
def test_default_status_is_an_error(kind: type[ChunkedUploadError]) -> None:
    assert 400 <= kind.default_status < 600


# -- errors that no client gets --------------------------------------------------------


def test_configuration_errors_are_value_errors_and_no_refusals() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert not issubclass(ConfigurationError, ChunkedUploadError)


def test_missing_table_is_named_with_the_remedy() -> None:
    error = MissingTableError("uploads")
    assert error.table == "uploads"
    assert str(error) == (
        "The database has no table 'uploads'. Call flask_chunked.create_tables(app), "
        "or run the application's migrations."
    )
    assert not isinstance(error, ChunkedUploadError)


@pytest.mark.parametrize(
    ("columns", "names"),
    [(["fence"], "the column 'fence'"), (["a", "b"], "the columns 'a', 'b'")],
)
def test_missing_columns_are_named_with_the_remedy(
    columns: list[str], names: str
) -> None:
    error = MissingColumnError("uploads", columns)
    assert (error.table, error.columns) == ("uploads", tuple(columns))
    assert str(error).startswith(f"The table 'uploads' lacks {names}. Migrate the")
    assert isinstance(error, MissingTableError)
