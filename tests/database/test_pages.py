"""Pages and counts are those of one plain statement, whatever the application asks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, Select, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadMixin
from flask_chunked.database.queries import Page
from flask_chunked.engine.records import Cutoff, Upload
from flask_chunked.engine.states import Status
from flask_chunked.registration import Registration

from ..apps import dispose, make_app, registered
from ..conftest import AppFactory

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
ALL = (Status.UPLOADING, Status.COMPLETING, Status.COMPLETE)
PENDING = ALL[:2]

CUTOFFS = {
    "no-limit": None,
    "idle": Cutoff(idle_since=NOW - 2 * DAY, created_before=None),
    "lifetime": Cutoff(idle_since=None, created_before=NOW - 3 * DAY),
    "both": Cutoff(idle_since=NOW - 2 * DAY, created_before=NOW - 3 * DAY),
    "short-lifetime": Cutoff(idle_since=NOW - 3 * DAY, created_before=NOW - DAY),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registration]:
    """A model with a project and 90 uploads in every state, with ties in time."""
    db = SQLAlchemy()

    class Project(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        open: Mapped[bool]

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        project_id: Mapped[int | None] = mapped_column(ForeignKey(Project.id))

    app = make_app(tmp_path_factory.mktemp("pages"), db=db, model=Video)
    with app.app_context():
        db.create_all()
        found = registered(app)
        found.db.session.add_all([Project(id=1, open=True), Project(id=2, open=False)])
        found.db.session.commit()
        with found.database.transaction() as connection:
            connection.execute(insert(found.table), list(_rows(random.Random(7))))
        yield found
    dispose(app)


def _rows(draw: random.Random) -> Iterator[dict[str, Any]]:
    for number in range(90):
        created_at = NOW - timedelta(hours=12 * draw.randrange(12))
        active_at = created_at + (NOW - created_at) * draw.choice((0, 0, 0.5, 1))
        yield {
            "id": UUID(int=draw.getrandbits(128), version=4),
            "blueprint": "other" if number % 10 == 0 else "uploads",
            "user": draw.choice(("ann", "ann", "bob", None)),
            "filename": draw.choice("abc"),
            "offset": 0,
            "status": draw.choice(list(Status)).value,
            "fence": 0,
            "created_at": created_at,
            "last_activity_at": active_at,
            "dialect": "tus",
            "partial": draw.random() < 0.3,
            "attempts": 0,
            "project_id": draw.choice((1, 2, None)),
        }


def _project(here: Registration) -> Any:
    return here.table.metadata.tables["project"]


def _own(here: Registration) -> Select[Any]:
    query = here.policy.get_query()
    return here.visible(query, "ann", listing=True)


#: What an application may make of ``get_query``.
QUERIES: dict[str, Any] = {
    "own": lambda here: _own(here),
    "all": lambda here: here.policy.get_query(),
    "team": lambda here: here.policy.get_query().where(
        here.table.c.user.in_(["ann", "bob"])
    ),
    "where": lambda here: _own(here).where(here.table.c.filename != "a"),
    "join": lambda here: (
        _own(here)
        .join(_project(here), _project(here).c.id == here.table.c.project_id)
        .where(_project(here).c.open)
    ),
    "outer-join": lambda here: _own(here).outerjoin(
        _project(here), _project(here).c.id == here.table.c.project_id
    ),
    "exists": lambda here: _own(here).where(
        select(_project(here).c.id)
        .where(_project(here).c.id == here.table.c.project_id)
        .exists()
    ),
    "subquery": lambda here: _own(here).where(
        here.table.c.project_id.in_(select(_project(here).c.id))
    ),
    "distinct": lambda here: _own(here).distinct(),
    "other-columns": lambda here: _own(here).with_only_columns(here.table.c.filename),
}


def expected(here: Registration, query: Select[Any], page: Page) -> list[Upload]:
    """All rows that belong in the list, by a plain statement and in Python."""
    query = query.with_only_columns(*here.table.c, maintain_column_froms=True)
    with here.database.transaction() as connection:
        rows = connection.execute(query).all()
    uploads = [here.repository._rows.to_upload(row) for row in rows]
    found = [
        upload
        for upload in uploads
        if upload.status in page.statuses
        and upload.partial is page.partial
        and not is_over(upload, page.cutoff)
    ]
    return sorted(found, key=lambda upload: (upload.created_at, str(upload.id)))


def is_over(upload: Upload, cutoff: Cutoff | None) -> bool:
    """Does the list hide it? Nothing here belongs to a concatenation."""
    may_expire = upload.status is Status.UPLOADING or (
        upload.partial and upload.status is Status.COMPLETE
    )
    if cutoff is None or not may_expire:
        return False
    idle, lifetime = cutoff.idle_since, cutoff.created_before
    return (idle is not None and upload.last_activity_at <= idle) or (
        lifetime is not None and upload.created_at <= lifetime
    )


def by_number(here: Registration, query: Select[Any], page: Page) -> list[Upload]:
    """All pages, by what is skipped."""
    found: list[Upload] = []
    while rows := here.repository.page(query, replace(page, skip=len(found))):
        found += rows
    return found


def by_cursor(here: Registration, query: Select[Any], page: Page) -> list[Upload]:
    """All pages, by the last row of the one before."""
    found: list[Upload] = []
    while rows := here.repository.page(query, page):
        found += rows
        page = replace(page, after=(rows[-1].created_at, rows[-1].id))
    return found


def cases() -> Iterator[Any]:
    """Every query with every limit; the fast tier takes each query with one of them.

    The query that every application has is taken with all of them.
    """
    for number, name in enumerate(QUERIES):
        for turn, limit in enumerate(CUTOFFS):
            is_fast = name == "own" or number % len(CUTOFFS) == turn
            yield pytest.param(
                QUERIES[name],
                CUTOFFS[limit],
                id=f"{name}-{limit}",
                marks=() if is_fast else pytest.mark.slow,
            )


@pytest.mark.parametrize("partial", [False, True], ids=["files", "partials"])
@pytest.mark.parametrize(("make", "cutoff"), list(cases()))
def test_pages_and_counts_have_each_row_once_and_in_order(
    here: Registration, make: Any, cutoff: Cutoff | None, partial: bool
) -> None:
    query = make(here)
    for statuses in (ALL, PENDING, (Status.COMPLETE,)):
        page = Page(statuses, 9, cutoff=cutoff, partial=partial)
        whole = expected(here, query, page)
        assert here.repository.count(query, page) == len(whole)
        assert by_number(here, query, page) == whole
        assert by_cursor(here, query, page) == whole


def test_order_of_the_applications_query_comes_first(here: Registration) -> None:
    query = _own(here).order_by(here.table.c.filename.desc())
    page = Page(ALL, 20)
    whole = expected(here, _own(here), page)
    wanted = sorted(whole, key=lambda upload: upload.filename, reverse=True)
    assert here.repository.page(query, page) == wanted[:20]
    assert here.repository.page(query, replace(page, skip=20)) == wanted[20:40]
    assert here.repository.count(query, page) == len(whole)


def test_limit_of_the_applications_query_holds_for_the_count(
    here: Registration,
) -> None:
    query = _own(here).order_by(here.table.c.id).limit(5)
    assert here.repository.count(query, Page(ALL, 3)) == 5


class Ann(ChunkedUploadBlueprint):
    def get_user_id(self) -> object:
        return "ann"


def test_statuses_come_in_one_order_over_http(app_factory: AppFactory) -> None:
    app: Flask = app_factory(blueprint_class=Ann)
    here = registered(app)
    moments = [NOW.replace(year=2999) + timedelta(hours=hour) for hour in range(6)]
    rows = [
        {
            "id": UUID(int=number, version=4),
            "blueprint": "uploads",
            "user": "ann",
            "filename": str(number),
            "offset": 0,
            "status": ALL[number % 3].value,
            "fence": 0,
            "created_at": moment,
            "last_activity_at": moment,
            "dialect": "tus",
            "partial": False,
            "attempts": 0,
        }
        for number, moment in enumerate(moments)
    ]
    with app.app_context(), here.database.transaction() as connection:
        connection.execute(insert(here.table), rows)
    answer = app.test_client().get("/uploads/?status=all&count=1&per_page=4")
    assert [upload["filename"] for upload in answer.get_json()] == list("0123")
    assert answer.headers["X-Total-Count"] == "6"
    rest = answer.headers["Link"].partition(">")[0][1:]
    answer = app.test_client().get(rest)
    assert [upload["filename"] for upload in answer.get_json()] == list("45")
