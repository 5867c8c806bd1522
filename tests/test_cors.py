"""Pages of other origins: off by default, exact origins, preflights, errors."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from flask_chunked import CORS_EXPOSE_HEADERS, ConfigurationError
from tests.conftest import AppFactory
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
