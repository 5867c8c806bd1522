"""Applications around the blueprint: prefixes, proxies, limits, forms already read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, request, url_for
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_chunked import ChunkedUploadBlueprint, create_tables
from tests.apps import dispose, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.wire import DATA, MD5, OCTETS, part, state, told

RANGE = {"Content-Range": "bytes 0-4/10"}


def begin(client: Client, prefix: str, **options: Any) -> dict[str, Any]:
    """A first chunk; the answer's JSON."""
    answer = client.put(
        f"{prefix}/", data=DATA[:5], headers=RANGE, content_type=OCTETS, **options
    )
    assert answer.status_code == 200, answer.data
    body = answer.json
    assert isinstance(body, dict)
    return body


def go_on(client: FlaskClient, url: str) -> None:
    """Send the remaining bytes and complete."""
    answer = client.put(
        url,
        data=DATA[5:],
        headers={"Content-Range": "bytes 5-9/10"},
        content_type=OCTETS,
    )
    assert answer.status_code == 200, answer.data
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)


@pytest.fixture
def bare(tmp_path: Path) -> Any:
    """An app with a database and no blueprint yet."""
    app = Flask("tests", instance_path=str(tmp_path / "instance"))
    app.config.update(
        TESTING=True,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/app.db",
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True,
        CHUNKED_UPLOAD_DOWNLOADS=True,
    )
    SQLAlchemy(app)
    yield app
    dispose(app)


# -- prefixes --------------------------------------------------------------------------


def test_mounted_app_builds_urls_below_its_mount(app: Flask) -> None:
    def nothing(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return []

    client = Client(DispatcherMiddleware(nothing, {"/shop": app.wsgi_app}))
    created = begin(client, "/shop/uploads")
    assert created["url"] == f"http://localhost/shop/uploads/{created['id']}"
    assert client.get(created["url"]).json == created


def test_urls_follow_the_proxy_that_is_trusted(app_factory: AppFactory) -> None:
    app = app_factory()
    app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
        app.wsgi_app, x_proto=1, x_host=1, x_prefix=1
    )
    created = app.test_client().put(
        "/uploads/",
        data=DATA[:5],
        headers={
            **RANGE,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "files.example.org",
            "X-Forwarded-Prefix": "/app",
        },
        content_type=OCTETS,
    )
    body = created.get_json()
    assert body["url"] == f"https://files.example.org/app/uploads/{body['id']}"


def test_forwarded_headers_are_not_trusted_by_default(client: FlaskClient) -> None:
    created = client.put(
        "/uploads/",
        data=DATA[:5],
        headers={**RANGE, "X-Forwarded-Host": "evil.example.org"},
        content_type=OCTETS,
    )
    assert created.get_json()["url"].startswith("http://localhost/uploads/")


@pytest.mark.parametrize("prefix", ["", "/", None], ids=["empty", "slash", "none"])
def test_blueprint_without_prefix_leaves_other_urls_alone(
    bare: Flask, prefix: str | None
) -> None:
    @bare.route("/about")
    def about() -> str:
        return "about us"

    @bare.route("/items/<int:number>")
    def item(number: int) -> str:
        return f"item {number}"

    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    bare.register_blueprint(blueprint, url_prefix=prefix)
    create_tables(bare)
    client = bare.test_client()
    assert client.get("/about").data == b"about us"
    assert client.get("/items/7").data == b"item 7"
    created = begin(client, "")
    assert created["url"] == f"http://localhost/{created['id']}"
    go_on(client, created["url"])
    with client.get(f"/{created['id']}/file") as content:
        assert content.data == DATA
    assert told(client.get("/")) == (200, [])
    assert told(client.get("/nowhere")) == (404, {"detail": "Not found."})


def test_nested_blueprint(bare: Flask) -> None:
    parent = Blueprint("api", __name__, url_prefix="/api")
    child = ChunkedUploadBlueprint("uploads", __name__, url_prefix="/v1/up")
    parent.register_blueprint(child)
    bare.register_blueprint(parent)
    create_tables(bare)
    client = bare.test_client()
    created = begin(client, "/api/v1/up")
    assert created["url"] == f"http://localhost/api/v1/up/{created['id']}"
    go_on(client, created["url"])
    assert rows(bare, "api.uploads")[0].blueprint == "api.uploads"
    with bare.test_request_context():
        assert url_for("api.uploads.collection") == "/api/v1/up/"


