"""Owners: the same 404 for every upload that is not the caller's."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, request, session
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, login_user
from werkzeug.test import TestResponse

from flask_chunked import ChunkedUploadBlueprint

from .apps import FLASK, dispose, make_app, rows, stored_files
from .conftest import AppFactory
from .exchange import OCTETS, begin, detail, finish, md5, post_whole, put_form, put_raw

OWNER_REQUIRED = "Upload requires user authentication but user cannot be determined"
JAR = "X-User"


class ByHeader(ChunkedUploadBlueprint):
    """Takes the user from a header."""

    def get_user_id(self) -> object:
        return request.headers.get(JAR)


class User(UserMixin):  # type: ignore[misc]
    """A user that needs no table."""

    def __init__(self, user_id: str) -> None:
        self.id = user_id


def with_login(app: Flask) -> Flask:
    """Flask-Login, with a view that logs any user in."""
    manager = LoginManager(app)
    manager.user_loader(User)

    @app.post("/login/<user_id>")
    def login(user_id: str) -> str:
        login_user(User(user_id))
        return "welcome"

    return app


class Caller:
    """A client with a user, or an unknown one, for each way to identify users."""

    def __init__(self, app: Flask, user: str | None, *, login: bool) -> None:
        self.client = app.test_client()
        if user is not None and login:
            self.client.post(f"/login/{user}")
        elif user is not None:
            self.client.environ_base[f"HTTP_{JAR.replace('-', '_').upper()}"] = user


@pytest.fixture(params=["flask-login", "get_user_id"])
def call_as(
    app_factory: AppFactory, request: pytest.FixtureRequest
) -> Callable[..., FlaskClient]:
    """A client for a user of one app, whichever way identifies users."""
    login = request.param == "flask-login"
    kept: list[Flask] = []

    def make(user: str | None, **config: object) -> FlaskClient:
        if not kept:
            config.setdefault("CHUNKED_UPLOAD_ALLOW_ANONYMOUS", False)
            policy = ChunkedUploadBlueprint if login else ByHeader
            app = app_factory(blueprint_class=policy, **config)
            kept.append(with_login(app) if login else app)
        return Caller(kept[0], user, login=login).client

    return make


def range_of(start: int, stop: int, total: int) -> dict[str, str]:
    return {"Content-Range": f"bytes {start}-{stop - 1}/{total}"}


#: name -> (method, what follows the id, options): every request about an upload.
VERBS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "get": ("GET", "", {}),
    "head": ("HEAD", "", {}),
    "delete": ("DELETE", "", {}),
    "put-raw": (
        "PUT",
        "",
        {"data": b"def", "headers": range_of(3, 6, 6), "content_type": OCTETS},
    ),
    "put-repeat": (
        "PUT",
        "",
        {"data": b"abc", "headers": range_of(0, 3, 6), "content_type": OCTETS},
    ),
    "put-without-range": ("PUT", "", {"data": b"def", "content_type": OCTETS}),
    "put-form": ("PUT", "", {"form": b"def", "headers": range_of(3, 6, 6)}),
    "post-complete": ("POST", "", {"data": {"md5": md5(b"abcdef")}}),
    "post-nothing": ("POST", "", {}),
    "post-chunk": ("POST", "", {"form": b"def", "headers": range_of(3, 6, 6)}),
    "get-file": ("GET", "/file", {}),
    "head-file": ("HEAD", "/file", {}),
    "override-delete": ("POST", "", {"headers": {"X-HTTP-Method-Override": "DELETE"}}),
    "slash": ("GET", "/", {}),
}


def ask(client: FlaskClient, upload_id: str, name: str) -> TestResponse:
    method, rest, options = VERBS[name]
    options = dict(options)
    if "form" in options:
        options["data"] = {"file": (io.BytesIO(options.pop("form")), "name.bin")}
    return client.open(f"/uploads/{upload_id}{rest}", method=method, **options)


def shown(answer: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Everything of an answer that a client can compare."""
    headers = sorted(answer.headers)
    if FLASK < (3, 1, 3):
        # These do not notice each look at the session.
        headers = [field for field in headers if field != ("Vary", "Cookie")]
    return answer.status_code, answer.data, headers


