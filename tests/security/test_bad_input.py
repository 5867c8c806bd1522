"""Ids, owners and sizes that are not what they should be.

Rows 2, 3 and 11 of the security checklist, as the Content-Range dialect has them.
Covered elsewhere, and not repeated here: the grammar of ids in
tests/protocol/test_upload_id.py; one 404 for foreign, unknown and malformed ids, verb
by verb, in tests/test_owners.py (row 3); malformed Content-Range headers and
raw bodies of another size in tests/dialects/content_range/test_chunks.py, totals in
tests/dialects/test_content_range_differences.py, forms of another size in
..._errors.py (row 11). Row 8 is in test_bad_names.py;
rows 14 and 15 in test_bad_forms.py, 24 in test_long_values.py, the others in
test_storage_safety.py.
"""

from __future__ import annotations

import base64
import io
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint
from tests.apps import rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, begin, cut, md5, part, put, state
from tests.security.site import FORM, Site, form_of, shown, statements

NOT_FOUND = "Not found."


# -- row 2: ids ------------------------------------------------------------------------


def test_row_02_ids_are_random_and_never_in_a_row(client: FlaskClient) -> None:
    made = [UUID(begin(client).rpartition("/")[2]) for _ in range(20)]
    assert {one.version for one in made} == {4}
    # 122 random bits: two that share even their first 32 are no accident.
    assert len({str(one)[:8] for one in made}) == 20
    assert made != sorted(made)


