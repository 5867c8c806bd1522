"""Where bytes may come to lie, who may read them, and what an error shows.

Rows 6, 7 and 30 of the security checklist, over HTTP. The storage by itself (keys,
links, FIFOs, every umask) is in tests/storage/local/; names that look like paths
are in test_bad_input.py; headers of downloads in
tests/dialects/test_downloads.py; that answers name no file in
tests/dialects/test_content_range_bodies.py.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from flask import Flask, got_request_exception
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from werkzeug.test import TestResponse

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.engine.records import Upload
from flask_chunked.maintenance import check
from tests.apps import dispose, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.faults import database_failing
from tests.dialects.wire import (
    DATA,
    MD5,
    begin,
    part,
    put,
    ready,
    state,
    told,
)
from tests.security.site import shown

SECRET = b"not for strangers"
UNAVAILABLE = (503, {"detail": "Storage is not available"})


def send_raw(client: FlaskClient) -> TestResponse:
    answer: TestResponse = put(client, "/uploads/", DATA[:5], "bytes 0-4/10")
    return answer


def send_form(client: FlaskClient) -> TestResponse:
    answer: TestResponse = put(client, "/uploads/", DATA, "bytes 0-9/10", raw=False)
    return answer


def send_whole(client: FlaskClient) -> TestResponse:
    return client.post("/uploads/", data={"file": part(DATA), "md5": MD5})


WAYS = pytest.mark.parametrize(
    "send", [send_raw, send_form, send_whole], ids=["raw", "form", "whole"]
)


# -- row 6: links that were there before us --------------------------------------------


class Planted(ChunkedUploadBlueprint):
    """Somebody knows the id before the first byte comes, and plants something."""

    plant: ClassVar[Callable[[Upload], None]]

    def validate(self, upload: Upload) -> None:
        type(self).plant(upload)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory outside the root, with a file that nobody may read or write."""
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "secret").write_bytes(SECRET)
    return directory


def inside(victim: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in victim.iterdir()}


def repair(app: Flask) -> None:
    with app.app_context():
        check(repair=True)


#: What is planted -> (where, from the file's own name upwards; what it leads to).
LINKS = {
    "to a file": (0, "secret"),
    "to no file yet": (0, "new"),
    "to a directory": (0, ""),
    "day to a directory": (1, ""),
    "year to a directory": (3, ""),
}


@WAYS
@pytest.mark.parametrize(("up", "target"), LINKS.values(), ids=LINKS)
def test_row_06_planted_link_is_refused_and_nothing_goes_through_it(
    app_factory: AppFactory,
    tmp_path: Path,
    victim: Path,
    monkeypatch: pytest.MonkeyPatch,
    up: int,
    target: str,
    send: Callable[[FlaskClient], TestResponse],
) -> None:
    links: list[Path] = []

    def plant(upload: Upload) -> None:
        file = tmp_path / "instance/chunked_uploads" / f"{upload.storage_key}.part"
        link = [file, *file.parents][up]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(victim / target)
        links.append(link)

    monkeypatch.setattr(Planted, "plant", staticmethod(plant), raising=False)
    app = app_factory(blueprint_class=Planted)
    client = app.test_client()
    answer = send(client)
    assert told(answer) == UNAVAILABLE
    assert shown(answer, tmp_path) and answer.headers["Retry-After"]
    assert inside(victim) == {"secret": SECRET}
    # What was there before us is not ours to remove.
    assert [file for file in stored_files(tmp_path) if file not in links] == []
    assert client.get("/uploads/?status=all").get_json() == []
    # A directory that is somebody's keeps us from making sure that nothing is there;
    # the record that says so goes with the repair, once the link is gone.
    if up:
        links[0].unlink()
        repair(app)
    assert rows(app) == []


def test_row_06_link_in_the_place_of_the_stages_is_refused(
    app: Flask, client: FlaskClient, tmp_path: Path, victim: Path
) -> None:
    root = tmp_path / "instance/chunked_uploads"
    root.mkdir(parents=True)
    (root / ".staging").symlink_to(victim)
    for send in (send_raw, send_form, send_whole):
        assert told(send(client)) == UNAVAILABLE
    assert inside(victim) == {"secret": SECRET}
    assert (rows(app), stored_files(tmp_path)) == ([], [])


