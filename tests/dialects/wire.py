"""What the tests of the Content-Range dialect need beside literal requests."""

from __future__ import annotations

import hashlib
import io
from datetime import timedelta
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_chunked.engine.engine import utcnow
from tests.apps import registered

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


def told(answer: TestResponse) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    return answer.status_code, answer.get_json()


def state(answer: TestResponse) -> tuple[int, int, int]:
    """HTTP status, status and offset of an upload's JSON."""
    body = answer.get_json()
    assert isinstance(body, dict) and "offset" in body, answer.data
    return answer.status_code, body["status"], body["offset"]


def let_pass(app: Flask, **time: float) -> None:
    """Set the uploads' clock so far ahead of the real one."""
    registered(app).engine.clock = lambda: utcnow() + timedelta(**time)


def cut(body: bytes, *, announced: int) -> dict[str, Any]:
    """The environ of a client that goes away before the end of its body."""
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(announced)}
