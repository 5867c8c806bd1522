"""The typed application is clean for mypy --strict and pyright, and it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_chunked.testing import DIALECTS, DialectName, begin, refusal, upload
from tests.applications import typed
from tests.apps import dispose

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
#: The application, and this file for ``flask_chunked.testing``.
FILES = ("tests/applications/typed.py", "tests/applications/test_typed.py")
URL = "/videos/"
ANN = {"X-Key": "ann"}


def check(*command: str) -> subprocess.CompletedProcess[str]:
    """A type checker's run on this package."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_files_ask_no_checker_to_look_away() -> None:
    for name in FILES:
        text = (ROOT / name).read_text()
        assert [word for word in ("type" + ":", "pyright" + ":") if word in text] == []


def test_mypy_is_content(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    # Without the configuration of this package, as an application runs it.
    places = ("--config-file=", f"--cache-dir={tmp_path}")
    done = check("mypy", "--strict", *places, *FILES)
    assert done.returncode == 0, done.stdout


def test_pyright_is_content(tmp_path: Path) -> None:
    pytest.importorskip("pyright", reason="pyright is not installed")
    if check("pyright", "--version").returncode:
        pytest.skip("pyright cannot fetch its program")
    project = tmp_path / "pyrightconfig.json"
    # Pyright takes no absolute paths here.
    root = os.path.relpath(ROOT, tmp_path)
    paths = {"include": [f"{root}/{name}" for name in FILES], "extraPaths": [root]}
    project.write_text(json.dumps({**paths, "typeCheckingMode": "strict"}))
    python = ("--pythonpath", sys.executable)
    done = check("pyright", "--project", str(project), *python)
    assert done.returncode == 0, done.stdout
    assert "0 errors" in done.stdout


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """The application, with a user ann."""
    app = typed.create_app(
        {
            "TESTING": True,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/app.db",
            "CHUNKED_UPLOAD_DURABLE": False,
        },
        instance_path=str(tmp_path / "instance"),
    )
    yield app
    dispose(app)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_typed_application_works(app: Flask, dialect: DialectName) -> None:
    client = app.test_client()
    half = begin(
        client,
        URL,
        b"a film",
        filename="a.mp4",
        fields={"title": "A"},
        headers=ANN,
        dialect=dialect,
    )
    done = half.resume()
    assert done.response.status_code in (201, 204)
    assert done.json()["user"] == 1
    moved = Path(app.instance_path) / f"library/ann/{done.id}.mp4"
    assert moved.read_bytes() == b"a film"
    answer = refusal(client, URL, b"a film", filename="a.txt", headers=ANN)
    assert answer.status_code == 400
    upload(client, URL, b"", filename="b.mp4", fields={"title": "B"}, headers=ANN)
    deleted = client.delete("/videos/everything", headers=ANN)
    assert deleted.get_json() == {"deleted": 2}
