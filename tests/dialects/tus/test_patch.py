"""tus: PATCH. Rules 10 to 19 and 29 to 33 of docs/tus.rst, by number."""

from __future__ import annotations

import io

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked.engine.states import Status
from tests.aging import set_row
from tests.apps import rows
from tests.conftest import AppFactory
from tests.dialects.tus import BYTES, CHUNKED, Tus, checksum


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


# -- creation-defer-length -------------------------------------------------------------


def deferred(tus: Tus) -> str:
    return tus.post(Upload_Defer_Length="1").headers["Location"]


def test_rule_29_head_shows_that_the_length_is_deferred(tus: Tus) -> None:
    url = deferred(tus)
    response = tus.head(url)
    assert response.headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in response.headers
    tus.patch(url, 0, b"ab", Upload_Length="5")
    response = tus.head(url)
    assert response.headers["Upload-Length"] == "5"
    assert "Upload-Defer-Length" not in response.headers


def test_rule_30_a_length_never_changes(app_factory: AppFactory) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_MAX_BYTES=10).test_client())
    url = deferred(tus)
    tus.patch(url, 0, b"abc")
    assert tus.patch(url, 3, b"d", Upload_Length="2").status_code == 400
    assert tus.patch(url, 3, b"d", Upload_Length="11").status_code == 413
    assert tus.patch(url, 3, b"d", Upload_Length="5").status_code == 204
    assert tus.patch(url, 4, b"e", Upload_Length="6").status_code == 400
    assert tus.patch(url, 4, b"e", Upload_Length="5").status_code == 204
    assert tus.offset(url) == 5


@pytest.mark.parametrize("when", ["first", "middle", "last", "empty"])
def test_rule_31_the_length_may_come_on_any_patch(tus: Tus, when: str) -> None:
    url = deferred(tus)
    for index, body in enumerate([b"ab", b"cd", b"ef", b""]):
        name = ["first", "middle", "last", "empty"][index]
        told = {"Upload_Length": "6"} if name == when else {}
        assert tus.patch(url, min(2 * index, 6), body, **told).status_code == 204
    assert tus.content(url) == b"abcdef"


def test_rule_32_a_length_sticks_unless_its_checksum_failed(tus: Tus) -> None:
    url = deferred(tus)
    wrong = checksum("sha1", b"other")
    response = tus.patch(url, 0, b"ab", Upload_Length="5", Upload_Checksum=wrong)
    assert response.status_code == 460
    assert tus.head(url).headers["Upload-Defer-Length"] == "1"


def test_rule_32_a_checked_body_keeps_to_the_length_that_it_brings(
    tus: Tus, tus_app: Flask
) -> None:
    url = deferred(tus)
    tus.patch(url, 0, b"abcde")
    right = checksum("sha1", b"fghijk")
    headers = {
        **BYTES,
        "Upload-Offset": "5",
        "Upload-Length": "10",
        "Upload-Checksum": right,
        "Transfer-Encoding": "chunked",
    }
    response = tus.client.patch(
        url,
        headers=headers,
        input_stream=io.BytesIO(b"fghijk"),
        environ_overrides=CHUNKED,
    )
    assert response.status_code == 413
    assert "(10 bytes)" in response.text
    (row,) = rows(tus_app)
    assert (row.offset, row.length) == (5, None)
    told = {"Upload_Length": "11", "Upload_Checksum": right}
    assert tus.patch(url, 5, b"fghijk", **told).status_code == 204
    assert tus.content(url) == b"abcdefghijk"


def test_rule_33_a_deferred_upload_is_capped_by_the_limit(
    app_factory: AppFactory,
) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_MAX_BYTES=4).test_client())
    url = deferred(tus)
    assert tus.patch(url, 0, b"abcde").status_code == 413
    assert tus.patch(url, 0, b"abcd").status_code == 204
