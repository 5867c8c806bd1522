"""Long values and digits that are none: read in linear time, refused in JSON.

Row 24 of the security checklist, over HTTP. Malformed numbers codec by codec are in
tests/protocol/, malformed Content-Range headers in
tests/dialects/content_range/test_chunks.py, Content-Length in test_bad_input.py.
"""

from __future__ import annotations

import string
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from tests.apps import rows
from tests.dialects.wire import DATA, OCTETS
from tests.security.site import FIRST, HEAD, Site, send, shown

KINDS = pytest.mark.parametrize("kind", ["first", "next", "whole"])

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


#: Query argument -> the request that reads it.
QUERIES = dict.fromkeys(("status", "page", "per_page", "cursor", "count"), "GET")
QUERIES |= dict.fromkeys(("filename", "md5"), "PUT")


@pytest.mark.parametrize("name", QUERIES)
def test_row_24_query_of_100_kb_is_read_in_linear_time(site: Site, name: str) -> None:
    for pattern in PATTERNS.values():
        value = quote(pattern.replace(" ", "+"), safe=string.punctuation)
        answer = quickly(
            lambda value=value: site.client.open(  # type: ignore[misc]
                "/uploads/",
                method=QUERIES[name],
                query_string=f"{name}={value}",
                data=DATA[:5] if QUERIES[name] == "PUT" else None,
                headers=FIRST if QUERIES[name] == "PUT" else {},
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
