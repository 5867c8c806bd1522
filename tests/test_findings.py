"""What becomes of a finding by its repair."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_chunked.exceptions import StorageError, UnknownUpload
from flask_chunked.findings import Finding, repaired, unchecked

FOUND = Finding("uploads", "tail", "an id", 3, False)


def fail(error: Exception) -> Callable[[], bool]:
    def repair() -> bool:
        raise error

    return repair


@pytest.mark.parametrize(
    ("repair", "result"),
    [
        (lambda: True, (True, None)),
        (lambda: False, None),
        (lambda: None, (False, None)),
        (fail(UnknownUpload()), (True, None)),
        (fail(StorageError()), (False, "storage_error: Storage is not available")),
        (fail(ValueError("odd")), (False, "ValueError: odd")),
    ],
)
def test_outcome_of_a_repair(
    repair: Callable[[], bool | None], result: tuple[bool, str | None] | None
) -> None:
    found = repaired(FOUND, repair)
    assert (found and (found.repaired, found.cause)) == result


def test_what_cannot_be_checked_is_a_finding_with_its_cause() -> None:
    try:
        raise StorageError() from OSError(5, "Input/output error")
    except StorageError as error:
        found = unchecked("uploads", "an id", error)
    assert (found.kind, found.repaired) == ("unchecked", False)
    assert found.cause == "storage_error: [Errno 5] Input/output error"
