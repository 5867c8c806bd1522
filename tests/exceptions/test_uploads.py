"""Errors about callers and uploads: code, status, text and evidence of each."""

from __future__ import annotations

import pytest

from flask_chunked.exceptions import uploads
from flask_chunked.exceptions.uploads import (
    AlreadyComplete,
    ChecksumMismatch,
    ChecksumRequired,
    CompletionInProgress,
    FinalUpload,
    Incomplete,
    NotAuthorized,
    OffsetMismatch,
    OwnerRequired,
    PartialUpload,
    Superseded,
    UnknownUpload,
    UploadExpired,
    UploadInUse,
)

from .table import Row, defined_in, name_of

ROWS = [
    Row(UnknownUpload(), "unknown_upload", 404, "Not found."),
    Row(UploadExpired(), "upload_expired", 410, "Upload has expired"),
    Row(
        OwnerRequired(),
        "owner_required",
        401,
        "Upload requires user authentication but user cannot be determined",
    ),
    Row(
        NotAuthorized(),
        "not_authorized",
        403,
        "You do not have permission to perform this action.",
    ),
    Row(
        OffsetMismatch(expected=5, provided=3),
        "offset_mismatch",
        400,
        "Offsets do not match",
        evidence={"expected": 5, "provided": 3},
    ),
    Row(
        Superseded(expected=5, provided=3),
        "superseded",
        400,
        "Offsets do not match",
        evidence={"expected": 5, "provided": 3},
    ),
    Row(
        AlreadyComplete(),
        "already_complete",
        400,
        'Upload has already been marked as "complete"',
    ),
    Row(
        UploadInUse(),
        "upload_in_use",
        409,
        "Upload is in use: other records of the application refer to it",
    ),
    Row(
        FinalUpload(),
        "final_upload",
        403,
        "A final upload takes no bytes; append to its partial uploads",
    ),
    Row(
        PartialUpload(),
        "partial_upload",
        403,
        "This is a partial upload; only a tus client can send its bytes",
    ),
    Row(
        CompletionInProgress(),
        "completion_in_progress",
        503,
        "Upload is being verified; ask again in a few seconds",
        retry_after=5,
    ),
    Row(
        Incomplete(5, 10),
        "incomplete",
        400,
        "Upload is incomplete: 5 of 10 bytes received",
        evidence={"offset": 5, "length": 10},
    ),
    Row(
        ChecksumRequired("md5"),
        "checksum_required",
        400,
        "Checksum of type 'md5' is required",
        evidence={"name": "md5"},
    ),
    Row(ChecksumMismatch(), "checksum_mismatch", 400, "checksum does not match"),
]


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_error_says_what_was_wrong(row: Row) -> None:
    row.check()


def test_table_has_every_error_of_the_module() -> None:
    assert {type(row.error) for row in ROWS} == defined_in(uploads)


def test_length_that_is_not_declared_is_called_unknown() -> None:
    error = Incomplete(5, None)
    assert error.length is None
    assert error.detail == (
        "Upload is incomplete: 5 of an unknown number of bytes received"
    )


def test_length_of_zero_is_a_length() -> None:
    assert "0 of 0 bytes" in Incomplete(0, 0).detail


def test_superseded_request_is_caught_with_a_stale_offset() -> None:
    assert issubclass(Superseded, OffsetMismatch)
