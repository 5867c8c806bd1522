"""One request: headers, its body, the upload that it names, what a failure removes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, Response, request
from sqlalchemy import text

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.engine.gate import Action
from flask_chunked.engine.records import NewUpload, Upload
from flask_chunked.exceptions import (
    BodyInterrupted,
    NotAuthorized,
    PartialUpload,
    UnknownUpload,
)
from flask_chunked.request.body import BodyReader
from flask_chunked.request.context import Target, UploadRequest

from ..apps import registered, rows
from ..conftest import AppFactory
from .test_body import ScriptedSource

UNKNOWN = UUID("3b241101-e2bb-4255-8caf-4136c566a962")


def request_of(method: str) -> UploadRequest:
    """A request without a registration."""
    app: Any = SimpleNamespace(engine=None, settings=None, policy=None)
    path = (Target.COLLECTION, None)
    return UploadRequest(app, request, method, path, {}, [])


def on(app: Flask, upload_id: UUID | None = None) -> UploadRequest:
    """The current request, to an app's blueprint."""
    path = (Target.COLLECTION if upload_id is None else Target.UPLOAD, upload_id)
    return UploadRequest(registered(app), request, request.method, path, {}, [])


def create(app: Flask, **more: Any) -> Upload:
    """A new upload of three bytes, of which it has none."""
    new = NewUpload(None, "a.bin", length=3, dialect="tus", **more)
    return registered(app).engine.create.upload(new)


# -- headers ---------------------------------------------------------------------------


def test_header_is_found_whatever_its_case_and_absent_is_none() -> None:
    headers = {"Upload-Offset": "7", "X-Empty": ""}
    with Flask("tests").test_request_context("/", headers=headers):
        made = request_of("PATCH")
        assert made.header("upload-OFFSET") == "7"
        assert made.header("X-Empty") == ""
        assert made.header("Upload-Length") is None


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/plain", True),
        ("text/plain; charset=utf-8", True),
        ("TEXT/Plain", True),
        ("text/plainer", False),
        ("text/html; x=text/plain", False),
        (None, False),
    ],
)
def test_media_type_is_compared_without_parameters_and_case(
    content_type: str | None, expected: bool
) -> None:
    with Flask("tests").test_request_context("/", content_type=content_type):
        assert request_of("PATCH").has_mimetype("text/plain") is expected


@pytest.mark.parametrize("checks", [True, False])
def test_digest_is_computed_in_passing_if_the_policy_demands_one(
    app_factory: AppFactory, checks: bool
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        do_checksum_check = checks

    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_CHECKSUM="sha256")
    with app.test_request_context("/uploads/"):
        assert on(app).checksum_in_passing == ("sha256" if checks else None)


# -- the body --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "length", "encoded"),
    [
        (None, "3", False),
        ("", "3", False),
        ("identity", "3", False),
        ("Identity, IDENTITY", "3", False),
        ("gzip", "3", True),
        ("identity, gzip", "3", True),
        ("gzip", "0", False),
        ("gzip", "many", True),
    ],
)
def test_body_is_encoded_if_it_has_bytes_and_another_coding_than_identity(
    coding: str | None, length: str, encoded: bool
) -> None:
    headers = {} if coding is None else {"Content-Encoding": coding}
    told = {"CONTENT_LENGTH": length}
    with Flask("tests").test_request_context(
        "/", headers=headers, environ_overrides=told
    ):
        assert request_of("PUT").has_encoded_body() is encoded


def test_body_is_opened_once_and_without_a_connection_of_the_session(
    app: Flask,
) -> None:
    with app.test_request_context("/uploads/", method="PUT", data=b"abc"):
        session = registered(app).db.session
        session.execute(text("SELECT 1"))
        assert session().in_transaction()
        made = on(app)
        assert bytes(made.body.read()) == b"abc"
        assert not session().in_transaction()
        assert made.body is made.body