NO_IDS = {
    "number": "1",
    "negative": "-1",
    "sql": "1' OR '1'='1",
    "percent": "%25",
    "nul": "%00",
    "line feed behind": "{id}%0A",
    "traversal": "..%2F..%2Fetc%2Fpasswd",
    "backslashes": "..\\..\\{id}",
    "file name": "{id}.part",
    "braces": "{{{id}}}",
    "no hyphens": "{hex}",
    "arabic digit": "\u0660{rest}",
    "fullwidth digit": "\uff10{rest}",
    "plus": "+{rest}",
    "space": "{id}%20",
    "100 kB": "a" * 100_000,
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("name", NO_IDS)
def test_row_02_what_is_no_id_reaches_neither_database_nor_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    real = site.url.rpartition("/")[2]
    text = NO_IDS[name].format(id=real, hex=real.replace("-", ""), rest=real[1:])
    opened: list[object] = []
    opening = os.open

    def note(path: Any, *args: Any, **kwargs: Any) -> int:
        opened.append(path)
        return opening(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", note)
    with statements(site.app) as seen:
        answer = site.client.open(
            f"/uploads/{text}",
            method=method,
            data=None if method in ("GET", "HEAD") else DATA[5:],
            headers={"Content-Range": "bytes 5-9/10"} if method == "PUT" else {},
            content_type=OCTETS,
        )
    assert (seen, opened) == ([], [])
    if method == "HEAD":
        assert (answer.status_code, answer.data) == (404, b"")
    else:
        site.refuses(answer, NOT_FOUND, 404)


@pytest.mark.parametrize("where", ["form", "query"])
@pytest.mark.parametrize("name", NO_IDS)
def test_row_02_what_is_no_id_is_none_in_a_field_either(
    site: Site, name: str, where: str
) -> None:
    real = site.url.rpartition("/")[2]
    text = NO_IDS[name].format(id=real, hex=real.replace("-", ""), rest=real[1:])
    if where == "form" and len(text) > 65_000:
        text = text[:65_000]
    field = {"upload_id": text}
    with statements(site.app) as seen:
        answer = site.client.post(
            "/uploads/",
            data={"file": part(DATA[5:]), **(field if where == "form" else {})},
            query_string=field if where == "query" else None,
            headers={"Content-Range": "bytes 5-9/10"},
        )
    assert seen == []
    site.refuses(answer, NOT_FOUND, 404)


# -- row 3: somebody else's ------------------------------------------------------------


class Named(ChunkedUploadBlueprint):
    """Whoever a header names."""

    def get_user_id(self) -> object:
        return request.headers.get("X-User")


@pytest.fixture
def named(app_factory: AppFactory) -> Flask:
    return app_factory(blueprint_class=Named, CHUNKED_UPLOAD_DOWNLOADS=True)


def client_of(app: Flask, user: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_X_USER"] = user
    return client


#: Verbs that tests/test_owners.py does not ask: (method, headers).
VERBS: dict[str, tuple[str, dict[str, str]]] = {
    "options": ("OPTIONS", {}),
    "patch": ("PATCH", {}),
    "trace": ("TRACE", {}),
    "unknown method": ("BREW", {}),
    "tus head": ("HEAD", {"Tus-Resumable": "1.0.0"}),
    "tus patch": ("PATCH", {"Tus-Resumable": "1.0.0", "Upload-Offset": "5"}),
    "tus delete": ("DELETE", {"Tus-Resumable": "1.0.0"}),
    "override put": ("POST", {"X-HTTP-Method-Override": "PUT"}),
}


@pytest.mark.parametrize("verb", VERBS)
def test_row_03_other_verbs_cannot_tell_ids_apart(named: Flask, verb: str) -> None:
    foreign = begin(client_of(named, "ann")).rpartition("/")[2]
    before = rows(named)
    bob = client_of(named, "bob")
    method, headers = VERBS[verb]
    if "Upload-Offset" in headers:
        headers = {**headers, "Content-Type": "application/offset+octet-stream"}

    def everything(upload_id: str) -> tuple[object, ...]:
        answer = bob.open(
            f"/uploads/{upload_id}",
            method=method,
            headers={**headers, "Content-Range": "bytes 5-9/10"},
            data=DATA[5:],
        )
        return answer.status_code, answer.data, sorted(answer.headers)

    told = everything(foreign)
    assert told == everything(str(uuid4())) == everything("malformed")
    assert rows(named) == before


def test_row_03_foreign_and_unknown_ids_cost_the_same_statements(
    named: Flask,
) -> None:
    foreign = begin(client_of(named, "ann")).rpartition("/")[2]
    bob = client_of(named, "bob")

    def asked(upload_id: str) -> list[str]:
        with statements(named) as seen:
            put(bob, f"/uploads/{upload_id}", DATA[5:], "bytes 5-9/10")
        return seen

    # Time is not measured: one and the same query takes what it takes.
    assert asked(foreign) == asked(str(uuid4()))
    assert len(asked(foreign)) == 1


@pytest.mark.parametrize("status", ["pending", "complete", "all"])
def test_row_03_lists_and_their_cursors_show_nothing_foreign(
    named: Flask, status: str
) -> None:
    ann, bob = client_of(named, "ann"), client_of(named, "bob")
    begin(ann)
    ann.post("/uploads/", data={"file": part(DATA), "md5": MD5})
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for moment in (rows(named)[0].created_at, epoch):
        for upload_id in (rows(named)[0].id, UUID(int=0)):
            plain = json.dumps([moment.isoformat(), str(upload_id)]).encode()
            cursor = base64.urlsafe_b64encode(plain).decode()
            query = {"status": status, "cursor": cursor, "count": "1"}
            answer = bob.get("/uploads/", query_string=query)
            assert (answer.get_json(), answer.headers["X-Total-Count"]) == ([], "0")
            assert "Link" not in answer.headers


# -- row 11: sizes ---------------------------------------------------------------------


@pytest.mark.parametrize("total", ["7", "11", str(2**63 - 1)])
@pytest.mark.parametrize("kind", ["raw", "form", "post form", "post by id"])
def test_row_11_total_that_changes_midway_is_refused(
    site: Site, total: str, kind: str
) -> None:
    data = DATA[5:7]
    by_id = kind == "post by id"
    answer = site.client.open(
        "/uploads/" if by_id else site.url,
        method="POST" if kind.startswith("post") else "PUT",
        data=data if kind == "raw" else {"file": part(data)},
        query_string={"upload_id": site.url.rpartition("/")[2]} if by_id else None,
        headers={"Content-Range": f"bytes 5-6/{total}"},
        content_type=OCTETS if kind == "raw" else None,
    )
    site.refuses(answer, f"Total of the upload is 10 bytes but {total} reported")


LENGTHS = {
    "negative": "-5",
    "sign": "+5",
    "spaces": " 5 ",
    "underscore": "5_0",
    "two": "5, 5",
    "hexadecimal": "0x5",
    "fraction": "5.0",
    "superscript": "\u00b2",
    "20 digits": "0" * 19 + "5",
    "5,000 digits": "9" * 5000,
}


@pytest.mark.parametrize("text", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", ["raw", "form", "whole raw", "whole form"])
def test_row_11_content_length_that_is_no_number_is_told(
    site: Site, kind: str, text: str
) -> None:
    form = "form" in kind
    answer = site.client.open(
        "/uploads/",
        method="POST" if kind.startswith("whole") else "PUT",
        query_string={"md5": md5(DATA[:5])},
        headers={} if kind.startswith("whole") else {"Content-Range": "bytes 0-4/10"},
        content_type=FORM if form else OCTETS,
        environ_overrides={
            "wsgi.input": io.BytesIO(form_of("a") if form else DATA[:5]),
            "CONTENT_LENGTH": text,
        },
    )
    site.refuses(answer, "Error in request headers")
    reason = "Content-Length: not a number of bytes"
    assert shown(answer, site.root)["reason"] == reason


@pytest.mark.parametrize("kind", ["next", "first", "whole", "form"])
def test_row_11_chunked_body_is_kept_only_as_far_as_it_may_come(
    app_factory: AppFactory, kind: str
) -> None:
    site = Site(app_factory(CHUNKED_UPLOAD_MAX_BYTES=10))
    body = form_of("a", b"x" * 11) if kind == "form" else b"x" * 11
    ranged = {"next": "bytes 5-9/10", "first": "bytes 0-9/10"}.get(kind)
    answer = site.client.open(
        site.url if kind == "next" else "/uploads/",
        method="PUT" if ranged else "POST",
        query_string={"md5": md5(b"x" * 11)},
        headers={"Transfer-Encoding": "chunked"}
        | ({"Content-Range": ranged} if ranged else {}),
        environ_overrides={
            **cut(body, announced=0),
            # The test client would put a boundary of its own in its place.
            "CONTENT_TYPE": FORM if kind == "form" else OCTETS,
            "CONTENT_LENGTH": "",
            "wsgi.input_terminated": True,
        },
    )
    if ranged is None:
        site.refuses(answer, "Size of file exceeds the limit (10 bytes)")
        return
    assert answer.status_code == 400
    detail = shown(answer, site.root)["detail"]
    size = 5 if kind == "next" else 10
    reported = f"File size doesn't match headers: file size is 11 but {size} reported"
    assert detail == reported
    # What fits is kept, as of every raw body, and nothing behind it.
    assert sorted(row.offset for row in rows(site.app)) == (
        [10] if kind == "next" else [5, 10]
    )
    assert max(map(len, site.picture().files.values())) == 10


def test_row_11_largest_total_reserves_nothing_on_the_disk(
    client: FlaskClient, tmp_path: Path
) -> None:
    answer = put(client, "/uploads/", DATA[:5], f"bytes 0-4/{2**53 - 1}")
    assert state(answer) == (200, 1, 5)
    (file,) = stored_files(tmp_path)
    assert file.stat().st_blocks * 512 <= 2**16
