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
from .members import MemberBook
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
    :param partial: partial uploads, and nothing else.
    """

    statuses: tuple[Status, ...]
    limit: int
    after: tuple[datetime, UUID] | None = None
    skip: int = 0
    cutoff: Cutoff | None = None
    partial: bool = False


class Queries:
    """Reading one model's table.

    :param blueprint: name under which the uploads in question are registered.
    """

    def __init__(
        self, database: Database, rows: RowMapper, blueprint: str, members: MemberBook
    ) -> None:
        self._database = database
        self._blueprint = blueprint
        self._rows = rows
        self._table = rows.table
        self._members = members
        self._statements = Statements(rows.table, members)
        self._owner = rows.table.c[rows.user_column]

    # -- for the engine ------------------------------------------------------------

    def get(self, upload_id: UUID) -> Upload | None:
        """The row, in whatever state."""
        values = {"upload_id": upload_id}
        rows = self._database.run(self._statements.select, values).rows
        return self._rows.to_upload(rows[0]) if rows else None

    def members(self, final_id: UUID) -> list[Upload | None]:
        """The members of a final upload, in order; ``None``: its row is gone."""
        values = {"upload_id": final_id}
        rows = self._database.run(self._members.rows, values).rows
        return [self._rows.to_upload_or_none(row) for row in rows]

    def waiting_finals(self, upload_id: UUID) -> list[Upload]:
        """Open final uploads that this one is a member of."""
        values = {"upload_id": upload_id}
        rows = self._database.run(self._members.waiting, values).rows
        return [self._rows.to_upload(row) for row in rows]

    def group_activity(self, upload: Upload) -> datetime | None:
        """Last activity in the waiting concatenation that the upload belongs to."""
        if not upload.partial:
            moments = [row.last_activity_at for row in self.members(upload.id) if row]
            return max(moments, default=None)
        finals = self.waiting_finals(upload.id)
        members = (row for final in finals for row in self.members(final.id))
        moments = [row.last_activity_at for row in (*finals, *members) if row]
        return max(moments, default=None)

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        """Uploads that are too old and may expire; expired ones on request."""
        c = self._table.c
        old = and_(self._may_expire(), self._is_beyond(cutoff))
        wanted = or_(old, c.status == Status.EXPIRED.value) if expired_too else old
        return self.matching(wanted)

    def expirable_of(self, owner: object, cutoff: Cutoff) -> Iterator[Upload]:
        """Uploads of one owner that are too old and may expire."""
        mine = self._owner.is_(None) if owner is None else self._owner == owner
        return self.matching(and_(mine, self._may_expire(), self._is_beyond(cutoff)))

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
        query = query.where(
            c.status.in_(values_of(page.statuses)), c.partial.is_(page.partial)
        )
        if page.cutoff is None:
            return query
        may_expire = c.status == Status.UPLOADING.value
        if page.partial:
            may_expire = c.status != Status.COMPLETING.value
        return query.where(not_(and_(may_expire, self._is_beyond(page.cutoff))))

    def _may_expire(self) -> ColumnElement[bool]:
        c = self._table.c
        complete = and_(c.status == Status.COMPLETE.value, c.partial)
        return or_(c.status.in_(UNFINISHED), complete)

    def _is_beyond(self, cutoff: Cutoff) -> ColumnElement[bool]:
        c = self._table.c
        found = []
        if cutoff.idle_since is not None:
            since = bindparam(
                "idle_since", cutoff.idle_since, type_=c.last_activity_at.type
            )
            idle = c.last_activity_at <= since
            found.append(and_(idle, ~self._members.is_kept_alive(since)))
        if cutoff.created_before is not None:
            found.append(c.created_at <= cutoff.created_before)
        return or_(false(), *found)
