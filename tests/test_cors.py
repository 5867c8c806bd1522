"""Pages of other origins: off by default, exact origins, preflights, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, TooManyRequests

from flask_chunked import (
    CORS_EXPOSE_HEADERS,
    ChunkedUploadBlueprint,
    ConfigurationError,
)
from tests.conftest import AppFactory, NewApp
from tests.dialects.tus import BASE, BYTES, TUS

ORIGIN = "https://app.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "tus-resumable,upload-offset",
}


@pytest.fixture
def client(app_factory: AppFactory) -> FlaskClient:
    origins = f"{ORIGIN}, http://localhost:3000"
    return app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=origins).test_client()


def test_no_headers_unless_origins_are_named(app_factory: AppFactory) -> None:
    response = app_factory().test_client().get(BASE, headers={"Origin": ORIGIN})
    assert not [name for name, _ in response.headers if "Access-Control" in name]


def test_a_preflight_is_answered_without_anything_else(client: FlaskClient) -> None:
    response = client.options(BASE + "x", headers=PREFLIGHT)
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
    for name in ("Tus-Resumable", "Content-Range", "Content-Disposition"):
        assert name in response.headers["Access-Control-Allow-Headers"]
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", BASE, {}, 200),
        ("POST", BASE, {**TUS, "Upload-Length": "3"}, 201),
        ("HEAD", BASE + "x", TUS, 404),
        ("PATCH", BASE + "x", {**BYTES, "Upload-Offset": "0"}, 404),
        ("PATCH", BASE + "x", {}, 412),
        ("PUT", BASE, {}, 400),
        ("BREW", BASE, {}, 405),
        ("GET", BASE + "a/b/c", {}, 404),
    ],
)
def test_answers_and_errors_can_be_read(
    client: FlaskClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = client.open(path, method=method, headers={**headers, "Origin": ORIGIN})
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert exposed == list(CORS_EXPOSE_HEADERS)


# -- answers that never reach the dispatcher -------------------------------------------


def _early_response() -> Any:
    return {"error": "down for maintenance"}, 503, {"Retry-After": "60"}


def _early_abort() -> Any:
    abort(401, www_authenticate=WWWAuthenticate("bearer"))


def _early_limit() -> Any:
    raise TooManyRequests(retry_after=9)


EARLY: dict[str, tuple[Callable[[], Any], int]] = {
    "response": (_early_response, 503),
    "abort": (_early_abort, 401),
    "limit": (_early_limit, 429),
}
SHOWN = {
    "collection": BASE,
    "upload": BASE + "x",
    "static": BASE + "static/chunked-upload.js",
    "missing static": BASE + "static/x.js",
}


def early(app: Flask, where: str, function: Callable[[], Any]) -> FlaskClient:
    """A client of the app, whose requests are answered by the function."""
    key = None if where == "app" else "uploads"
    app.before_request_funcs.setdefault(key, []).append(function)
    return app.test_client()


@pytest.mark.parametrize("where", ["app", "blueprint"])
@pytest.mark.parametrize("path", SHOWN.values(), ids=SHOWN)
@pytest.mark.parametrize("name", EARLY)
def test_early_answers_can_be_read(
    app_factory: AppFactory, where: str, path: str, name: str
) -> None:
    function, status = EARLY[name]
    app = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    answer = early(app, where, function).get(path, headers={"Origin": ORIGIN})
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert exposed == list(CORS_EXPOSE_HEADERS)


@pytest.mark.parametrize("name", EARLY)
def test_an_error_handler_of_the_application_shapes_early_answers(
    app_factory: AppFactory, name: str
) -> None:
    app = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    app.register_error_handler(HTTPException, lambda error: ("own", error.code))
    function, status = EARLY[name]
    client = early(app, "app", function)
    answer = client.get(BASE, headers={"Origin": ORIGIN})
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert (answer.text == "own") is (name != "response")


@pytest.mark.parametrize("where", ["app", "blueprint"])
@pytest.mark.parametrize("name", EARLY)
def test_a_preflight_needs_no_login(
    app_factory: AppFactory, where: str, name: str
) -> None:
    app = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    client = early(app, where, EARLY[name][0])
    answer = client.options(BASE, headers=PREFLIGHT)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    "headers",
    [
        {**PREFLIGHT, "Origin": "https://evil.example"},
        {"Access-Control-Request-Method": "PATCH"},
        {"Origin": ORIGIN},
    ],
    ids=["other origin", "no origin", "no preflight"],
)
def test_the_application_refuses_all_other_requests(
    app_factory: AppFactory, headers: dict[str, str]
) -> None:
    app = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    client = early(app, "blueprint", _early_response)
    answer = client.options(BASE, headers=headers)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"


def test_early_answers_are_left_alone_without_origins(app_factory: AppFactory) -> None:
    client = early(app_factory(), "app", _early_response)
    answer = client.options(BASE, headers=PREFLIGHT)
    assert answer.status_code == 503
    assert not [name for name, _ in answer.headers if "Access-Control" in name]


def test_the_module_can_be_loaded_from_another_origin(client: FlaskClient) -> None:
    path = BASE + "static/chunked-upload.js"
    answer = client.get(path, headers={"Origin": ORIGIN}, buffered=True)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    missing = client.get(BASE + "static/x.js", headers={"Origin": ORIGIN})
    assert missing.status_code == 404
    assert missing.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_other_urls_of_the_application_are_left_alone(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    app.add_url_rule("/own", view_func=lambda: "own")
    answer = app.test_client().get("/own", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_csrf_protection_can_be_read(app_factory: AppFactory) -> None:
    flask_wtf = pytest.importorskip("flask_wtf")
    app = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    flask_wtf.CSRFProtect(app)
    answer = app.test_client().post(BASE, headers={"Origin": ORIGIN})
    assert answer.status_code == 400
    assert "CSRF" in answer.text
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_each_registration_has_its_origins(new_app: NewApp) -> None:
    other = "https://other.example"
    app = new_app(SQLAlchemy())
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    for name, origin in (("films", ORIGIN), ("songs", other)):
        app.config["CHUNKED_UPLOAD_CORS_ORIGINS"] = [origin]
        app.register_blueprint(blueprint, url_prefix=f"/{name}", name=name)
    client = early(app, "app", _early_response)
    for name, origin in (("films", ORIGIN), ("songs", other)):
        for asked in (ORIGIN, other):
            answer = client.get(f"/{name}/", headers={"Origin": asked})
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == (origin if asked == origin else None)


# -- origins ---------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ORIGIN + ".evil"])
def test_other_origins_get_nothing_but_vary(client: FlaskClient, origin: str) -> None:
    response = client.get(BASE, headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Origin" in response.headers["Vary"]


def test_a_star_is_for_all_and_without_credentials(app_factory: AppFactory) -> None:
    client = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS="*").test_client()
    response = client.get(BASE, headers={"Origin": "https://any.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "value", ["app.example", "https://a.example/", "*,https://a.example", 5, ["*", "x"]]
)
def test_what_is_no_origin_is_a_start_up_error(
    app_factory: AppFactory, value: object
) -> None:
    with pytest.raises(ConfigurationError, match="CORS_ORIGINS"):
        app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=value)


def test_flask_cors_may_be_used_at_the_same_time(app_factory: AppFactory) -> None:
    flask_cors = pytest.importorskip("flask_cors")
    app = app_factory()
    flask_cors.CORS(app, origins=[ORIGIN], expose_headers=list(CORS_EXPOSE_HEADERS))
    client = app.test_client()
    answer = client.get(BASE, headers={"Origin": ORIGIN})
    assert answer.headers.getlist("Access-Control-Allow-Origin") == [ORIGIN]
    assert "Upload-Offset" in answer.headers["Access-Control-Expose-Headers"]
    preflight = client.options(BASE + "x", headers=PREFLIGHT)
    assert preflight.headers.getlist("Access-Control-Allow-Origin") == [ORIGIN]
    assert preflight.headers["Tus-Version"] == "1.0.0"


def test_with_both_there_is_one_set_of_headers(app_factory: AppFactory) -> None:
    flask_cors = pytest.importorskip("flask_cors")
    app = app_factory(CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    flask_cors.CORS(app)
    answer = app.test_client().get(BASE, headers={"Origin": ORIGIN})
    assert answer.headers.getlist("Access-Control-Allow-Origin") == [ORIGIN]


def test_functions_of_the_blueprint_may_replace_the_response(new_app: NewApp) -> None:
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    blueprint.after_request(lambda response: Response("replaced"))
    app = new_app(SQLAlchemy(), CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    app.register_blueprint(blueprint, url_prefix="/uploads")
    answer = early(app, "app", _early_response).get(BASE, headers={"Origin": ORIGIN})
    assert answer.text == "replaced"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_nested_blueprint_is_shared_too(new_app: NewApp) -> None:
    parent = Blueprint("api", __name__)
    parent.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
    )
    app = new_app(SQLAlchemy(), CHUNKED_UPLOAD_CORS_ORIGINS=[ORIGIN])
    app.register_blueprint(parent, url_prefix="/api")
    client = early(app, "app", _early_response)
    answer = client.get("/api/uploads/", headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
