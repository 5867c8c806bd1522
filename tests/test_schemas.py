"""The JSON of an upload: its keys, their order and who may write them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID

import pytest
from marshmallow import Schema, ValidationError, fields

from flask_chunked.schemas import ChunkedUploadSchema, UTCTimestamp

KEYS = [
    "id",
    "url",
    "file",
    "filename",
    "offset",
    "created_at",
    "status",
    "completed_at",
    "user",
    "length",
    "digest",
]


class Titled(ChunkedUploadSchema):
    title = fields.String(required=True)


class Moment(Schema):
    at = UTCTimestamp()


def shown(**changes: object) -> SimpleNamespace:
    values: dict[str, object] = {
        "id": UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
        "url": "http://localhost/uploads/0f8fad5b-d9cb-469f-a165-70867728950e",
        "file": None,
        "filename": "n\u00e4me.bin",
        "offset": 2**63 - 1,
        "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "status": 1,
        "completed_at": None,
        "user": None,
        "length": 2**40,
        "digest": None,
        "storage_key": "2026/01/02/secret",
    }
    return SimpleNamespace(**{**values, **changes})


def test_dump_has_these_keys_in_this_order_and_no_other() -> None:
    assert list(ChunkedUploadSchema().dump(shown())) == KEYS


def test_dump_is_the_documented_json() -> None:
    dumped = ChunkedUploadSchema().dump(
        shown(
            file="http://localhost/file",
            status=2,
            user=7,
            completed_at=datetime(2026, 1, 2, 3, 4, 6, 700, tzinfo=timezone.utc),
        )
    )
    assert json.loads(json.dumps(dumped)) == {
        "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "url": "http://localhost/uploads/0f8fad5b-d9cb-469f-a165-70867728950e",
        "file": "http://localhost/file",
        "filename": "n\u00e4me.bin",
        "offset": 2**63 - 1,
        "created_at": "2026-01-02T03:04:05.000000Z",
        "status": 2,
        "completed_at": "2026-01-02T03:04:06.000700Z",
        "user": 7,
        "length": 2**40,
        "digest": None,
    }


def test_what_is_not_there_yet_is_null() -> None:
    dumped = ChunkedUploadSchema().dump(shown())
    assert (dumped["file"], dumped["completed_at"], dumped["user"]) == (None,) * 3


@pytest.mark.parametrize("user", [None, 7, "carol"])
def test_owner_is_dumped_as_it_is(user: object) -> None:
    assert ChunkedUploadSchema().dump(shown(user=user))["user"] == user


def test_only_the_filename_is_loaded() -> None:
    sent = {key: "1" for key in KEYS} | {"md5": "00", "csrf_token": "t"}
    assert ChunkedUploadSchema().load(sent) == {"filename": "1"}


def test_filename_may_be_absent() -> None:
    assert ChunkedUploadSchema().load({}) == {}


def test_filename_must_be_text() -> None:
    with pytest.raises(ValidationError) as caught:
        ChunkedUploadSchema().load({"filename": 1})
    assert list(caught.value.messages_dict) == ["filename"]


def test_subclass_adds_its_fields_after_the_librarys() -> None:
    assert list(Titled().dump(shown(title="t"))) == [*KEYS, "title"]
    assert Titled().load({"title": "t", "offset": 5, "x": 1}) == {"title": "t"}


def test_missing_required_own_field_is_reported_by_name() -> None:
    with pytest.raises(ValidationError) as caught:
        Titled().load({"filename": "x"})
    assert list(caught.value.messages_dict) == ["title"]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(
            datetime(2026, 1, 1, tzinfo=timezone.utc),
            "2026-01-01T00:00:00.000000Z",
            id="whole-second",
        ),
        pytest.param(
            datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            "2025-12-31T23:00:00.000000Z",
            id="other-zone",
        ),
    ],
)
def test_timestamp_is_utc_with_microseconds(
    moment: datetime | None, expected: str | None
) -> None:
    assert Moment().dump({"at": moment}) == {"at": expected}


def test_naive_timestamp_is_an_error() -> None:
    with pytest.raises(ValueError, match="naive"):
        Moment().dump({"at": datetime(2026, 1, 1)})
