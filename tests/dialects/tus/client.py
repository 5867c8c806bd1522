"""Short notation for literal tus requests."""

from __future__ import annotations

import base64
import hashlib
import zlib

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

BASE = "/uploads/"
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
#: Environ of a body that does not announce its length.
CHUNKED = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}


def metadata(**pairs: str) -> str:
    """``Upload-Metadata`` of these pairs."""
    return ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}"
        for key, value in pairs.items()
    )


def checksum(algorithm: str, body: bytes) -> str:
    """``Upload-Checksum`` of this body."""
    if algorithm == "crc32":
        digest = zlib.crc32(body).to_bytes(4, "big")
    else:
        digest = hashlib.new(algorithm, body).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


class Tus:
    """A tus client on the Flask test client: one method a request."""

    def __init__(self, client: FlaskClient, base: str = BASE) -> None:
        self.client = client
        self.base = base

    def post(self, body: bytes | None = None, /, **headers: str) -> TestResponse:
        """POST on the collection; underscores in header names are dashes."""
        kind = TUS if body is None else BYTES
        return self.client.post(
            self.base, headers={**kind, **_dashed(headers)}, data=body
        )

    def create(self, length: int, **headers: str) -> str:
        """The URL of a new upload."""
        response = self.post(Upload_Length=str(length), **headers)
        assert response.status_code == 201, response.text
        return response.headers["Location"]

    def partial(self, body: bytes, length: int | None = None) -> str:
        """The URL of a new partial upload that starts with these bytes."""
        size = len(body) if length is None else length
        response = self.post(body, Upload_Length=str(size), Upload_Concat="partial")
        assert response.status_code == 201, response.text
        return response.headers["Location"]

    def final(self, *urls: str, **headers: str) -> TestResponse:
        """POST of a final upload."""
        return self.post(Upload_Concat="final;" + " ".join(urls), **headers)

    def patch(
        self, url: str, offset: int | str, body: bytes = b"", **headers: str
    ) -> TestResponse:
        """PATCH at an offset."""
        told = {**BYTES, "Upload-Offset": str(offset), **_dashed(headers)}
        return self.client.patch(url, headers=told, data=body)

    def head(self, url: str) -> TestResponse:
        """HEAD."""
        return self.client.head(url, headers=TUS)

    def offset(self, url: str) -> int:
        """The offset that HEAD returns."""
        response = self.head(url)
        assert response.status_code == 200, response.status
        return int(response.headers["Upload-Offset"])

    def delete(self, url: str) -> TestResponse:
        """DELETE."""
        return self.client.delete(url, headers=TUS)

    def content(self, url: str) -> bytes:
        """The stored bytes, by download."""
        response = self.client.get(url + "/file")
        assert response.status_code == 200, response.text
        with response:
            return response.get_data()


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
