"""Extensions next to the blueprint: one function each, which shows that both work."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, session
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables
from flask_chunked.testing import DIALECTS, begin, refusal, upload
from tests.conftest import NewApp
from tests.test_testing import run_tests

pytestmark = pytest.mark.slow

CONTENT = b"so many words, so many words, so many words" * 20
URL = "/uploads/"
#: What workers have read.
PROCESSED: list[tuple[str, bytes]] = []


def register(
    app: Flask, blueprint_class: type[ChunkedUploadBlueprint] = ChunkedUploadBlueprint
) -> ChunkedUploadBlueprint:
    """A blueprint at ``/uploads``, with its table."""
    blueprint = blueprint_class("uploads", __name__)
    app.register_blueprint(blueprint, url_prefix="/uploads")
    create_tables(app)
    return blueprint


def uploads_in_every_dialect(app: Flask, **options: Any) -> None:
    """Each dialect brings a file, half of it first."""
    client = app.test_client()
    for dialect in DIALECTS:
        sent = begin(client, URL, CONTENT, dialect=dialect, **options).resume()
        assert sent.read() == CONTENT
        assert sent.json()["status"] == 2
        assert sent.delete().status_code == 204


def http_auth(app: Flask, tmp_path: Path) -> None:
    from flask_httpauth import HTTPTokenAuth

    auth = HTTPTokenAuth()
    auth.verify_token({"good": "ann"}.get)

    class Uploads(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return auth.current_user()

    blueprint = Uploads("uploads", __name__)
    blueprint.before_request(auth.login_required(lambda: None))
    app.register_blueprint(blueprint, url_prefix="/uploads")
    create_tables(app)
    headers = {"Authorization": "Bearer good"}
    uploads_in_every_dialect(app, headers=headers)
    sent = upload(app.test_client(), URL, CONTENT, headers=headers)
    assert sent.json()["user"] == "ann"
    for dialect in DIALECTS:
        answer = refusal(app.test_client(), URL, CONTENT, dialect=dialect)
        assert answer.status_code == 401
        assert "WWW-Authenticate" in answer.headers


def limiter(app: Flask, tmp_path: Path) -> None:
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    limits = Limiter(
        get_remote_address, app=app, storage_uri="memory://", headers_enabled=True
    )
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    limits.limit("40/minute")(blueprint)
    app.register_blueprint(blueprint, url_prefix="/uploads")
    create_tables(app)
    uploads_in_every_dialect(app)
    client = app.test_client()
    while client.get(URL).status_code == 200:
        continue
    for dialect in DIALECTS:
        answer = refusal(client, URL, CONTENT, dialect=dialect)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0


def caching(app: Flask, tmp_path: Path) -> None:
    from flask_caching import Cache

    cache = Cache(app, config={"CACHE_TYPE": "SimpleCache"})
    asked: list[str] = []

    class Uploads(ChunkedUploadBlueprint):
        @cache.memoize(60)
        def get_max_bytes(self) -> int:
            asked.append(self.name)
            return len(CONTENT)

    register(app, Uploads)
    uploads_in_every_dialect(app)
    assert refusal(app.test_client(), URL, CONTENT + b"!").status_code == 400
    assert len(asked) == 1


def compress(app: Flask, tmp_path: Path) -> None:
    from flask_compress import Compress

    app.config.update(COMPRESS_MIN_SIZE=10, CHUNKED_UPLOAD_DOWNLOADS=True)
    Compress(app)
    register(app)
    uploads_in_every_dialect(app)
    client = app.test_client()
    sent = upload(client, URL, CONTENT, content_type="text/plain")
    packed = {"Accept-Encoding": "gzip"}
    shown = client.get(sent.url, headers=packed)
    assert json.loads(gzip.decompress(shown.data))["id"] == str(sent.id)
    span = {**packed, "Range": "bytes=0-9"}
    with client.get(f"{sent.url}/file", headers=span) as ranged:
        assert (ranged.status_code, ranged.data) == (206, CONTENT[:10])
        assert ranged.headers["Content-Range"] == f"bytes 0-9/{len(CONTENT)}"
    head = client.head(sent.url, headers=packed)
    assert head.headers["Upload-Offset"] == str(len(CONTENT))


def talisman(app: Flask, tmp_path: Path) -> None:
    from flask_talisman import Talisman

    Talisman(app)
    register(app)
    client = app.test_client()
    assert refusal(client, URL, CONTENT).status_code == 302
    for dialect in DIALECTS:
        goal = f"https://localhost{URL}"
        sent = begin(client, goal, CONTENT, dialect=dialect).resume()
        assert sent.url.startswith(goal)
        assert sent.read() == CONTENT
        assert "Strict-Transport-Security" in sent.response.headers


def smorest(app: Flask, tmp_path: Path) -> None:
    from flask_smorest import Api, Blueprint

    app.config.update(
        API_TITLE="Files",
        API_VERSION="1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    api = Api(app)
    pets = Blueprint("pets", __name__)
    pets.route("/pets")(pets.response(204)(lambda: None))
    api.register_blueprint(pets)
    register(app)
    uploads_in_every_dialect(app)
    paths = app.test_client().get("/openapi.json").get_json()["paths"]
    assert "/pets" in paths


def flasgger(app: Flask, tmp_path: Path) -> None:
    from flasgger import Swagger

    register(app)
    Swagger(app)

    @app.get("/pets")
    def pets() -> str:
        """List pets.
        ---
        responses: {200: {description: names}}
        """
        return ""

    uploads_in_every_dialect(app)
    assert "/pets" in app.test_client().get("/apispec_1.json").get_json()["paths"]


def api_fairy(app: Flask, tmp_path: Path) -> None:
    from apifairy import APIFairy, response
    from flask_marshmallow import Marshmallow

    APIFairy(app)
    schemas = Marshmallow(app)
    blueprint = register(app)

    class Beginning(schemas.Schema):
        text = schemas.Str()

    @app.get("/beginnings/<upload_id>")
    @response(Beginning)
    def beginning(upload_id: str) -> object:
        with blueprint.open_file(upload_id) as file:
            return {"text": file.read(7).decode()}

    uploads_in_every_dialect(app)
    client = app.test_client()
    document = client.get("/apispec.json").get_json()
    assert "/beginnings/{upload_id}" in document["paths"]
    sent = upload(client, URL, CONTENT)
    assert client.get(f"/beginnings/{sent.id}").get_json() == {"text": "so many"}


def spectree(app: Flask, tmp_path: Path) -> None:
    from spectree import SpecTree

    spec = SpecTree("flask")
    register(app)
    app.get("/pets")(spec.validate()(lambda: "none"))
    spec.register(app)
    uploads_in_every_dialect(app)
    paths = app.test_client().get("/apidoc/openapi.json").get_json()["paths"]
    assert "/pets" in paths


def frozen(app: Flask, tmp_path: Path) -> None:
    from flask_frozen import Freezer

    app.config["FREEZER_DESTINATION"] = str(tmp_path / "frozen")
    # The list of uploads is JSON at a URL that becomes index.html.
    app.config["FREEZER_IGNORE_MIMETYPE_WARNINGS"] = True
    register(app)
    app.get("/")(lambda: "a page")
    uploads_in_every_dialect(app)
    Freezer(app).freeze()
    assert (tmp_path / "frozen/index.html").read_text() == "a page"


def server_session(kind: str) -> Callable[[Flask, Path], None]:
    """The owner's name is in a session of Flask-Session, which the hook changes."""

    def smoke(app: Flask, tmp_path: Path) -> None:
        from cachelib import FileSystemCache
        from flask_session import Session

        app.config.update(
            SESSION_TYPE=kind,
            SESSION_SQLALCHEMY=app.extensions["sqlalchemy"],
            SESSION_CACHELIB=FileSystemCache(str(tmp_path / "sessions")),
            CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False,
        )
        Session(app)

        class Uploads(ChunkedUploadBlueprint):
            def get_user_id(self) -> object:
                session["seen"] = session.get("seen", 0) + 1
                return session.get("user")

        @app.post("/login")
        def log_in() -> str:
            session["user"] = "ann"
            return "welcome"

        register(app, Uploads)
        client = app.test_client()
        client.post("/login")
        for dialect in DIALECTS:
            sent = begin(client, URL, CONTENT, dialect=dialect).resume()
            assert sent.read() == CONTENT
            assert sent.json()["user"] == "ann"
        assert refusal(app.test_client(), URL, CONTENT).status_code >= 400

    return smoke


