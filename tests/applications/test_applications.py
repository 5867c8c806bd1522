"""Small applications with extensions: each uploads, resumes and deletes.

Each is a file next to this one and may be read as an example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask

from flask_chunked.testing import DIALECTS, UploadRefused, begin, refusal, upload
from tests.applications.walk import CONTENT, URL, Visitor, walk
from tests.apps import dispose

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ORIGIN = {"Origin": "https://app.example"}
NOTHING = lambda visitor: None  # noqa: E731


def anybody(app: Flask) -> Visitor:
    """A client without a name."""
    return Visitor(app, app.test_client())


def with_session(app: Flask) -> Visitor:
    """A user of Flask-Login."""
    client = app.test_client()
    client.post("/login/7")
    return Visitor(app, client)


def with_security_token(app: Flask) -> Visitor:
    """A user of Flask-Security with an authentication token and no session."""
    password = {"email": "ann@example.org", "password": "secret99"}
    answer = app.test_client().post("/login?include_auth_token", json=password)
    token = answer.get_json()["response"]["user"]["authentication_token"]
    return Visitor(app, app.test_client(), {"Authentication-Token": token})


def with_jwt(app: Flask) -> Visitor:
    """The identity of a token."""
    client = app.test_client()
    return Visitor(
        app, client, {"Authorization": f"Bearer {client.post('/token/ann').text}"}
    )


def with_csrf_token(app: Flask) -> Visitor:
    """A page that knows its token."""
    client = app.test_client()
    (token,) = re.findall('content="(.*)"', client.get("/").text)
    return Visitor(app, client, {"X-CSRFToken": token})


@contextmanager
def migrating(app: Flask) -> Iterator[None]:
    """For commands of Flask-Migrate, whose env.py would disable the loggers."""
    with app.app_context(), patch("logging.config.fileConfig"):
        yield


def after_upgrade(app: Flask) -> Visitor:
    """A client of an app whose tables Flask-Migrate has made."""
    import flask_migrate

    with migrating(app):
        flask_migrate.init()
        flask_migrate.migrate()
        flask_migrate.upgrade()
    return anybody(app)


# -- what else each application shows --------------------------------------------------


def owner_is_the_user(visitor: Visitor) -> None:
    mine = begin(visitor.client, URL, CONTENT)
    assert mine.json()["user"] == 7
    other = with_session(visitor.app).client
    other.post("/login/8")
    for stranger in (other, visitor.app.test_client()):
        with pytest.raises(UploadRefused, match="404"):
            mine.seen_by(stranger).resume()
    assert refusal(visitor.app.test_client(), URL, CONTENT).status_code >= 400


def owner_is_the_key(visitor: Visitor) -> None:
    sent = upload(visitor.client, URL, CONTENT, headers=visitor.headers)
    assert sent.json()["user"] == 1
    assert refusal(visitor.client, URL, CONTENT).status_code >= 400
    # The session of a form has the same uploads.
    browser = visitor.app.test_client()
    password = {"email": "ann@example.org", "password": "secret99"}
    assert browser.post("/login", data=password).status_code == 302
    assert sent.seen_by(browser).json()["user"] == 1


def token_is_required(visitor: Visitor) -> None:
    sent = upload(visitor.client, URL, CONTENT, headers=visitor.headers)
    assert sent.json()["user"] == "ann"
    for dialect in DIALECTS:
        answer = refusal(visitor.client, URL, CONTENT, dialect=dialect)
        assert answer.status_code == 401
    with pytest.raises(UploadRefused, match="401"):
        sent.seen_by(visitor.client).delete()


def csrf_token_is_required(visitor: Visitor) -> None:
    sent = upload(visitor.client, URL, CONTENT, headers=visitor.headers)
    for dialect in DIALECTS:
        answer = refusal(visitor.client, URL, CONTENT, dialect=dialect)
        assert answer.status_code == 403
    with pytest.raises(UploadRefused, match="403"):
        sent.seen_by(visitor.client).delete()
    assert sent.seen_by(visitor.client).json()["status"] == 2


def migrations_are_complete(visitor: Visitor) -> None:
    import flask_migrate

    from tests.applications.migrate import db

    with migrating(visitor.app), db.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, db.metadata) == []
        connection.close()
        flask_migrate.downgrade()
        flask_migrate.upgrade()
    assert upload(visitor.client, URL, CONTENT).read() == CONTENT


def admin_removes_bytes(visitor: Visitor) -> None:
    sent = upload(visitor.client, URL, CONTENT, filename="film.mp4")
    client = visitor.client
    assert "film.mp4" in client.get("/admin/videos/").text
    edit = f"/admin/videos/edit/?id={sent.id}"
    assert client.get(edit).status_code == 200
    client.post(edit, data={"filename": "new.mp4", "title": "T"})
    assert sent.json()["filename"] == "new.mp4"
    assert sent.read() == CONTENT
    client.post("/admin/videos/delete/", data={"id": str(sent.id)})
    assert "new.mp4" not in client.get("/admin/videos/").text
    with pytest.raises(UploadRefused, match="404"):
        sent.json()


def pages_of_another_origin_read_answers(visitor: Visitor) -> None:
    asked = {
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "tus-resumable, upload-offset, x-tenant",
    }
    preflight = visitor.client.options(URL, headers={**ORIGIN, **asked})
    assert preflight.status_code in (200, 204)
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
    assert {"tus-resumable", "upload-offset", "x-tenant"} <= set(allowed.split(", "))
    for dialect in DIALECTS:
        sent = upload(visitor.client, URL, CONTENT, dialect=dialect, headers=ORIGIN)
        (origin,) = sent.response.headers.getlist("Access-Control-Allow-Origin")
        assert origin == ORIGIN["Origin"]
    refused = refusal(
        visitor.client, "/uploads/", CONTENT, headers={**ORIGIN, "Content-Range": "x"}
    )
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]


def toolbar_is_on_pages_and_not_on_uploads(visitor: Visitor) -> None:
    sent = upload(visitor.client, URL, CONTENT, filename="seen.txt")
    assert b"flDebug" not in sent.response.data
    page = visitor.client.get("/").text
    assert "flDebug" in page and "seen.txt" in page


def documentation_is_served(visitor: Visitor) -> None:
    sent = upload(visitor.client, URL, CONTENT)
    document = visitor.client.get("/openapi.json").get_json()
    assert "/summaries/{upload_id}" in document["paths"]
    summary = visitor.client.get(f"/summaries/{sent.id}").get_json()
    assert summary == {"first": "first", "size": len(CONTENT)}


def pages_hear_progress(visitor: Visitor) -> None:
    from tests.applications.socketio import sockets

    page = sockets.test_client(visitor.app)
    for dialect in DIALECTS:
        options: Any = {"dialect": dialect, "chunk_size": 13}
        sent = upload(visitor.client, URL, CONTENT, filename="a.txt", **options)
        heard = [(one["name"], one["args"][0]) for one in page.get_received()]
        assert {one["id"] for _, one in heard} == {str(sent.id)}
        assert [one.get("percent") for _, one in heard] == [50, 100, None]
        assert heard[-1][1]["name"] == "a.txt"


@dataclass(frozen=True)
class Case:
    """An application, who comes to it, and what it shows beyond the common walk."""

    module: str
    package: str
    enter: Callable[[Flask], Visitor] = anybody
    show: Callable[[Visitor], None] = NOTHING
    config: dict[str, Any] = field(default_factory=dict)
    #: Warnings of the extension's own code, as filters of pytest.
    warnings: tuple[str, ...] = ()


CASES = (
    Case("login", "flask_login", with_session, owner_is_the_user),
    Case(
        "security",
        "flask_security",
        with_security_token,
        owner_is_the_key,
        # Its default needs another package and is slow, as it should be.
        {"SECURITY_PASSWORD_HASH": "plaintext", "WTF_CSRF_ENABLED": False},
    ),
    Case(
        "jwt",
        "flask_jwt_extended",
        with_jwt,
        token_is_required,
        {"JWT_SECRET_KEY": "x" * 40},
    ),
    Case("wtf", "flask_wtf", with_csrf_token, csrf_token_is_required),
    Case(
        "migrate",
        "flask_migrate",
        after_upgrade,
        migrations_are_complete,
        # Its env.py tries what Flask-SQLAlchemy had before version 3.
        warnings=("ignore:'get_engine' is deprecated:DeprecationWarning",),
    ),
    Case("admin", "flask_admin", show=admin_removes_bytes),
    Case("cors", "flask_cors", show=pages_of_another_origin_read_answers),
    Case(
        "debug_toolbar",
        "flask_debugtoolbar",
        show=toolbar_is_on_pages_and_not_on_uploads,
    ),
    Case("api_flask", "apiflask", show=documentation_is_served),
    Case("socketio", "flask_socketio", show=pages_hear_progress),
)


@pytest.fixture(
    params=[
        pytest.param(
            case,
            id=case.module,
            marks=[pytest.mark.filterwarnings(one) for one in case.warnings],
        )
        for case in CASES
    ]
)
def site(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Case, Visitor]]:
    """One of the applications, and its visitor."""
    case: Case = request.param
    pytest.importorskip(case.package, reason=f"{case.package} is not installed")
    config = {
        "TESTING": True,
        "SECRET_KEY": "a secret of thirty-two characters",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/app.db",
        "CHUNKED_UPLOAD_PATH": str(tmp_path / "files/%Y"),
        "MIGRATIONS": str(tmp_path / "migrations"),
        **case.config,
    }
    app = import_module(f"tests.applications.{case.module}").create_app(config)
    yield case, case.enter(app)
    dispose(app)


def test_application_uploads_resumes_and_deletes(
    site: tuple[Case, Visitor], tmp_path: Path
) -> None:
    _, visitor = site
    walk(visitor, tmp_path / "files")


def test_extension_does_its_own_work(site: tuple[Case, Visitor]) -> None:
    case, visitor = site
    case.show(visitor)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.module)
def test_application_is_short(case: Case) -> None:
    lines = (HERE / f"{case.module}.py").read_text().splitlines()
    assert len(lines) < 60
