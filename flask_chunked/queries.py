"""What is asked of the rows of uploads, without changing any.

SQLAlchemy Core in short transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    false,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.sql import ColumnElement

from .database import Database
from .engine.records import Cutoff, Upload
from .engine.states import UNFINISHED, Status
from .rows import RowMapper
from .statements import Statements, values_of

#: Rows fetched at once by the loops of the maintenance commands.
BATCH = 200


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing.

    :param after: (creation time, id) of the last row of the page before, or ``None``.
    :param skip: rows to skip; for page numbers.
    :param statuses: the states wanted.
    :param cutoff: hide unfinished uploads that are as old; ``None``: all.
    """

    statuses: tuple[Status, ...]
    limit: int
    after: tuple[datetime, UUID] | None = None
    skip: int = 0
    cutoff: Cutoff | None = None


class Queries:
    """Reading one model's table.

    :param blueprint: name under which the uploads in question are registered.
    """

    def __init__(self, database: Database, rows: RowMapper, blueprint: str) -> None:
        self._database = database
        self._blueprint = blueprint
        self._rows = rows
        self._table = rows.table
        self._statements = Statements(rows.table)
        self._owner = rows.table.c[rows.user_column]

    # -- for the engine ------------------------------------------------------------

    def get(self, upload_id: UUID) -> Upload | None:
        """The row, in whatever state."""
        values = {"upload_id": upload_id}
        rows = self._database.run(self._statements.select, values).rows
        return self._rows.to_upload(rows[0]) if rows else None

    def waiting_finals(self, upload_id: UUID) -> Iterator[Upload]:
        """Open uploads whose concatenation names this one."""
        c = self._table.c
        return self.matching(
            and_(
                c.status == Status.UPLOADING.value,
                c.concat.like(f"final;%{upload_id}%"),
            )
        )

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        """Unfinished uploads that are too old; expired ones on request."""
        c = self._table.c
        old = and_(c.status.in_(UNFINISHED), self._is_beyond(cutoff))
        wanted = or_(old, c.status == Status.EXPIRED.value) if expired_too else old
        return self.matching(wanted)

    def expirable_of(self, owner: object, cutoff: Cutoff) -> Iterator[Upload]:
        """Unfinished uploads of one owner that are too old."""
        c = self._table.c
        mine = self._owner.is_(None) if owner is None else self._owner == owner
        return self.matching(
            and_(mine, c.status.in_(UNFINISHED), self._is_beyond(cutoff))
        )

    def undelivered(self, before: datetime) -> Iterator[Upload]:
        """Complete uploads whose event is pending since ``before``."""
        c = self._table.c
        started = func.coalesce(c.delivery_started_at, c.completed_at)
        return self.matching(
            and_(
                c.status == Status.COMPLETE.value,
                c.event_id.is_not(None),
                c.delivered_at.is_(None),
                started <= before,
            )
        )

    # -- for the blueprint and maintenance -----------------------------------------

    def find(self, query: Select[Any], upload_id: UUID) -> Upload | None:
        """The row, where the application's query lets the caller see it."""
        statement = self.one_of(query)
        with self._database.transaction() as connection:
            row = connection.execute(statement, {"upload_id": upload_id}).first()
        return None if row is None else self._rows.to_upload(row)

    def one_of(self, query: Select[Any]) -> Select[Any]:
        """A statement for one visible row of a query; its parameter: ``upload_id``."""
        c = self._table.c
        return self._columns_of(query).where(
            c.id == bindparam("upload_id", type_=c.id.type),
            c.status != Status.TERMINATING.value,
        )

    def find_by(self, statement: Select[Any], **values: object) -> Upload | None:
        """The row that a statement of :meth:`one_of`, kept for ever, finds."""
        rows = self._database.run(statement, values).rows
        return self._rows.to_upload(rows[0]) if rows else None

    def page(self, query: Select[Any], page: Page) -> list[Upload]:
        """A page of the query's rows, oldest first."""
        c = self._table.c
        statement = self._columns_of(self._filtered(query, page))
        if page.after is not None:
            created_at, upload_id = page.after
            statement = statement.where(
                or_(
                    c.created_at > created_at,
                    and_(c.created_at == created_at, c.id > upload_id),
                )
            )
        statement = statement.order_by(c.created_at, c.id)
        statement = statement.limit(page.limit).offset(page.skip)
        with self._database.transaction() as connection:
            return [self._rows.to_upload(row) for row in connection.execute(statement)]

    def count(self, query: Select[Any], page: Page) -> int:
        """How many rows the query has on all pages."""
        filtered = self._columns_of(self._filtered(query, page)).subquery()
        with self._database.transaction() as connection:
            statement = select(func.count()).select_from(filtered)
            return int(connection.execute(statement).scalar_one())

    def matching(
        self, condition: ColumnElement[bool] | None = None
    ) -> Iterator[Upload]:
        """All rows of this blueprint that match, in batches; safe against changes."""
        c = self._table.c
        last: UUID | None = None
        while True:
            statement = select(*c).where(c.blueprint == self._blueprint)
            if condition is not None:
                statement = statement.where(condition)
            if last is not None:
                statement = statement.where(c.id > last)
            statement = statement.order_by(c.id).limit(BATCH)
            with self._database.transaction() as connection:
                rows = [
                    self._rows.to_upload(row) for row in connection.execute(statement)
                ]
            yield from rows
            if len(rows) < BATCH:
                return
            last = rows[-1].id

    def by_keys(self, keys: list[str]) -> dict[str, Upload]:
        """The rows that have one of the storage keys, whatever blueprint."""
        c = self._table.c
        statement = select(*c).where(c.storage_key.in_(keys))
        with self._database.transaction() as connection:
            rows = [self._rows.to_upload(row) for row in connection.execute(statement)]
        return {row.storage_key: row for row in rows if row.storage_key is not None}

    # -- inside --------------------------------------------------------------------

    def _select(self, connection: Connection, upload_id: UUID) -> Upload | None:
        values = {"upload_id": upload_id}
        row = connection.execute(self._statements.select, values).first()
        return None if row is None else self._rows.to_upload(row)

    def _columns_of(self, query: Select[Any]) -> Select[Any]:
        return query.with_only_columns(*self._table.c, maintain_column_froms=True)

    def _filtered(self, query: Select[Any], page: Page) -> Select[Any]:
        c = self._table.c
        query = query.where(c.status.in_(values_of(page.statuses)))
        if page.cutoff is None:
            return query
        live = or_(
            c.status != Status.UPLOADING.value, not_(self._is_beyond(page.cutoff))
        )
        return query.where(live)

    def _is_beyond(self, cutoff: Cutoff) -> ColumnElement[bool]:
        c = self._table.c
        found = []
        if cutoff.idle_since is not None:
            found.append(c.last_activity_at <= cutoff.idle_since)
        if cutoff.created_before is not None:
            found.append(c.created_at <= cutoff.created_before)
        return or_(false(), *found)
