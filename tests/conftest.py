"""Fixtures that most tests share."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy

from tests.apps import dispose, make_app
from tests.figures import SEED
from tests.places import CHOICES, close_servers, skip_elsewhere
from tests.s3 import S3Server, seaweedfs
from tests.swift import swift

AppFactory = Callable[..., Flask]
NewApp = Callable[..., Flask]
#: What is kept here survives a reboot: it is on a disk, even where TMPDIR is in memory.
DISK = Path("/var/tmp")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--seed``, for all tests that draw; where apps keep what they keep."""
    parser.addoption(
        "--seed", type=int, help="repeat a run of the fault suite with its seed"
    )
    for name, choices in CHOICES.items():
        option = f"--{name.removeprefix('TEST_').lower()}"
        known = f"where apps of tests keep it; default: {choices[0]}"
        parser.addoption(option, dest=name, choices=choices, help=known)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Also for processes that tests start."""
    seed = config.getoption("--seed")
    if seed is not None:
        os.environ[SEED] = str(seed)
        config.option.hypothesis_seed = str(seed)
    for name in CHOICES:
        if (chosen := config.getoption(name)) is not None:
            os.environ[name] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what all tests need, thousands of items, away from the garbage collector."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is about other places than the chosen ones."""
    skip_elsewhere(item)


def pytest_unconfigure() -> None:
    """Servers that apps of tests wanted."""
    close_servers()


@pytest.fixture
def disk_path(tmp_path: Path) -> Iterator[Path]:
    """``tmp_path`` for what a disk's syncs belong to, however long they take."""
    if not os.access(DISK, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="flask-chunked-", dir=DISK) as name:
        yield Path(name)


@pytest.fixture
def app_factory(tmp_path: Path) -> Iterator[AppFactory]:
    """``make_app`` on this test's directory; what it made is closed at the end."""
    made: list[Flask] = []

    def factory(**options: object) -> Flask:
        app = make_app(tmp_path, **options)  # type: ignore[arg-type]
        made.append(app)
        return app

    yield factory
    for app in made:
        dispose(app)


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    """An app with one blueprint at ``/uploads``."""
    return app_factory()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of that app."""
    return app.test_client()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server of this process, started for the first test that wants it."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Another maker's."""
    with swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture
def new_app(tmp_path: Path) -> Iterator[NewApp]:
    """Bare apps: no blueprint, no table; closed at the end."""
    made: list[Flask] = []

    def make(db: SQLAlchemy | None = None, name: str = "app", **config: Any) -> Flask:
        app = Flask(name, instance_path=str(tmp_path / "instance"))
        app.config.update(
            TESTING=True,
            SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/{name}.db",
            CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True,
        )
        app.config.update(config)
        if db is not None:
            db.init_app(app)
        made.append(app)
        return app

    yield make
    for app in made:
        if "sqlalchemy" in app.extensions:
            dispose(app)
