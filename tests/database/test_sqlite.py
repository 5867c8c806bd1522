"""Single statements on SQLite's driver have the results of SQLAlchemy's."""

from __future__ import annotations

import gc
import os
import sqlite3
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import bindparam, delete, event, select
from sqlalchemy.orm import Session

from flask_chunked.database import sqlite as sqlite_module
from flask_chunked.database import transactions as transactions_module
from flask_chunked.database.sqlite import PreparedStatement, Result
from flask_chunked.engine.records import NewUpload, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    CommitUnanswered,
    DatabaseUnavailable,
    MissingTableError,
)

from ..apps import registered
from ..conftest import AppFactory
from ..statements import around_single, executor_of

LATE = datetime(2026, 7, 1, 12, 0, 0, 123456, timezone(timedelta(hours=2)))

#: A row in which no column has its default.
FULL = Upload(
    id=uuid4(),
    blueprint="uploads",
    user="ada",
    filename="sn\u00f6w.bin",
    offset=3,
    length=2**40,
    status=Status.COMPLETING,
    fence=7,
    created_at=LATE,
    last_activity_at=LATE,
    dialect="tus",
    last_start=1,
    last_digest="ab" * 32,
    completed_at=LATE,
    storage_key="2026/07/01/x",
    partial=True,
    concat="partial",
    raw_metadata="filename eA==",
    content_type="text/plain",
    hash_name="md5",
    hash_state=b"\x00\xff",
    digest="md5:00",
    event_id=uuid4(),
    delivered_at=LATE,
    delivery_started_at=LATE,
    attempts=2,
    storage_state={"parts": [1, None, "\u00fc"]},
    reserved=5,
)
BARE = Upload(
    id=uuid4(),
    blueprint="uploads",
    user=None,
    filename="upload",
    offset=0,
    length=None,
    status=Status.UPLOADING,
    fence=0,
    created_at=LATE,
    last_activity_at=LATE,
    dialect="",
)


@pytest.mark.parametrize("draft", [FULL, BARE], ids=["every column", "few columns"])
def test_rows_are_what_the_orm_would_write_and_read(app: Flask, draft: Upload) -> None:
    here = registered(app)
    rows = here.repository._rows
    with app.app_context():
        assert rows.can_bypass_orm()
        here.repository.create(draft, {})
        twin = replace(draft, id=uuid4())
        with Session(here.database.engine()) as session:
            session.add(rows.instance(twin, {}))
            session.commit()
        table = here.table
        with here.database.transaction() as connection:
            written = connection.exec_driver_sql(f"SELECT * FROM {table.name}").all()
            by_sqlalchemy = connection.execute(
                select(*table.c).where(table.c.id == draft.id)
            ).one()
        assert written[0][1:] == written[1][1:]
        assert rows.to_upload(by_sqlalchemy) == draft
        assert here.repository.get(draft.id) == draft


def test_single_statements_bypass_sqlalchemys_connections(app: Flask) -> None:
    here = registered(app)
    seen: list[str] = []

    def note(text: str, execute: Callable[[], Result]) -> Result:
        seen.append(text.split()[0])
        return execute()

    with app.app_context(), around_single(here.database, note):
        upload = here.engine.create.upload(NewUpload("ada", "a", 1, dialect="tus"))
        here.repository.take_over(upload.id)
        here.repository.forget_removals([upload.id])
    assert seen == ["INSERT", "UPDATE", "DELETE"]


def test_list_of_constants_is_part_of_the_text(app: Flask) -> None:
    here = registered(app)
    c = here.table.c
    statuses = ["uploading", "completing"]
    values = {"upload_id": BARE.id}
    with app.app_context():
        here.repository.create(BARE, {})
        here.repository.create(FULL, {})
        found = select(c.id).where(c.id == bindparam("upload_id", type_=c.id.type))
        for wanted, count in ((statuses, 1), (statuses[1:], 0), ([], 0)):
            statement = found.where(c.status.in_(wanted))
            assert len(here.database.execute(statement, values).rows) == count
        # The constants are converted as values are.
        (row,) = here.database.execute(select(c.id).where(c.id.in_([FULL.id])), {}).rows
        assert row == [FULL.id]


