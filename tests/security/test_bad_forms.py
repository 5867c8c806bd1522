"""Forms and declared types made to trip a parser.

Rows 14 and 15 of the security checklist, as the Content-Range dialect has them (its
metadata are the text fields of a form, and the query of a raw body). Covered elsewhere,
and not repeated here: bad boundaries, a second file, a cut form and bad JSON in
tests/dialects/test_content_range_bodies.py; columns that a client cannot send in
tests/test_policy_schema.py (row 14); no file part in ..._errors.py (row 15).
Upload-Metadata is tus's.
"""

from __future__ import annotations

import base64
import tempfile
from typing import Any

import pytest
from werkzeug import formparser

from flask_chunked.request.fields import MAX_FIELDS_SIZE
from tests.apps import rows
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, ready, state
from tests.security.site import FIRST, FORM, HEAD, Site, form_of, send, shown

MALFORMED = "Malformed multipart/form-data body"
MISSING = "No chunk file was submitted"
TOO_MUCH = "Form has more than 10 parts, or text fields of more than 65536 bytes"
HEADERS = "A part of the form has more than 8 headers, or one of more than 4096 bytes"
CUT = "Request body ended before its announced length"


KINDS = pytest.mark.parametrize("kind", ["first", "next", "whole"])


# -- row 14: fields --------------------------------------------------------------------


def field(name: str, value: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return head.encode() + value + b"\r\n"


#: Text fields of exactly the limit, and what makes them one byte too many.
FULL = {
    "one field": field("a", b"x" * MAX_FIELDS_SIZE),
    "two fields": field("a", b"x" * 40_000) + field("c", b"x" * 25_536),
    "one name twice": field("a", b"x" * 40_000) + field("a", b"x" * 25_536),
    "bytes, not characters": field("a", b"x" + "\u20ac".encode() * 21_845),
}


@KINDS
@pytest.mark.parametrize("name", FULL)
def test_row_14_text_fields_are_limited_in_bytes(
    site: Site, kind: str, name: str
) -> None:
    fields = FULL[name]
    body = form_of("a").replace(b"--b--\r\n", b"")
    too_much = field("z", b"x")
    site.refuses(
        send(site, kind, body + fields + too_much + b"--b--\r\n"), TOO_MUCH, 413
    )
    site.refuses(send(site, kind, too_much + fields + form_of("a")), TOO_MUCH, 413)


@pytest.mark.parametrize("name", FULL)
def test_row_14_fields_up_to_the_limit_are_taken(site: Site, name: str) -> None:
    answer = send(site, "first", FULL[name] + form_of("a"))
    assert state(answer) == (200, 1, 5)
    assert site.client.delete(answer.get_json()["url"]).status_code == 204
    assert site.picture() == site.before


SMALL_BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "not utf-8": (
        "application/x-www-form-urlencoded",
        b"md5=%ff",
        400,
        "Malformed application/x-www-form-urlencoded body",
    ),
    "1,001 fields": (
        "application/x-www-form-urlencoded",
        b"&".join([b"a=b"] * 1001),
        400,
        "Malformed application/x-www-form-urlencoded body",
    ),
    "too long": (
        "application/x-www-form-urlencoded",
        b"md5=" + b"0" * (MAX_FIELDS_SIZE - 3),
        413,
        "Form fields are larger than 65536 bytes",
    ),
    "json not utf-8": (
        "application/json",
        b'{"md5": "\xff"}',
        400,
        "Malformed application/json body",
    ),
    "json number of 5,000 digits": (
        "application/json",
        b'{"md5": ' + b"9" * 5000 + b"}",
        400,
        "Malformed application/json body",
    ),
    "json list": ("application/json", b"[]", 400, "JSON body must be an object"),
    "json surrogate": (
        "application/json",
        b'{"md5": "\\ud800"}',
        400,
        "checksum does not match",
    ),
    "json object as checksum": (
        "application/json",
        b'{"md5": {"$ne": ""}}',
        400,
        "checksum does not match",
    ),
    "json null as checksum": (
        "application/json",
        b'{"md5": null}',
        400,
        "Checksum of type 'md5' is required",
    ),
    "json infinity as checksum": (
        "application/json",
        b'{"md5": 1e999}',
        400,
        "checksum does not match",
    ),
}


@pytest.mark.parametrize("name", SMALL_BODIES)
def test_row_14_completion_with_bad_fields_is_refused(
    app_factory: AppFactory, name: str
) -> None:
    kind, body, status, detail = SMALL_BODIES[name]
    site = Site(app_factory())
    url = ready(site.client)
    site.before = site.picture()
    answer = site.client.post(url, data=body, content_type=kind)
    assert answer.status_code == status
    assert shown(answer, site.root)["detail"] == detail
    # A refused checksum has read the bytes and claimed the row, and changed neither.
    assert site.picture().files == site.before.files
    assert state(site.client.post(url, data={"md5": MD5})) == (200, 2, 10)


TYPES = {
    "nul": "text/pl\0ain",
    "latin-1": "text/pl\xe4in",
    "escape": "text/\x1b[31m",
    "line feed": "text/plain\nx",
}


