"""What each dialect sends, and what its answers are."""

from __future__ import annotations

from typing import Any, cast

import pytest
from flask import Flask, abort, redirect, request, session
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables
from flask_chunked.testing import (
    DIALECTS,
    DialectName,
    UploadRefused,
    begin,
    refusal,
    upload,
)
from tests.apps import rows
from tests.conftest import NewApp

CONTENT = b"0123456789"
#: The requests of a whole upload in chunks of 4 bytes, and without chunks.
REQUESTS: dict[DialectName, tuple[list[str], list[str]]] = {
    "content-range": (["PUT", "PUT", "PUT", "POST"], ["PUT", "POST"]),
    "form": (["PUT", "PUT", "PUT", "POST"], ["POST"]),
    "tus": (["POST", "PATCH", "PATCH", "PATCH"], ["POST", "PATCH"]),
}

every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def asked_of(app: Flask) -> list[str]:
    """The methods of the requests from now on."""
    seen: list[str] = []

    @app.before_request
    def note() -> None:
        seen.append(request.method)

    return seen


@every_dialect
@pytest.mark.parametrize("chunk_size", [4, None], ids=["chunks", "whole"])
@pytest.mark.parametrize("url", ["/notes", "/notes/", "http://localhost/notes/?a=1"])
def test_upload_is_complete_in_every_dialect(
    notes: Flask, dialect: DialectName, chunk_size: int | None, url: str
) -> None:
    seen = asked_of(notes)
    sent = upload(
        notes.test_client(),
        url,
        CONTENT,
        filename="föö.txt",
        content_type="text/plain",
        dialect=dialect,
        chunk_size=chunk_size,
        fields={"title": "An & Ä"},
    )
    assert seen == REQUESTS[dialect][chunk_size is None]
    (row,) = rows(notes, "notes")
    assert (row.id, row.is_complete) == (sent.id, True)
    assert (row.filename, row.content_type) == ("föö.txt", "text/plain")
    assert row.extra == {"title": "An & Ä"}
    assert sent.read() == CONTENT
    assert sent.json()["id"] == str(sent.id)
    if dialect != "tus":
        assert sent.response.json == {"thanks": "An & Ä"}


@every_dialect
def test_empty_file_is_uploaded(notes: Flask, dialect: DialectName) -> None:
    sent = upload(notes.test_client(), "/notes/", b"", dialect=dialect)
    assert (sent.json()["status"], sent.read()) == (2, b"")


def test_message_says_what_was_asked_and_answered(app: Flask) -> None:
    app.config["LONG"] = "x" * 5000

    @app.before_request
    def stop() -> ResponseReturnValue:
        if request.method == "POST":
            return redirect("/login")
        if request.method == "PUT":
            return app.config["LONG"], 418
        return "a page"

    client = app.test_client()
    with pytest.raises(UploadRefused, match=r"POST /uploads/ .*302.* to /login"):
        upload(client, "/uploads/", CONTENT, dialect="form")
    with pytest.raises(UploadRefused, match=r"PUT /uploads/ .*418") as caught:
        upload(client, "/uploads/", CONTENT)
    assert 1000 < len(str(caught.value)) < 1100


WRONG: dict[str, dict[str, Any]] = {
    "dialect is 'ftp'; it must be one of: content-range": {"dialect": "ftp"},
    "chunk_size is 0": {"chunk_size": 0},
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_option_is_an_error(app: Flask, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        upload(app.test_client(), "/uploads/", CONTENT, **WRONG[reason])
    with pytest.raises(TypeError, match="chunksize"):
        upload(app.test_client(), "/uploads/", CONTENT, **cast(Any, {"chunksize": 1}))


@every_dialect
def test_headers_are_sent_with_every_request(app: Flask, dialect: DialectName) -> None:
    @app.before_request
    def demand() -> None:
        if request.headers.get("Authorization") != "Bearer ann":
            abort(401)

    client = app.test_client()
    assert refusal(client, "/uploads/", CONTENT, dialect=dialect).status_code == 401
    headers = {"Authorization": "Bearer ann"}
    half = begin(client, "/uploads/", CONTENT, dialect=dialect, headers=headers)
    assert half.resume().read() == CONTENT
    with pytest.raises(UploadRefused, match="401"):
        half.seen_by(client).json()
    assert half.delete().status_code == 204


@every_dialect
def test_session_cookie_of_the_client_is_kept(app: Flask, dialect: DialectName) -> None:
    @app.before_request
    def count() -> None:
        session["count"] = session.get("count", 0) + 1

    with app.test_client() as client:
        upload(client, "/uploads/", CONTENT, dialect=dialect)
        assert session["count"] == len(REQUESTS[dialect][1])


def test_no_checksum_is_sent_where_none_is_demanded(new_app: NewApp) -> None:
    class Unchecked(ChunkedUploadBlueprint):
        do_checksum_check = False

    app = new_app(SQLAlchemy())
    app.register_blueprint(Unchecked("uploads", __name__), url_prefix="/uploads")
    create_tables(app)
    sent: list[str] = []

    @app.before_request
    def note() -> None:
        sent.extend(request.form)

    assert upload(app.test_client(), "/uploads/", CONTENT).read() == CONTENT
    assert sent == []
