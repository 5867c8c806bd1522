"""Errors about requests: code, status, text and evidence of each."""

from __future__ import annotations

import pytest

from flask_chunked.exceptions import requests
from flask_chunked.exceptions.requests import (
    BodyInterrupted,
    BodyTimeout,
    BodyTooSlow,
    ChunkBeyondLength,
    ChunkMissing,
    ChunkSizeMismatch,
    InvalidCreation,
    InvalidFields,
    InvalidQuery,
    LengthBelowOffset,
    LengthChanged,
    LengthRequired,
    LengthUndeclared,
    MalformedBody,
    MalformedHeader,
    MethodNotAllowed,
    NotAPartial,
    PartialMissing,
    QuotaExceeded,
    RangeNotSatisfiable,
    TooLarge,
    TooManyFinals,
    TooManyUploads,
    UnsupportedEncoding,
    UnsupportedMediaType,
    UnsupportedVersion,
)

from .table import Row, defined_in, name_of

ROWS = [
    Row(
        MalformedHeader("Upload-Offset", "x", "must be 1 to 19 digits"),
        "malformed_header",
        400,
        "Upload-Offset: must be 1 to 19 digits",
        evidence={
            "name": "Upload-Offset",
            "value": "x",
            "reason": "must be 1 to 19 digits",
        },
    ),
    Row(MalformedBody(), "malformed_body", 400, "Error in request body"),
    Row(
        InvalidFields({"year": ["Not a number."], "title": ["Missing."]}),
        "invalid_fields",
        400,
        "Invalid or missing fields: title, year",
        evidence={"errors": {"year": ["Not a number."], "title": ["Missing."]}},
    ),
    Row(ChunkMissing(), "chunk_missing", 400, "No chunk file was submitted"),
    Row(
        ChunkSizeMismatch(4, 5),
        "chunk_size_mismatch",
        400,
        "File size doesn't match headers: file size is 4 but 5 reported",
        evidence={"actual": 4, "reported": 5},
    ),
    Row(
        ChunkBeyondLength(10),
        "chunk_beyond_length",
        400,
        "End of chunk exceeds reported total (10 bytes)",
        evidence={"length": 10},
    ),
    Row(
        LengthChanged(10, 11),
        "length_changed",
        400,
        "Total of the upload is 10 bytes but 11 reported",
        evidence={"declared": 10, "provided": 11},
    ),
    Row(
        LengthBelowOffset(5, 3),
        "length_below_offset",
        400,
        "Length of 3 bytes is below the offset of 5 bytes",
        evidence={"offset": 5, "provided": 3},
    ),
    Row(
        PartialMissing(),
        "partial_missing",
        410,
        "A partial upload of this final upload is gone; upload it again and create a "
        "new final upload",
    ),
    Row(
        NotAPartial(),
        "not_a_partial",
        400,
        "A final upload can only be made from partial uploads",
    ),
    Row(
        TooLarge(10),
        "too_large",
        400,
        "Size of file exceeds the limit (10 bytes)",
        evidence={"limit": 10},
    ),
    Row(
        TooManyUploads(3),
        "too_many_uploads",
        429,
        "You have 3 unfinished uploads, the most that are allowed; finish or delete "
        "one first",
        evidence={"most": 3},
    ),
    Row(
        TooManyFinals(8),
        "too_many_finals",
        429,
        "8 final uploads wait for one of these partial uploads, the most that are "
        "allowed; finish the partial upload or delete a final one first",
        evidence={"most": 8},
    ),
    Row(
        QuotaExceeded(100, 7),
        "quota_exceeded",
        413,
        "Your unfinished uploads may have 100 bytes in all, of which 7 are left; "
        "finish or delete one first",
        evidence={"most": 100, "left": 7},
    ),
    Row(
        LengthUndeclared(),
        "length_undeclared",
        400,
        "The length of the upload must be declared when it is created",
    ),
    Row(
        LengthRequired(),
        "length_required",
        411,
        "This server needs a Content-Length for the request's body",
    ),
    Row(
        InvalidCreation(),
        "invalid_creation",
        400,
        "Send either Upload-Length or Upload-Defer-Length: 1",
    ),
    Row(
        UnsupportedMediaType(),
        "unsupported_media_type",
        415,
        "Media type is not supported",
    ),
    Row(
        UnsupportedEncoding(),
        "unsupported_encoding",
        415,
        "Content-Encoding is not supported; send plain bytes",
    ),
    Row(
        RangeNotSatisfiable(10),
        "range_not_satisfiable",
        416,
        "No such range in a file of 10 bytes",
        evidence={"length": 10},
    ),
    Row(
        InvalidQuery("per_page", "1 to 100"),
        "invalid_query",
        400,
        "Query argument 'per_page' must be 1 to 100",
        evidence={"name": "per_page"},
    ),
    Row(
        UnsupportedVersion(),
        "unsupported_version",
        412,
        "Tus-Resumable must be 1.0.0",
    ),
    Row(
        MethodNotAllowed("BREW", ("GET", "HEAD")),
        "method_not_allowed",
        405,
        "Method 'BREW' is not allowed here",
        evidence={"method": "BREW", "allowed": ("GET", "HEAD")},
    ),
    Row(
        BodyInterrupted(),
        "body_interrupted",
        400,
        "Request body ended before its announced length",
    ),
    Row(
        BodyTimeout(2.5),
        "body_timeout",
        503,
        "No data received for 2.5 seconds; what arrived is kept",
        retry_after=1,
        evidence={"seconds": 2.5},
    ),
    Row(
        BodyTooSlow(30, 1024),
        "body_too_slow",
        503,
        "Less than 1024 bytes per second received for 30 seconds; what arrived is kept",
        retry_after=1,
        evidence={"seconds": 30, "rate": 1024},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_error_says_what_was_wrong(row: Row) -> None:
    row.check()


def test_table_has_every_error_of_the_module() -> None:
    assert {type(row.error) for row in ROWS} == defined_in(requests)


def test_value_of_a_header_is_not_repeated_to_the_client() -> None:
    assert "<script>" not in MalformedHeader("Range", "<script>", "no range").detail


def test_quota_of_files_says_that_only_a_deletion_makes_room() -> None:
    assert QuotaExceeded(100, 7, stored=True).detail == (
        "Your files and unfinished uploads may have 100 bytes in all, of which 7 are "
        "left; delete one first"
    )


def test_size_may_have_a_status_of_its_own() -> None:
    assert TooLarge(10, status=413).status == 413


def test_long_method_is_truncated() -> None:
    error = MethodNotAllowed("X" * 1000, ())
    assert error.detail == f"Method '{'X' * 40}' is not allowed here"
    assert error.method == "X" * 1000


@pytest.mark.parametrize(
    ("kind", "base"),
    [(UnsupportedEncoding, UnsupportedMediaType), (BodyTooSlow, BodyTimeout)],
)
def test_special_error_is_caught_with_the_general_one(
    kind: type[Exception], base: type[Exception]
) -> None:
    assert issubclass(kind, base)
