"""URLs of a blueprint below any prefix, host and mount point."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from flask import Blueprint, Flask, g, url_for
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_chunked import ChunkedUploadBlueprint, ConfigurationError, create_tables
from tests.apps import FLASK
from tests.conftest import NewApp
from tests.exchange import md5, put_raw

#: Of the cases' apps, which have the same model: it is built once.
DB = SQLAlchemy()
TUS = {"Tus-Resumable": "1.0.0"}
OCTETS = "application/offset+octet-stream"


def _add(app: Flask, **options: Any) -> None:
    app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__), **options)


def _in_parent(app: Flask, **options: Any) -> None:
    parent = Blueprint("api", __name__, url_prefix="/<version>")
    parent.register_blueprint(ChunkedUploadBlueprint("uploads", __name__), **options)
    app.register_blueprint(parent)


def _with_language(app: Flask, **options: Any) -> None:
    """Flask's recipe for languages in URLs."""
    uploads = ChunkedUploadBlueprint("uploads", __name__)

    @uploads.url_value_preprocessor
    def pull(endpoint: str | None, values: dict[str, Any] | None) -> None:
        assert values is not None
        g.language = values.pop("language")

    @uploads.url_defaults
    def add(endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("language", g.language)

    app.register_blueprint(uploads, **options)


def _with_stray_default(app: Flask, **options: Any) -> None:
    """An application that gives every URL a value: it becomes a query."""
    _add(app, **options)

    @app.url_defaults
    def add(endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("lang", "de")


class Case:
    """A way to register the blueprint, and the URL of its collection."""

    def __init__(
        self,
        prefix: str | None,
        path: str,
        *,
        base: str = "http://localhost",
        register: Callable[..., None] = _add,
        config: Mapping[str, object] | None = None,
        options: Mapping[str, object] | None = None,
        flask: Mapping[str, object] | None = None,
    ) -> None:
        self.path = path
        self.base = base
        self.register = register
        self.config = config or {}
        self.options = dict(options or {})
        if prefix is not None:
            self.options["url_prefix"] = prefix
        self.flask = flask or {}


PROJECT = "/projects/<int:project>/files"
SUBDOMAINS = {"subdomain_matching": True}
NAMED = {"SERVER_NAME": "example.test"}
HOSTS = {"host_matching": True, "static_host": "static.test"}

CASES = {
    "plain": Case("/uploads", "/uploads/"),
    "none": Case(None, "/"),
    "root": Case("/", "/"),
    "slash at the end": Case("/uploads/", "/uploads/"),
    "integer": Case(PROJECT, "/projects/7/files/"),
    "tenant": Case("/<tenant>/uploads", "/red/uploads/"),
    "latin-1 tenant": Case("/<tenant>/uploads", "/bücher/uploads/"),
    "other tenant": Case("/<tenant>/uploads", "/€😀/uploads/"),
    "tenant with a blank": Case("/<tenant>/uploads", "/a b/uploads/"),
    "tenant with a quote": Case("/<tenant>/uploads", '/">;rel=x,/uploads/'),
    "tenant with a percent sign": Case("/<tenant>/uploads", "/50%25/uploads/"),
    "tenant with a line feed": Case("/<tenant>/uploads", "/a\nb/uploads/"),
    "tenant with a question mark": Case("/<tenant>/uploads", "/a?b#c/uploads/"),
    "path": Case("/<path:where>/uploads", "/a/b/uploads/"),
    "non-Latin prefix": Case("/загрузки/上传", "/загрузки/上传/"),
    "prefix with a blank": Case("/my files", "/my files/"),
    "nested": Case("/uploads", "/v1/uploads/", register=_in_parent),
    "language": Case("/<language>/up", "/de/up/", register=_with_language),
    "stray default": Case("/uploads", "/uploads/", register=_with_stray_default),
    "url_defaults": Case(
        "/<lang>/up", "/en/up/", options={"url_defaults": {"lang": "en"}}
    ),
    "server name": Case("/uploads", "/uploads/", config=NAMED),
    "subdomain": Case(
        "/uploads",
        "/uploads/",
        base="http://up.example.test",
        config=NAMED,
        flask=SUBDOMAINS,
        options={"subdomain": "up"},
    ),
    "tenant's subdomain": Case(
        "/uploads",
        "/uploads/",
        base="http://acme.example.test",
        config=NAMED,
        flask=SUBDOMAINS,
        options={"subdomain": "<tenant>"},
    ),
    "any host": Case("/uploads", "/uploads/", base="http://a.test:8080", flask=HOSTS),
    "any host, tenant": Case(
        "/<tenant>/uploads", "/é/uploads/", base="http://a.test", flask=HOSTS
    ),
    "any host, nested": Case(
        "/up", "/v1/up/", base="http://a.test", flask=HOSTS, register=_in_parent
    ),
    "one host": Case(
        "/uploads",
        "/uploads/",
        base="http://up.test",
        flask=HOSTS,
        options={"host": "up.test"},
    ),
    "tenant's host": Case(
        "/uploads",
        "/uploads/",
        base="http://acme.up.test",
        flask=HOSTS,
        options={"host": "<tenant>.up.test"},
    ),
}
if FLASK < (3, 1):
    # It answers requests for SERVER_NAME only.
    del CASES["server name"]


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def app(case: Case, new_app: NewApp, tmp_path: Any) -> Flask:
    if case.flask:
        app = Flask("hosts", instance_path=str(tmp_path), **case.flask)  # type: ignore[arg-type]
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/hosts.db"
        app.config["CHUNKED_UPLOAD_ALLOW_ANONYMOUS"] = True
        app.config["TESTING"] = True
        app.config.update(case.config)
        DB.init_app(app)
    else:
        app = new_app(DB, **case.config)
    app.config["CHUNKED_UPLOAD_DOWNLOADS"] = True
    app.config["CHUNKED_UPLOAD_USER_RESTRICTED"] = False
    case.register(app, **case.options)
    create_tables(app)
    return app


def quoted(path: str) -> str:
    """The path as a URL has it; a percent sign in it is written as %25 already."""
    return "/".join(
        quote(part.replace("%25", "%"), safe="") for part in path.split("/")
    )


def sent_path(case: Case) -> str:
    return case.path.replace("%25", "%")


class Here:
    """A client of the case's app."""

    def __init__(self, app: Flask, case: Case) -> None:
        self.client: FlaskClient = app.test_client()
        self.base = case.base
        self.collection = quoted(case.path)

    def open(self, url: str, **options: Any) -> Any:
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}" if parts.netloc else self.base
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return self.client.open(path, base_url=host, **options)


@pytest.fixture
def here(app: Flask, case: Case) -> Here:
    return Here(app, case)


def content(answer: Any) -> bytes:
    """The body of a download."""
    with answer:
        data: bytes = answer.data
    return data


def test_urls_of_an_upload(here: Here, case: Case) -> None:
    first = here.open(
        here.collection,
        method="PUT",
        data=b"abc",
        headers={"Content-Range": "bytes 0-2/3"},
        content_type="application/octet-stream",
    )
    assert first.status_code == 200, first.text
    url = first.json["url"]
    assert url.isascii()
    assert unquote(urlsplit(url).path) == sent_path(case) + first.json["id"]
    assert here.open(url).json["id"] == first.json["id"]
    done = here.open(url, method="POST", data={"md5": md5(b"abc")})
    assert done.status_code == 200, done.text
    assert done.json["file"].isascii()
    assert content(here.open(done.json["file"])) == b"abc"
    shown = here.open(url)
    assert shown.headers["Link"] == f'<{done.json["file"]}>; rel="enclosure"'


def test_location_is_a_path_that_a_tus_client_can_follow(
    here: Here, case: Case
) -> None:
    created = here.open(
        here.collection, method="POST", headers={**TUS, "Upload-Length": "3"}
    )
    assert created.status_code == 201, created.text
    location = created.headers["Location"]
    assert location.isascii()
    assert location.startswith("/") and not location.startswith("//")
    assert unquote(location).startswith(sent_path(case))
    sent = here.open(
        location,
        method="PATCH",
        data=b"abc",
        headers={**TUS, "Upload-Offset": "0", "Content-Type": OCTETS},
    )
    assert (sent.status_code, sent.headers["Upload-Offset"]) == (204, "3")


def test_link_of_a_list_leads_to_the_next_page(here: Here) -> None:
    for _ in range(3):
        here.open(here.collection, method="POST", headers={**TUS, "Upload-Length": "3"})
    seen: list[str] = []
    url = here.collection + "?per_page=2"
    for _ in range(2):
        page = here.open(url)
        assert page.status_code == 200, page.text
        seen += [upload["id"] for upload in page.json]
        link = page.headers.get("Link", "")
        match = re.fullmatch(r'<([!-;=?-~]+)>; rel="next"', link)
        if match is None:
            assert link == ""
            break
        url = match[1]
    assert len(set(seen)) == len(seen) == 3


def test_members_of_a_final_upload_are_found(here: Here) -> None:
    def partial(data: bytes) -> str:
        created = here.open(
            here.collection,
            method="POST",
            data=data,
            headers={
                **TUS,
                "Upload-Length": str(len(data)),
                "Upload-Concat": "partial",
                "Content-Type": OCTETS,
            },
        )
        assert created.status_code == 201, created.text
        location: str = created.headers["Location"]
        return location

    members = f"final;{partial(b'abc')} {partial(b'def')}"
    final = here.open(
        here.collection, method="POST", headers={**TUS, "Upload-Concat": members}
    )
    assert final.status_code == 201, final.text
    assert content(here.open(final.headers["Location"] + "/file")) == b"abcdef"


def test_module_of_the_browser_is_served(app: Flask, here: Here, case: Case) -> None:
    """Without a prefix the application's own folder is at ``/static``."""
    static = "/uploads/static/" if case.path == "/" else here.collection + "static/"
    answer = here.open(static + "chunked-upload.js")
    assert answer.status_code == 200
    assert b"class ChunkedUpload" in content(answer)
    assert here.open(static + "missing.js").status_code == 404
    if case.path == "/":
        with app.test_request_context():
            url = url_for("uploads.static", filename="chunked-upload.js")
            assert url == static + "chunked-upload.js"


def test_unknown_paths_are_answered_by_us(here: Here) -> None:
    answer = here.open(here.collection + "x/y/z")
    assert (answer.status_code, answer.json) == (
        404,
        {"detail": "Not found.", "code": "unknown_upload"},
    )


# -- hosts -----------------------------------------------------------------------------


def hosting(tmp_path: Any, **options: Any) -> Flask:
    app = Flask("h", instance_path=str(tmp_path), **HOSTS)  # type: ignore[arg-type]
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/h.db"
    app.config["CHUNKED_UPLOAD_ALLOW_ANONYMOUS"] = True
    SQLAlchemy(app)
    uploads = ChunkedUploadBlueprint("uploads", __name__)
    uploads.add_url_rule("/mine", "mine", lambda: "mine")
    app.register_blueprint(uploads, url_prefix="/uploads", **options)
    create_tables(app)
    return app


def test_other_hosts_than_the_given_one_are_not_ours(tmp_path: Any) -> None:
    client = hosting(tmp_path, host="up.test").test_client()
    assert client.get("/uploads/", base_url="http://up.test").status_code == 200
    assert client.get("/uploads/", base_url="http://a.test").status_code == 404
    assert client.get("/uploads/mine", base_url="http://up.test").text == "mine"


def test_views_of_the_blueprint_do_not_see_the_variable_of_any_host(
    tmp_path: Any,
) -> None:
    app = hosting(tmp_path)
    client = app.test_client()
    assert client.get("/uploads/mine", base_url="http://a.test").text == "mine"
    with app.test_request_context(base_url="http://b.test"):
        assert url_for("uploads.collection") == "/uploads/"
        url = url_for("uploads.collection", _external=True)
        assert url == "http://b.test/uploads/"
    app.config["SERVER_NAME"] = "c.test"
    with app.app_context():
        assert url_for("uploads.collection") == "http://c.test/uploads/"


def test_host_without_host_matching_is_an_error(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    with pytest.raises(ConfigurationError, match="host_matching=True"):
        _add(app, url_prefix="/uploads", host="up.test")


# -- mount points ----------------------------------------------------------------------


def mounted(app: Flask) -> None:
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        Flask("outer"), {"/über".encode().decode("latin-1"): app.wsgi_app}
    )


def proxied(app: Flask) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1, x_host=1, x_proto=1)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("mount", "root", "base", "headers"),
    [
        (mounted, "/%C3%BCber", "http://localhost/%C3%BCber", {}),
        (
            proxied,
            "",
            "https://cdn.test/files",
            {
                "X-Forwarded-Prefix": "/files",
                "X-Forwarded-Host": "cdn.test",
                "X-Forwarded-Proto": "https",
            },
        ),
    ],
    ids=["mounted", "proxied"],
)
def test_mount_point_is_part_of_every_url(
    new_app: NewApp,
    mount: Callable[[Flask], None],
    root: str,
    base: str,
    headers: dict[str, str],
) -> None:
    app = new_app(SQLAlchemy(), CHUNKED_UPLOAD_USER_RESTRICTED=False)
    _add(app, url_prefix="/uploads")
    create_tables(app)
    mount(app)
    client = app.test_client()
    for _ in range(2):
        put = client.put(
            f"{root}/uploads/",
            data=b"abc",
            headers={**headers, "Content-Range": "bytes 0-2/6"},
            content_type="application/octet-stream",
        )
        assert put.json is not None
        assert put.json["url"] == f"{base}/uploads/{put.json['id']}"
    page = client.get(f"{root}/uploads/?per_page=1", headers=headers)
    assert page.headers["Link"].startswith(f"<{base}/uploads/?per_page=1&cursor=")
    tus = client.post(
        f"{root}/uploads/", headers={**headers, **TUS, "Upload-Length": "3"}
    )
    path = urlsplit(base).path
    assert tus.headers["Location"].startswith(f"{path}/uploads/")


@pytest.mark.skipif(FLASK < (3, 1), reason="it answers for SERVER_NAME only")
def test_server_name_is_the_origin_of_every_url(new_app: NewApp) -> None:
    app = new_app(
        SQLAlchemy(), SERVER_NAME="www.test", CHUNKED_UPLOAD_USER_RESTRICTED=False
    )
    _add(app, url_prefix="/uploads")
    create_tables(app)
    client = app.test_client()
    for _ in range(2):
        put = put_raw(client, b"abc", total=6)
        assert put.json is not None
        assert put.json["url"].startswith("http://www.test/uploads/")
    page = client.get("/uploads/?per_page=1", base_url="http://other.test")
    assert page.headers["Link"].startswith("<http://www.test/uploads/?")
