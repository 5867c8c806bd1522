"""The page about tests of an application, and the README's example: their code runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from flask_chunked.testing import DIALECTS, SentUpload, UploadOptions
from tests.documents import README, ROOT, code, literals, parse, section, tables

PAGE = ROOT / "docs/testing.rst"
#: What the page says of its fixture, as tests.
ROLLED_BACK = """
@pytest.fixture
def nothing_left(app):
    yield
    with app.app_context():
        assert db.session.query(Video).count() == 0


@pytest.fixture(params=["file", "memory"])
def app(request, app, tmp_path):
    if request.param == "memory":
        return app
    uri = f"sqlite:///{tmp_path}/a.db"
    client_class = app.test_client_class
    app = create_app({**app.config, "SQLALCHEMY_DATABASE_URI": uri})
    app.test_client_class = client_class
    return app


def test_rolled_back(app, nothing_left, rolled_back, ann):
    upload(ann, "/videos/", b"film", filename="a.mp4", fields={"title": "A"})
    with app.app_context():
        assert db.session.query(Video).count() == 1
"""
#: The fixture of the application that the README's test belongs to.
CLIENT = """
import pytest
from app import create_app


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", "sqlite://")
    return create_app().test_client()
"""


def run_tests(directory: Path, *options: str, **files: str) -> str:
    """What pytest prints about these modules, with warnings as errors."""
    for name, content in files.items():
        (directory / f"{name}.py").write_text(content)
    arguments = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        *options,
        str(directory),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=directory,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_code_of_the_page_runs(tmp_path: Path) -> None:
    app, conftest, *tests = code(parse(PAGE))
    named = {"app": app, "conftest": conftest, "test_videos": "\n\n".join(tests)}
    *_, fixture = tests
    beginning = "import pytest\nfrom app import Video, create_app, db\n"
    beginning += "from flask_chunked.testing import upload\n"
    named["test_isolation"] = beginning + fixture + ROLLED_BACK
    asked = sum(block.count("def test_") for block in tests)
    # One test is repeated in each dialect; the fixture's with two databases.
    expected = asked + len(DIALECTS) - 1 + 2
    assert f"{expected} passed" in run_tests(tmp_path, **named)
    assert list(tmp_path.glob("instance")) == []


def test_options_of_the_page_are_those_of_the_code() -> None:
    (table,) = tables(section(PAGE, "Upload"))[:1]
    assert {name for name, _ in table} == set(UploadOptions.__annotations__)
    told = set(literals(section(PAGE, "Upload")))
    assert {*DIALECTS} <= told


def test_members_of_a_sent_upload_are_told() -> None:
    _, table = tables(section(PAGE, "Upload"))
    told = {name for names, _ in table for name in re.findall(r"\w+", names)}
    public = {name for name in vars(SentUpload) if not name.startswith("_")}
    assert told - {"dialect", "client"} == public


def test_example_of_the_readme_runs(tmp_path: Path) -> None:
    (app,) = code(section(README, "Quickstart"))
    (block,) = code(section(README, "Tests"))
    output = run_tests(tmp_path, app=app, conftest=CLIENT, test_app=block)
    assert "1 passed" in output
