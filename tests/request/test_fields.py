"""Bodies without a file: urlencoded forms and JSON objects, and their limits."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Request

from flask_chunked.exceptions import BodyInterrupted, MalformedBody
from flask_chunked.request.body import open_body
from flask_chunked.request.fields import (
    FIELD_TYPES,
    MAX_FIELDS,
    MAX_FIELDS_SIZE,
    read_fields,
)

FORM, JSON = FIELD_TYPES


def fields_of(body: bytes, content_type: str, announced: int | None = None) -> Any:
    """The fields of a request with this body.

    :param announced: its Content-Length, if it is not the true one.
    """
    length = len(body) if announced is None else announced
    environ = {
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(length),
        "CONTENT_TYPE": content_type,
    }
    made: Any = SimpleNamespace(http=Request(environ), body=open_body(environ, 1))
    return read_fields(made)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"md5=abc&filename=a+b%20c", {"md5": "abc", "filename": "a b c"}),
        (b"md5=", {"md5": ""}),
        (b"a=1&a=2", {"a": "2"}),
        ("n=näme".encode(), {"n": "näme"}),
    ],
)
def test_urlencoded_form(body: bytes, fields: dict[str, str]) -> None:
    assert fields_of(body, FORM) == fields


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({}, {}),
        ({"md5": "abc"}, {"md5": "abc"}),
        ({"a": 1, "b": True, "c": [1, "x"]}, {"a": "1", "b": "true", "c": '[1, "x"]'}),
        ({"absent": None}, {}),
    ],
)
def test_json_object(value: object, fields: dict[str, str]) -> None:
    assert fields_of(json.dumps(value).encode(), JSON) == fields
    assert fields_of(json.dumps(value).encode(), f"{JSON}; charset=utf-8") == fields


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_empty_json_body_has_no_fields(body: bytes) -> None:
    assert fields_of(body, JSON) == {}


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/jsonx"])
def test_other_types_have_no_fields(content_type: str) -> None:
    assert fields_of(b"md5=abc", content_type) == {}


@pytest.mark.parametrize(
    ("body", "content_type", "detail"),
    [
        (b"[1]", JSON, "JSON body must be an object"),
        (b'"text"', JSON, "JSON body must be an object"),
        (b"{", JSON, f"Malformed {JSON} body"),
        (b'{"a": "\xff"}', JSON, f"Malformed {JSON} body"),
        (b"[" * 60_000, JSON, f"Malformed {JSON} body"),
        (b"a=%ff", FORM, f"Malformed {FORM} body"),
        (b"a=\xff", FORM, f"Malformed {FORM} body"),
        (b"a=1&" * (MAX_FIELDS + 1), FORM, f"Malformed {FORM} body"),
    ],
    ids=[
        "list",
        "text",
        "no end",
        "no utf-8",
        "nested",
        "no utf-8 in an escape",
        "no utf-8 in a form",
        "too many",
    ],
)
def test_malformed_body_is_reported_with_its_type(
    body: bytes, content_type: str, detail: str
) -> None:
    with pytest.raises(MalformedBody) as caught:
        fields_of(body, content_type)
    assert (caught.value.detail, caught.value.status) == (detail, 400)


@pytest.mark.parametrize("content_type", FIELD_TYPES)
def test_largest_body_is_read_and_a_larger_one_is_413(content_type: str) -> None:
    frame = b'{"a": "%s"}' if content_type == JSON else b"a=%s"
    room = MAX_FIELDS_SIZE - len(frame % b"")
    assert fields_of(frame % (b"x" * room), content_type) == {"a": "x" * room}
    with pytest.raises(MalformedBody) as caught:
        fields_of(frame % (b"x" * (room + 1)), content_type)
    assert caught.value.status == 413


def test_truncated_body_is_no_form() -> None:
    with pytest.raises(BodyInterrupted):
        fields_of(b"a=1", FORM, announced=10)