def celery(app: Flask, tmp_path: Path) -> None:
    from celery import Celery

    tasks = Celery("smoke", task_cls=None)
    tasks.conf.update(task_always_eager=True, task_store_eager_result=False)

    @tasks.task
    def process(upload_id: str) -> None:
        read_in_worker(upload_id)

    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            process.delay(str(upload.id))

    register(app, Uploads)
    delivers(app)


def rq(app: Flask, tmp_path: Path) -> None:
    import fakeredis
    from rq import Queue

    queue = Queue(is_async=False, connection=fakeredis.FakeStrictRedis())

    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            queue.enqueue(read_in_worker, str(upload.id))

    register(app, Uploads)
    delivers(app)


def read_in_worker(upload_id: str) -> None:
    """What a job does with the id; a worker pushes the app's context."""
    blueprint = current_app.blueprints["uploads"]
    assert isinstance(blueprint, ChunkedUploadBlueprint)
    with blueprint.open_file(upload_id) as file:
        PROCESSED.append((upload_id, file.read()))


def delivers(app: Flask) -> None:
    """Each upload reaches the worker once."""
    PROCESSED.clear()
    client = app.test_client()
    sent = [upload(client, URL, CONTENT, dialect=dialect) for dialect in DIALECTS]
    assert [(str(one.id), CONTENT) for one in sent] == PROCESSED


