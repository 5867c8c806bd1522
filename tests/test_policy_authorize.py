"""``authorize``: every action is asked with its upload and refused with 403."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    Upload,
)

from .apps import registered, rows
from .conftest import AppFactory
from .exchange import (
    begin,
    content_range,
    detail,
    finish,
    md5,
    post_whole,
    put_form,
    put_raw,
)

REFUSED = "You do not have permission to perform this action."


class Guarded(ChunkedUploadBlueprint):
    """Records the actions, and refuses those in ``refused``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[tuple[str, Upload | None]] = []
        self.refused: set[str] = set()

    def authorize(self, action: str, upload: Upload | None) -> bool:
        self.asked.append((action, upload))
        return action not in self.refused


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(blueprint_class=Guarded, CHUNKED_UPLOAD_DOWNLOADS=True)


@pytest.fixture
def guard(app: Flask) -> Guarded:
    blueprint = registered(app).policy
    assert isinstance(blueprint, Guarded)
    return blueprint


Act = Callable[[FlaskClient, str], TestResponse]


def _post_chunk(client: FlaskClient, url: str) -> TestResponse:
    return client.post(
        "/uploads/",
        data={"file": (io.BytesIO(b"def"), "a"), "upload_id": url.rpartition("/")[2]},
        headers={"Content-Range": content_range(b"def", 3, 6)},
    )


def _post_completion(client: FlaskClient, url: str) -> TestResponse:
    fields = {"upload_id": url.rpartition("/")[2], "md5": md5(b"abcdef")}
    return client.post("/uploads/", data=fields)


#: id -> (bytes there of 6, complete?, action asked, request)
CASES: dict[str, tuple[bytes, bool, str, Act]] = {
    "list": (b"abc", False, "list", lambda c, url: c.get("/uploads/")),
    "list-head": (b"abc", False, "list", lambda c, url: c.head("/uploads/")),
    "read": (b"abc", False, "read", lambda c, url: c.get(url)),
    "head": (b"abc", False, "read", lambda c, url: c.head(url)),
    "create-raw": (b"abc", False, "create", lambda c, url: put_raw(c, b"x")),
    "create-form": (b"abc", False, "create", lambda c, url: put_form(c, b"x")),
    "create-whole": (b"abc", False, "create", lambda c, url: post_whole(c, b"x")),
    "append-raw": (
        b"abc",
        False,
        "append",
        lambda c, url: put_raw(c, b"def", start=3, url=url),
    ),
    "append-form": (
        b"abc",
        False,
        "append",
        lambda c, url: put_form(c, b"def", start=3, url=url),
    ),
    "append-post": (b"abc", False, "append", _post_chunk),
    "repeat": (
        b"abc",
        False,
        "append",
        lambda c, url: put_raw(c, b"abc", total=6, url=url),
    ),
    "complete": (b"abcdef", False, "complete", lambda c, u: finish(c, u, b"abcdef")),
    "complete-post": (b"abcdef", False, "complete", _post_completion),
    "complete-again": (
        b"abcdef",
        True,
        "complete",
        lambda c, url: finish(c, url, b"abcdef"),
    ),
    "terminate": (b"abc", False, "terminate", lambda c, url: c.delete(url)),
    "delete": (b"abcdef", True, "delete", lambda c, url: c.delete(url)),
    "download": (b"abcdef", True, "download", lambda c, url: c.get(f"{url}/file")),
    "download-head": (
        b"abcdef",
        True,
        "download",
        lambda c, url: c.head(f"{url}/file"),
    ),
}


@pytest.mark.parametrize(("there", "done", "action", "act"), CASES.values(), ids=CASES)
def test_refused_action_is_403_and_changes_nothing(
    app: Flask, guard: Guarded, there: bytes, done: bool, action: str, act: Act
) -> None:
    client = app.test_client()
    url = begin(client, there, 6)
    if done:
        finish(client, url, there)
    before = rows(app)
    guard.asked.clear()
    guard.refused.add(action)
    answer = act(client, url)
    assert answer.status_code == 403
    if answer.request.method != "HEAD":
        assert answer.json == {"detail": REFUSED, "code": "not_authorized"}
    assert [one for one, _ in guard.asked] == [action]
    upload = guard.asked[0][1]
    assert (upload is None) == (action in ("create", "list"))
    assert upload is None or (upload.offset, upload.length) == (len(there), 6)
    assert rows(app) == before


@pytest.mark.parametrize(("there", "done", "action", "act"), CASES.values(), ids=CASES)
def test_allowed_action_is_asked_for_by_its_own_name(
    app: Flask, guard: Guarded, there: bytes, done: bool, action: str, act: Act
) -> None:
    client = app.test_client()
    url = begin(client, there, 6)
    if done:
        finish(client, url, there)
    guard.asked.clear()
    with act(client, url) as answer:
        assert answer.status_code in (200, 204)
    assert guard.asked[0][0] == action
    assert {one for one, _ in guard.asked} <= {action, "append", "complete"}


def test_whole_file_may_not_pass_by_a_refused_completion(
    app: Flask, guard: Guarded
) -> None:
    guard.refused.add("complete")
    answer = post_whole(app.test_client(), b"abc")
    assert answer.status_code == 403
    assert rows(app) == []


def test_head_with_append_refused_only_reads(app: Flask, guard: Guarded) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    guard.refused.add("append")
    (before,) = rows(app)
    answer = client.head(url)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (200, "3")
    assert rows(app)[0].fence == before.fence
    guard.refused.clear()
    client.head(url)
    assert rows(app)[0].fence == before.fence + 1


def test_get_never_takes_over(app: Flask) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    (before,) = rows(app)
    client.get(url)
    client.get("/uploads/")
    assert rows(app) == [before]


def test_head_whose_append_is_refused_by_raising_only_reads(
    app_factory: AppFactory,
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def authorize(self, action: str, upload: Upload | None) -> bool:
            if action == "append":
                raise ChunkedUploadError("The store is closed", status=423)
            return True

    app = app_factory(blueprint_class=Uploads)
    client = app.test_client()
    url = begin(client, b"abc", 6)
    (before,) = rows(app)
    assert client.head(url).status_code == 200
    assert rows(app) == [before]


def test_authorize_may_refuse_with_its_own_status_and_words(
    app_factory: AppFactory,
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def authorize(self, action: str, upload: Upload | None) -> bool:
            raise ChunkedUploadError("Buy a plan first", status=402, retry_after=9)

    answer = put_raw(app_factory(blueprint_class=Uploads).test_client(), b"abc")
    assert (answer.status_code, detail(answer)) == (402, "Buy a plan first")
    assert answer.headers["Retry-After"] == "9"


def test_authorize_is_not_asked_about_what_the_caller_cannot_see(
    app: Flask, guard: Guarded
) -> None:
    client = app.test_client()
    url = "/uploads/3b241101-e2bb-4255-8caf-4136c566a962"
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        assert client.open(url, method=method).status_code == 404
    assert guard.asked == []