@pytest.fixture(scope="module", params=["flask-login", "get_user_id"])
def neighbours(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[list[FlaskClient]]:
    """Clients of Ann, Bob and an unknown user; all cases of a table share the app."""
    login = request.param == "flask-login"
    app = make_app(
        tmp_path_factory.mktemp("neighbours"),
        blueprint_class=ChunkedUploadBlueprint if login else ByHeader,
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False,
        CHUNKED_UPLOAD_DOWNLOADS=True,
    )
    if login:
        with_login(app)
    users = ("ann", "bob", None)
    yield [Caller(app, user, login=login).client for user in users]
    dispose(app)


MALFORMED = ["nothing", "0", "..%2Fetc", "%00", "a" * 4000, "3b241101e2bb42558caf4136c"]


@pytest.mark.parametrize("done", [False, True], ids=["unfinished", "finished"])
@pytest.mark.parametrize("verb", VERBS)
def test_foreign_unknown_and_malformed_ids_are_one_404(
    neighbours: list[FlaskClient], verb: str, done: bool
) -> None:
    ann, *strangers = neighbours
    data = b"abcdef" if done else b"abc"
    url = begin(ann, data, 6)
    if done:
        finish(ann, url, data)
    before = rows(ann.application)
    foreign = url.rpartition("/")[2]
    for stranger in strangers:
        expected = shown(ask(stranger, foreign, verb))
        assert expected[0] == 404
        if verb not in ("head", "head-file"):
            assert b'"Not found."' in expected[1]
        for other in (str(uuid4()), foreign.upper(), f"{{{foreign}}}", *MALFORMED):
            assert shown(ask(stranger, other, verb)) == expected, other
    assert rows(ann.application) == before


def test_malformed_id_reads_the_session_like_any_other(
    app_factory: AppFactory,
) -> None:
    class BySession(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return session.get("user", "ann")

    client = app_factory(blueprint_class=BySession).test_client()
    unknown = shown(client.get(f"/uploads/{uuid4()}"))
    assert ("Vary", "Cookie") in unknown[2] or FLASK < (3, 1, 3)
    assert shown(client.get("/uploads/malformed")) == unknown


@pytest.mark.parametrize("where", ["form", "query"])
def test_foreign_upload_id_in_a_form_is_the_same_404(
    call_as: Callable[..., FlaskClient], where: str
) -> None:
    url = begin(call_as("ann"), b"abc", 6)
    bob = call_as("bob")
    before = rows(bob.application)

    def answers(upload_id: str) -> list[tuple[object, ...]]:
        named = {"upload_id": upload_id}
        form = named if where == "form" else {}
        query = named if where == "query" else {}
        chunk = {"file": (io.BytesIO(b"def"), "a"), **form}
        headers = range_of(3, 6, 6)
        return [
            shown(
                bob.post("/uploads/", data=chunk, headers=headers, query_string=query)
            ),
            shown(bob.post("/uploads/", data={"md5": "0", **form}, query_string=query)),
        ]

    foreign = answers(url.rpartition("/")[2])
    assert [one[0] for one in foreign] == [404, 404]
    assert answers(str(uuid4())) == answers("nothing") == foreign
    assert rows(bob.application) == before


def test_the_owner_does_everything(call_as: Callable[..., FlaskClient]) -> None:
    ann = call_as("ann", CHUNKED_UPLOAD_DOWNLOADS=True)
    url = begin(ann, b"abc", 6)
    assert ann.get(url).json["user"] == "ann"  # type: ignore[index]
    assert ann.head(url).headers["Upload-Offset"] == "3"
    assert put_raw(ann, b"def", start=3, url=url).status_code == 200
    assert finish(ann, url, b"abcdef").status_code == 200
    with ann.get(f"{url}/file") as content:
        assert content.data == b"abcdef"
    assert ann.delete(url).status_code == 204


def test_lists_show_the_callers_own(call_as: Callable[..., FlaskClient]) -> None:
    ann, bob, unknown = call_as("ann"), call_as("bob"), call_as(None)
    url = begin(ann, b"abc", 6)
    begin(bob, b"abc", 6)
    for query in ("", "?status=all", "?count=1", "?per_page=1", "?page=1"):
        listed = ann.get(f"/uploads/{query}")
        assert [one["url"] for one in listed.json or []] == [url]
        assert unknown.get(f"/uploads/{query}").json == []
    assert ann.get("/uploads/?count=1").headers["X-Total-Count"] == "1"
    assert unknown.get("/uploads/?count=1").headers["X-Total-Count"] == "0"


@pytest.mark.parametrize("request_of", [put_raw, put_form, post_whole])
def test_creating_needs_an_owner(
    call_as: Callable[..., FlaskClient],
    tmp_path: Any,
    request_of: Callable[..., TestResponse],
) -> None:
    unknown = call_as(None)
    answer = request_of(unknown, b"abc")
    assert (answer.status_code, detail(answer)) == (401, OWNER_REQUIRED)
    assert rows(unknown.application) == []
    assert stored_files(tmp_path) == []


def test_anonymous_upload_is_for_every_caller_who_knows_its_url(
    call_as: Callable[..., FlaskClient],
) -> None:
    unknown = call_as(None, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True)
    url = begin(unknown, b"abc", 6)
    assert unknown.get(url).json["user"] is None  # type: ignore[index]
    assert put_raw(call_as("ann"), b"def", start=3, url=url).status_code == 200
    assert finish(unknown, url, b"abcdef").status_code == 200
    for client in (unknown, call_as("ann")):
        assert client.get("/uploads/?status=all").json == []


def test_owned_upload_stays_the_owners_where_anonymous_ones_are_allowed(
    call_as: Callable[..., FlaskClient],
) -> None:
    url = begin(call_as("ann", CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True), b"abc", 6)
    for stranger in (call_as("bob"), call_as(None)):
        assert stranger.get(url).status_code == 404
        assert stranger.delete(url).status_code == 404
    assert len(call_as("ann").get("/uploads/").json or []) == 1


def test_unrestricted_callers_see_and_list_all(
    call_as: Callable[..., FlaskClient],
) -> None:
    ann = call_as("ann", CHUNKED_UPLOAD_USER_RESTRICTED=False)
    url = begin(ann, b"abc", 6)
    for client in (call_as("bob"), call_as(None)):
        assert client.get(url).status_code == 200
        assert len(client.get("/uploads/").json or []) == 1
    refused = put_raw(call_as(None), b"abc")
    assert (refused.status_code, detail(refused)) == (401, OWNER_REQUIRED)
    assert finish(call_as("bob"), url, b"x").status_code == 400
    assert call_as("bob").delete(url).status_code == 204


def test_user_of_a_request_is_asked_once(app_factory: AppFactory) -> None:
    asked: list[int] = []

    class Uploads(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            asked.append(1)
            return "ann"

    client = app_factory(blueprint_class=Uploads).test_client()
    post_whole(client, b"abc")
    assert len(asked) == 1


def test_owner_of_an_upload_is_its_creator(
    call_as: Callable[..., FlaskClient],
) -> None:
    fields: Mapping[str, str] = {"user": "bob", "owner": "bob"}
    put_form(call_as("ann"), b"abc", fields=fields)
    assert [row.user for row in rows(call_as("ann").application)] == ["ann"]


# -- two blueprints on one model -------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_blueprints_on_one_model_do_not_serve_each_others_uploads(
    app_factory: AppFactory, verb: str
) -> None:
    app = app_factory(CHUNKED_UPLOAD_DOWNLOADS=True)
    app.register_blueprint(
        ChunkedUploadBlueprint("films", __name__), url_prefix="/films"
    )
    client = app.test_client()
    url = begin(client, b"abc", 6, url="/films/")
    upload_id = url.rpartition("/")[2]
    before = rows(app, "films")
    there = shown(ask(client, upload_id, verb))
    assert there[0] == 404
    assert there == shown(ask(client, str(uuid4()), verb))
    assert rows(app, "films") == before
    assert rows(app) == []
    assert client.get(url).status_code == 200


def test_lists_of_blueprints_on_one_model_are_apart(app_factory: AppFactory) -> None:
    app = app_factory(blueprint_class=ByHeader)
    app.register_blueprint(ByHeader("films", __name__), url_prefix="/films")
    client = Caller(app, "ann", login=False).client
    url = begin(client, b"abc", 6, url="/films/")
    assert client.get("/uploads/").json == []
    assert [one["url"] for one in client.get("/films/").json or []] == [url]


# -- no way to know the caller ---------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda c: put_raw(c, b"abc"), id="put"),
        pytest.param(lambda c: post_whole(c, b"abc"), id="post"),
        pytest.param(lambda c: c.get("/uploads/"), id="list"),
        pytest.param(lambda c: c.get(f"/uploads/{uuid4()}"), id="get"),
        pytest.param(lambda c: c.get("/uploads/malformed"), id="get-malformed"),
    ],
)
def test_no_way_to_know_the_owner_is_an_error_naming_three(
    app_factory: AppFactory, act: Callable[[FlaskClient], TestResponse]
) -> None:
    app = app_factory(CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False)
    with pytest.raises(RuntimeError) as caught:
        act(app.test_client())
    for way in ("Flask-Login", "get_user_id()", "CHUNKED_UPLOAD_ALLOW_ANONYMOUS"):
        assert way in str(caught.value)
    assert rows(app) == []


def test_that_error_reads_as_a_plain_500_in_production(
    app_factory: AppFactory,
) -> None:
    app = app_factory(CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False, TESTING=False)
    answer = app.test_client().get("/uploads/")
    assert answer.status_code == 500
    assert b"get_user_id" not in answer.data
