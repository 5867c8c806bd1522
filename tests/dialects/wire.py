"""What the tests of the Content-Range dialect need in addition to literal requests."""

from __future__ import annotations

import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chunked import exceptions
from flask_chunked.engine.expiry import utcnow
from tests.apps import registered, stored_files

DATA = b"0123456789"
MD5 = "781e5e245d69b566979b86e28d23f2c7"
ID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
OCTETS = "application/octet-stream"


def part(data: bytes, name: str = "name.bin") -> tuple[io.BytesIO, str]:
    """A file part of a form."""
    return io.BytesIO(data), name


def md5(data: bytes) -> str:
    """The checksum that completes a file."""
    return hashlib.md5(data).hexdigest()


#: The codes of all errors that a client may see.
CODES = {
    error.code
    for error in vars(exceptions).values()
    if hasattr(error, "default_status")
}


def told(answer: TestResponse) -> tuple[int, Any]:
    """Status and JSON of an answer, without the code that each error has."""
    body = answer.get_json()
    if isinstance(body, dict) and "detail" in body:
        assert body.pop("code") in CODES
    return answer.status_code, body


def state(answer: TestResponse) -> tuple[int, int, int]:
    """HTTP status, status and offset of an upload's JSON."""
    body = answer.get_json()
    assert isinstance(body, dict) and "offset" in body, answer.data
    return answer.status_code, body["status"], body["offset"]


def let_pass(app: Flask, **time: float) -> None:
    """Set the uploads' clock so far ahead of the real one."""
    registered(app).engine.clock = lambda: utcnow() + timedelta(**time)


def cut(body: bytes, *, announced: int) -> dict[str, Any]:
    """The environ of a client that disconnects before the end of its body."""
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(announced)}


def put(
    client: FlaskClient, url: str, data: bytes, value: str, *, raw: bool = True
) -> Any:
    """A chunk, as a form or as the body."""
    return client.put(
        url,
        data=data if raw else {"file": part(data)},
        headers={"Content-Range": value},
        content_type=OCTETS if raw else None,
    )


def begin(client: FlaskClient) -> str:
    """The URL of an upload that has five of ten bytes."""
    answer = put(client, "/uploads/", DATA[:5], "bytes 0-4/10")
    return str(answer.get_json()["url"])


def ready(client: FlaskClient) -> str:
    """The URL of an upload that has all its bytes and is not complete."""
    url = begin(client)
    assert state(put(client, url, DATA[5:], "bytes 5-9/10")) == (200, 1, 10)
    return url


def resume(client: FlaskClient, url: str) -> None:
    """Continue as a client does after a lost answer: ask, send the rest, complete."""
    offset = int(client.head(url).headers["Upload-Offset"])
    if offset < 10:
        answer = put(client, url, DATA[offset:], f"bytes {offset}-9/10")
        assert state(answer) == (200, 1, 10)
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)


def contents(tmp_path: Path) -> list[tuple[str, bytes]]:
    """Suffix and bytes of every stored file."""
    return [(file.suffix, file.read_bytes()) for file in stored_files(tmp_path)]
