"""tus 1.0.0, Core: rules 1 to 20 of docs/tus.rst, by number."""

from __future__ import annotations

import io

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked.engine.states import Status
from tests.aging import set_row
from tests.apps import rows
from tests.conftest import AppFactory
from tests.dialects.tus import BASE, BYTES, CHUNKED, TUS, Tus

UNKNOWN = BASE + "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", BASE),
        ("PUT", BASE),
        ("HEAD", UNKNOWN),
        ("PATCH", UNKNOWN),
        ("DELETE", UNKNOWN),
        ("BREW", UNKNOWN),
        ("HEAD", BASE + "a/b/c"),
    ],
)
def test_rule_01_every_answer_carries_the_version(
    tus: Tus, method: str, path: str
) -> None:
    response = tus.client.open(path, method=method, headers=TUS)
    assert response.headers["Tus-Resumable"] == "1.0.0"


@pytest.mark.parametrize("version", ["0.2.2", "1.0.1", "1.0", "", "1.0.0,1.0.0"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_rule_02_another_version_is_412_and_nothing_happens(
    tus: Tus, method: str, version: str
) -> None:
    url = tus.create(3)
    path = BASE if method == "POST" else url
    headers = {
        **BYTES,
        "Tus-Resumable": version,
        "Upload-Offset": "0",
        "Upload-Length": "3",
    }
    response = tus.client.open(path, method=method, headers=headers, data=b"abc")
    assert response.status_code == 412
    assert response.headers["Tus-Version"] == "1.0.0"
    assert tus.offset(url) == 0
    assert len(rows(tus.client.application)) == 1


def test_rule_02_a_patch_without_a_version_is_412(tus: Tus) -> None:
    url = tus.create(3)
    headers = {"Content-Type": BYTES["Content-Type"], "Upload-Offset": "0"}
    response = tus.client.patch(url, headers=headers, data=b"abc")
    assert response.status_code == 412
    assert response.headers["Tus-Version"] == "1.0.0"


def test_rule_03_get_needs_no_version_and_head_without_one_is_answered(
    tus: Tus,
) -> None:
    url = tus.create(3)
    assert tus.client.get(url).status_code == 200
    bare = tus.client.head(url)
    assert bare.status_code == 200
    assert bare.headers["Upload-Offset"] == "0"
    assert bare.headers["Tus-Resumable"] == "1.0.0"


@pytest.mark.parametrize("path", [BASE, UNKNOWN, BASE[:-1]])
@pytest.mark.parametrize("headers", [{}, TUS, {"Tus-Resumable": "9"}])
def test_rule_04_options_lists_the_capabilities_whatever_the_version(
    tus: Tus, path: str, headers: dict[str, str]
) -> None:
    response = tus.client.options(path, headers=headers)
    assert response.status_code == 204
    assert response.headers["Tus-Version"] == "1.0.0"
    assert response.headers["Tus-Extension"].split(",") == [
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "expiration",
        "checksum",
        "termination",
        "concatenation",
        "concatenation-unfinished",
    ]
    assert "sha1" in response.headers["Tus-Checksum-Algorithm"].split(",")
    assert "Tus-Max-Size" not in response.headers


def test_rule_04_a_limit_is_returned(app_factory: AppFactory) -> None:
    client = app_factory(CHUNKED_UPLOAD_MAX_BYTES="1KiB").test_client()
    assert client.options(BASE).headers["Tus-Max-Size"] == "1024"


BAD_NUMBERS = [
    "",
    "-1",
    "+5",
    "1_0",
    "5.0",
    "0x5",
    "5 ",
    "9" * 20,
    str(2**63),
    "0,0",
    "\u0665",
    "\uff15",
    "abc",
]


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("header", ["Upload-Length", "Upload-Offset"])
def test_rules_05_and_06_numbers_are_plain_digits(
    tus: Tus, header: str, value: str
) -> None:
    raw = value.encode().decode("latin-1")
    if header == "Upload-Length":
        response = tus.post(Upload_Length=raw)
    else:
        response = tus.patch(tus.create(3), raw, b"abc")
    assert response.status_code == 400


def test_rule_06_two_joined_headers_are_refused(tus: Tus) -> None:
    response = tus.post(Upload_Length="3", Upload_Defer_Length="1, 1")
    assert response.status_code == 400


def test_rule_07_the_override_of_a_post_is_the_method(tus: Tus) -> None:
    url = tus.create(3)
    headers = {**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "patch"}
    assert tus.client.post(url, headers=headers, data=b"abc").status_code == 204
    headers = {**TUS, "X-HTTP-Method-Override": "DELETE"}
    assert tus.client.post(url, headers=headers).status_code == 204
    assert tus.head(url).status_code == 404


#: The status of each method for an upload of three bytes.
OWN = {"GET": 200, "HEAD": 200, "PUT": 405, "OPTIONS": 204}


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize("override", ["PATCH", "DELETE", "POST"])
def test_rule_07_no_other_method_is_overridden(
    tus: Tus, method: str, override: str
) -> None:
    url = tus.create(3)
    headers = {
        **BYTES,
        "Upload-Offset": "0",
        "Upload-Length": "3",
        "X-HTTP-Method-Override": override,
    }
    response = tus.client.open(url, method=method, headers=headers, data=b"abc")
    assert response.status_code == OWN[method]
    assert tus.client.get(BASE, headers=headers).get_json() == []
    assert [row.offset for row in rows(tus.client.application)] == [0]


def test_rule_07_a_delete_stays_one(tus: Tus) -> None:
    url = tus.create(3)
    headers = {**TUS, "X-HTTP-Method-Override": "HEAD"}
    assert tus.client.delete(url, headers=headers).status_code == 204
    assert tus.head(url).status_code == 404


def test_rule_07_a_post_that_stands_for_get_shows_the_upload(tus: Tus) -> None:
    headers = {**TUS, "X-HTTP-Method-Override": "GET"}
    response = tus.client.post(tus.create(3), headers=headers)
    assert (response.status_code, response.get_json()["offset"]) == (200, 0)


def test_rule_07_a_post_that_stands_for_head_has_no_body(tus: Tus) -> None:
    url = tus.post(b"ab", Upload_Length="3").headers["Location"]
    headers = {**TUS, "X-HTTP-Method-Override": "HEAD"}
    response = tus.client.post(url, headers=headers)
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Upload-Offset"] == "2"
    assert response.headers["Content-Length"] == "0"
    response = tus.client.post(UNKNOWN, headers=headers)
    assert (response.status_code, response.data) == (404, b"")
    assert response.headers["Content-Length"] == "0"


def test_rule_07_an_unknown_override_is_405(tus: Tus) -> None:
    headers = {**TUS, "X-HTTP-Method-Override": "BREW"}
    response = tus.client.post(tus.create(3), headers=headers)
    assert response.status_code == 405
    assert "PATCH" in response.headers["Allow"]


def test_rule_08_head_returns_offset_and_length_and_is_not_cached(tus: Tus) -> None:
    url = tus.create(3)
    for offset in (0, 3):
        response = tus.head(url)
        assert response.status_code == 200
        assert response.headers["Upload-Offset"] == str(offset)
        assert response.headers["Upload-Length"] == "3"
        assert response.headers["Cache-Control"] == "no-store"
        tus.patch(url, offset, b"abc"[: 3 - offset])


@pytest.mark.parametrize("upload_id", [UNKNOWN[len(BASE) :], "x", "%00", "..", "a%2Fb"])
def test_rules_09_and_13_an_unknown_upload_is_404_without_offset(
    tus: Tus, upload_id: str
) -> None:
    response = tus.head(BASE + upload_id)
    assert response.status_code == 404
    assert "Upload-Offset" not in response.headers
    assert response.data == b""
    assert tus.patch(BASE + upload_id, 0, b"abc").status_code == 404


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/offset+octet-stream", 204),
        ("Application/Offset+Octet-Stream; charset=x", 204),
        ("application/octet-stream", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
def test_rule_10_a_patch_needs_its_content_type(
    tus: Tus, content_type: str, status: int
) -> None:
    url = tus.create(3)
    response = tus.patch(url, 0, b"abc", Content_Type=content_type)
    assert response.status_code == status
    assert tus.offset(url) == (3 if status == 204 else 0)


@pytest.mark.parametrize("offset", [0, 1, 3, 99])
def test_rule_11_another_offset_is_409_and_changes_nothing(
    tus: Tus, offset: int
) -> None:
    url = tus.create(5)
    tus.patch(url, 0, b"ab")
    assert tus.patch(url, offset, b"c").status_code == 409
    assert tus.offset(url) == 2


def test_rule_12_a_patch_answers_204_and_the_new_offset(tus: Tus) -> None:
    url = tus.create(5)
    for offset, body in ((0, b"ab"), (2, b"cde")):
        response = tus.patch(url, offset, body)
        assert response.status_code == 204
        assert response.headers["Upload-Offset"] == str(offset + len(body))
    assert tus.content(url) == b"abcde"


def test_rule_15_a_body_that_cannot_fit_is_413_before_it_is_read(tus: Tus) -> None:
    url = tus.create(3)
    assert tus.patch(url, 0, b"abcd").status_code == 413
    assert tus.offset(url) == 0


def test_rule_15_a_chunked_body_is_kept_up_to_the_length(
    tus: Tus, tus_app: Flask
) -> None:
    url = tus.create(3)
    response = chunked_patch(tus.client, url, 0, b"abcdef")
    assert response == 413
    assert tus.offset(url) == 3
    assert tus.content(url) == b"abc"


def test_rule_16_a_patch_at_the_end_is_204_and_bytes_there_are_413(tus: Tus) -> None:
    url = tus.create(3)
    tus.patch(url, 0, b"abc")
    response = tus.patch(url, 3)
    assert (response.status_code, response.headers["Upload-Offset"]) == (204, "3")
    assert tus.patch(url, 3, b"d").status_code == 413
    assert tus.patch(url, 0, b"abc").status_code == 409
    assert tus.content(url) == b"abc"


def test_rule_17_an_empty_patch_changes_nothing_and_chunked_is_fine(tus: Tus) -> None:
    url = tus.create(3)
    response = tus.patch(url, 0)
    assert (response.status_code, response.headers["Upload-Offset"]) == (204, "0")
    assert chunked_patch(tus.client, url, 0, b"ab") == 204
    assert tus.offset(url) == 2


def test_rule_18_one_body_or_many_make_the_same_file(tus: Tus) -> None:
    body = bytes(range(256)) * 40
    one = tus.create(len(body))
    tus.patch(one, 0, body)
    many = tus.create(len(body))
    for offset in range(0, len(body), 1000):
        tus.patch(many, offset, body[offset : offset + 1000])
    assert tus.content(one) == tus.content(many) == body


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Tus-Resumable": "2", "Content-Type": "x/y", "Upload-Offset": "x"}, 412),
        ({"Content-Type": "x/y", "Upload-Offset": "x"}, 415),
        ({"Upload-Offset": "x", "Upload-Checksum": "x"}, 400),
        ({"Upload-Offset": "1", "Upload-Checksum": "x"}, 400),
        ({"Upload-Offset": "1", "Upload-Length": "9"}, 400),
        ({"Upload-Offset": "1"}, 409),
        ({"Upload-Offset": "0"}, 413),
    ],
    ids=[
        "version",
        "type",
        "number",
        "checksum",
        "length",
        "offset",
        "size",
    ],
)
def test_rule_19_the_order_of_checks(
    tus: Tus, changes: dict[str, str], status: int
) -> None:
    url = tus.create(3)
    response = tus.client.patch(url, headers={**BYTES, **changes}, data=b"abcd")
    assert response.status_code == status
    assert tus.offset(url) == 0


@pytest.mark.parametrize(
    ("path", "method"), [(BASE, "PUT"), (BASE, "PATCH"), ("upload", "PUT")]
)
def test_rule_20_other_methods_are_405_and_tell_which_are_allowed(
    tus: Tus, path: str, method: str
) -> None:
    target = tus.create(3) if path == "upload" else path
    response = tus.client.open(target, method=method, headers=TUS)
    assert response.status_code == 405
    assert "OPTIONS" in response.headers["Allow"]


@pytest.mark.parametrize(
    "status", [Status.UPLOADING, Status.COMPLETING, Status.COMPLETE]
)
@pytest.mark.parametrize(("body", "answer"), [(b"", 204), (b"x", 413)])
def test_chunked_body_where_all_is_there(
    app: Flask, tus: Tus, status: Status, body: bytes, answer: int
) -> None:
    """Also after a process that died between the finished file and its row."""
    url = tus.create(3)
    assert tus.patch(url, 0, b"abc").status_code == 204
    (row,) = rows(app)
    set_row(app, row.id, status=status.value)
    assert chunked_patch(tus.client, url, 3, body) == answer
    (row,) = rows(app)
    assert (row.status, row.offset) == (Status.COMPLETE, 3)
    assert tus.content(url) == b"abc"


@pytest.mark.parametrize(("body", "answer"), [(b"", 201), (b"x", 413)])
def test_chunked_body_of_a_new_upload_without_bytes(
    app: Flask, tus: Tus, body: bytes, answer: int
) -> None:
    response = tus.client.post(
        BASE,
        headers={**BYTES, "Upload-Length": "0", "Transfer-Encoding": "chunked"},
        input_stream=io.BytesIO(body),
        environ_overrides=CHUNKED,
    )
    assert response.status_code == answer
    assert [row.status for row in rows(app)] == [Status.COMPLETE] * (answer == 201)


def chunked_patch(client: FlaskClient, url: str, offset: int, body: bytes) -> int:
    """PATCH without Content-Length, as a server passes it on."""
    response = client.patch(
        url,
        headers={
            **BYTES,
            "Upload-Offset": str(offset),
            "Transfer-Encoding": "chunked",
        },
        input_stream=io.BytesIO(body),
        environ_overrides=CHUNKED,
    )
    return response.status_code