@pytest.mark.parametrize("name", TYPES)
def test_row_14_declared_type_that_is_none_is_not_kept(site: Site, name: str) -> None:
    raw = site.client.put(
        "/uploads/",
        data=DATA[:5],
        headers=FIRST,
        environ_overrides={"CONTENT_TYPE": TYPES[name]},
    )
    kept = {str(row.id): row.content_type for row in rows(site.app)}
    assert kept[raw.get_json()["id"]] is None
    assert site.client.delete(raw.get_json()["url"]).status_code == 204


@pytest.mark.parametrize("name", TYPES)
def test_row_14_type_in_the_metadata_of_tus_is_no_better(site: Site, name: str) -> None:
    value = base64.b64encode(TYPES[name].encode()).decode()
    answer = site.client.post(
        "/uploads/",
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "5",
            "Upload-Metadata": f"filetype {value}",
        },
    )
    assert answer.status_code == 201
    url = answer.headers["Location"]
    kept = {str(row.id): row.content_type for row in rows(site.app)}
    assert kept[url.rpartition("/")[2]] is None
    assert site.client.delete(url).status_code == 204


def test_row_14_declared_type_is_cut_to_its_column(site: Site) -> None:
    declared = "a/" + "b" * 2000
    head = HEAD + b"\r\nContent-Type: " + declared.encode() + b"\r\n\r\n01234\r\n--b--"
    answer = send(site, "first", head)
    kept = {str(row.id): row.content_type for row in rows(site.app)}
    assert kept[answer.get_json()["id"]] == declared[:255]
    assert site.client.delete(answer.get_json()["url"]).status_code == 204


# -- row 15: multipart -----------------------------------------------------------------


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", MALFORMED),
    "end alone": (b"--b--\r\n", MISSING),
    "another form's end": (b"--c--\r\n", MALFORMED),
    "text alone": (b"hello", MALFORMED),
    "no end": (HEAD + b"\r\n\r\n01234", MALFORMED),
    "no last dashes": (HEAD + b"\r\n\r\n01234\r\n--b\r\n", MALFORMED),
    "half an end": (HEAD + b"\r\n\r\n01234\r\n--b", MALFORMED),
    "headers without end": (HEAD + b"\r\n", MALFORMED),
    "no disposition": (b"--b\r\nX-A: b\r\n\r\n01234\r\n--b--\r\n", MALFORMED),
    "no name": (
        b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\n'
        b"01234\r\n--b--\r\n",
        MISSING,
    ),
    "headers that are no text": (
        HEAD + b"\r\nContent-Type: \xff\xfe\r\n\r\n01234\r\n--b--\r\n",
        MALFORMED,
    ),
    "form in a form": (
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n'
        b"Content-Type: multipart/mixed; boundary=y\r\n\r\n"
        b'--y\r\nContent-Disposition: file; filename="a"\r\n\r\n'
        b"01234\r\n--y--\r\n--b--\r\n",
        MISSING,
    ),
    "fields alone": (field("a", b"b") + b"--b--\r\n", MISSING),
    "headers of 5 MB": (
        b"--b\r\nX-A: " + b"a" * 5_000_000 + HEAD[3:] + b"\r\n\r\n01234\r\n--b--\r\n",
        HEADERS,
    ),
    "9 headers": (
        HEAD + b"\r\nX: y" * 8 + b"\r\n\r\n01234\r\n--b--\r\n",
        HEADERS,
    ),
    "11 parts": (field("a", b"") * 10 + form_of("a"), TOO_MUCH),
    "11 parts, file first": (
        form_of("a").replace(b"--b--\r\n", field("a", b"") * 10 + b"--b--\r\n"),
        TOO_MUCH,
    ),
    "second file behind": (
        form_of("a").replace(b"--b--\r\n", form_of("b")),
        "More than one file in the form",
    ),
    "second file of no bytes": (
        form_of("a").replace(b"--b--\r\n", form_of("", b"")),
        "More than one file in the form",
    ),
}


@KINDS
@pytest.mark.parametrize("name", BODIES)
def test_row_15_malformed_form_leaves_nothing(site: Site, kind: str, name: str) -> None:
    body, detail = BODIES[name]
    status = 413 if detail in (TOO_MUCH, HEADERS) else 400
    site.refuses(send(site, kind, body), detail, status)


@KINDS
@pytest.mark.parametrize("kept", [0, 2, 40, len(form_of("a")) - 9])
def test_row_15_form_that_is_cut_leaves_nothing(
    site: Site, kind: str, kept: int
) -> None:
    body = form_of("a")
    answer = send(site, kind, body[:kept], CONTENT_LENGTH=str(len(body)))
    site.refuses(answer, CUT)


def test_row_15_ten_parts_are_allowed(site: Site) -> None:
    answer = send(site, "first", field("a", b"") * 9 + form_of("a"))
    assert state(answer) == (200, 1, 5)
    assert site.client.delete(answer.get_json()["url"]).status_code == 204


def test_row_15_file_goes_into_our_stage_and_into_no_other_file(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> Any:
        raise AssertionError("a temporary file that is not ours")

    monkeypatch.setattr(formparser, "default_stream_factory", never)
    for name in ("TemporaryFile", "SpooledTemporaryFile", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, never)
    answer = site.client.put(
        "/uploads/",
        data=form_of("a", b"x" * 3_000_000),
        headers={"Content-Range": "bytes 0-2999999/3000000"},
        content_type=FORM,
    )
    assert state(answer) == (200, 1, 3_000_000)
    assert site.client.delete(answer.get_json()["url"]).status_code == 204
    assert site.picture() == site.before
