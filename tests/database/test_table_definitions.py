"""The tables: for which models they are defined, and how they are created."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.pool import Pool

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ConfigurationError,
    create_tables,
)

from ..apps import rows
from ..conftest import NewApp
from ..exchange import begin, send


def test_abstract_model_wants_a_model(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy(), CHUNKED_UPLOAD_ABSTRACT_MODEL=True)
    with pytest.raises(ConfigurationError, match="'uploads' must name a model"):
        app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))


def test_abstract_model_builds_no_table_of_its_own(new_app: NewApp) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    app = new_app(db, CHUNKED_UPLOAD_ABSTRACT_MODEL=True)
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__, model=Video), url_prefix="/uploads"
    )
    create_tables(app)
    assert set(db.metadata.tables) == {
        "video",
        "chunked_upload_member",
        "chunked_upload_removal",
    }
    assert send(app.test_client(), b"abc").status_code == 200


# -- creating them ---------------------------------------------------------------------


def test_tables_may_be_created_again(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
    )
    for _ in range(3):
        create_tables(app)
    begin(app.test_client(), b"abc", 6)
    create_tables(app)
    assert len(rows(app)) == 1


def test_create_all_of_the_application_makes_the_table_too(new_app: NewApp) -> None:
    db = SQLAlchemy()
    app = new_app(db)
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
    )
    with app.app_context():
        db.create_all()
    assert send(app.test_client(), b"abc").status_code == 200


WORKER = """
import sys
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
import flask_chunked

app = Flask("worker", instance_path=sys.argv[1])
app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{sys.argv[1]}/raced.db"
SQLAlchemy(app)
app.register_blueprint(flask_chunked.ChunkedUploadBlueprint("uploads", __name__))
print("ready", flush=True)
sys.stdin.readline()
flask_chunked.create_tables(app)
with app.app_context():
    assert list(flask_chunked.uploads()) == []
print("done", flush=True)
"""


@pytest.mark.slow
def test_tables_are_created_by_several_processes_at_once(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        outcomes = [worker.communicate(timeout=60)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert outcomes == ["done\n"] * len(workers)


def test_nothing_is_opened_at_registration(new_app: NewApp, tmp_path: Path) -> None:
    opened: list[object] = []

    def note(*args: object) -> None:
        opened.append(args)

    event.listen(Pool, "connect", note)
    try:
        app = new_app(SQLAlchemy())
        app.register_blueprint(
            ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
        )
        assert opened == []
        assert list(tmp_path.iterdir()) == []
        create_tables(app)
        assert opened != []
    finally:
        event.remove(Pool, "connect", note)
