"""The statements: built once for a table, with a text that never changes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    JSON,
    Boolean,
    DateTime,
    Integer,
    LargeBinary,
    String,
    Uuid,
    bindparam,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import mapped_column
from sqlalchemy.sql.dml import Update, UpdateBase

from flask_chunked import ChunkedUploadMixin
from flask_chunked.database.sqlite import PreparedStatement
from flask_chunked.database.statements import Statements
from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Event, Status

from ..apps import registered
from ..conftest import AppFactory


def test_a_table_has_its_statements_once(app: Flask) -> None:
    table = registered(app).table
    assert Statements.of(table) is Statements.of(table)


#: A termination deletes the row.
CHANGES = [event for event in Event if event is not Event.TERMINATE]


@pytest.mark.parametrize("event", CHANGES)
def test_each_event_has_a_statement_without_lists(app: Flask, event: Event) -> None:
    statements = Statements.of(registered(app).table)
    # A list of values raises ValueError.
    prepared = PreparedStatement(statements.transitions[event], sqlite.dialect())
    assert prepared.writes


@pytest.mark.parametrize("event", CHANGES)
def test_changed_row_is_converted_whatever_was_compiled_before(
    app: Flask, event: Event
) -> None:
    statements = Statements(registered(app).table)
    plain = statements.transitions[event]
    assert not PreparedStatement(plain, sqlite.dialect())._converters
    changed = PreparedStatement(statements.returning(plain), sqlite.dialect())
    number, convert = changed._converters[0]
    assert (number, convert(uuid.UUID(int=7).hex)) == (0, uuid.UUID(int=7))


def test_single_statements_have_no_lists(app: Flask) -> None:
    statements = Statements.of(registered(app).table)
    # With a list of ids; executed in a transaction.
    lists = {"touch_members", "expire_all"}
    single = {
        name: statement
        for name, statement in vars(statements).items()
        if isinstance(statement, UpdateBase) and name not in lists
    }
    assert {"advance", "advance_to_end", "advance_and_finish"} <= set(single)
    for statement in (*single.values(), *statements.ends.values()):
        PreparedStatement(statement, sqlite.dialect())


def test_ends_clear_what_is_reserved(app: Flask) -> None:
    statements = Statements.of(registered(app).table)
    for statement in statements.ends.values():
        assert "reserved=" in str(statement)


# -- values that SQLAlchemy computes ---------------------------------------------------

NOW = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
#: Kind of ``onupdate`` -> makes one that stores "updated", in a new model each.
ON_UPDATE: dict[str, Callable[[], Any]] = {
    "scalar": lambda: "updated",
    "function": lambda: lambda: "updated",
    "function of the context": lambda: (
        lambda context: "updated" if context.get_current_parameters() else "empty"
    ),
    "expression": lambda: func.lower("UPDATED"),
    "expression without text": lambda: literal("updated"),
    "query": lambda: select(literal("updated")).scalar_subquery(),
    "late value": lambda: bindparam(None, callable_=lambda: "updated", type_=String()),
}
URIS = {"chosen database": {}, "memory": {"SQLALCHEMY_DATABASE_URI": "sqlite://"}}
#: Type of a column -> a value that is in no new row.
SAMPLES: dict[type[Any], object] = {
    Boolean: True,
    DateTime: NOW.replace(year=2027),
    Integer: 77,
    JSON: {"new": 1},
    LargeBinary: b"new",
    String: "new",
    Uuid: uuid.UUID(int=77),
}


def updates_of(statements: Statements) -> dict[str, Update]:
    """All statements that update a row of uploads, by name."""
    named = {**vars(statements)}
    for group in ("transitions", "ends"):
        for event, statement in named.pop(group).items():
            named[f"{group}[{event}]"] = statement
    found = {name: one for name, one in named.items() if isinstance(one, Update)}
    assert {"lock", "advance", "forget_file", "mark_delivered"} <= set(found)
    return found


def of_one_row(statement: Update, row_id: uuid.UUID) -> tuple[Any, dict[str, object]]:
    """What the statement sets, of one row in any state, and values for it."""
    anywhere: Any = statement._generate()
    anywhere._where_criteria = (anywhere.table.c.id == row_id,)
    values: dict[str, object] = {}
    for bind in anywhere.compile().binds.values():
        if bind.required:
            impl = getattr(bind.type, "impl_instance", bind.type)
            kinds = (SAMPLES[kind] for kind in SAMPLES if isinstance(impl, kind))
            values[bind.key] = next(kinds)
    return anywhere, values


@pytest.mark.parametrize("config", URIS.values(), ids=URIS)
@pytest.mark.parametrize("kind", ON_UPDATE)
def test_each_update_writes_its_columns_and_the_values_of_onupdate(
    app_factory: AppFactory, kind: str, config: dict[str, str]
) -> None:
    db = SQLAlchemy()
    on_update = ON_UPDATE[kind]

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        touched = mapped_column(String, default="new", onupdate=on_update())
        required = mapped_column(
            String, nullable=False, default=lambda: "new", onupdate=on_update()
        )
        kept = mapped_column(String, default=lambda: "kept")

    app = app_factory(model=Video, db=db, **config)
    here = registered(app)
    wrong = {}
    with app.app_context():
        for name, statement in updates_of(here.repository._statements).items():
            draft = Upload(
                id=uuid.uuid4(),
                blueprint="uploads",
                user=None,
                filename="a",
                offset=1,
                length=None,
                status=Status.UPLOADING,
                fence=0,
                created_at=NOW,
                last_activity_at=NOW,
                dialect="",
            )
            here.repository.create(draft, {})
            before = one_row(here, draft.id)
            for own in ("touched", "required", "kept"):
                assert before[own] == ("kept" if own == "kept" else "new")
            anywhere, values = of_one_row(statement, draft.id)
            assert here.database.execute(anywhere, values).count == 1
            after = one_row(here, draft.id)
            its_own = names_set_by(statement)
            expected = {
                **after,
                **{each: before[each] for each in before if each not in its_own},
                "touched": "updated",
                "required": "updated",
            }
            if after != expected:
                wrong[name] = (after, expected)
    assert wrong == {}


def names_set_by(statement: Update) -> set[str]:
    """The columns that the statement itself sets."""
    return {
        key if isinstance(key, str) else str(key.name)
        for key in statement._values or ()
    }


def one_row(here: Any, row_id: uuid.UUID) -> dict[str, Any]:
    """The values of a row by column, read by SQLAlchemy."""
    with here.database.transaction() as connection:
        found = connection.execute(
            select(here.table).where(here.table.c.id == row_id)
        ).one()
        return dict(found._mapping)


def test_default_is_the_value_of_a_column_that_an_insert_omits(
    app_factory: AppFactory,
) -> None:
    db = SQLAlchemy()
    numbers = iter(range(9))

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        number = mapped_column(Integer, default=lambda: next(numbers))

    here = registered(app := app_factory(model=Video, db=db))
    c = here.table.c
    source = [column.name for column in c if column.name != "number"]
    with app.app_context():
        for row_id in (uuid.UUID(int=1), uuid.UUID(int=2)):
            values: dict[str, object] = {name: None for name in source}
            values |= {
                "id": row_id,
                "blueprint": "uploads",
                "filename": "a",
                "offset": 0,
                "status": "uploading",
                "fence": 0,
                "created_at": NOW,
                "last_activity_at": NOW,
                "dialect": "",
                "partial": False,
                "attempts": 0,
            }
            binds = {
                name: bindparam(f"v_{name}", type_=c[name].type) for name in values
            }
            statement = insert(here.table).values(binds)
            here.database.execute(
                statement, {f"v_{name}": value for name, value in values.items()}
            )
        assert one_row(here, uuid.UUID(int=1))["number"] == 0
        assert one_row(here, uuid.UUID(int=2))["number"] == 1
