"""tus: POST. Rules 21 to 28 and 34 to 38 of docs/tus.rst, by number."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from flask import Flask

from flask_chunked.engine.states import Status
from tests.apps import rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import BASE, BYTES, CHUNKED, TUS, Tus, checksum, metadata

# -- creation --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload_Length": "3", "Upload_Defer_Length": "1"},
        {"Upload_Defer_Length": "0"},
        {"Upload_Defer_Length": "2"},
        {"Upload_Defer_Length": "true"},
        {"Upload_Defer_Length": ""},
    ],
    ids=str,
)
def test_rules_21_and_22_a_creation_declares_its_length_or_defers_it(
    tus: Tus, tus_app: Flask, headers: dict[str, str]
) -> None:
    assert tus.post(**headers).status_code == 400
    assert rows(tus_app) == []


def test_rule_23_creation_answers_201_and_a_relative_location(tus: Tus) -> None:
    response = tus.post(Upload_Length="3")
    assert response.status_code == 201
    assert response.headers["Location"].startswith(BASE)
    assert tus.offset(response.headers["Location"]) == 0


@pytest.mark.parametrize(
    ("prefix", "given"),
    [("/<team>/up", {"team": "red"}), ("/uploads", {"lang": "en"})],
    ids=["in the path", "in the query"],
)
def test_rule_23_location_is_a_path_whatever_is_added_to_urls(
    app_factory: AppFactory, prefix: str, given: dict[str, str]
) -> None:
    app = app_factory(url_prefix=prefix)

    @app.url_defaults
    def add(_endpoint: str, values: dict[str, str]) -> None:
        values.update({name: given[name] for name in given if name not in values})

    base = prefix.replace("<team>", "red") + "/"
    tus = Tus(app.test_client(), base)
    response = tus.client.post(
        base, headers={**TUS, "Upload-Length": "3"}, base_url="http://localhost/x"
    )
    location = response.headers["Location"]
    assert location.startswith(f"/x{base}")
    assert "?" not in location
    assert tus.offset(location.removeprefix("/x")) == 0


def test_rule_23_above_the_limit_is_413(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_MAX_BYTES=10)
    tus = Tus(app.test_client())
    assert tus.post(Upload_Length="11").status_code == 413
    assert tus.post(Upload_Length="10").status_code == 201
    assert len(rows(app)) == 1


def test_rule_24_an_empty_file_is_complete_at_once(tus: Tus, tus_app: Flask) -> None:
    url = tus.create(0)
    assert tus.content(url) == b""
    assert rows(tus_app)[0].is_complete
    assert tus.head(url).headers["Upload-Offset"] == "0"


@pytest.mark.parametrize(
    "raw",
    ["", "k", "k ", "k,l", "k Zm9v,l", "k Zm9v, l Zm9v", "a.b-c_d! Zm9v", " k "],
)
def test_rules_25_to_27_metadata_is_echoed_as_it_came(tus: Tus, raw: str) -> None:
    url = tus.create(3, Upload_Metadata=raw)
    told = tus.head(url).headers.get("Upload-Metadata")
    assert told == (raw.strip() or None)


@pytest.mark.parametrize(
    "raw",
    [
        ",",
        "k,,l",
        "k Zm9v,k Zm9v",
        "k Zm9",
        "k Z$9v",
        "k Zm9v Zm9v",
        "k  Zm9v",
        "k\xe4 Zm9v",
        "\x7f Zm9v",
        "k " + "A" * 5000,
        ",".join(f"k{i}" for i in range(21)),
        "x" * 65,
    ],
)
def test_rules_25_and_26_bad_metadata_is_400_and_creates_nothing(
    tus: Tus, tus_app: Flask, raw: str
) -> None:
    assert tus.post(Upload_Length="3", Upload_Metadata=raw).status_code == 400
    assert rows(tus_app) == []


def test_rule_28_metadata_is_sanitised_before_it_is_used(
    tus: Tus, tus_app: Flask
) -> None:
    tus.create(3, Upload_Metadata=metadata(filename="../../e\r\nvil\x00.txt"))
    (row,) = rows(tus_app)
    assert row.filename == "evil.txt"


# -- creation-with-upload --------------------------------------------------------------


def test_rule_34_the_first_bytes_may_come_with_the_creation(tus: Tus) -> None:
    response = tus.post(b"abc", Upload_Length="6")
    assert response.status_code == 201
    assert response.headers["Upload-Offset"] == "3"
    url = response.headers["Location"]
    tus.patch(url, 3, b"def")
    assert tus.content(url) == b"abcdef"


def test_rule_35_a_body_of_another_type_is_ignored(tus: Tus) -> None:
    headers = {**TUS, "Upload-Length": "3", "Content-Type": "text/plain"}
    response = tus.client.post(BASE, headers=headers, data=b"abc")
    assert response.status_code == 201
    assert "Upload-Offset" not in response.headers
    assert tus.offset(response.headers["Location"]) == 0


def test_rule_36_a_body_longer_than_the_length_creates_nothing(
    tus: Tus, tus_app: Flask
) -> None:
    assert tus.post(b"abcd", Upload_Length="3").status_code == 413
    assert rows(tus_app) == []


@pytest.mark.parametrize("more", [{}, {"Upload-Checksum": checksum("md5", b"abcd")}])
def test_rule_36_a_body_without_a_length_that_does_not_fit_creates_nothing(
    tus: Tus, tus_app: Flask, tmp_path: Path, more: dict[str, str]
) -> None:
    response = tus.client.post(
        BASE,
        headers={**BYTES, "Upload-Length": "3", "Transfer-Encoding": "chunked", **more},
        input_stream=io.BytesIO(b"abcd"),
        environ_overrides=CHUNKED,
    )
    assert response.status_code == 413
    assert "Upload-Expires" not in response.headers
    assert rows(tus_app) == []
    assert stored_files(tmp_path) == []


def test_rule_37_a_checksum_counts_at_creation_too(tus: Tus, tus_app: Flask) -> None:
    wrong = checksum("md5", b"abd")
    response = tus.post(b"abc", Upload_Length="3", Upload_Checksum=wrong)
    assert response.status_code == 460
    assert rows(tus_app) == []
    right = checksum("md5", b"abc")
    response = tus.post(b"abc", Upload_Length="3", Upload_Checksum=right)
    assert tus.content(response.headers["Location"]) == b"abc"


def test_rule_38_a_whole_file_in_one_request_is_complete(
    tus: Tus, tus_app: Flask
) -> None:
    response = tus.post(b"abc", Upload_Length="3")
    assert response.headers["Upload-Offset"] == "3"
    assert rows(tus_app)[0].is_complete


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
