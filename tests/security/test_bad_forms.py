"""Forms, declared types and header values made to trip a parser.

Rows 14, 15 and 24 of the security checklist, as the Content-Range dialect has them (its
metadata are the text fields of a form, and the query of a raw body). Covered elsewhere,
and not repeated here: bad boundaries, a second file, a cut form and bad JSON in
tests/dialects/test_content_range_bodies.py; columns that a client cannot send in
tests/test_policy_schema.py (row 14); no file part in ..._errors.py (row 15); malformed
numbers by codec in tests/protocol/, and over HTTP in ..._headers.py and
test_bad_input.py (row 24). Upload-Metadata is tus's.
"""

from __future__ import annotations

import string
import tempfile
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug import formparser
from werkzeug.test import TestResponse

from flask_chunked.dialects.forms import MAX_FIELDS_SIZE
from tests.apps import rows
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, cut, md5, ready, state
from tests.security.site import FORM, Site, form_of, shown

FIRST = {"Content-Range": "bytes 0-4/10"}
NEXT = {"Content-Range": "bytes 5-9/10"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"'
MALFORMED = "Malformed multipart/form-data body"
MISSING = "No chunk file was submitted"
TOO_MUCH = "Form has more than 10 parts, or text fields of more than 65536 bytes"
CUT = "Request body ended before its announced length"


def send(site: Site, kind: str, body: bytes, **environ: Any) -> TestResponse:
    """A form of these very bytes, as a first or next chunk or as a whole file."""
    return site.client.open(
        site.url if kind == "next" else "/uploads/",
        method="POST" if kind == "whole" else "PUT",
        headers={"whole": {}, "first": FIRST, "next": NEXT}[kind],
        query_string={"md5": md5(DATA[:5])} if kind == "whole" else None,
        environ_overrides={
            **cut(body, announced=len(body)),
            "CONTENT_TYPE": FORM,
            **environ,
        },
    )


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


def test_row_14_declared_type_is_cut_to_its_column(site: Site) -> None:
    declared = "a/" + "b" * 5000
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
        TOO_MUCH,
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
    status = 413 if detail == TOO_MUCH else 400
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


# -- row 24: parsers -------------------------------------------------------------------

#: Characters of most values; a quadratic parser would need minutes for it.
LONG = 100_000
#: Seconds of this process that one request with such a value may take.
ENOUGH = 1.0

PATTERNS = {
    "digits": "9" * LONG,
    "spaces": "bytes " + " " * LONG + "0-4/10",
    "quotes": 'a; filename="' + '\\"' * (LONG // 2),
    "open quotes": 'a; filename="' * (LONG // 13),
    "parameters": "a" + ";a=b" * (LONG // 4),
    "semicolons": "a" + "; " * (LONG // 2),
    "commas": "bytes=0-0" + ",1-1" * (LONG // 4),
    "percents": "%" * LONG,
    "dashes": "-" * LONG,
    "stars": "*=" * (LONG // 2),
    "brackets": "[" * LONG,
    "ampersands": "&a" * (LONG // 2),
    "latin-1 digits": "\xb2" * (LONG // 10),
}

HEADERS = [
    "Content-Range",
    "Content-Disposition",
    "Content-Type",
    "Content-Length",
    "Content-Encoding",
    "Transfer-Encoding",
    "Range",
    "If-Range",
    "If-None-Match",
    "If-Modified-Since",
    "X-HTTP-Method-Override",
    "Upload-Offset",
    "Origin",
    "Accept",
]


def quickly(ask: Callable[[], TestResponse]) -> TestResponse:
    """The answer, which took no longer than reading its request once must."""
    began = time.process_time()
    answer = ask()
    assert time.process_time() - began < ENOUGH
    return answer


def clean_up(site: Site) -> None:
    """Remove what a value that was fit for its header has made."""
    for row in rows(site.app):
        if str(row.id) not in site.url:
            assert site.client.delete(f"/uploads/{row.id}").status_code == 204
    assert site.picture() == site.before


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_row_24_header_of_100_kb_is_read_in_linear_time(
    site: Site, method: str, name: str
) -> None:
    key = name.upper().replace("-", "_")
    key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
    for value in PATTERNS.values():
        answer = quickly(
            lambda value=value: site.client.open(  # type: ignore[misc]
                site.url if method == "GET" else "/uploads/",
                method=method,
                data=None if method == "GET" else DATA[:5],
                headers={} if method == "GET" else FIRST,
                content_type=OCTETS,
                environ_overrides={key: value},
            )
        )
        assert answer.status_code < 500
        if answer.status_code >= 400:
            shown(answer, site.root)
            assert len(answer.data) < 1000
        clean_up(site)


QUERIES = ["status", "page", "per_page", "cursor", "count", "filename", "md5"]


@pytest.mark.parametrize("name", QUERIES)
def test_row_24_query_of_100_kb_is_read_in_linear_time(site: Site, name: str) -> None:
    for pattern in PATTERNS.values():
        value = quote(pattern.replace(" ", "+"), safe=string.punctuation)
        for method in ("GET", "PUT"):
            answer = quickly(
                lambda value=value, method=method: site.client.open(  # type: ignore[misc]
                    "/uploads/",
                    method=method,
                    query_string=f"{name}={value}",
                    data=None if method == "GET" else DATA[:5],
                    headers={} if method == "GET" else FIRST,
                    content_type=OCTETS,
                )
            )
            assert answer.status_code in (200, 400)
            if answer.status_code == 400:
                shown(answer, site.root)
                assert len(answer.data) < 1000
        clean_up(site)


BOMBS = {
    "boundaries": b"--b\r\n" * 200_000,
    "half boundaries": b"\r\n--" * 250_000,
    "carriage returns": HEAD + b"\r\n\r\n" + b"\r" * 1_000_000,
    "line feeds": HEAD + b"\r\n\r\n" + b"\n" * 1_000_000,
    "line ends": HEAD + b"\r\n\r\n" + b"\r\n" * 500_000,
    "headers": b"--b\r\n" + b"X-A: b\r\n" * 120_000,
    "long header": b"--b\r\nX-A: " + b"a " * 500_000,
    "preamble": b"\r\n" * 500_000,
}


@KINDS
@pytest.mark.parametrize("name", BOMBS)
def test_row_24_form_of_a_megabyte_is_read_in_linear_time(
    site: Site, kind: str, name: str
) -> None:
    answer = quickly(lambda: send(site, kind, BOMBS[name]))
    assert answer.status_code in (400, 413)
    assert shown(answer, site.root)
    assert site.picture() == site.before


DIGITS = ["\u0665", "\uff15", "\u00b2", "\u2164", " 5", "+5", "5_0"]


@pytest.mark.parametrize("digit", DIGITS, ids=ascii)
@pytest.mark.parametrize("where", ["page", "per_page"])
def test_row_24_numbers_of_a_query_are_ascii_digits(
    site: Site, where: str, digit: str
) -> None:
    answer = site.client.get("/uploads/", query_string={where: digit})
    site.refuses(answer, f"Query argument {where!r} must be a number from 1 to 100")
