"""Refusals by ``abort()``, error handlers of the application, unexpected errors."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort, got_request_exception, make_response, redirect
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.orm import validates
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    Unauthorized,
    default_exceptions,
)
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    deliver_pending,
    exceptions,
)
from flask_chunked.engine.records import Upload
from flask_chunked.models import ChunkedUploadMixin
from tests.apps import registered, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import BASE, BYTES, TUS, Tus
from tests.exchange import begin, finish, post_whole, put_form, put_raw

ORIGIN = "https://app.example"
DATA = b"hello"
#: Hooks whose exceptions are refusals.
REFUSING = ("get_user_id", "authorize", "validate", "inspect", "verify")


def _put_and_finish(client: FlaskClient, **headers: str) -> TestResponse:
    answer = put_raw(client, DATA, headers=headers)
    if answer.status_code != 200:
        return answer
    return finish(client, answer.json["url"], DATA, headers=headers)  # type: ignore[index]


def _form_and_finish(client: FlaskClient, **headers: str) -> TestResponse:
    answer = put_form(client, DATA, headers=headers)
    if answer.status_code != 200:
        return answer
    return finish(client, answer.json["url"], DATA, headers=headers)  # type: ignore[index]


def _whole(client: FlaskClient, **headers: str) -> TestResponse:
    return post_whole(client, DATA, headers=headers)


def _tus_at_once(client: FlaskClient, **headers: str) -> TestResponse:
    return Tus(client).post(DATA, Upload_Length="5", **headers)


def _tus_patch(client: FlaskClient, **headers: str) -> TestResponse:
    answer = Tus(client).post(Upload_Length="5", **headers)
    if answer.status_code != 201:
        return answer
    more = {**BYTES, "Upload-Offset": "0", **headers}
    return client.patch(answer.headers["Location"], data=DATA, headers=more)


#: Ways to send a whole file, up to the request that is refused.
ROADS: dict[str, Callable[..., TestResponse]] = {
    "put": _put_and_finish,
    "form": _form_and_finish,
    "whole": _whole,
    "tus": _tus_at_once,
    "tus patch": _tus_patch,
}
ON_EVERY_ROAD = pytest.mark.parametrize("road", ROADS)


def raising(error: Callable[[], BaseException]) -> Callable[..., Any]:
    def hook(self: object, *args: object) -> None:
        raise error()

    return hook


def app_with(
    app_factory: AppFactory,
    hook: str,
    error: Callable[[], BaseException],
    **config: Any,
) -> Flask:
    policy = type("Uploads", (ChunkedUploadBlueprint,), {hook: raising(error)})
    return app_factory(
        blueprint_class=policy, CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN], **config
    )


def said(answer: TestResponse, road: str) -> str:
    """The text of a refusal, in the form of the road's dialect."""
    if road.startswith("tus"):
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert answer.mimetype == "text/plain"
        return answer.text.removesuffix("\n")
    assert answer.mimetype == "application/json"
    body: dict[str, object] = json.loads(answer.text)
    assert answer.headers["Cache-Control"] == "no-store"
    return str(body["detail"])


def left(app: Flask) -> list[tuple[str, int]]:
    return [(row.status.value, row.offset) for row in rows(app)]


@ON_EVERY_ROAD
@pytest.mark.parametrize("hook", ["get_user_id", "authorize", "validate", "inspect"])
def test_unexpected_error_of_a_creation_leaves_nothing(
    app_factory: AppFactory, hook: str, road: str, tmp_path: Path
) -> None:
    app = app_with(app_factory, hook, ZeroDivisionError)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = ROADS[road](app.test_client())
    assert answer.status_code == 500
    known = road == "tus patch" and hook == "inspect"
    assert left(app) == ([("uploading", 0)] if known else [])
    if not known:
        assert stored_files(tmp_path) == []


