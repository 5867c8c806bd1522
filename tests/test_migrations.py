"""Flask-Migrate sees the tables: the example's migrations, and some written by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, MetaData, String, inspect
from sqlalchemy.orm import Mapped, mapped_column

from examples import migrations
from examples.many_machines.services import BUCKET
from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadMixin, create_tables
from tests.apps import dispose, registered, rows
from tests.conftest import NewApp
from tests.dialects.tus import Tus
from tests.exchange import send
from tests.postgres import as_setting, new_database, running_server
from tests.s3 import S3Server, storage_of

VERSIONED = migrations.HERE / "versioned"
CONTENT = bytes(range(256)) * 30_000

Make = Callable[[], Flask]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Callable[[], str]]:
    """New databases on a server that is started for the first one."""
    with running_server() as server:
        yield lambda: as_setting(new_database(server))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """URLs of empty databases."""
    if request.param == "postgresql":
        make: Callable[[], str] = request.getfixturevalue("postgresql")
        return make
    numbers = iter(range(9))
    return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db"


@pytest.fixture
def example(
    new_url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Flask]]:
    """The example on an empty database; keywords are environment."""
    made = []

    def make(**environment: str) -> Flask:
        monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", new_url())
        monkeypatch.setenv("FLASK_CHUNKED_UPLOAD_PATH", str(tmp_path / "files"))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        app = migrations.create_app()
        made.append(app)
        return app

    yield make
    for app in made:
        dispose(app)


def upgrade(app: Flask, to: str = "head") -> None:
    with app.app_context():
        flask_migrate.upgrade(revision=to)


def differs(app: Flask) -> bool:
    """What ``flask db check`` says."""
    with app.app_context():
        try:
            flask_migrate.check()
        except SystemExit:
            return True
    return False


def schema(app: Flask) -> dict[str, dict[str, Any]]:
    """What the database says of each table: columns, keys, indexes and checks."""
    found = {}
    with app.app_context():
        seen = inspect(registered(app).db.engine)
        for table in seen.get_table_names():
            found[table] = {
                "columns": {
                    column["name"]: (str(column["type"]), column["nullable"])
                    for column in seen.get_columns(table)
                },
                "key": seen.get_pk_constraint(table)["constrained_columns"],
                "indexes": {
                    one["name"]: one["column_names"] for one in seen.get_indexes(table)
                },
                "checks": {
                    one["name"]: one["sqltext"]
                    for one in seen.get_check_constraints(table)
                },
            }
    found.pop("alembic_version", None)
    return found


SETTINGS = [
    pytest.param({}, id="local"),
    pytest.param({"BUCKET": BUCKET}, id="s3"),
    pytest.param({"FLASK_CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": ""}, id="no-limits"),
]


@pytest.mark.parametrize("environment", SETTINGS)
def test_migrated_database_has_no_differences(
    example: Callable[..., Flask], environment: dict[str, str]
) -> None:
    app = example(**environment)
    assert differs(app)
    upgrade(app)
    assert not differs(app)


def test_migrations_make_what_create_tables_makes(
    example: Callable[..., Flask],
) -> None:
    made, migrated = example(BUCKET=BUCKET), example(BUCKET=BUCKET)
    create_tables(made)
    upgrade(migrated)
    assert len(schema(made)) == 5
    assert schema(migrated) == schema(made)


def test_naming_convention_of_the_application_changes_both_alike(
    new_app: NewApp, new_url: Callable[[], str]
) -> None:
    naming = {
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
    apps = []
    for name in ("made", "migrated"):
        db = SQLAlchemy(metadata=MetaData(naming_convention=naming))
        app = new_app(db, name, SQLALCHEMY_DATABASE_URI=new_url())
        app.register_blueprint(Limited("uploads", __name__), url_prefix="/uploads")
        flask_migrate.Migrate(
            app, db, directory=str(VERSIONED), include_object=migrations.is_known
        )
        apps.append(app)
    made, migrated = apps
    create_tables(made)
    upgrade(migrated)
    assert not differs(migrated)
    theirs = schema(migrated)
    # Another setting's.
    theirs.pop("chunked_upload_part")
    assert theirs == schema(made)
    assert (
        "ix_chunked_upload_ix_chunked_upload_owner"
        in (theirs["chunked_upload"]["indexes"])
    )


@pytest.mark.parametrize(
    ("revision", "environment"),
    [
        pytest.param("0001", {}, id="quotas"),
        pytest.param("0002", {"BUCKET": BUCKET}, id="parts"),
    ],
)
def test_table_that_a_setting_wants_is_missed(
    example: Callable[..., Flask], revision: str, environment: dict[str, str]
) -> None:
    app = example(**environment)
    upgrade(app, revision)
    assert differs(app)


def test_downgrade_leaves_nothing(example: Callable[..., Flask]) -> None:
    app = example()
    upgrade(app)
    with app.app_context():
        flask_migrate.downgrade(revision="base")
    assert schema(app) == {}


def upload_in_both_dialects(app: Flask) -> None:
    """A whole upload in each, and what they leave in the tables."""
    client = app.test_client()
    assert send(client, CONTENT).status_code == 200
    tus = Tus(client)
    url = tus.create(len(CONTENT))
    half = len(CONTENT) // 2
    for start in (0, half):
        answer = tus.patch(url, start, CONTENT[start : start + half])
        assert answer.status_code == 204, answer.text
    assert tus.content(url) == CONTENT
    assert [row.status.value for row in rows(app)] == ["complete"] * 2


def test_uploads_work_on_the_migrated_database(
    example: Callable[..., Flask],
) -> None:
    app = example()
    upgrade(app)
    upload_in_both_dialects(app)


@pytest.mark.slow
def test_uploads_to_s3_work_on_the_migrated_database(
    example: Callable[..., Flask], s3_server: S3Server
) -> None:
    options = s3_server.options()
    app = example(
        BUCKET=BUCKET,
        BUCKET_ENDPOINT=s3_server.endpoint,
        BUCKET_PREFIX=str(options["prefix"]),
        AWS_ACCESS_KEY_ID=s3_server.access,
        AWS_SECRET_ACCESS_KEY=s3_server.secret,
    )
    upgrade(app)
    upload_in_both_dialects(app)
    storage_of(app).bucket.close()


class Limited(ChunkedUploadBlueprint):
    """Counted, so that there is more than one table."""

    max_open_uploads = 5


def test_migration_that_alembic_writes_of_a_model_works(
    new_app: NewApp, new_url: Callable[[], str], tmp_path: Path
) -> None:
    db = SQLAlchemy()

    class Owner(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        owner_id: Mapped[int | None] = mapped_column(ForeignKey(Owner.id))
        title: Mapped[str] = mapped_column(String(20), default="none")

    app = new_app(db, SQLALCHEMY_DATABASE_URI=new_url(), CHUNKED_UPLOAD_DOWNLOADS=True)
    app.register_blueprint(
        Limited("uploads", __name__, model=Video), url_prefix="/uploads"
    )
    directory = tmp_path / "versioned"
    shutil.copytree(VERSIONED, directory, ignore=lambda *_: ["versions", "__pycache__"])
    (directory / "versions").mkdir()
    flask_migrate.Migrate(app, db, directory=str(directory))
    with app.app_context():
        flask_migrate.migrate(message="videos")
    (script,) = (directory / "versions").glob("*.py")
    assert script.read_text().count("flask_chunked.models.UTCDateTime()") == 7
    assert "info=" not in script.read_text()
    upgrade(app)
    assert not differs(app)
    assert set(schema(app)) == {
        "owner",
        "video",
        "chunked_upload_member",
        "chunked_upload_removal",
        "chunked_upload_quota",
    }
    upload_in_both_dialects(app)
