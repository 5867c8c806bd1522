"""The demo's page and the client's files as they are served; needs no browser."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import flask_chunked
from examples.demo import create_app

VENDOR = Path(flask_chunked.__file__).parent / "static" / "vendor"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    monkeypatch.setenv("INSTANCE", str(tmp_path / "instance"))
    app = create_app()
    yield app.test_client()
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()
        for registration in app.extensions["chunked_uploads"].values():
            registration.database.dispose()


def test_page_has_nothing_that_its_policy_forbids(client: FlaskClient) -> None:
    response = client.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self' 'wasm-unsafe-eval'" in policy
    assert "unsafe-inline" not in policy
    page = response.text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]* src=)", page)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)


def test_all_files_of_the_page_are_served(client: FlaskClient) -> None:
    named = re.findall(r'(?:src|href|data-module)="([^"]+)"', client.get("/").text)
    assets = Path(__file__).resolve().parents[2] / "examples" / "demo" / "static"
    named += [f"/assets/{path.name}" for path in assets.iterdir()]
    named += [f"/uploads/static/vendor/{path.name}" for path in VENDOR.iterdir()]
    named.append("/uploads/static/chunked-upload-hash.js")
    for url in named:
        response = client.get(url)
        assert response.status_code == 200, url
        if url.endswith(".js"):
            assert response.mimetype == "text/javascript", url
        response.close()


def test_other_sites_may_not_use_the_demo(client: FlaskClient) -> None:
    range_ = {"Content-Range": "bytes 0-2/3"}
    headers = {**range_, "Sec-Fetch-Site": "cross-site"}
    assert client.put("/uploads/", data=b"abc", headers=headers).status_code == 403
    assert client.put("/uploads/", data=b"abc", headers=range_).status_code == 200


def test_vendored_files_are_unchanged() -> None:
    readme = (VENDOR / "README.md").read_text()
    listed = dict(
        line.split()[::-1]  # name, digest
        for line in readme.splitlines()
        if line.startswith("    ")
    )
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.glob("*.js")
    }
    assert found == listed
