"""What all dialects share: no request takes an encoded body."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chunked.engine.records import Upload
from tests.apps import dispose, make_app, rows, stored_files
from tests.dialects.tus import BASE, BYTES, CHUNKED, TUS, Tus, checksum
from tests.dialects.wire import OCTETS, md5, part

#: Encoded bytes, which would also be valid content.
PACKED = gzip.compress(b"0" * 1000, mtime=0)
SIZE = len(PACKED)
WHOLE = f"bytes 0-{SIZE - 1}/{SIZE}"
DETAIL = "Content-Encoding is not supported; send plain bytes"


@dataclass(frozen=True)
class Uploads:
    """The upload that a request addresses: empty, or with all of its bytes."""

    empty: str
    full: str

    @property
    def empty_id(self) -> str:
        return self.empty.rsplit("/", 1)[1]

    @property
    def full_id(self) -> str:
        return self.full.rsplit("/", 1)[1]


#: Arguments of ``client.open``; the uploads exist already.
Road = Callable[[Uploads], dict[str, Any]]


def raw(method: str, url: str, **headers: str) -> dict[str, Any]:
    """The encoded bytes as the body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = named.pop("Content-Type", OCTETS)
    return {
        **{"path": url, "method": method, "data": PACKED},
        **{"headers": named, "content_type": kind},
    }


def form(method: str, url: str, headers: Mapping[str, str], **fields: str) -> Any:
    """The encoded bytes as the file of a form."""
    data = {**fields, "file": part(PACKED)}
    return {"path": url, "method": method, "data": data, "headers": dict(headers)}


def fields(url: str, **values: str) -> dict[str, Any]:
    """A form without a file."""
    return {"path": url, "method": "POST", "data": values, "headers": {}}


def tus(method: str, url: str, **headers: str) -> dict[str, Any]:
    """The encoded bytes as the body of a tus request."""
    return raw(method, url, **{**BYTES, **headers})


RANGE = {"Content-Range": WHOLE}
DIGEST = md5(PACKED)
ROADS: dict[str, Road] = {
    "raw PUT of the first chunk": lambda u: raw("PUT", BASE, Content_Range=WHOLE),
    "raw PUT": lambda u: raw("PUT", u.empty, Content_Range=WHOLE),
    "raw PUT of a repeat": lambda u: raw("PUT", u.full, Content_Range=WHOLE),
    "raw POST of the first chunk": lambda u: raw("POST", BASE, Content_Range=WHOLE),
    "raw POST": lambda u: raw("POST", u.empty, Content_Range=WHOLE),
    "raw POST by upload_id": lambda u: raw(
        "POST", f"{BASE}?upload_id={u.empty_id}", Content_Range=WHOLE
    ),
    "form PUT of the first chunk": lambda u: form("PUT", BASE, RANGE),
    "form PUT": lambda u: form("PUT", u.empty, RANGE),
    "form POST of the first chunk": lambda u: form("POST", BASE, RANGE),
    "form POST": lambda u: form("POST", u.empty, RANGE),
    "form POST by upload_id": lambda u: form("POST", BASE, RANGE, upload_id=u.empty_id),
    "whole file in a form": lambda u: form("POST", BASE, {}, md5=DIGEST),
    "whole file, raw": lambda u: raw("POST", f"{BASE}?md5={DIGEST}"),
    "completion": lambda u: fields(u.full, md5=DIGEST),
    "completion by upload_id": lambda u: fields(BASE, upload_id=u.full_id, md5=DIGEST),
    "completion in a form with parts": lambda u: {
        **fields(u.full, md5=DIGEST),
        "content_type": "multipart/form-data",
    },
    "completion as JSON": lambda u: {
        **fields(u.full),
        "data": json.dumps({"md5": DIGEST}),
        "content_type": "application/json",
    },
    "PUT that a POST stands for": lambda u: raw(
        "POST", u.empty, Content_Range=WHOLE, X_HTTP_Method_Override="PUT"
    ),
    "tus creation": lambda u: tus("POST", BASE, Upload_Length=str(SIZE)),
    "tus creation with a checksum": lambda u: tus(
        "POST",
        BASE,
        Upload_Length=str(SIZE),
        Upload_Checksum=checksum("sha1", PACKED),
    ),
    "tus creation without a length": lambda u: tus(
        "POST", BASE, Upload_Defer_Length="1"
    ),
    "tus creation of a partial": lambda u: tus(
        "POST", BASE, Upload_Length=str(SIZE), Upload_Concat="partial"
    ),
    "tus creation with a body of another type": lambda u: raw(
        "POST", BASE, **TUS, Upload_Length=str(SIZE)
    ),
    "tus PATCH": lambda u: tus("PATCH", u.empty, Upload_Offset="0"),
    "tus PATCH with a checksum": lambda u: tus(
        "PATCH",
        u.empty,
        Upload_Offset="0",
        Upload_Checksum=checksum("sha1", PACKED),
    ),
    "tus PATCH that a POST stands for": lambda u: tus(
        "POST", u.empty, Upload_Offset="0", X_HTTP_Method_Override="PATCH"
    ),
    "tus PATCH without a length": lambda u: {
        **tus("PATCH", u.empty, Upload_Offset="0", Transfer_Encoding="chunked"),
        "data": None,
        "input_stream": io.BytesIO(PACKED),
        "environ_overrides": CHUNKED,
    },
}


