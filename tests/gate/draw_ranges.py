"""Draws requests of the Content-Range dialect: chunks, whole files, completion."""

from __future__ import annotations

from typing import Any

from tests.exchange import md5
from tests.gate.picks import SIZES, Picks
from tests.gate.requests import OCTETS, PREFIX, URLENCODED, Form, Request
from tests.gate.uploads import FINAL, PARTIAL, UPLOADING, Upload


class RangeDraw(Picks):
    """Requests without ``Tus-Resumable``."""

    def _named(self, fields: dict[str, str]) -> dict[str, str]:
        """The fields of a creation."""
        fields["filename"] = self._name()
        if self._model.rules.titled and self._is(0.95):
            fields["title"] = self._rng.choice(["One", "Two"])
        return fields

    def _chunk(self, start: int, size: int, total: int) -> str:
        if self._is(0.015):
            return self._rng.choice(["bytes 5-1/9", "bytes */9", "items 0-1/2"])
        if not size:
            return "bytes */0"
        return f"bytes {start}-{start + size - 1}/{total}"

    def _carrying(
        self, method: str, path: str, headers: dict[str, str], **told: Any
    ) -> Request:
        """A chunk in a form, or raw.

        :param told: ``body`` and ``fields``.
        """
        body, fields = told["body"], told["fields"]
        if self._is(0.5):
            headers["Content-Type"] = OCTETS
            return Request(method, path, headers, body, query=fields)
        part = "files[]" if self._is(0.1) else "file"
        behind = self._is(0.1)
        form = Form(fields, body, fields.get("filename", "upload"), part, behind)
        return Request(method, path, headers, form=form)

    def _put_first(self) -> Request:
        total = self._size()
        size = total if self._is(0.4) else self._rng.randrange(total + 1)
        size = size or total
        body = self._bytes(size, first=True, last=size == total)
        start = 20 if self._is(0.02) else 0
        if size and self._is(0.02):
            total = self._huge()
        headers = {**self._who(), "Content-Range": self._chunk(start, size, total)}
        if self._is(0.02):
            body += b"x"
        method = "PUT" if self._is(0.7) else "POST"
        fields = self._named({})
        return self._carrying(method, f"{PREFIX}/", headers, body=body, fields=fields)

    def _put_next(self) -> Request:
        rng = self._rng
        upload = self._upload(self._takes_chunks)
        offset = 0 if upload is None else upload.offset
        total = 5000 if upload is None else upload.length
        if total is None:
            total = offset + rng.choice(SIZES)
            total = self._huge() if self._is(0.1) else total
        size = max(1, self._part_of(total - offset)) if total else 0
        start = offset
        body = self._bytes(size, first=not start, last=start + size == total)
        how = rng.random()
        if upload is not None and upload.last_start is not None and how < 0.12:
            start = upload.last_start
            body = upload.content[start:]
            if how < 0.04 and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
        elif how < 0.17:
            start = max(0, start + rng.choice([-1, 1, 20]))
        elif how < 0.19:
            total += 1
        elif how < 0.21:
            body += b"x"
        size = len(body) - (0.19 <= how < 0.21)
        headers = {
            **self._who(upload),
            "Content-Range": self._chunk(start, size, total),
        }
        return self._next(upload, headers, body)

    @staticmethod
    def _takes_chunks(one: Upload) -> bool:
        opened = one.status == UPLOADING and one.offset != one.length
        return opened and one.kind not in (FINAL, PARTIAL)

    def _next(
        self, upload: Upload | None, headers: dict[str, str], body: bytes
    ) -> Request:
        """By PUT or POST to the upload, or by POST with its id in a field."""
        how = self._rng.random()
        path, fields = self._path(upload), {}
        if how < 0.25 and upload is not None:
            path, fields = f"{PREFIX}/", {"upload_id": str(upload.id)}
        method = "PUT" if how > 0.35 else "POST"
        told: dict[str, Any] = {"body": body, "fields": fields}
        return self._carrying(method, path, headers, **told)

    def _whole(self) -> Request:
        size = self._size()
        body = self._bytes(size, first=True, last=True)
        fields = self._named({})
        if self._is(0.95):
            fields["md5"] = md5(body) if self._is(0.9) else md5(body + b"x")
        headers = self._who()
        if self._is(0.3):
            headers["Content-Type"] = OCTETS
            return Request("POST", f"{PREFIX}/", headers, body, query=fields)
        form = Form(fields, None if self._is(0.03) else body, fields["filename"])
        return Request("POST", f"{PREFIX}/", headers, form=form)

    def _complete(self) -> Request:
        upload = self._upload(
            lambda one: one.offset == one.length and one.kind != PARTIAL
        )
        right = "" if upload is None else upload.md5
        fields = {"md5": right} if self._is(0.95) else {}
        if self._is(0.15):
            fields["md5"] = md5(b"other")
        elif fields and self._is(0.1):
            fields["md5"] = right.upper()
        path = self._path(upload)
        if upload is not None and self._is(0.3):
            path = f"{PREFIX}/"
            fields["upload_id"] = str(upload.id)
        headers = self._who(upload)
        if self._is(0.3):
            return Request("POST", path, headers, form=Form(fields))
        headers["Content-Type"] = URLENCODED
        body = "&".join(f"{name}={value}" for name, value in fields.items())
        return Request("POST", path, headers, body.encode())
