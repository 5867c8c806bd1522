"""Concatenations in the database, and apps on either one, for several modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import URL, select

from flask_chunked.engine.records import NewUpload, Upload
from tests.engine.fakes import ScriptedReader

from ..aging import set_row
from ..apps import registered
from ..conftest import AppFactory
from ..postgres import as_setting, new_database, running_server

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)
#: The moment after which activity counts.
SINCE = NOW - timedelta(days=1)
ACTIVE, IDLE = SINCE + timedelta(seconds=1), SINCE


class Concatenations:
    """Creates partial and final uploads of one blueprint."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        here = registered(app)
        self.engine, self.repository = here.engine, here.repository
        self.database, self.members = here.database, here.members

    def partial(self, content: bytes = b"", length: int | None = None) -> Upload:
        """A partial upload; complete unless ``length`` is more than its bytes."""
        new = NewUpload(
            None,
            "part",
            length=len(content) if length is None else length,
            dialect="tus",
            partial=True,
            concat="partial",
        )
        upload = self.engine.create.upload(new)
        if content:
            upload = self.engine.append.stream(
                upload, 0, None, ScriptedReader(content), exact=False
            )
        if upload.offset == upload.length:
            upload = self.engine.complete.request(upload, None).upload
        return upload

    def final(self, *partials: Upload) -> Upload:
        """The row of a final upload."""
        new = NewUpload(None, "file", None, "tus", concat="final;...")
        return self.repository.create(
            replace(
                self.engine.create._draft(new, None),
                length=sum(one.length or 0 for one in partials),
            ),
            {},
            None,
            [one.id for one in partials],
        )

    def made(self, *partials: Upload) -> Upload:
        """A complete final upload."""
        final = self.final(*partials)
        return self.engine.concatenate.assemble(
            final, self.engine.concatenate.members(final)
        )

    def names(self) -> set[tuple[UUID, UUID]]:
        """The rows of the table: final upload and partial upload."""
        m = self.members.table.c
        with self.database.transaction() as connection:
            found = connection.execute(select(m.final_id, m.partial_id)).all()
        return {(final, partial) for final, partial in found}

    def set(self, upload: Upload, **values: object) -> None:
        """Change columns of the row."""
        set_row(self.app, upload.id, **values)


@pytest.fixture
def factory(app: Flask) -> Iterator[Concatenations]:
    with app.app_context():
        yield Concatenations(app)


@pytest.fixture(scope="module")
def postgres() -> Iterator[URL]:
    """A server for all tests of this file that want one."""
    with running_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("pg", marks=pytest.mark.slow)])
def make(
    request: pytest.FixtureRequest, app_factory: AppFactory
) -> Callable[..., Flask]:
    """``app_factory`` on either database, with downloads."""
    more: dict[str, Any] = {"CHUNKED_UPLOAD_DOWNLOADS": True}
    if request.param == "pg":
        url = as_setting(new_database(request.getfixturevalue("postgres")))
        more["SQLALCHEMY_DATABASE_URI"] = url
    return lambda **config: app_factory(**more, **config)
