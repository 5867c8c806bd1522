"""File names that mean something else: shown tamed, and never part of a path.

Row 8 of the security checklist, through every way that a client has to name a file. The
whole table of names is in tests/protocol/test_filename.py; Content-Disposition headers
are in tests/dialects/test_content_range_forms.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.apps import rows
from tests.dialects.wire import DATA, MD5, OCTETS, part
from tests.security.site import FORM, Site, form_of

#: What a client says -> what is shown. Bidi controls and look-alikes as escapes.
NAMES = {
    "unicode": ("\u00fc \u65e5\u672c \U0001f600", "\u00fc \u65e5\u672c \U0001f600"),
    "decomposed": ("na\u0308me.bin", "n\u00e4me.bin"),
    "bidi": ("cod\u202egpj.exe", "codgpj.exe"),
    "zero width": ("a\u200b\ufeff.bin", "a.bin"),
    "device": ("CON", "_CON"),
    "device with extension": ("lpt1.txt", "_lpt1.txt"),
    "traversal": ("../../../etc/passwd", "passwd"),
    "absolute": ("/etc/shadow", "shadow"),
    "hidden": (".htaccess", "htaccess"),
    "dots": ("..", "upload"),
    "slash": ("/", "upload"),
    "long": ("n" * 300 + ".bin", "n" * 251 + ".bin"),
    "long in utf-8": ("\u20ac" * 300, "\u20ac" * 85),
    "sql": ("'; DROP TABLE chunked_upload; --", "'; DROP TABLE chunked_upload; --"),
    "template": ("{{7*7}}%n%s.bin", "{{7*7}}%n%s.bin"),
}
#: A part's header cannot hold these, or its parser takes the backslashes for escapes.
FIELD_NAMES = {
    "windows traversal": ("..\\a\\..\\boot.ini", "boot.ini"),
    "drive": ("C:\\fakepath\\a.bin", "a.bin"),
    "control": ("a\x1b[31m\x7f.bin", "a[31m.bin"),
    "empty": ("", "name.bin"),
    "nul": ("a\x00/../b.bin", "b.bin"),
    "lines": ("a\r\nSet-Cookie: x=1", "aSet-Cookie: x=1"),
}


def by_part(client: FlaskClient, name: str) -> TestResponse:
    return client.put(
        "/uploads/",
        data=form_of(name),
        headers={"Content-Range": "bytes 0-4/10"},
        content_type=FORM,
    )


def by_field(client: FlaskClient, name: str) -> TestResponse:
    return client.put(
        "/uploads/",
        data={"file": part(DATA[:5]), "filename": name},
        headers={"Content-Range": "bytes 0-4/10"},
    )


def by_query(client: FlaskClient, name: str) -> TestResponse:
    return client.put(
        "/uploads/",
        data=DATA[:5],
        query_string={"filename": name},
        headers={"Content-Range": "bytes 0-4/10"},
        content_type=OCTETS,
    )


def by_whole_file(client: FlaskClient, name: str) -> TestResponse:
    form = {"file": part(DATA), "filename": name, "md5": MD5}
    return client.post("/uploads/", data=form)


def keeps_name(site: Site, answer: TestResponse, expected: str) -> None:
    """The name is shown; what it is stored as has nothing of it."""
    assert answer.status_code == 200, answer.data
    upload_id = answer.get_json()["id"]
    named = {str(row.id): row for row in rows(site.app)}[upload_id]
    assert (answer.get_json()["filename"], named.filename) == (expected, expected)
    (file,) = site.picture().files.keys() - site.before.files.keys()
    day = named.created_at.strftime("%Y/%m/%d")
    assert file.rpartition(".")[0] == f"chunked_uploads/{day}/{upload_id}"
    assert site.client.delete(f"/uploads/{upload_id}").status_code == 204
    assert site.picture() == site.before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("send", [by_part, by_field, by_query, by_whole_file])
def test_row_08_name_is_shown_and_no_path_is_made_of_it(
    site: Site, send: Callable[[FlaskClient, str], TestResponse], name: str
) -> None:
    sent, expected = NAMES[name]
    keeps_name(site, send(site.client, sent), expected)


@pytest.mark.parametrize("name", FIELD_NAMES)
@pytest.mark.parametrize("send", [by_field, by_whole_file])
def test_row_08_fields_may_hold_what_no_header_can(
    site: Site, send: Callable[[FlaskClient, str], TestResponse], name: str
) -> None:
    sent, expected = FIELD_NAMES[name]
    keeps_name(site, send(site.client, sent), expected)
