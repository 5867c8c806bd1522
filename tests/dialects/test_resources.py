"""HEAD returns the offset and takes over; DELETE terminates."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.engine.records import Upload
from tests.apps import rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import TUS
from tests.dialects.wire import DATA, MD5, OCTETS, part, state, told


def begin(client: FlaskClient) -> str:
    """The URL of an upload that has five of ten bytes."""
    answer = client.put(
        "/uploads/",
        data=DATA[:5],
        headers={"Content-Range": "bytes 0-4/10"},
        content_type=OCTETS,
    )
    return str(answer.get_json()["url"])


def finished(client: FlaskClient) -> str:
    """The URL of a complete upload."""
    answer = client.post("/uploads/", data={"file": part(DATA), "md5": MD5})
    return str(answer.get_json()["url"])


# -- HEAD ------------------------------------------------------------------------------


def test_head_of_an_unfinished_upload(client: FlaskClient) -> None:
    answer = client.head(begin(client))
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Upload-Offset"] == "5"
    assert answer.headers["Upload-Length"] == "10"
    assert answer.headers["Cache-Control"] == "no-store"


def test_head_of_a_complete_upload(client: FlaskClient) -> None:
    answer = client.head(finished(client))
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Upload-Offset"] == answer.headers["Upload-Length"] == "10"


def test_head_never_completes(client: FlaskClient) -> None:
    url = begin(client)
    client.put(
        url,
        data=DATA[5:],
        headers={"Content-Range": "bytes 5-9/10"},
        content_type=OCTETS,
    )
    client.head(url)
    assert state(client.get(url)) == (200, 1, 10)


def test_head_takes_over_and_get_does_not(app: Flask, client: FlaskClient) -> None:
    url = begin(client)
    (before,) = rows(app)
    client.get(url)
    assert rows(app) == [before]
    client.head(url)
    assert rows(app)[0].fence == before.fence + 1


def test_head_of_an_unknown_upload_has_no_body(client: FlaskClient) -> None:
    answer = client.head(f"/uploads/{UUID(int=1)}")
    assert (answer.status_code, answer.data) == (404, b"")


def test_head_of_the_collection_is_that_of_the_list(client: FlaskClient) -> None:
    answer = client.head("/uploads/?count=1")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["X-Total-Count"] == "0"


# -- media types -----------------------------------------------------------------------

NOT_THERE = {"If-Match": '"another"'}
#: Request -> the media type of an answer that may have a body; all of these are empty.
EMPTY: dict[str, tuple[str, str, dict[str, str], int, str]] = {
    "head": ("HEAD", "part", {}, 200, "text/plain"),
    "head-tus": ("HEAD", "part", TUS, 200, "text/plain"),
    "create": ("POST", "", {**TUS, "Upload-Length": "9"}, 201, "text/plain"),
    "condition": ("GET", "file", NOT_THERE, 412, "text/plain"),
}


@pytest.mark.parametrize("case", EMPTY)
def test_empty_answer_has_a_media_type(app_factory: AppFactory, case: str) -> None:
    client = app_factory(CHUNKED_UPLOAD_DOWNLOADS=True).test_client()
    method, target, headers, status, mimetype = EMPTY[case]
    urls = {"": "/uploads/", "part": begin(client), "file": f"{finished(client)}/file"}
    answer = client.open(urls[target], method=method, headers=headers)
    assert (answer.status_code, answer.data) == (status, b"")
    assert answer.mimetype == mimetype


# -- DELETE ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [begin, finished])
def test_delete_removes_row_and_bytes(
    app: Flask, client: FlaskClient, tmp_path: Path, make: object
) -> None:
    url = begin(client) if make is begin else finished(client)
    answer = client.delete(url)
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert (rows(app), stored_files(tmp_path)) == ([], [])


@pytest.mark.parametrize("make", [begin, finished])
def test_deleted_upload_is_unknown_to_every_method(
    client: FlaskClient, make: object
) -> None:
    url = begin(client) if make is begin else finished(client)
    client.delete(url)
    gone = (404, {"detail": "Not found."})
    assert told(client.delete(url)) == gone
    assert told(client.get(url)) == gone
    assert told(client.post(url, data={"md5": MD5})) == gone
    chunk = client.put(
        url,
        data={"file": part(DATA[5:])},
        headers={"Content-Range": "bytes 5-9/10"},
    )
    assert told(chunk) == gone
    assert client.head(url).status_code == 404


def test_delete_asks_for_the_action_that_it_is(app_factory: AppFactory) -> None:
    asked: list[str] = []

    class Asking(ChunkedUploadBlueprint):
        def authorize(self, action: str, upload: Upload | None) -> bool:
            asked.append(action)
            return action not in ("terminate", "delete")

    client = app_factory(blueprint_class=Asking).test_client()
    refused = {"detail": "You do not have permission to perform this action."}
    for url, action in ((begin(client), "terminate"), (finished(client), "delete")):
        assert told(client.delete(url)) == (403, refused)
        assert asked[-1] == action
        assert client.get(url).status_code == 200


def test_delete_takes_no_other_upload_along(
    client: FlaskClient, tmp_path: Path
) -> None:
    kept, given_up = begin(client), begin(client)
    client.delete(given_up)
    assert state(client.get(kept)) == (200, 1, 5)
    assert len(stored_files(tmp_path)) == 1
