"""tus: versions, methods, HEAD, expiry, termination. Rules by number (docs/tus.rst)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from tests.apps import registered, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import BASE, BYTES, TUS, Tus, checksum

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
    ("path", "method"), [(BASE, "PUT"), (BASE, "PATCH"), ("upload", "PUT")]
)
def test_rule_20_other_methods_are_405_and_tell_which_are_allowed(
    tus: Tus, path: str, method: str
) -> None:
    target = tus.create(3) if path == "upload" else path
    response = tus.client.open(target, method=method, headers=TUS)
    assert response.status_code == 405
    assert "OPTIONS" in response.headers["Allow"]


def test_rule_39_every_answer_of_an_upload_that_will_expire_says_when(
    tus: Tus,
) -> None:
    created = tus.post(Upload_Length="9")
    url = created.headers["Location"]
    answers = [
        created,
        tus.head(url),
        tus.patch(url, 0, b"abc"),
        tus.patch(url, 0, b"abc"),
        tus.patch(url, 3, b"d", Upload_Checksum=checksum("sha1", b"x")),
    ]
    assert [a.status_code for a in answers] == [201, 200, 204, 409, 460]
    for answer in answers:
        assert answer.headers["Upload-Expires"].endswith(" GMT")


def test_rule_40_an_expired_upload_is_410_and_a_finished_one_does_not_expire(
    tus: Tus, tus_app: Flask
) -> None:
    url, finished = tus.create(3), tus.create(3)
    last = tus.patch(finished, 0, b"abc")
    assert "Upload-Expires" not in last.headers
    engine = registered(tus_app).engine
    now = engine.clock
    engine.clock = lambda: now() + timedelta(days=2)
    assert tus.head(url).status_code == 410
    assert tus.patch(url, 0, b"abc").status_code == 410
    assert tus.content(finished) == b"abc"


@pytest.mark.parametrize("body", [b"", b"ab", b"abc"], ids=["new", "part", "done"])
def test_rule_47_a_terminated_upload_is_gone_for_every_method(
    tus: Tus, tus_app: Flask, tmp_path: Path, body: bytes
) -> None:
    url = tus.create(3)
    tus.patch(url, 0, body)
    response = tus.delete(url)
    assert (response.status_code, response.data) == (204, b"")
    assert rows(tus_app) == []
    assert stored_files(tmp_path) == []
    assert tus.head(url).status_code == 404
    assert tus.patch(url, 0, b"abc").status_code == 404
    assert tus.delete(url).status_code == 404
    assert tus.client.get(url).status_code == 404
    assert tus.client.put(url, data=b"abc").status_code == 404


def test_rule_60_head_has_all_that_clients_test_for(tus: Tus) -> None:
    response = tus.head(tus.create(3))
    assert response.status_code == 200
    assert {"Upload-Offset", "Upload-Length"} <= set(response.headers.keys())


def test_rule_64_a_post_without_the_version_is_of_the_other_dialect(tus: Tus) -> None:
    response = tus.client.post(BASE, headers={"Upload-Length": "3"})
    assert response.status_code == 400
    assert response.json == {
        "detail": "No chunk file was submitted",
        "code": "chunk_missing",
    }
    assert tus.client.put(BASE, headers=BYTES, data=b"abc").status_code == 405