def test_drained_body_is_one_that_has_bytes_and_a_readable_length(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained: list[str] = []
    monkeypatch.setattr(
        BodyReader, "drain", lambda reader: drained.append(request.method)
    )
    for method, length in (("PUT", "3"), ("GET", "0"), ("POST", "many")):
        told = {"CONTENT_LENGTH": length}
        with app.test_request_context(
            "/uploads/", method=method, environ_overrides=told
        ):
            on(app).drain()
    assert drained == ["PUT"]


@pytest.mark.parametrize(
    ("script", "ends"),
    [((b"0123456789",), []), ((b"012", b""), ["close"])],
    ids=["whole", "cut"],
)
def test_connection_of_an_unfinished_body_is_closed_after_the_answer(
    script: tuple[bytes, ...], ends: list[str]
) -> None:
    source = ScriptedSource(*script)
    reader = BodyReader(source, 10, 1)
    reader.read()
    if ends:
        with pytest.raises(BodyInterrupted):
            reader.read()
    app = Flask("tests")
    with app.test_request_context("/"):
        upload_request = request_of("PUT")
        upload_request._body = reader
        response = Response()
        upload_request.close_connection_after(response)
    assert source.ends == []
    response.close()
    assert source.ends == ends


def test_connection_without_a_body_is_left_alone() -> None:
    with Flask("tests").test_request_context("/"):
        response = Response()
        request_of("GET").close_connection_after(response)
    response.close()


# -- the upload ------------------------------------------------------------------------


def test_upload_of_the_path_becomes_the_subject(app: Flask) -> None:
    with app.test_request_context("/"):
        upload = create(app)
        made = on(app, upload.id)
        assert made.find(Action.APPEND) == upload
        assert made.subject == upload


def test_upload_that_a_field_names_does_not_become_the_subject(app: Flask) -> None:
    with app.test_request_context("/"):
        upload = create(app)
        made = on(app)
        assert made.find_other(upload.id, Action.APPEND) == upload
        assert made.subject is None


@pytest.mark.parametrize("upload_id", [UNKNOWN, None], ids=["unknown", "malformed"])
def test_unknown_upload_leaves_no_subject(app: Flask, upload_id: UUID | None) -> None:
    with app.test_request_context("/"):
        made = on(app, upload_id)
        with pytest.raises(UnknownUpload):
            made.find(Action.READ)
        assert made.subject is None


@pytest.mark.parametrize(
    ("permits", "error"), [(True, PartialUpload), (False, NotAuthorized)]
)
def test_kind_of_an_upload_is_shown_to_a_permitted_caller_only(
    app_factory: AppFactory, permits: bool, error: type[Exception]
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def authorize(self, action: str, upload: Upload | None) -> bool:
            return permits

    app = app_factory(blueprint_class=Uploads)
    with app.test_request_context("/"):
        upload = create(app, partial=True, concat="partial")
        made = on(app, upload.id)
        made.dialect = "content-range"
        with pytest.raises(error):
            made.find(Action.APPEND)


# -- what a failure removes ------------------------------------------------------------


def test_discarded_upload_is_gone_and_not_the_subject(app: Flask) -> None:
    with app.test_request_context("/"):
        upload = create(app)
        made = on(app, upload.id)
        made.subject = upload
        made.discard(upload)
        assert made.subject is None
    assert rows(app) == []


def test_new_upload_stays_if_its_request_succeeds(app: Flask) -> None:
    with app.test_request_context("/"):
        upload = create(app)
        made = on(app)
        with made.creating(upload):
            assert made.subject == upload
        assert made.subject == upload
    assert len(rows(app)) == 1


def test_new_upload_is_removed_if_its_request_fails(app: Flask) -> None:
    with app.test_request_context("/"):
        upload = create(app)
        made = on(app)
        with pytest.raises(KeyboardInterrupt), made.creating(upload):
            raise KeyboardInterrupt
        assert made.subject is None
    assert rows(app) == []