@dataclass(frozen=True)
class Site:
    """An app that all cases of a table share.

    :ivar kept: uploads for requests that are refused.
    """

    app: Flask
    client: FlaskClient
    directory: Path
    kept: Uploads


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    app = make_app(directory)
    client = app.test_client()
    yield Site(app, client, directory, begun(client))
    dispose(app)


def begun(client: FlaskClient) -> Uploads:
    """One upload without bytes, one whose bytes are all there and not complete."""
    full = client.put(BASE, data=PACKED, headers=RANGE, content_type=OCTETS).get_json()
    return Uploads(Tus(client).create(SIZE), str(full["url"]).split("localhost")[1])


def send(client: FlaskClient, road: dict[str, Any], coding: str) -> TestResponse:
    headers = {**road["headers"], "Content-Encoding": coding}
    return client.open(**{**road, "headers": headers})


def everything(site: Site) -> tuple[list[Upload], list[object]]:
    """All rows with all columns, all stored files with their bytes."""
    files = stored_files(site.directory)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    found = sorted(rows(site.app), key=lambda upload: upload.id)
    return found, [*map(str, files), *digests]


@pytest.mark.parametrize("coding", ["gzip", "GZip", "br", "identity, deflate", "x"])
@pytest.mark.parametrize("name", ROADS)
def test_an_encoded_body_is_refused_and_changes_nothing(
    site: Site, name: str, coding: str
) -> None:
    before = everything(site)
    road = ROADS[name](site.kept)
    answer = send(site.client, road, coding)
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "identity"
    if "Tus-Resumable" in road["headers"]:
        assert (answer.mimetype, answer.text) == ("text/plain", DETAIL + "\n")
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    else:
        assert answer.get_json()["detail"] == DETAIL
    assert everything(site) == before


@pytest.mark.parametrize("coding", ["identity", "Identity", "", " identity , identity"])
@pytest.mark.parametrize("name", ROADS)
def test_an_identity_body_is_taken(site: Site, name: str, coding: str) -> None:
    answer = send(site.client, ROADS[name](begun(site.client)), coding)
    assert answer.status_code in (200, 201, 204), answer.data


def test_a_coding_of_no_body_does_not_matter(client: FlaskClient) -> None:
    headers = {**TUS, "Upload-Length": "3", "Content-Encoding": "gzip"}
    url = client.post(BASE, headers=headers).headers["Location"]
    for method, status in {"HEAD": 200, "GET": 200, "DELETE": 204}.items():
        answer = client.open(url, method=method, headers=headers, data=b"abc")
        assert answer.status_code == status


def test_a_form_that_the_application_has_read_is_refused_too(
    app: Flask, client: FlaskClient
) -> None:
    @app.before_request
    def look() -> None:
        assert request.form is not None

    answer = send(client, ROADS["whole file in a form"](Uploads("", "")), "gzip")
    assert answer.status_code == 415
    assert rows(app) == []


#: Other faults of a request that are reported instead of the coding.
FIRST: dict[str, tuple[dict[str, Any], int]] = {
    "version": (tus("PATCH", "", Upload_Offset="0", Tus_Resumable="0.2.2"), 412),
    "method": (tus("PUT", ""), 405),
    "length": (tus("PATCH", "", Upload_Offset="0", Content_Length="x"), 415),
}


@pytest.mark.parametrize("name", FIRST)
def test_version_and_method_are_looked_at_before_the_coding(
    site: Site, name: str
) -> None:
    road, status = FIRST[name]
    path = site.kept.empty
    assert send(site.client, {**road, "path": path}, "gzip").status_code == status