STEPS: dict[str, Callable[[FlaskClient, str], TestResponse]] = {
    "append raw": lambda c, url: put(c, url, DATA[5:], "bytes 5-9/10"),
    "append form": lambda c, url: put(c, url, DATA[5:], "bytes 5-9/10", raw=False),
    "complete": lambda c, url: c.post(url, data={"md5": MD5}),
    "download": lambda c, url: c.get(f"{url}/file"),
    "download head": lambda c, url: c.head(f"{url}/file"),
}


@pytest.mark.parametrize("step", STEPS)
def test_row_06_file_that_became_a_link_is_neither_read_nor_written(
    app_factory: AppFactory, tmp_path: Path, victim: Path, step: str
) -> None:
    app = app_factory(CHUNKED_UPLOAD_DOWNLOADS=True)
    client = app.test_client()
    url = begin(client) if step.startswith("append") else ready(client)
    if step.startswith("download"):
        assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)
    (file,) = stored_files(tmp_path)
    # The very same bytes: only that they are elsewhere is wrong.
    secret = victim / "secret"
    secret.write_bytes(file.read_bytes())
    held = secret.read_bytes()
    file.unlink()
    file.symlink_to(secret)
    offset = rows(app)[0].offset
    answer = STEPS[step](client, url)
    if step == "download head":
        assert (answer.status_code, answer.data) == (503, b"")
    else:
        assert told(answer) == UNAVAILABLE
        assert shown(answer, tmp_path)
    assert inside(victim) == {"secret": held}
    assert file.is_symlink()
    assert rows(app)[0].offset == offset
    assert client.delete(url).status_code == 204
    assert inside(victim) == {"secret": held}
    assert not file.is_symlink()


# -- row 7: modes ----------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277], ids=oct)
@WAYS
def test_row_07_only_the_server_may_read_whatever_the_umask(
    client: FlaskClient,
    tmp_path: Path,
    mask: int,
    send: Callable[[FlaskClient], TestResponse],
) -> None:
    (tmp_path / "instance").mkdir()
    before = os.umask(mask)
    try:
        answer = send(client)
    finally:
        os.umask(before)
    assert answer.status_code == 200
    found = {
        path: path.stat().st_mode
        for path in (tmp_path / "instance").rglob("*")
        if path != tmp_path / "instance"
    }
    modes = {stat.S_IMODE(mode) for mode in found.values() if stat.S_ISDIR(mode)}
    assert modes == {0o700}
    modes = {stat.S_IMODE(mode) for mode in found.values() if stat.S_ISREG(mode)}
    assert modes == {0o600}


@pytest.mark.parametrize(
    ("below", "warns"),
    [("static", True), ("static/a/b/%Y", True), ("link/a", True), ("statics", False)],
)
def test_row_07_uploads_in_the_static_folder_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, below: str, warns: bool
) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "static")
    app = Flask("tests", instance_path=str(tmp_path), static_folder=tmp_path / "static")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/app.db"
    app.config["CHUNKED_UPLOAD_PATH"] = f"{tmp_path}/{below}"
    SQLAlchemy(app)
    app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))
    told = [record.message for record in caplog.records]
    assert [message[:35] for message in told] == (
        ["uploads of 'uploads' lie below the "] if warns else []
    )
    dispose(app)


# -- row 30: errors --------------------------------------------------------------------


class Fails(Exception):
    """An application's own error, full of what is nobody's business."""

    def __init__(self) -> None:
        super().__init__("SELECT password FROM users -- /srv/app/secret.py")


def failing(*args: object) -> Any:
    raise Fails


HOOKS: dict[str, Callable[[FlaskClient], TestResponse]] = {
    "get_user_id": lambda c: c.get("/uploads/"),
    "get_max_bytes": send_raw,
    "get_query": lambda c: c.get("/uploads/"),
    "authorize": send_raw,
    "validate": send_form,
    "inspect": send_whole,
    "verify": send_whole,
    "on_completion": send_whole,
}


