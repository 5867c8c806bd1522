"""Defects of drf-chunked-upload in what it answers: T6-T14, T16-T25, T27-T30, T38, T41.

T1 to T41 are the defects of version 0.6.0, and of similar packages, that this package
was written to avoid.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy

import flask_chunked
from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadMixin
from flask_chunked.exceptions import ConfigurationError
from tests.apps import make_app, registered, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.wire import (
    DATA,
    MD5,
    OCTETS,
    begin,
    contents,
    cut,
    md5,
    part,
    put,
    ready,
    resume,
    state,
    told,
)


def offsets(expected: int, provided: int) -> tuple[int, dict[str, object]]:
    """The answer to a chunk in the wrong place."""
    return 400, {
        "detail": "Offsets do not match",
        "expected_offset": expected,
        "provided_offset": provided,
    }


# -- ranges and totals -----------------------------------------------------------------


def test_t06_end_equal_to_the_total_is_refused(app: Flask, client: FlaskClient) -> None:
    answer = put(client, "/uploads/", DATA + b"!", "bytes 0-10/10")
    detail = "End of chunk exceeds reported total (10 bytes)"
    assert told(answer) == (400, {"detail": detail})
    assert rows(app) == []


def test_t07_first_chunk_starts_at_zero(app: Flask, client: FlaskClient) -> None:
    answer = put(client, "/uploads/", DATA, "bytes 50-59/100")
    assert told(answer) == offsets(0, 50)
    assert rows(app) == []


def test_t08_ten_of_a_hundred_bytes_do_not_complete(client: FlaskClient) -> None:
    url = put(client, "/uploads/", DATA, "bytes 0-9/100").get_json()["url"]
    detail = "Upload is incomplete: 10 of 100 bytes received"
    assert told(client.post(url, data={"md5": MD5})) == (400, {"detail": detail})


def test_t09_total_does_not_change(client: FlaskClient) -> None:
    url = put(client, "/uploads/", DATA, "bytes 0-9/20").get_json()["url"]
    answer = put(client, url, DATA, "bytes 10-19/999")
    detail = "Total of the upload is 20 bytes but 999 reported"
    assert told(answer) == (400, {"detail": detail})
    assert client.head(url).headers["Upload-Length"] == "20"


def test_t09_limit_holds_for_the_whole_life(app_factory: AppFactory) -> None:
    client = app_factory(CHUNKED_UPLOAD_MAX_BYTES=12).test_client()
    url = begin(client)
    for total, detail in (
        (15, "Size of file exceeds the limit (12 bytes)"),
        (12, "Total of the upload is 10 bytes but 12 reported"),
    ):
        answer = put(client, url, DATA[5:], f"bytes 5-9/{total}")
        assert told(answer) == (400, {"detail": detail})


def test_t10_size_is_checked_where_checksums_are_not(app_factory: AppFactory) -> None:
    class Unchecked(ChunkedUploadBlueprint):
        do_checksum_check = False

    client = app_factory(blueprint_class=Unchecked).test_client()
    detail = "Upload is incomplete: 5 of 10 bytes received"
    assert told(client.post(begin(client))) == (400, {"detail": detail})


# -- lost answers ----------------------------------------------------------------------


@pytest.mark.parametrize("digest", [{}, {"md5": "wrong"}])
def test_t11_failed_whole_file_leaves_nothing(
    app: Flask, client: FlaskClient, tmp_path: Path, digest: dict[str, str]
) -> None:
    answer = client.post("/uploads/", data={"file": part(DATA), **digest})
    assert answer.status_code == 400
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_t12_upload_whose_first_answer_was_lost_is_in_the_list(
    app_factory: AppFactory,
) -> None:
    class Known(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return "anna"

    client = app_factory(blueprint_class=Known).test_client()
    put(client, "/uploads/?filename=lost.bin", DATA[:5], "bytes 0-4/10")
    (found,) = client.get("/uploads/").get_json()
    assert (found["filename"], found["offset"]) == ("lost.bin", 5)
    resume(client, found["url"])


def test_t13_repeated_completion_gets_the_same_200(client: FlaskClient) -> None:
    url = ready(client)
    first = client.post(url, data={"md5": MD5})
    assert state(first) == (200, 2, 10)
    assert told(client.post(url, data={"md5": MD5})) == told(first)


@pytest.mark.parametrize("raw", [False, True], ids=["form", "raw"])
def test_t14_repeated_chunk_gets_200_and_another_one_the_offsets(
    client: FlaskClient, raw: bool
) -> None:
    url = begin(client)
    first = put(client, url, DATA[5:7], "bytes 5-6/10", raw=raw)
    assert told(put(client, url, DATA[5:7], "bytes 5-6/10", raw=raw)) == told(first)
    answer = put(client, url, b"XX", "bytes 5-6/10", raw=raw)
    assert told(answer) == offsets(7, 5)


# -- digests ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_carried_on", [True, False])
def test_t16_file_is_read_at_most_once_and_not_again_for_a_repeat(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, is_carried_on: bool
) -> None:
    hashed: list[int] = []
    real = hashlib.new

    class Counting:
        def __init__(self, name: str) -> None:
            self._hash = real(name)

        def update(self, block: Any) -> None:
            hashed.append(len(block))
            self._hash.update(block)

        def hexdigest(self) -> str:
            return self._hash.hexdigest()

    url = ready(client)
    monkeypatch.setattr("flask_chunked.engine.complete.hashlib.new", Counting)
    if not is_carried_on:
        # A worker that cannot read the digest state of another one.
        monkeypatch.setattr("flask_chunked.engine.complete.resume", lambda *_: None)
    for _ in range(3):
        assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)
    assert sum(hashed) == (0 if is_carried_on else len(DATA))


def test_t17_no_property_takes_an_argument() -> None:
    found = []
    for info in pkgutil.walk_packages(flask_chunked.__path__, "flask_chunked."):
        module = importlib.import_module(info.name)
        for _, owner in inspect.getmembers(module, inspect.isclass):
            for name, value in vars(owner).items():
                if isinstance(value, property) and value.fget is not None:
                    found.append(f"{owner.__name__}.{name}")
                    assert len(inspect.signature(value.fget).parameters) == 1, name
    assert "Upload.is_complete" in found


def test_t18_digest_in_capital_letters_is_accepted(client: FlaskClient) -> None:
    answer = client.post(ready(client), data={"md5": MD5.upper()})
    assert state(answer) == (200, 2, 10)


@pytest.mark.parametrize("name", ["shake_128", "shake_256", "md6", ""])
def test_t19_digest_without_a_length_is_a_start_up_error(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigurationError, match="CHUNKED_UPLOAD_CHECKSUM"):
        make_app(tmp_path, CHUNKED_UPLOAD_CHECKSUM=name)


# -- what was a 500 --------------------------------------------------------------------


def test_t20_empty_file_completes(client: FlaskClient, tmp_path: Path) -> None:
    whole = client.post("/uploads/", data={"file": part(b""), "md5": md5(b"")})
    assert state(whole) == (200, 2, 0)
    created = put(client, "/uploads/", b"", "bytes */0")
    assert state(created) == (200, 1, 0)
    done = client.post(created.get_json()["url"], data={"md5": md5(b"")})
    assert state(done) == (200, 2, 0)
    assert contents(tmp_path) == [(".done", b"")] * 2


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_t21_file_sent_as_text_is_reported(client: FlaskClient, method: str) -> None:
    answer = client.open(
        "/uploads/",
        method=method,
        data={"file": "0123456789", "md5": MD5},
        headers={"Content-Range": "bytes 0-9/10"} if method == "PUT" else {},
        content_type="multipart/form-data",
    )
    assert told(answer) == (400, {"detail": "No chunk file was submitted"})


@pytest.mark.parametrize(
    "total",
    ["9" * 5000, str(10**30), str(2**63), "\u0661\u0660"],
    ids=["5,000 digits", "10^30", "2^63", "unicode digits"],
)
def test_t22_numbers_are_ascii_and_have_64_bits(
    client: FlaskClient, total: str
) -> None:
    value = f"bytes 0-4/{total}".encode().decode("latin-1")
    answer = put(client, "/uploads/", DATA[:5], value)
    assert answer.status_code == 400
    assert answer.get_json()["detail"] == "Error in request headers"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_t23_malformed_id_is_unknown(client: FlaskClient, method: str) -> None:
    answer = client.open("/uploads/not-a-uuid", method=method, data={"md5": MD5})
    if method == "PUT":
        answer = put(client, "/uploads/not-a-uuid", DATA, "bytes 0-9/10")
    assert told(answer) == (404, {"detail": "Not found."})


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\r\nSet-Cookie: x=1", "aSet-Cookie: x=1"),
        ("nul\0byte", "nulbyte"),
        ("../..", "upload"),
        ("<script>", "<script>"),
    ],
)
def test_t24_filename_is_data_and_never_a_path(
    app_factory: AppFactory, tmp_path: Path, sent: str, shown: str
) -> None:
    client = app_factory(CHUNKED_UPLOAD_DOWNLOADS=True).test_client()
    answer = client.post(
        "/uploads/", data={"file": part(DATA), "filename": sent, "md5": MD5}
    )
    body = answer.get_json()
    assert body["filename"] == shown
    assert answer.content_type == "application/json"
    (file,) = stored_files(tmp_path)
    assert file.name == f"{body['id']}.done"
    with client.get(body["file"]) as content:
        assert "\n" not in content.headers["Content-Disposition"]
        assert content.headers["Content-Type"] == OCTETS


# -- ends, owners, lists ---------------------------------------------------------------


def test_t25_delete_frees_the_bytes_and_may_be_repeated(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    url = begin(client)
    assert client.delete(url).status_code == 204
    assert told(client.delete(url)) == (404, {"detail": "Not found."})
    assert (rows(app), stored_files(tmp_path)) == ([], [])


@pytest.mark.local_disk
def test_t27_no_path_is_shown_and_files_are_private(
    client: FlaskClient, tmp_path: Path
) -> None:
    answer = client.get(begin(client))
    assert answer.get_json()["file"] is None
    assert b".part" not in answer.data and b"chunked_uploads" not in answer.data
    (file,) = stored_files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    for directory in list(file.parents)[:4]:
        assert directory.stat().st_mode & 0o777 == 0o700, directory


def test_t28_model_without_the_owner_field_is_a_start_up_error(tmp_path: Path) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    class Videos(ChunkedUploadBlueprint):
        user_field_name = "author"

    with pytest.raises(ConfigurationError, match="'author' is no column of model"):
        make_app(tmp_path, blueprint_class=Videos, model=Video, db=db)


def test_t28_unknown_owner_is_an_error_that_names_the_ways_out(
    app_factory: AppFactory,
) -> None:
    app = app_factory(CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False)
    with pytest.raises(RuntimeError, match=r"Flask-Login.*get_user_id.*ANONYMOUS"):
        app.test_client().get("/uploads/")


def test_t29_anonymous_upload_is_created_continued_and_finished(
    client: FlaskClient, tmp_path: Path
) -> None:
    url = begin(client)
    assert client.get(url).get_json()["user"] is None
    resume(client, url)
    assert told(client.get("/uploads/?status=all")) == (200, [])
    assert contents(tmp_path) == [(".done", DATA)]


def test_t30_list_is_paged_and_has_the_open_ones(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_USER_RESTRICTED=False)
    client = app.test_client()
    resume(client, begin(client))
    pending = [begin(client) for _ in range(3)]
    assert [one["url"] for one in client.get("/uploads/").get_json()] == pending
    assert len(client.get("/uploads/?status=all").get_json()) == 4
    page = client.get("/uploads/?per_page=2")
    assert len(page.get_json()) == 2
    assert 'rel="next"' in page.headers["Link"]


# -- configuration and counting --------------------------------------------------------


def test_t38_settings_are_read_for_each_app(app_factory: AppFactory) -> None:
    first = app_factory(CHUNKED_UPLOAD_MAX_BYTES=5)
    second = app_factory(CHUNKED_UPLOAD_MAX_BYTES=50)
    for app, status in ((first, 400), (second, 200), (first, 400)):
        answer = put(app.test_client(), "/uploads/", DATA[:5], "bytes 0-4/10")
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("CHUNKED_UPLOAD_USER_RESTRICED", "CHUNKED_UPLOAD_USER_RESTRICTED"),
        ("CHUNKED_UPLOAD_MAXBYTES", "CHUNKED_UPLOAD_MAX_BYTES"),
    ],
)
def test_t38_misspelt_key_is_a_start_up_error(
    tmp_path: Path, key: str, meant: str
) -> None:
    config: dict[str, Any] = {key: True}
    with pytest.raises(ConfigurationError, match=f"{key}.*{meant}"):
        make_app(tmp_path, **config)


def test_t41_offset_counts_bytes_and_believes_no_header(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    url = begin(client)
    answer = client.put(
        url,
        headers={"Content-Range": "bytes 5-9/10"},
        content_type=OCTETS,
        environ_overrides=cut(DATA[5:8], announced=5),
    )
    assert answer.status_code == 400
    upload = registered(app).repository.get(UUID(url.rpartition("/")[2]))
    assert upload is not None and upload.offset == 8
    assert contents(tmp_path) == [(".part", DATA[:8])]
    resume(client, url)
