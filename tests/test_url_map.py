"""What walks ``app.url_map`` meets no surprise: methods, views, defaults, listings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, url_for
from flask.cli import FlaskGroup
from flask_sqlalchemy import SQLAlchemy
from werkzeug.routing import Rule

from flask_chunked import ChunkedUploadBlueprint, create_tables
from tests.conftest import NewApp

METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


def _plain(app: Flask, uploads: ChunkedUploadBlueprint) -> None:
    app.register_blueprint(uploads, url_prefix="/uploads")


def _variable(app: Flask, uploads: ChunkedUploadBlueprint) -> None:
    app.register_blueprint(uploads, url_prefix="/projects/<int:project>/files")


def _root(app: Flask, uploads: ChunkedUploadBlueprint) -> None:
    app.register_blueprint(uploads)


def _defaults(app: Flask, uploads: ChunkedUploadBlueprint) -> None:
    app.register_blueprint(uploads, url_prefix="/uploads", url_defaults={"kind": "a"})


def _nested(app: Flask, uploads: ChunkedUploadBlueprint) -> None:
    api = Blueprint("api", __name__, url_prefix="/api")
    api.register_blueprint(uploads, url_prefix="/uploads")
    app.register_blueprint(api)


def _twice(app: Flask, uploads: ChunkedUploadBlueprint) -> None:
    app.register_blueprint(uploads, url_prefix="/films", name="films")
    app.register_blueprint(uploads, url_prefix="/songs", name="songs")


Registers = Callable[[Flask, ChunkedUploadBlueprint], None]


@pytest.fixture(
    params=[_plain, _variable, _root, _defaults, _nested, _twice],
    ids=lambda register: register.__name__.strip("_"),
)
def app(request: pytest.FixtureRequest, new_app: NewApp) -> Flask:
    app = new_app(SQLAlchemy())
    register: Registers = request.param
    register(app, ChunkedUploadBlueprint("uploads", __name__))
    create_tables(app)

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    return app


def ours(app: Flask) -> list[Rule]:
    """The rules of our blueprints, but for their static files."""
    last = ("collection", "upload", "file", "dispatch")
    rules = list(app.url_map.iter_rules())
    return [rule for rule in rules if rule.endpoint.rpartition(".")[2] in last]


def test_every_rule_has_its_methods_and_a_view(app: Flask) -> None:
    assert len(ours(app)) % 4 == 0
    for rule in ours(app):
        assert isinstance(rule.methods, set)
        assert rule.methods == METHODS
        assert not rule.build_only
        assert not rule.provide_automatic_options  # type: ignore[attr-defined]
    for rule in app.url_map.iter_rules():
        assert rule.methods
        assert sorted(rule.methods)
        assert callable(app.view_functions[rule.endpoint])
        assert app.view_functions[rule.endpoint].__name__


def test_rules_without_arguments_can_be_built(app: Flask) -> None:
    """The recipe of a site map."""
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if len(rule.defaults or ()) >= len(rule.arguments):
                assert url_for(rule.endpoint, **(rule.defaults or {})).startswith("/")


def test_every_rule_can_be_built(app: Flask) -> None:
    values = {"project": "7", "upload_id": "x", "rest": "y/z", "filename": "f"}
    with app.test_request_context():
        for rule in ours(app):
            known: dict[str, Any] = {
                name: values[name] for name in rule.arguments if name in values
            }
            assert url_for(rule.endpoint, **known)


def test_flask_routes_lists_the_rules(app: Flask) -> None:
    group = FlaskGroup(create_app=lambda: app)
    result = app.test_cli_runner().invoke(group, ["routes"])
    assert result.exit_code == 0, result.output
    listed = [re.split(r"  +", line.rstrip()) for line in result.output.splitlines()]
    # Flask leaves HEAD and OPTIONS out.
    for rule in ours(app):
        assert [rule.endpoint, "DELETE, GET, PATCH, POST, PUT", rule.rule] in listed


def test_names_of_endpoints(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    _plain(app, ChunkedUploadBlueprint("uploads", __name__))
    with app.test_request_context():
        assert url_for("uploads.collection") == "/uploads/"
        assert url_for("uploads.upload", upload_id="x") == "/uploads/x"
        assert url_for("uploads.file", upload_id="x") == "/uploads/x/file"
        assert url_for("uploads.static", filename="chunked-upload.js") == (
            "/uploads/static/chunked-upload.js"
        )


def test_view_of_each_rule_is_asked_for_its_endpoint(new_app: NewApp) -> None:
    """``request.endpoint`` names what the path names."""
    app = new_app(SQLAlchemy())
    _plain(app, ChunkedUploadBlueprint("uploads", __name__))
    adapter = app.url_map.bind("localhost")
    for path, endpoint in {
        "/uploads": "collection",
        "/uploads/": "collection",
        "/uploads/x": "upload",
        "/uploads/x/": "upload",
        "/uploads/x\n": "upload",
        "/uploads/x/file": "file",
        "/uploads/x/file/": "file",
        "/uploads/x/y": "dispatch",
        "/uploads/\n/\n": "dispatch",
        "/uploads//x": "dispatch",
        "/uploads/static/chunked-upload.js": "static",
    }.items():
        assert adapter.match(path, method="GET")[0] == f"uploads.{endpoint}", path


def test_own_routes_of_the_application_come_first(new_app: NewApp) -> None:
    """Whether they are written before or after the blueprint, with variables or not."""
    app = new_app(SQLAlchemy())
    app.add_url_rule("/before/<slug>", "before", lambda slug: f"before {slug}")
    uploads = ChunkedUploadBlueprint("uploads", __name__)

    @uploads.get("/mine")
    def mine() -> str:
        return "mine"

    app.register_blueprint(uploads)
    app.add_url_rule("/<slug>", "page", lambda slug: f"page {slug}")
    app.add_url_rule("/<slug>/file", "paged", lambda slug: f"file of {slug}")
    app.add_url_rule("/<path:rest>", "rest", lambda rest: f"rest {rest}")
    create_tables(app)
    client = app.test_client()
    for path, text in {
        "/before/x": "before x",
        "/mine": "mine",
        "/about": "page about",
        "/about/file": "file of about",
        "/a/b/c": "rest a/b/c",
    }.items():
        assert client.get(path).text == text
    assert client.put("/about").get_json()["detail"]


@pytest.mark.parametrize("prefix", ["/uploads", None])
def test_methods_of_the_applications_routes_are_told(
    new_app: NewApp, prefix: str | None
) -> None:
    """Flask asks the map for them, and our rules match the same paths."""
    app = new_app(SQLAlchemy())
    uploads = ChunkedUploadBlueprint("uploads", __name__)
    uploads.add_url_rule("/mine", "mine", lambda: "mine", methods=["GET"])
    app.register_blueprint(uploads, url_prefix=prefix)
    create_tables(app)
    answer = app.test_client().options(f"{prefix or ''}/mine")
    assert answer.status_code == 200
    assert {"GET", "HEAD", "OPTIONS"} <= set(answer.allow)
    adapter = app.url_map.bind("localhost")
    assert set(adapter.allowed_methods(f"{prefix or ''}/x")) >= METHODS


@pytest.mark.parametrize(
    "options", [{}, {"strict_slashes": False}, {"redirect_defaults": False}]
)
def test_settings_of_the_map_do_not_matter(
    new_app: NewApp, options: dict[str, bool]
) -> None:
    app = new_app(SQLAlchemy())
    for name, value in options.items():
        setattr(app.url_map, name, value)
    _plain(app, ChunkedUploadBlueprint("uploads", __name__))
    create_tables(app)
    client = app.test_client()
    assert client.get("/uploads").status_code == 200
    assert client.get("/uploads/").status_code == 200
    assert client.get("/uploads//").get_json() == {
        "detail": "Not found.",
        "code": "unknown_upload",
    }


def test_any_method_is_answered_by_us(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    _plain(app, ChunkedUploadBlueprint("uploads", __name__))
    create_tables(app)
    for method in ("PURGE", "TRACE", "PROPFIND", "get"):
        for path in ("/uploads", "/uploads/x", "/uploads/x/file", "/uploads/x/y"):
            answer = app.test_client().open(path, method=method)
            assert answer.is_json, (method, path)
            assert answer.status_code in (200, 404, 405)
