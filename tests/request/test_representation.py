"""Uploads in answers: their URLs, their JSON, the application's own answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables
from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.request.representation import Representation

from ..apps import registered, rows
from ..conftest import AppFactory, NewApp
from ..exchange import begin, send


def complete(app: Flask) -> Upload:
    """A complete upload of an app."""
    assert send(app.test_client(), b"abc").status_code in (200, 202)
    return rows(app)[-1]


def represent(app: Flask) -> Representation:
    """The representation of uploads in a request to an app."""
    return Representation(registered(app), {})


# -- URLs ------------------------------------------------------------------------------


def test_blueprint_nested_in_another_builds_its_urls(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    parent = Blueprint("api", __name__, url_prefix="/api")
    parent.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
    )
    app.register_blueprint(parent)
    create_tables(app)
    client = app.test_client()
    url = begin(client, b"abc", 3, url="/api/uploads/")
    assert url.startswith("http://localhost/api/uploads/")
    assert client.get(url).status_code == 200
    assert rows(app, "api.uploads")[0].blueprint == "api.uploads"


def test_values_of_the_prefix_are_kept_in_urls(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/<team>/uploads"
    )
    create_tables(app)
    client = app.test_client()
    url = begin(client, b"abc", 3, url="/red/uploads/")
    assert url.startswith("http://localhost/red/uploads/")
    assert client.get(url).status_code == 200


@pytest.mark.parametrize("absolute", [False, True])
def test_location_is_a_path_unless_the_policy_wants_a_url(
    app_factory: AppFactory, absolute: bool
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        absolute_location = absolute

    app = app_factory(blueprint_class=Uploads)
    upload = complete(app)
    with app.test_request_context("/", base_url="https://files.test/"):
        path = f"/uploads/{upload.id}"
        shown = represent(app)
        assert shown.url(upload) == f"https://files.test{path}"
        assert shown.location(upload) == (shown.url(upload) if absolute else path)
        assert shown.collection_url() == "https://files.test/uploads/"


CHANGES: dict[str, dict[str, Any]] = {
    "unfinished": {"status": Status.UPLOADING},
    "moved away": {"storage_key": None},
    "partial": {"partial": True, "concat": "partial"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_content_has_a_url_if_it_can_be_downloaded(
    app_factory: AppFactory, change: dict[str, Any]
) -> None:
    app = app_factory(CHUNKED_UPLOAD_DOWNLOADS=True)
    upload = complete(app)
    with app.test_request_context("/"):
        shown = represent(app)
        assert shown.content_url(upload) == f"{shown.url(upload)}/file"
        final = replace(upload, concat="final;/a")
        assert shown.content_url(final) == f"{shown.url(upload)}/file"
        assert shown.content_url(replace(upload, **change)) is None


def test_without_downloads_no_content_has_a_url(app: Flask) -> None:
    upload = complete(app)
    with app.test_request_context("/"):
        assert represent(app).content_url(upload) is None
        assert represent(app).to_json(upload)["file"] is None


# -- JSON ------------------------------------------------------------------------------


def test_json_has_a_number_as_status(app: Flask) -> None:
    upload = complete(app)
    with app.test_request_context("/"):
        shown = represent(app)
        body = shown.to_json(upload)
        assert (body["id"], body["url"]) == (str(upload.id), shown.url(upload))
        assert (body["status"], body["offset"]) == (2, 3)
        for status in set(Status) - {Status.COMPLETE}:
            assert shown.to_json(replace(upload, status=status))["status"] == 1


def test_json_says_partial_of_partial_uploads_only(app: Flask) -> None:
    upload = complete(app)
    with app.test_request_context("/"):
        assert "partial" not in represent(app).to_json(upload)
        partial = replace(upload, partial=True, concat="partial")
        assert represent(app).to_json(partial)["partial"] is True


# -- the application's own answer ------------------------------------------------------


@pytest.mark.parametrize("answer", [("made", 202), None])
def test_on_completion_may_answer(
    app_factory: AppFactory, answer: ResponseReturnValue | None
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def on_completion(self, upload: Any) -> ResponseReturnValue | None:
            assert upload.filename == "upload"
            return answer

    app = app_factory(blueprint_class=Uploads)
    upload = complete(app)
    with app.test_request_context("/"):
        response = represent(app).completion_response(upload)
        assert not registered(app).db.session().in_transaction()
    if answer is None:
        assert response is None
    else:
        assert response is not None
        assert (response.status_code, response.data) == (202, b"made")


def test_what_on_completion_leaves_uncommitted_is_rolled_back_and_logged(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def on_completion(self, upload: Any) -> None:
            upload.filename = "renamed"

    app = app_factory(blueprint_class=Uploads)
    upload = complete(app)
    assert [row.filename for row in rows(app)] == ["upload"]
    assert any("call db.session.commit()" in text for text in caplog.messages)
    caplog.clear()
    with app.test_request_context("/"):
        assert represent(app).completion_response(upload) is None
        assert not registered(app).db.session().in_transaction()
    assert len(caplog.messages) == 1


def test_without_the_hook_there_is_no_answer(app: Flask) -> None:
    upload = complete(app)
    with app.test_request_context("/"):
        assert represent(app).completion_response(upload) is None