PYTEST_FLASK = """
import pytest
from flask import url_for
from app import create_app
from flask_chunked import uploads
from flask_chunked.testing import DIALECTS, begin


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", "sqlite://")
    monkeypatch.setenv("FLASK_CHUNKED_UPLOAD_STORAGE_CLASS", STORAGE)
    return create_app()


STORAGE = "flask_chunked.testing:MemoryStorage"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_upload(client, dialect):
    url = url_for("uploads.collection", _external=False)
    sent = begin(client, url, b"content", dialect=dialect)
    assert [one.offset for one in uploads()] == [3]
    assert sent.resume().read() == b"content"
    assert client.get(sent.url).json["status"] == 2
"""


def pytest_flask(app: Flask, tmp_path: Path) -> None:
    from tests.documents import README, code, section

    (quickstart,) = code(section(README, "Quickstart"))
    files = {"app": quickstart, "test_app": PYTEST_FLASK}
    output = run_tests(tmp_path, "-p", "pytest_flask.plugin", **files)
    assert f"{len(DIALECTS)} passed" in output


@dataclass(frozen=True)
class Smoke:
    """What runs, what it needs, and warnings of the extension's own code."""

    run: Callable[[Flask, Path], None]
    packages: tuple[str, ...]
    warnings: tuple[str, ...] = ()


SMOKES: dict[str, Smoke] = {
    "Flask-HTTPAuth": Smoke(http_auth, ("flask_httpauth",)),
    "Flask-Limiter": Smoke(limiter, ("flask_limiter",)),
    "Flask-Caching": Smoke(caching, ("flask_caching",)),
    "Flask-Compress": Smoke(compress, ("flask_compress",)),
    "flask-talisman": Smoke(talisman, ("flask_talisman",)),
    "flask-smorest": Smoke(smorest, ("flask_smorest",)),
    "flasgger": Smoke(flasgger, ("flasgger",)),
    "APIFairy": Smoke(api_fairy, ("apifairy",)),
    "spectree": Smoke(spectree, ("spectree",)),
    "Frozen-Flask": Smoke(
        frozen,
        ("flask_frozen",),
        # Uploads are no pages to freeze.
        ("ignore:Nothing frozen for endpoints uploads",),
    ),
    "Flask-Session-sqlalchemy": Smoke(
        server_session("sqlalchemy"), ("flask_session", "cachelib")
    ),
    "Flask-Session-cachelib": Smoke(
        server_session("cachelib"), ("flask_session", "cachelib")
    ),
    "Celery": Smoke(celery, ("celery",)),
    "RQ": Smoke(rq, ("rq", "fakeredis")),
    "pytest-flask": Smoke(pytest_flask, ("pytest_flask",)),
}


@pytest.mark.parametrize(
    "smoke",
    [
        pytest.param(
            smoke,
            id=name,
            marks=[pytest.mark.filterwarnings(one) for one in smoke.warnings],
        )
        for name, smoke in SMOKES.items()
    ],
)
def test_extension_and_uploads_work(
    smoke: Smoke, new_app: NewApp, tmp_path: Path
) -> None:
    for package in smoke.packages:
        pytest.importorskip(package, reason=f"{package} is not installed")
    # APIFairy looks for a module of the app's name.
    app = new_app(SQLAlchemy(), __name__, SECRET_KEY="test")
    smoke.run(app, tmp_path)
