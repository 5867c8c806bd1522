"""One request as it goes over the wire: the model reads what the server gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

PREFIX = "/uploads"
OCTETS = "application/octet-stream"
TUS_OCTETS = "application/offset+octet-stream"
URLENCODED = "application/x-www-form-urlencoded"
BOUNDARY = "fuzz-boundary-7d1"
#: Says who asks, and what ``authorize`` refuses in this request.
USER, DENY = "X-User", "X-Deny"


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: text fields, then the file, if there is one.

    :param behind: the fields come after the file.
    """

    fields: Mapping[str, str]
    file: bytes | None = None
    filename: str = "upload"
    part: str = "file"
    behind: bool = False

    def encode(self) -> bytes:
        """The request's body."""
        pieces = [
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode()
            for name, text in self.fields.items()
        ]
        if self.file is not None:
            head = f'form-data; name="{self.part}"; filename="{self.filename}"'
            there = f"Content-Disposition: {head}\r\n\r\n".encode() + self.file
            pieces.insert(0 if self.behind else len(pieces), there)
        mark = f"--{BOUNDARY}\r\n".encode()
        body = b"".join(mark + piece + b"\r\n" for piece in pieces)
        return body + f"--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    :param body: raw bytes; of a form, nothing.
    :param chunked: the body does not announce its length.
    :param cut: bytes that it announces and does not send.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    form: Form | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    cut: int = 0

    @property
    def payload(self) -> bytes:
        """The body's bytes."""
        return self.body if self.form is None else self.form.encode()

    @property
    def sent_headers(self) -> dict[str, str]:
        """All headers, the type of a form included."""
        headers = dict(self.headers)
        if self.form is not None:
            headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        return headers

    @property
    def announced(self) -> int | None:
        """``Content-Length``."""
        return None if self.chunked else len(self.payload) + self.cut

    @property
    def content_type(self) -> str:
        """Without parameters."""
        return self.sent_headers.get("Content-Type", "").partition(";")[0]

    @property
    def fields(self) -> dict[str, str]:
        """Text fields: of the query, of a form, of an urlencoded body."""
        found = dict(self.query)
        if self.form is not None:
            found.update(self.form.fields)
        elif self.content_type == URLENCODED:
            found.update(parse_qsl(self.body.decode(), keep_blank_values=True))
        return found

    def __str__(self) -> str:
        headers = " ".join(
            f"-H '{name}: {value}'" for name, value in self.sent_headers.items()
        )
        url = self.path + (f"?{urlencode(self.query)}" if self.query else "")
        data = self.payload
        shown = ""
        if data or self.method in ("POST", "PUT", "PATCH"):
            how = ", chunked" if self.chunked else ""
            how += f", {self.cut} more announced" if self.cut else ""
            begin, end = data[:1], data[-1:]
            shown = f" --data-binary '<{len(data)} bytes{how}, {begin!r}..{end!r}>'"
        if self.form is not None:
            size = "no" if self.form.file is None else len(self.form.file)
            behind = " first" if self.form.behind else ""
            shown = f" <form {dict(self.form.fields)}, {size} bytes of file{behind}>"
        return f"curl -X {self.method} {url} {headers}{shown}"
