"""Requests of the Content-Range dialect, as short as tests of a policy want them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PREFIX = "/uploads"
OCTETS = "application/octet-stream"


def md5(data: bytes) -> str:
    """The default checksum of a file."""
    return hashlib.md5(data).hexdigest()


def content_range(data: bytes, start: int, total: int) -> str:
    """The header of a chunk."""
    if not total:
        return "bytes */0"
    return f"bytes {start}-{start + len(data) - 1}/{total}"


def put_raw(
    client: FlaskClient,
    data: bytes,
    *,
    start: int = 0,
    total: int | None = None,
    url: str = f"{PREFIX}/",
    headers: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
) -> TestResponse:
    """A chunk as the request's body.

    :param total: declared bytes; default: the chunk is the whole file.
    :param fields: sent in the query.
    """
    length = start + len(data) if total is None else total
    return client.put(
        url,
        data=data,
        headers={
            "Content-Range": content_range(data, start, length),
            **(headers or {}),
        },
        content_type=OCTETS,
        query_string=dict(fields or {}),
    )


def put_form(
    client: FlaskClient,
    data: bytes,
    *,
    start: int = 0,
    total: int | None = None,
    url: str = f"{PREFIX}/",
    fields: Mapping[str, str] | None = None,
    part: str = "file",
    headers: Mapping[str, str] | None = None,
) -> TestResponse:
    """A chunk as the file part of a form."""
    length = start + len(data) if total is None else total
    body: dict[str, Any] = dict(fields or {})
    body[part] = (io.BytesIO(data), "name.bin")
    return client.put(
        url,
        data=body,
        headers={
            "Content-Range": content_range(data, start, length),
            **(headers or {}),
        },
    )


def post_whole(
    client: FlaskClient,
    data: bytes,
    *,
    url: str = f"{PREFIX}/",
    fields: Mapping[str, str] | None = None,
    part: str = "file",
    headers: Mapping[str, str] | None = None,
) -> TestResponse:
    """A whole file in one form, with its MD5."""
    body: dict[str, Any] = {"md5": md5(data), **(fields or {})}
    body[part] = (io.BytesIO(data), "name.bin")
    return client.post(url, data=body, headers=dict(headers or {}))


def begin(client: FlaskClient, data: bytes, total: int, **options: Any) -> str:
    """Send the first chunk; the upload's URL."""
    answer = put_raw(client, data, total=total, **options)
    assert answer.status_code == 200, answer.json
    return str(answer.json["url"])  # type: ignore[index]


def finish(client: FlaskClient, url: str, data: bytes, **options: Any) -> TestResponse:
    """Ask for completion with the MD5 of the whole file."""
    return client.post(url, data={"md5": md5(data)}, **options)


def send(client: FlaskClient, data: bytes, **options: Any) -> TestResponse:
    """A chunk with the whole file, then the completion."""
    return finish(client, begin(client, data, len(data), **options), data)


def id_of(url: str) -> UUID:
    """The id in an upload's URL."""
    return UUID(url.rpartition("/")[2])


def detail(answer: TestResponse) -> str:
    """What an error says."""
    body = answer.json
    assert isinstance(body, dict), answer.data
    return str(body["detail"])