def test_list_of_values_is_refused(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        wanted: Any = bindparam("statuses", expanding=True)
        statement = delete(here.table).where(here.table.c.status.in_(wanted))
        with pytest.raises(ValueError, match="list"):
            here.database.execute(statement, {"statuses": ["complete"]})


# -- failures --------------------------------------------------------------------------


def test_missing_table_is_named(tmp_path: Path, app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        here.table.drop(here.database.engine())
        with pytest.raises(MissingTableError):
            here.repository.get(uuid4())
        with pytest.raises(MissingTableError):
            here.repository.create(BARE, {})


def test_locked_database_changed_nothing(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions_module, "BUSY_TIMEOUT", 0.05)
    here = registered(app)
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    with app.app_context():
        # Made by the fixture with the usual time-out; a new listener makes it anew.
        event.listen(here.db.engine, "connect", lambda *_: None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable) as caught:
            here.repository.create(BARE, {})
        other.execute("ROLLBACK")
        assert type(caught.value) is DatabaseUnavailable
        here.repository.create(BARE, {})
    other.close()


def test_executor_waits_in_short_pauses_for_another_process(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = registered(app)
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            other.execute("ROLLBACK")

    monkeypatch.setattr(sqlite_module.time, "sleep", sleep)  # type: ignore[attr-defined]
    with app.app_context():
        other.execute("BEGIN IMMEDIATE")
        here.repository.create(BARE, {})
        assert here.repository.get(BARE.id) is not None
    other.close()
    # SQLite's own first pause is a millisecond.
    assert pauses[:3] == [0.00005, 0.0001, 0.0002]
    assert pauses[-5:] == [0.0005] * 5


def test_commit_waits_for_a_reader_of_a_rollback_journal(
    app_factory: AppFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory(CHUNKED_UPLOAD_SQLITE_WAL=False)
    here = registered(app)
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            other.execute("ROLLBACK")

    with app.app_context():
        here.repository.create(BARE, {})
        other.execute("BEGIN")
        other.execute("SELECT * FROM chunked_upload").fetchone()
        monkeypatch.setattr(sqlite_module.time, "sleep", sleep)  # type: ignore[attr-defined]
        # An UPDATE that tells the row; its commit is what the reader keeps out.
        taken = here.repository.take_over(BARE.id)
        assert taken is not None
        assert here.repository.get(BARE.id) == taken
    assert len(pauses) == 3
    assert taken.fence == BARE.fence + 1
    other.close()


def test_any_other_error_of_a_write_has_an_unknown_outcome(app: Flask) -> None:
    here = registered(app)

    def fail(_text: str, _execute: Callable[[], Result]) -> Result:
        raise sqlite3.OperationalError("disk I/O error")

    with app.app_context(), around_single(here.database, fail):
        with pytest.raises(CommitUnanswered):
            here.database.execute(here.removals.forget, {"upload_id": None})
        with pytest.raises(DatabaseUnavailable) as caught:
            here.repository.get(uuid4())
    assert type(caught.value) is DatabaseUnavailable


def test_connection_is_not_used_again_after_an_error(app: Flask) -> None:
    here = registered(app)
    driver = executor_of(here.database)
    assert driver is not None
    with app.app_context():
        here.repository.get(uuid4())
        (connection,) = driver._idle
        with pytest.raises(ValueError), driver._connection() as taken:
            assert taken is connection
            raise ValueError
        assert driver._idle == []
        with pytest.raises(sqlite3.ProgrammingError):
            connection.execute("SELECT 1")


def test_few_idle_connections_are_kept(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "MAX_IDLE", 1)
    driver = executor_of(registered(app).database)
    assert driver is not None
    with app.app_context(), driver._connection(), driver._connection():
        pass
    assert len(driver._idle) == 1


def test_forked_process_has_connections_of_its_own(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        here.repository.get(uuid4())
        driver = executor_of(here.database)
        child = os.fork()
        if not child:
            mine = executor_of(here.database)
            os._exit(0 if mine is not driver and mine and not mine._idle else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_prepared_text_has_no_names(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        prepared = PreparedStatement(
            here.repository._statements.select, here.database.engine().dialect
        )
    assert prepared.text.count("?") == 1
    assert not prepared.writes


def test_apps_on_one_table_share_the_compiled_statements(
    app_factory: AppFactory,
) -> None:
    statement, dialects = None, []
    for _ in range(2):
        here = registered(app_factory())
        statement = here.repository._statements.select
        with here.app.app_context():
            dialects.append(here.database.engine().dialect)
    assert statement is not None
    first, second = (PreparedStatement.of(statement, one) for one in dialects)
    assert dialects[0] is not dialects[1]
    assert first is second


@pytest.mark.parametrize("option", ["json_serializer", "json_deserializer"])
def test_another_option_of_json_is_another_compiled_statement(
    app_factory: AppFactory, option: str
) -> None:
    prepared = []
    for options in {}, {option: lambda value: value}:
        here = registered(app_factory(SQLALCHEMY_ENGINE_OPTIONS=options))
        with here.app.app_context():
            dialect = here.database.engine().dialect
        prepared.append(
            PreparedStatement.of(here.repository._statements.select, dialect)
        )
    assert prepared[0] is not prepared[1]


def test_statement_that_is_dropped_is_forgotten(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        dialect = here.database.engine().dialect
    statement = select(here.table).where(here.table.c.id == bindparam("upload_id"))
    PreparedStatement.of(statement, dialect)
    dropped = weakref.ref(statement)
    del statement
    gc.collect()
    assert dropped() is None