def test_variable_in_the_prefix_is_kept_in_urls(bare: Flask) -> None:
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    bare.register_blueprint(blueprint, url_prefix="/<tenant>/<int:year>/uploads")
    create_tables(bare)
    client = bare.test_client()
    created = begin(client, "/acme/2026/uploads")
    assert created["url"] == f"http://localhost/acme/2026/uploads/{created['id']}"
    go_on(client, created["url"])
    done = client.get(created["url"]).get_json()
    assert done["file"] == f"{created['url']}/file"


def test_variable_in_the_prefix_is_there_for_the_policy(bare: Flask) -> None:
    class Tenant(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return (request.view_args or {})["tenant"]

    bare.register_blueprint(Tenant("uploads", __name__), url_prefix="/<tenant>/up")
    create_tables(bare)
    client = bare.test_client()
    created = begin(client, "/acme/up")
    assert created["user"] == "acme"
    assert client.get(f"/other/up/{created['id']}").status_code == 404


def test_one_blueprint_under_two_names(bare: Flask) -> None:
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    bare.register_blueprint(blueprint, url_prefix="/a")
    bare.register_blueprint(blueprint, name="second", url_prefix="/b")
    create_tables(bare)
    client = bare.test_client()
    first, second = begin(client, "/a"), begin(client, "/b")
    assert first["url"].startswith("http://localhost/a/")
    assert second["url"].startswith("http://localhost/b/")
    assert client.get(f"/b/{first['id']}").status_code == 404
    assert client.get(f"/a/{second['id']}").status_code == 404


# -- limits and forms of the application -----------------------------------------------


def test_max_content_length_of_the_app_does_not_limit_chunks(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    client = app_factory(MAX_CONTENT_LENGTH=100, MAX_FORM_MEMORY_SIZE=100).test_client()
    data = b"x" * 50_000
    raw = client.put(
        "/uploads/",
        data=data,
        headers={"Content-Range": "bytes 0-49999/100000"},
        content_type=OCTETS,
    )
    assert state(raw) == (200, 1, 50_000)
    form = client.put(
        raw.get_json()["url"],
        data={"file": part(data)},
        headers={"Content-Range": "bytes 50000-99999/100000"},
    )
    assert state(form) == (200, 1, 100_000)
    assert len(stored_files(tmp_path)[0].read_bytes()) == 100_000


@pytest.fixture
def reading(app_factory: AppFactory) -> FlaskClient:
    """A client of an app that reads every form before the blueprint does."""
    app = app_factory()

    @app.before_request
    def read() -> None:
        assert request.form is not None
        assert request.files is not None

    return app.test_client()


def test_form_that_the_app_has_read_is_taken_from_it(
    reading: FlaskClient, tmp_path: Path
) -> None:
    created = reading.put(
        "/uploads/",
        data={"file": part(DATA[:5], "a.bin"), "filename": "field.bin"},
        headers=RANGE,
    )
    assert state(created) == (200, 1, 5)
    assert created.get_json()["filename"] == "field.bin"
    url = created.get_json()["url"]
    answer = reading.put(
        url,
        data={"files[]": part(DATA[5:])},
        headers={"Content-Range": "bytes 5-9/10"},
    )
    assert state(answer) == (200, 1, 10)
    assert state(reading.post(url, data={"md5": MD5})) == (200, 2, 10)
    assert stored_files(tmp_path)[0].read_bytes() == DATA


def test_whole_file_that_the_app_has_read(reading: FlaskClient) -> None:
    form = {"file": part(DATA), "md5": MD5}
    assert state(reading.post("/uploads/", data=form)) == (200, 2, 10)


def test_raw_chunk_in_an_app_that_reads_forms(reading: FlaskClient) -> None:
    created = begin(reading, "/uploads")
    go_on(reading, created["url"])


@pytest.mark.parametrize(
    ("form", "detail"),
    [
        ({"other": 1}, "No chunk file was submitted"),
        ({"file": 2}, "More than one file in the form"),
        ({"file": 1, "files[]": 1}, "More than one file in the form"),
    ],
)
def test_bad_form_that_the_app_has_read(
    reading: FlaskClient, form: dict[str, int], detail: str
) -> None:
    parts = {
        name: [(io.BytesIO(DATA[:5]), f"{name}{i}") for i in range(count)]
        for name, count in form.items()
    }
    answer = reading.put("/uploads/", data=parts, headers=RANGE)
    assert told(answer) == (400, {"detail": detail})