@ON_EVERY_ROAD
@pytest.mark.parametrize("answers", [False, True])
def test_deliver_may_remove_the_upload(
    app_factory: AppFactory, road: str, answers: bool
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            self.delete_upload(upload)

    if answers:
        Uploads.on_completion = lambda self, upload: {"own": 1}  # type: ignore[method-assign]
    app = app_factory(blueprint_class=Uploads)
    assert ROADS[road](app.test_client()).status_code in (200, 201, 204)
    assert rows(app) == []


# -- abort() ---------------------------------------------------------------------------


@ON_EVERY_ROAD
@pytest.mark.parametrize("hook", REFUSING)
def test_abort_refuses_as_an_error_of_ours_does(
    app_factory: AppFactory, tmp_path: Any, hook: str, road: str
) -> None:
    found = []
    for name, error in (
        ("ours", lambda: ChunkedUploadError("not welcome", status=451)),
        ("abort", lambda: _aborted(451, "not welcome")),
    ):
        app = app_with(
            app_factory,
            hook,
            error,
            SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/{name}.db",
        )
        answer = ROADS[road](app.test_client(), Origin=ORIGIN)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert (answer.status_code, said(answer, road)) == (451, "not welcome")
        found.append((sorted(answer.headers.keys()), left(app)))
    assert found[0] == found[1]
    assert "completing" not in str(found)


def _aborted(*args: Any, **named: Any) -> BaseException:
    try:
        abort(*args, **named)
    except HTTPException as error:
        return error


BASIC = WWWAuthenticate("basic", {"realm": "files"})
#: Exceptions -> status, text, headers of the answer.
EXCEPTIONS: dict[str, tuple[Callable[[], HTTPException], int, str, dict[str, str]]] = {
    "description": (lambda: Forbidden("no"), 403, "no", {}),
    "without": (lambda: Forbidden(), 403, str(Forbidden.description), {}),
    "no text": (lambda: Forbidden({"a": 1}), 403, "{'a': 1}", {}),  # type: ignore[arg-type]
    "login": (
        lambda: Unauthorized("who?", www_authenticate=BASIC),
        401,
        "who?",
        {"WWW-Authenticate": "Basic realm=files"},
    ),
    "later": (
        lambda: TooManyRequests("slowly", retry_after=7),
        429,
        "slowly",
        {"Retry-After": "7"},
    ),
    "methods": (lambda: MethodNotAllowed(["GET"]), 405, "", {"Allow": "GET"}),
    "400 in tus, too": (lambda: _with_code(400), 400, "bad", {}),
    "5xx": (lambda: _with_code(503), 503, "bad", {}),
}


def _with_code(code: int) -> HTTPException:
    error = HTTPException("bad")
    error.code = code
    return error


@pytest.mark.parametrize("road", ["put", "tus"])
@pytest.mark.parametrize("name", EXCEPTIONS)
@pytest.mark.parametrize("hook", ["authorize", "verify"])
def test_status_text_and_headers_are_those_of_the_exception(
    app_factory: AppFactory, hook: str, name: str, road: str
) -> None:
    error, status, text, headers = EXCEPTIONS[name]
    answer = ROADS[road](app_with(app_factory, hook, error).test_client())
    assert answer.status_code == status
    assert said(answer, road) == text or not text
    assert {key: answer.headers.get(key) for key in headers} == headers


@ON_EVERY_ROAD
@pytest.mark.parametrize("hook", REFUSING)
def test_the_response_of_abort_is_the_answer(
    app_factory: AppFactory, hook: str, road: str
) -> None:
    def error() -> BaseException:
        return _aborted(make_response({"own": 1}, 409, {"X-Own": "2"}))

    app = app_with(app_factory, hook, error)
    answer = ROADS[road](app.test_client(), Origin=ORIGIN)
    assert (answer.status_code, answer.get_json()) == (409, {"own": 1})
    assert answer.mimetype == "application/json"
    assert answer.headers["X-Own"] == "2"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert ("Tus-Resumable" in answer.headers) is road.startswith("tus")
    assert "completing" not in str(left(app))


def test_the_response_of_abort_may_be_a_redirect(app_factory: AppFactory) -> None:
    app = app_with(app_factory, "authorize", lambda: _aborted(redirect("/login")))
    answer = put_raw(app.test_client(), DATA)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login")


def test_an_exception_with_a_response_of_its_own_gives_it(
    app_factory: AppFactory,
) -> None:
    class Teapot(HTTPException):
        code = 418

        def get_response(self, *args: Any, **named: Any) -> Any:
            return Response("short and stout", 418, mimetype="text/tea")

    answer = put_raw(app_with(app_factory, "validate", Teapot).test_client(), DATA)
    assert (answer.status_code, answer.text) == (418, "short and stout")
    assert answer.mimetype == "text/tea"


def test_new_uploads_that_abort_refuses_leave_no_bytes(
    app_factory: AppFactory, tmp_path: Any
) -> None:
    app = app_with(app_factory, "inspect", Forbidden)
    for road in ROADS.values():
        assert road(app.test_client()).status_code == 403
    assert left(app) == []
    assert stored_files(tmp_path) == []


def test_an_upload_whose_verify_aborts_can_be_completed_later(
    app_factory: AppFactory,
) -> None:
    app = app_with(app_factory, "verify", Forbidden)
    client = app.test_client()
    url = begin(client, DATA, 5)
    assert finish(client, url, DATA).status_code == 403
    assert left(app) == [("uploading", 5)]
    policy: Any = registered(app).policy
    policy.verify = lambda upload: None
    assert finish(client, url, DATA).status_code == 200


#: Of apps whose hook writes.
DB = SQLAlchemy()


@pytest.mark.sqlite
@ON_EVERY_ROAD
@pytest.mark.parametrize("hook", ["validate", "inspect", "verify"])
@pytest.mark.parametrize("kind", [Forbidden, lambda: ChunkedUploadError(status=403)])
def test_writes_of_a_hook_that_refuses_do_not_lock_the_refusal_out(
    app_factory: AppFactory, hook: str, road: str, kind: Callable[[], Exception]
) -> None:
    """The hook holds SQLite's write lock, until its session is rolled back."""

    def refuse(self: object, *args: object) -> None:
        DB.session.execute(text("UPDATE chunked_upload SET filename = 'a'"))
        raise kind()

    policy = type("Uploads", (ChunkedUploadBlueprint,), {hook: refuse})
    app = app_factory(db=DB, blueprint_class=policy)
    answer = ROADS[road](app.test_client())
    assert answer.status_code == 403
    assert "completing" not in str(left(app))
    if hook == "inspect":
        assert left(app) == []


#: Requests on an upload that is there; its URL -> the answer.
LOOKS: dict[str, Callable[[FlaskClient, str], TestResponse]] = {
    "get": lambda c, url: c.get(url),
    "head": lambda c, url: c.head(url),
    "put": lambda c, url: put_raw(c, b"def", start=3, total=6, url=url),
    "post": lambda c, url: finish(c, url, b"abcdef"),
    "delete": lambda c, url: c.delete(url),
    "tus head": lambda c, url: c.head(url, headers=TUS),
    "tus patch": lambda c, url: c.patch(
        url, data=b"def", headers={**BYTES, "Upload-Offset": "3"}
    ),
    "tus delete": lambda c, url: c.delete(url, headers=TUS),
}


@pytest.mark.parametrize("look", LOOKS)
def test_404_hides_an_upload(app_factory: AppFactory, look: str) -> None:
    app = app_factory()
    client = app.test_client()
    url = begin(client, b"abc", 6)
    policy: Any = registered(app).policy
    policy.authorize = lambda action, upload: abort(404, "it is not for you")
    hidden = LOOKS[look](client, url)
    unknown = LOOKS[look](client, BASE + str(uuid.uuid4()))
    assert (hidden.status_code, hidden.data) == (404, unknown.data)
    assert sorted(hidden.headers) == sorted(unknown.headers)
    assert left(app) == [("uploading", 3)]


def test_abort_outside_of_hooks_has_the_form_of_the_dialect(
    app_factory: AppFactory,
) -> None:
    db = SQLAlchemy()

    class File(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        @validates("filename")
        def check(self, key: str, value: str) -> str:
            abort(409, "taken")

    app = app_factory(db=db, model=File)
    for road in ("put", "tus"):
        answer = ROADS[road](app.test_client())
        assert (answer.status_code, said(answer, road)) == (409, "taken")
    assert left(app) == []


@ON_EVERY_ROAD
def test_abort_in_deliver_is_a_failure_like_any_other(
    app_factory: AppFactory, road: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with(app_factory, "deliver", Forbidden)
    assert ROADS[road](app.test_client()).status_code < 300
    (row,) = rows(app)
    assert (row.is_complete, row.delivered_at, row.attempts) == (True, None, 1)
    assert "deliver failed" in caplog.text
    with app.app_context():
        (again,) = deliver_pending(older_than=timedelta(0), retry_now=True)
    assert not again.delivered


@ON_EVERY_ROAD
@pytest.mark.parametrize("code", [404, 409])
def test_abort_in_on_completion_is_the_answer(
    app_factory: AppFactory, road: str, code: int
) -> None:
    app = app_with(app_factory, "on_completion", lambda: _aborted(code, "taken"))
    answer = ROADS[road](app.test_client())
    assert (answer.status_code, said(answer, road)) == (code, "taken")
    assert left(app) == [("complete", 5)]
    if road == "tus patch":
        assert answer.headers["Upload-Offset"] == "5"
    if road == "tus":
        assert answer.headers["Location"].startswith("/uploads/")


def test_the_response_of_abort_in_on_completion_is_the_answer(
    app_factory: AppFactory,
) -> None:
    def error() -> BaseException:
        return _aborted(make_response({"own": 1}, 202))

    app = app_with(app_factory, "on_completion", error)
    for road in ("whole", "tus"):
        answer = ROADS[road](app.test_client())
        assert (answer.status_code, answer.get_json()) == (202, {"own": 1})
    assert left(app) == [("complete", 5)] * 2


# -- error handlers --------------------------------------------------------------------

#: Requests that are refused, and the status of the answer.
REFUSED: dict[str, tuple[Callable[[FlaskClient], TestResponse], int]] = {
    "hook": (lambda c: put_raw(c, DATA), 403),
    "hook in tus": (lambda c: Tus(c).post(Upload_Length="5"), 403),
    "unknown id": (lambda c: c.get(BASE + "x"), 404),
    "method": (lambda c: c.delete(BASE), 405),
    "header": (lambda c: c.put(BASE, headers={"Content-Range": "x"}), 400),
}


@pytest.fixture
def refusing(app_factory: AppFactory) -> Flask:
    """An app whose ``authorize`` lets nothing be created."""

    class Uploads(ChunkedUploadBlueprint):
        def authorize(self, action: str, upload: Upload | None) -> bool:
            return action != "create"

    return app_factory(blueprint_class=Uploads, PROPAGATE_EXCEPTIONS=False)


@pytest.mark.parametrize("where", ["app", "blueprint"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_handler_chooses_body_and_media_type(
    refusing: Flask, name: str, where: str
) -> None:
    def shape(error: ChunkedUploadError) -> Any:
        body = f"<p>{error.code}</p>"
        headers = {"X-Own": "1", "Tus-Resumable": "9", "Allow": "BREW"}
        return body, 418, {"Content-Type": "text/x-own", **headers}

    register(refusing, where, ChunkedUploadError, shape)
    request, status = REFUSED[name]
    plain = request(refusing.test_client())
    assert plain.status_code == status
    assert plain.text.startswith("<p>")
    assert (plain.mimetype, plain.headers["X-Own"]) == ("text/x-own", "1")
    assert plain.headers["Content-Length"] == str(len(plain.data))
    assert plain.headers["Cache-Control"] == "no-store"
    if "tus" in name:
        assert plain.headers["Tus-Resumable"] == "1.0.0"
    if status == 405:
        assert plain.headers["Allow"] != "BREW"


def register(app: Flask, where: str, kind: Any, handler: Any) -> None:
    """Register a handler in the app, or in the blueprint after its registration."""
    if where == "app":
        app.register_error_handler(kind, handler)
        return
    code = kind if isinstance(kind, int) else getattr(kind, "code", None)
    code = code if isinstance(code, int) else None
    if isinstance(kind, int):
        kind = default_exceptions[kind]
    # A blueprint that is registered takes no more handlers.
    app.error_handler_spec["uploads"][code][kind] = handler


@pytest.mark.parametrize("where", ["app", "blueprint"])
@pytest.mark.parametrize(
    "kind", [Exception, HTTPException, Forbidden, NotFound, 400, 403, 404, 405, 500]
)
def test_handlers_of_anything_else_are_never_called(
    refusing: Flask, where: str, kind: Any
) -> None:
    def never(error: Exception) -> Any:
        raise AssertionError(error)

    register(refusing, where, kind, never)
    client = refusing.test_client()
    for request, status in REFUSED.values():
        assert request(client).status_code == status
    policy: Any = registered(refusing).policy
    for error in (Forbidden("no"), ValueError("bug"), InternalServerError()):
        policy.authorize = lambda action, upload, error=error: raising(lambda: error)(0)
        for road in ("put", "tus"):
            answer = ROADS[road](client)
            assert answer.status_code == getattr(error, "code", 500)
            assert said(answer, road)


def test_the_nearest_handler_is_called(refusing: Flask) -> None:
    for where, kind in (
        ("app", exceptions.NotAuthorized),
        ("app", ChunkedUploadError),
        ("blueprint", ChunkedUploadError),
    ):
        name = f"{where} {kind.__name__}"
        register(refusing, where, kind, lambda error, name=name: name)
    client = refusing.test_client()
    assert put_raw(client, DATA).text == "blueprint ChunkedUploadError"
    del refusing.error_handler_spec["uploads"][None][ChunkedUploadError]
    assert put_raw(client, DATA).text == "app NotAuthorized"
    assert client.get(BASE + "x").text == "app ChunkedUploadError"


def test_a_handler_of_a_subclass_hears_of_that_only(app_factory: AppFactory) -> None:
    class Virus(ChunkedUploadError):
        code = "virus"
        default_status = 422

    app = app_with(app_factory, "validate", Virus)
    app.register_error_handler(Virus, lambda error: {"found": error.code})
    client = app.test_client()
    answer = put_raw(client, DATA)
    assert (answer.status_code, answer.json) == (422, {"found": "virus"})
    assert client.get(BASE + "x").json == {
        "detail": "Not found.",
        "code": "unknown_upload",
    }


def test_a_handler_shapes_what_abort_refuses(app_factory: AppFactory) -> None:
    app = app_with(app_factory, "validate", lambda: _aborted(409, "taken"))
    app.register_error_handler(
        ChunkedUploadError, lambda error: {"own": error.detail, "at": error.status}
    )
    answer = put_raw(app.test_client(), DATA)
    assert (answer.status_code, answer.json) == (409, {"own": "taken", "at": 409})


def test_a_response_of_abort_is_not_shaped_again(app_factory: AppFactory) -> None:
    app = app_with(app_factory, "validate", lambda: _aborted(Response("mine", 409)))
    app.register_error_handler(ChunkedUploadError, lambda error: "theirs")
    assert put_raw(app.test_client(), DATA).text == "mine"


def test_a_handler_may_be_a_coroutine_function(refusing: Flask) -> None:
    async def shape(error: ChunkedUploadError) -> dict[str, str]:
        return {"own": error.code}

    refusing.register_error_handler(ChunkedUploadError, shape)
    answer = put_raw(refusing.test_client(), DATA)
    assert (answer.status_code, answer.json) == (403, {"own": "not_authorized"})


def test_a_handler_that_fails_is_logged_and_500(
    refusing: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(error: ChunkedUploadError) -> Any:
        raise ZeroDivisionError

    refusing.register_error_handler(ChunkedUploadError, broken)
    answer = put_raw(refusing.test_client(), DATA)
    assert (answer.status_code, said(answer, "put")) == (500, "Internal Server Error")
    assert "ZeroDivisionError" in caplog.text


def test_a_handler_has_no_say_in_what_is_not_refused(refusing: Flask) -> None:
    refusing.register_error_handler(ChunkedUploadError, lambda error: "own")
    assert refusing.test_client().get(BASE).json == []


# -- unexpected errors -----------------------------------------------------------------


@pytest.mark.parametrize("road", ["put", "tus"])
@pytest.mark.parametrize("with_handler", [False, True])
def test_a_bug_in_a_hook_is_logged_and_signalled_once(
    app_factory: AppFactory,
    caplog: pytest.LogCaptureFixture,
    road: str,
    with_handler: bool,
) -> None:
    app = app_with(
        app_factory,
        "validate",
        lambda: ValueError("secret"),
        PROPAGATE_EXCEPTIONS=False,
    )
    if with_handler:
        app.register_error_handler(Exception, lambda error: "for people")
    heard: list[Exception] = []

    def hear(sender: Flask, exception: Exception) -> None:
        heard.append(exception)

    with got_request_exception.connected_to(hear, app):
        answer = ROADS[road](app.test_client(), Origin=ORIGIN)
    assert (answer.status_code, said(answer, road)) == (500, "Internal Server Error")
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert [str(error) for error in heard] == ["secret"]
    errors = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "secret" in caplog.text


def test_a_bug_in_a_hook_is_raised_in_tests(app_factory: AppFactory) -> None:
    app = app_with(app_factory, "validate", lambda: ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        put_raw(app.test_client(), DATA)


@pytest.mark.parametrize("where", ["app", "blueprint"])
def test_a_bug_before_the_view_has_the_form_of_the_dialect(
    app_factory: AppFactory, where: str
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    app = app_factory(PROPAGATE_EXCEPTIONS=False)
    key = None if where == "app" else "uploads"
    app.before_request_funcs.setdefault(key, []).append(broken)
    for road in ("put", "tus"):
        answer = ROADS[road](app.test_client())
        assert (answer.status_code, said(answer, road)) == (
            500,
            "Internal Server Error",
        )
