"""Requests of every dialect about one upload, sorted by what they ask for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from tests.dialects.tus import BASE, BYTES, TUS, checksum
from tests.exchange import OCTETS, content_range, md5
from tests.gate.stands import CONTENT, Subject

#: What the test client's ``open`` takes.
Sent = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """One request.

    :param row: of the table that has its answers.
    """

    row: str
    name: str
    make: Callable[[Subject], Sent]


def _plain(method: str, headers: Mapping[str, str], path: str = "") -> Any:
    return lambda subject: {
        "path": subject.url + path,
        "method": method,
        "headers": dict(headers),
    }


def _overriding(
    method: str, real: str, headers: Mapping[str, str], path: str = ""
) -> Any:
    return _plain(real, {**headers, "X-HTTP-Method-Override": method}, path)


# -- tus -----------------------------------------------------------------------------


def _patch(body: bytes, shift: int = 0, **headers: str) -> Callable[[Subject], Sent]:
    """PATCH at the offset, or as far from it."""
    added = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda subject: {
        "path": subject.url,
        "method": "POST" if "X-HTTP-Method-Override" in added else "PATCH",
        "headers": {**BYTES, "Upload-Offset": str(subject.offset + shift), **added},
        "data": body,
    }


TUS_PROBES = (
    Probe("tus look", "HEAD", _plain("HEAD", TUS)),
    Probe("tus look", "POST for HEAD", _overriding("HEAD", "POST", TUS)),
    Probe("bytes", "PATCH", _patch(b"XY")),
    Probe(
        "bytes", "PATCH, checked", _patch(b"X", Upload_Checksum=checksum("md5", b"X"))
    ),
    Probe("bytes", "POST for PATCH", _patch(b"XY", X_HTTP_Method_Override="PATCH")),
    Probe("no bytes", "PATCH", _patch(b"")),
    Probe(
        "no bytes", "PATCH, length told", _patch(b"", Upload_Length=str(len(CONTENT)))
    ),
    Probe("elsewhere", "PATCH", _patch(b"X", 1)),
    Probe("delete", "DELETE by tus", _plain("DELETE", TUS)),
    Probe("delete", "POST for DELETE by tus", _overriding("DELETE", "POST", TUS)),
)


# -- Content-Range -------------------------------------------------------------------


def _chunk(
    method: str, *, form: bool = False, named: str = "", override: bool = False
) -> Callable[[Subject], Sent]:
    """The next two bytes; others at the beginning, where no byte is missing."""

    def make(subject: Subject) -> Sent:
        start = subject.offset if subject.offset < len(CONTENT) else 0
        headers = {"Content-Range": content_range(b"XY", start, len(CONTENT))}
        sent: Sent = {"path": BASE if named else subject.url, "method": method}
        upload_id = {"upload_id": str(subject.id)} if named else {}
        if named == "query":
            sent["query_string"] = upload_id
        if form:
            file = {"file": (BytesIO(b"XY"), "name.bin")}
            fields = {"before": {**upload_id, **file}, "after": {**file, **upload_id}}
            sent["data"] = fields.get(named, file)
        else:
            sent["data"] = b"XY"
            headers["Content-Type"] = OCTETS
        if override:
            sent["method"], headers["X-HTTP-Method-Override"] = "POST", method
        return {**sent, "headers": headers}

    return make


CHUNK_PROBES = (
    Probe("chunk", "PUT", _chunk("PUT")),
    Probe("chunk", "PUT of a form", _chunk("PUT", form=True)),
    Probe("chunk", "POST", _chunk("POST")),
    Probe("chunk", "POST of a form", _chunk("POST", form=True)),
    Probe("chunk", "POST for PUT", _chunk("PUT", override=True)),
    Probe("chunk", "upload_id, then file", _chunk("POST", form=True, named="before")),
    Probe("chunk", "file, then upload_id", _chunk("POST", form=True, named="after")),
    Probe("chunk", "form, ?upload_id", _chunk("POST", form=True, named="query")),
    Probe("chunk", "body, ?upload_id", _chunk("POST", named="query")),
)


def _completion(how: str, digest: str | None) -> Callable[[Subject], Sent]:
    fields = {} if digest is None else {"md5": digest}

    def make(subject: Subject) -> Sent:
        sent: Sent = {"path": subject.url, "method": "POST"}
        named = {**fields, "upload_id": str(subject.id)}
        if how == "upload_id":
            return {**sent, "path": BASE, "data": named}
        if how == "?upload_id":
            return {**sent, "path": BASE, "query_string": named}
        if how == "JSON":
            kind = {"Content-Type": "application/json"}
            return {**sent, "headers": kind, "data": json.dumps(fields)}
        if how == "form":
            told = {"Content-Type": "multipart/form-data"}
            return {**sent, "headers": told, "data": fields}
        if how == "query":
            return {**sent, "query_string": fields}
        return {**sent, "data": fields}

    return make


COMPLETION_PROBES = tuple(
    Probe(row, how, _completion(how, digest))
    for row, digest in (
        ("right", md5(CONTENT)),
        ("wrong", md5(b"other")),
        ("no checksum", None),
    )
    for how in ("urlencoded", "form", "JSON", "query", "upload_id", "?upload_id")
)


# -- every dialect -------------------------------------------------------------------

PLAIN_PROBES = (
    Probe("look", "GET", _plain("GET", {})),
    Probe("look", "GET by tus", _plain("GET", TUS)),
    Probe("look", "HEAD", _plain("HEAD", {})),
    Probe("look", "GET for PATCH", _overriding("PATCH", "GET", BYTES)),
    Probe("look", "GET for DELETE", _overriding("DELETE", "GET", TUS)),
    Probe("look", "GET for DELETE, bare", _overriding("DELETE", "GET", {})),
    Probe("look", "HEAD for DELETE, bare", _overriding("DELETE", "HEAD", {})),
    Probe("tus look", "HEAD for DELETE", _overriding("DELETE", "HEAD", TUS)),
    Probe("delete", "DELETE", _plain("DELETE", {})),
    Probe("delete", "POST for DELETE", _overriding("DELETE", "POST", {})),
    Probe("content", "GET", _plain("GET", {}, "/file")),
    Probe("content", "HEAD", _plain("HEAD", {}, "/file")),
    Probe("content", "GET by tus", _plain("GET", TUS, "/file")),
    Probe("content", "GET for DELETE", _overriding("DELETE", "GET", TUS, "/file")),
)

#: Answered alike whatever the upload is, and whose: no upload is looked for.
BLIND_PROBES = (
    Probe("204", "OPTIONS", _plain("OPTIONS", {})),
    Probe("204", "OPTIONS by tus", _plain("OPTIONS", TUS)),
    Probe("204", "OPTIONS of the content", _plain("OPTIONS", {}, "/file")),
    Probe("405", "PUT by tus", _plain("PUT", TUS)),
    Probe("405", "POST by tus", _plain("POST", BYTES)),
    Probe("405", "a method that is none", _plain("BREW", {})),
    Probe("405", "a method that is none, by tus", _plain("BREW", TUS)),
    Probe("405", "POST for one that is none", _overriding("BREW", "POST", TUS)),
    Probe("405", "PUT of the content", _plain("PUT", {}, "/file")),
    Probe("405", "POST of the content", _plain("POST", {}, "/file")),
    Probe("405", "DELETE of the content", _plain("DELETE", {}, "/file")),
    Probe("405", "PATCH of the content", _plain("PATCH", BYTES, "/file")),
    Probe("412", "PATCH without a version", _plain("PATCH", {})),
    Probe("412", "POST for PATCH without one", _overriding("PATCH", "POST", {})),
    Probe("412", "HEAD of another version", _plain("HEAD", {"Tus-Resumable": "0.2.2"})),
    Probe("412", "DELETE of another", _plain("DELETE", {"Tus-Resumable": "0.2.2"})),
)

PROBES = (*PLAIN_PROBES, *TUS_PROBES, *CHUNK_PROBES, *COMPLETION_PROBES)
