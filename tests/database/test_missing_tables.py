"""Missing tables and columns are errors that name them and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import (
    ChunkedUploadBlueprint,
    MissingColumnError,
    MissingTableError,
    create_tables,
)

from ..apps import registered, stored_files
from ..conftest import AppFactory, NewApp
from ..dialects.tus import Tus
from ..exchange import begin, post_whole, put_form, put_raw


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda client: put_raw(client, b"abc"), id="create"),
        pytest.param(lambda client: client.get("/uploads/"), id="list"),
        pytest.param(
            lambda client: client.get("/uploads/3b241101-e2bb-4255-8caf-4136c566a962"),
            id="show",
        ),
    ],
)
def test_missing_table_is_an_error_that_names_it(
    new_app: NewApp, tmp_path: Path, act: Callable[..., object]
) -> None:
    app = new_app(SQLAlchemy())
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
    )
    with pytest.raises(MissingTableError, match=r"chunked_upload.*create_tables\(app"):
        act(app.test_client())
    assert not list((tmp_path / "instance").rglob("*.part"))


# -- a table of an older version -------------------------------------------------------

UNKNOWN = "/uploads/3b241101-e2bb-4255-8caf-4136c566a962"
FIRST_USES: dict[str, Callable[[FlaskClient], object]] = {
    "create": lambda client: put_raw(client, b"abc"),
    "create-form": lambda client: put_form(client, b"abc"),
    "create-whole": lambda client: post_whole(client, b"abc"),
    "create-tus": lambda client: Tus(client).create(3),
    "list": lambda client: client.get("/uploads/"),
    "show": lambda client: client.get(UNKNOWN),
    "continue": lambda client: put_raw(client, b"def", start=3, url=UNKNOWN),
    "delete": lambda client: client.delete(UNKNOWN),
}
COMMANDS = ["list", "check", "delete-expired", "deliver", f"show {UNKNOWN[-36:]}"]


class Limited(ChunkedUploadBlueprint):
    """Counted, so that there is a table of quotas."""

    max_open_uploads = 5


def run_sql(app: Flask, statement: str) -> None:
    with app.app_context():
        engine = registered(app).db.engine
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()
        registered(app).database.dispose()


def columns_of(app: Flask, table: str) -> set[str]:
    with app.app_context():
        known = inspect(registered(app).db.engine).get_columns(table)
    return {column["name"] for column in known}


@pytest.mark.parametrize("act", FIRST_USES.values(), ids=FIRST_USES)
def test_missing_column_is_an_error_that_says_migrate(
    app_factory: AppFactory, tmp_path: Path, act: Callable[..., object]
) -> None:
    app = app_factory(db=SQLAlchemy())
    run_sql(app, "ALTER TABLE chunked_upload DROP COLUMN attached_at")
    with pytest.raises(MissingColumnError, match=r"Migrate the database") as caught:
        act(app.test_client())
    assert caught.value.table == "chunked_upload"
    assert caught.value.columns == ("attached_at",)
    assert "'chunked_upload' lacks the column 'attached_at'" in str(caught.value)
    assert isinstance(caught.value, MissingTableError)
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.split()[0])
def test_command_says_in_one_line_which_columns_are_missing(
    app_factory: AppFactory, command: str
) -> None:
    app = app_factory(db=SQLAlchemy())
    for column in ("attached_at", "expected_digest"):
        run_sql(app, f"ALTER TABLE chunked_upload DROP COLUMN {column}")
    result = app.test_cli_runner().invoke(args=["chunked-uploads", *command.split()])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "Error: The table 'chunked_upload' lacks the columns 'expected_digest', "
        "'attached_at'. Migrate the database (see examples/migrations): "
        "create_tables() changes no table that exists."
    ]


def test_create_tables_alters_no_table(app_factory: AppFactory) -> None:
    app = app_factory(db=SQLAlchemy())
    run_sql(app, "ALTER TABLE chunked_upload DROP COLUMN attached_at")
    run_sql(app, "DROP INDEX ix_chunked_upload_owner")
    before = columns_of(app, "chunked_upload")
    create_tables(app)
    assert columns_of(app, "chunked_upload") == before
    with pytest.raises(MissingColumnError, match="attached_at"):
        app.test_client().get("/uploads/")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        pytest.param(
            "DROP TABLE chunked_upload_quota", "no table 'chunked_upload_quota'", id="t"
        ),
        pytest.param(
            "ALTER TABLE chunked_upload_quota DROP COLUMN size",
            "'chunked_upload_quota' lacks the column 'size'",
            id="c",
        ),
    ],
)
def test_other_tables_are_named_too(
    app_factory: AppFactory, tmp_path: Path, statement: str, said: str
) -> None:
    app = app_factory(db=SQLAlchemy(), blueprint_class=Limited)
    run_sql(app, statement)
    with pytest.raises(MissingTableError, match=said):
        put_raw(app.test_client(), b"abc")
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize("table", ["chunked_upload_member", "chunked_upload_removal"])
def test_members_and_removals_are_inspected_too(
    app_factory: AppFactory, table: str
) -> None:
    app = app_factory(db=SQLAlchemy())
    run_sql(app, f"DROP TABLE {table}")
    here = registered(app)
    with (
        app.app_context(),
        pytest.raises(MissingTableError, match=f"no table '{table}'"),
        here.database.transaction() as connection,
    ):
        connection.execute(text(f"SELECT * FROM {table}"))


class Known(ChunkedUploadBlueprint):
    """Its list asks the database: the caller is known."""

    def get_user_id(self) -> object:
        return "ann"


class Misspelt(Known):
    """An application's query with a fault of its own."""

    def get_query(self) -> Any:
        return super().get_query().where(text("chunked_upload.hiden"))


class OfAnother(Known):
    """An application's query of a table that is not there."""

    def get_query(self) -> Any:
        return super().get_query().where(text("EXISTS (SELECT * FROM project)"))


@pytest.mark.parametrize(
    ("kind", "name"), [(Misspelt, "hiden"), (OfAnother, "project")]
)
@pytest.mark.parametrize("url", ["/uploads/", UNKNOWN], ids=["list", "show"])
def test_misspelt_name_of_the_application_is_its_own_error(
    app_factory: AppFactory,
    url: str,
    kind: type[ChunkedUploadBlueprint],
    name: str,
) -> None:
    app = app_factory(db=SQLAlchemy(), blueprint_class=kind)
    with pytest.raises(OperationalError, match=f"no such (column|table): .*{name}"):
        app.test_client().get(url)


def test_hook_in_the_applications_session_meets_the_same_error(
    app_factory: AppFactory,
) -> None:
    app = app_factory(db=SQLAlchemy())
    here = registered(app)
    url = begin(app.test_client(), b"abc", 6)
    run_sql(app, "ALTER TABLE chunked_upload DROP COLUMN attached_at")
    with (
        app.app_context(),
        pytest.raises(MissingColumnError, match="attached_at"),
        here.database.translate_errors(),
    ):
        here.db.session.get(here.model, UUID(url[-36:]))


def test_pending_work_in_memory_survives_the_inspection(
    app_factory: AppFactory,
) -> None:
    """One connection serves all there: the look must not roll the session back."""
    db = SQLAlchemy()

    class Note(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    app = app_factory(db=db, SQLALCHEMY_DATABASE_URI="sqlite://")
    here = registered(app)
    with app.app_context():
        db.create_all()
        db.session.add(Note(id=1))
        db.session.flush()
        with pytest.raises(OperationalError), here.database.transaction() as connection:
            connection.execute(text("SELECT misspelt FROM note"))
        db.session.commit()
        assert db.session.get(Note, 1) is not None