@pytest.mark.parametrize("hook", HOOKS)
def test_row_30_unexpected_error_of_a_hook_is_a_500_that_shows_nothing(
    app_factory: AppFactory, tmp_path: Path, hook: str
) -> None:
    policy = type("Uploads", (ChunkedUploadBlueprint,), {hook: failing})
    app = app_factory(blueprint_class=policy, TESTING=False)
    announced: list[BaseException] = []

    def note(sender: Flask, exception: BaseException, **extra: object) -> None:
        announced.append(exception)

    with got_request_exception.connected_to(note, app):
        answer = HOOKS[hook](app.test_client())
    assert told(answer) == (500, {"detail": "Internal Server Error"})
    assert shown(answer, tmp_path)
    # What watches an application for errors still sees this one.
    assert [type(error) for error in announced] == [Fails]
    left = 1 if hook == "on_completion" else 0
    assert len(stored_files(tmp_path)) == left


def test_row_30_unexpected_error_is_logged_in_full(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    policy = type("Uploads", (ChunkedUploadBlueprint,), {"validate": failing})
    app = app_factory(blueprint_class=policy, TESTING=False)
    send_raw(app.test_client())
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.exc_info is not None and record.exc_info[0] is Fails


def test_row_30_unexpected_error_is_told_in_the_clients_dialect(
    app_factory: AppFactory,
) -> None:
    policy = type("Uploads", (ChunkedUploadBlueprint,), {"validate": failing})
    app = app_factory(
        blueprint_class=policy,
        TESTING=False,
        CHUNKED_UPLOAD_CORS_ORIGINS="https://a.example",
    )
    answer = app.test_client().post(
        "/uploads/",
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "5",
            "Origin": "https://a.example",
        },
    )
    assert (answer.status_code, answer.data) == (500, b"Internal Server Error\n")
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"


def test_row_30_handlers_that_answer_people_do_not_answer_a_client(
    app_factory: AppFactory,
) -> None:
    policy = type("Uploads", (ChunkedUploadBlueprint,), {"validate": failing})
    app = app_factory(blueprint_class=policy, TESTING=False)

    @app.errorhandler(Fails)
    def ours(error: Fails) -> tuple[str, int]:
        return "ours", 418

    answer = send_raw(app.test_client())
    assert told(answer) == (500, {"detail": "Internal Server Error"})


def test_row_30_other_views_keep_their_own_errors(app_factory: AppFactory) -> None:
    app = app_factory(TESTING=False)
    app.add_url_rule("/page", view_func=failing)
    answer = app.test_client().get("/page")
    assert (answer.status_code, answer.mimetype) == (500, "text/html")


@pytest.mark.parametrize(
    ("words", "url", "data", "chunk"),
    [
        ("INSERT", "/uploads/", DATA[:5], "bytes 0-4/10"),
        ("SELECT", None, DATA[5:], "bytes 5-9/10"),
        ("UPDATE", None, DATA[5:], "bytes 5-9/10"),
    ],
)
def test_row_30_lost_database_is_a_503_without_its_statements(
    app: Flask,
    client: FlaskClient,
    tmp_path: Path,
    words: str,
    url: str | None,
    data: bytes,
    chunk: str,
) -> None:
    url = url or send_raw(client).get_json()["url"]
    with database_failing(app, words):
        answer = put(client, url, data, chunk)
    assert told(answer) == (503, {"detail": "Database is not available"})
    assert shown(answer, tmp_path)


@WAYS
def test_row_30_root_that_is_no_directory_is_a_503_without_its_place(
    app: Flask,
    client: FlaskClient,
    tmp_path: Path,
    send: Callable[[FlaskClient], TestResponse],
) -> None:
    (tmp_path / "instance").write_bytes(b"")
    answer = send(client)
    assert told(answer) == UNAVAILABLE
    assert shown(answer, tmp_path)
    assert client.get("/uploads/?status=all").get_json() == []
    (tmp_path / "instance").unlink()
    repair(app)
    assert rows(app) == []
