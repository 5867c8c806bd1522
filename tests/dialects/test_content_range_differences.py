"""Deliberate differences from drf-chunked-upload, one test for each sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError
from tests.apps import rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, md5, part, state, told


def put(
    client: FlaskClient, url: str, data: bytes, value: str, *, raw: bool = False
) -> Any:
    """A chunk, as a form or as the body."""
    return client.put(
        url,
        data=data if raw else {"file": part(data)},
        headers={"Content-Range": value},
        content_type=OCTETS if raw else None,
    )


@pytest.fixture(params=["form", "raw"])
def raw(request: pytest.FixtureRequest) -> bool:
    """Chunks as forms, then as bodies."""
    return bool(request.param == "raw")


@pytest.fixture
def url(client: FlaskClient, raw: bool) -> str:
    """An upload that has five of ten bytes."""
    answer = put(client, "/uploads/", DATA[:5], "bytes 0-4/10", raw=raw)
    return str(answer.get_json()["url"])


# -- totals and starts -----------------------------------------------------------------


def test_end_equal_to_the_total_is_refused(
    app: Flask, client: FlaskClient, raw: bool
) -> None:
    answer = put(client, "/uploads/", DATA + b"!", "bytes 0-10/10", raw=raw)
    detail = "End of chunk exceeds reported total (10 bytes)"
    assert told(answer) == (400, {"detail": detail})
    assert rows(app) == []


@pytest.mark.parametrize("total", [11, 100, 999_999])
def test_total_may_not_change(
    client: FlaskClient, url: str, raw: bool, total: int
) -> None:
    answer = put(client, url, DATA[5:], f"bytes 5-9/{total}", raw=raw)
    detail = f"Total of the upload is 10 bytes but {total} reported"
    assert told(answer) == (400, {"detail": detail})
    assert state(client.get(url)) == (200, 1, 5)


def test_first_chunk_must_start_at_zero(
    app: Flask, client: FlaskClient, raw: bool
) -> None:
    answer = put(client, "/uploads/", DATA[5:], "bytes 5-9/10", raw=raw)
    assert told(answer) == (
        400,
        {"detail": "Offsets do not match", "expected_offset": 0, "provided_offset": 5},
    )
    assert rows(app) == []


# -- completion ------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [MD5, md5(DATA[:5]), "wrong"])
def test_completion_needs_all_bytes_whatever_the_checksum(
    client: FlaskClient, url: str, digest: str
) -> None:
    answer = client.post(url, data={"md5": digest})
    detail = "Upload is incomplete: 5 of 10 bytes received"
    assert told(answer) == (400, {"detail": detail})
    assert state(put(client, url, DATA[5:], "bytes 5-9/10")) == (200, 1, 10)


def test_completion_needs_all_bytes_where_checksums_are_off(
    app_factory: AppFactory,
) -> None:
    class Unchecked(ChunkedUploadBlueprint):
        do_checksum_check = False

    client = app_factory(blueprint_class=Unchecked).test_client()
    url = put(client, "/uploads/", DATA[:5], "bytes 0-4/10").get_json()["url"]
    detail = "Upload is incomplete: 5 of 10 bytes received"
    assert told(client.post(url)) == (400, {"detail": detail})
    put(client, url, DATA[5:], "bytes 5-9/10")
    assert state(client.post(url)) == (200, 2, 10)


def test_repeated_completion_gets_the_same_answer(
    client: FlaskClient, url: str
) -> None:
    put(client, url, DATA[5:], "bytes 5-9/10")
    first = client.post(url, data={"md5": MD5})
    assert told(client.post(url, data={"md5": MD5})) == told(first)
    assert told(client.post(url, data={"md5": MD5.upper()})) == told(first)


def test_repeated_completion_with_another_digest_is_refused(
    client: FlaskClient, url: str
) -> None:
    put(client, url, DATA[5:], "bytes 5-9/10")
    client.post(url, data={"md5": MD5})
    answer = client.post(url, data={"md5": md5(b"other")})
    assert told(answer) == (400, {"detail": "checksum does not match"})
    assert state(client.get(url)) == (200, 2, 10)


# -- repeats of the last chunk ---------------------------------------------------------


def test_last_chunk_again_gets_the_current_state(
    client: FlaskClient, url: str, raw: bool, tmp_path: Path
) -> None:
    second = put(client, url, DATA[5:7], "bytes 5-6/10", raw=raw)
    again = put(client, url, DATA[5:7], "bytes 5-6/10", raw=raw)
    assert told(again) == told(second)
    assert again.headers["Range"] == "bytes=0-6"
    assert stored_files(tmp_path)[0].read_bytes() == DATA[:7]


def test_last_chunk_again_as_the_other_kind_of_body(
    client: FlaskClient, url: str, raw: bool
) -> None:
    put(client, url, DATA[5:7], "bytes 5-6/10", raw=raw)
    again = put(client, url, DATA[5:7], "bytes 5-6/10", raw=not raw)
    assert state(again) == (200, 1, 7)


def test_last_chunk_again_after_completion(
    client: FlaskClient, url: str, raw: bool
) -> None:
    put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)
    done = client.post(url, data={"md5": MD5})
    again = put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)
    assert told(again) == told(done)


def test_other_bytes_in_the_last_range_are_a_conflict(
    client: FlaskClient, url: str, raw: bool, tmp_path: Path
) -> None:
    put(client, url, DATA[5:7], "bytes 5-6/10", raw=raw)
    answer = put(client, url, b"XX", "bytes 5-6/10", raw=raw)
    assert told(answer) == (
        400,
        {"detail": "Offsets do not match", "expected_offset": 7, "provided_offset": 5},
    )
    assert stored_files(tmp_path)[0].read_bytes() == DATA[:7]


def test_repeat_with_another_total_is_refused(
    client: FlaskClient, url: str, raw: bool
) -> None:
    answer = put(client, url, DATA[:5], "bytes 0-4/11", raw=raw)
    detail = "Total of the upload is 10 bytes but 11 reported"
    assert told(answer) == (400, {"detail": detail})


def test_only_the_very_last_chunk_may_be_repeated(
    client: FlaskClient, url: str, raw: bool
) -> None:
    put(client, url, DATA[5:7], "bytes 5-6/10", raw=raw)
    for data, value in ((DATA[:5], "bytes 0-4/10"), (DATA[:7], "bytes 0-6/10")):
        assert put(client, url, data, value, raw=raw).get_json() == {
            "detail": "Offsets do not match",
            "code": "offset_mismatch",
            "expected_offset": 7,
            "provided_offset": 0,
        }


# -- whole files, digests, empty files -------------------------------------------------


class Picky(ChunkedUploadBlueprint):
    """Refuses at the step that the file's name says."""

    def validate(self, upload: Any) -> None:
        if upload.filename == "validate":
            raise ChunkedUploadError("not this name")

    def inspect(self, upload: Any, head: bytes) -> None:
        if upload.filename == "inspect":
            raise ChunkedUploadError("not these bytes")

    def verify(self, upload: Any) -> None:
        if upload.filename == "verify":
            raise ChunkedUploadError("not this content")
        if upload.filename == "broken":
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("name", "fields", "detail"),
    [
        ("a", {"md5": md5(b"other")}, "checksum does not match"),
        ("a", {}, "Checksum of type 'md5' is required"),
        ("validate", {"md5": MD5}, "not this name"),
        ("inspect", {"md5": MD5}, "not these bytes"),
        ("verify", {"md5": MD5}, "not this content"),
    ],
    ids=["wrong checksum", "no checksum", "validate", "inspect", "verify"],
)
def test_failed_whole_file_leaves_nothing(
    app_factory: AppFactory,
    tmp_path: Path,
    name: str,
    fields: dict[str, str],
    detail: str,
) -> None:
    app = app_factory(blueprint_class=Picky)
    form = {"file": part(DATA, name), **fields}
    answer = app.test_client().post("/uploads/", data=form)
    assert told(answer) == (400, {"detail": detail})
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_whole_file_whose_hook_is_broken_leaves_nothing(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    app = app_factory(blueprint_class=Picky)
    with pytest.raises(ZeroDivisionError):
        app.test_client().post(
            "/uploads/", data={"file": part(DATA, "broken"), "md5": MD5}
        )
    assert (rows(app), stored_files(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    "digest", [MD5.upper(), MD5.title(), f" {MD5}\n"], ids=["upper", "mixed", "blanks"]
)
def test_hex_digests_compare_whatever_the_case(
    client: FlaskClient, digest: str
) -> None:
    form = {"file": part(DATA), "md5": digest}
    assert state(client.post("/uploads/", data=form)) == (200, 2, 10)


def test_digests_are_compared_in_constant_time(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[object] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return left == right

    monkeypatch.setattr("hmac.compare_digest", compare)
    client.post("/uploads/", data={"file": part(DATA), "md5": MD5})
    assert compared == [(MD5.encode(), MD5.encode())]


def test_empty_file_at_once(client: FlaskClient, tmp_path: Path) -> None:
    answer = client.post("/uploads/", data={"file": part(b"", "e"), "md5": md5(b"")})
    assert state(answer) == (200, 2, 0)
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [b""]


def test_empty_file_by_put(client: FlaskClient, raw: bool, tmp_path: Path) -> None:
    answer = put(client, "/uploads/", b"", "bytes */0", raw=raw)
    assert state(answer) == (200, 1, 0)
    assert "Range" not in answer.headers
    url = answer.get_json()["url"]
    assert state(put(client, url, b"", "bytes */0", raw=raw)) == (200, 1, 0)
    assert state(client.post(url, data={"md5": md5(b"")})) == (200, 2, 0)
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [b""]
