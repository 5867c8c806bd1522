"""What every application here must do: upload, resume and delete, in each dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked.testing import DIALECTS, UploadRefused, begin, upload

CONTENT = b"first, then the rest of it"
URL = "/uploads/"


@dataclass(frozen=True)
class Visitor:
    """A client that may upload, and the headers that it needs for that."""

    app: Flask
    client: FlaskClient
    headers: dict[str, str] = field(default_factory=dict)


def walk(visitor: Visitor, files: Path) -> None:
    """Upload in each dialect, whole, and half with the next dialect for the rest.

    :param files: where the app keeps bytes; nothing of them is left.
    """
    client, headers = visitor.client, visitor.headers
    for dialect, other in zip(DIALECTS, DIALECTS[1:] + DIALECTS[:1], strict=True):
        half = begin(
            client,
            URL,
            CONTENT,
            filename="a b.txt",
            content_type="text/plain",
            dialect=dialect,
            chunk_size=7,
            headers=headers,
        )
        assert half.offset() == len(CONTENT) // 2
        assert half.json()["status"] == 1
        done = half.resume(other)
        assert done.read() == CONTENT
        shown = done.json()
        assert (shown["status"], shown["filename"]) == (2, "a b.txt")
        assert done.delete().status_code == 204
        with pytest.raises(UploadRefused, match="404"):
            done.json()
        sent = upload(client, URL, CONTENT, dialect=dialect, headers=headers)
        assert sent.read() == CONTENT
        sent.delete()
    assert [path for path in files.rglob("*") if path.is_file()] == []
