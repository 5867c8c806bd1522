"""What is asked of the rows of uploads, without changing any.

SQLAlchemy Core in short transactions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
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

from ..engine.records import Cutoff, Upload
from ..engine.states import UNFINISHED, Status
from .pages import Pages
from .rows import RowMapper
from .statements import Statements, values_of
from .transactions import Database

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
        self,
        database: Database,
        rows: RowMapper,
        blueprint: str,
        statements: Statements,
    ) -> None:
        self._database = database
        self._blueprint = blueprint
        self._rows = rows
        self._table = rows.table
        self._statements = statements
        self._members = statements.members
        self._pages = Pages(rows.table)
        self._owner = rows.table.c[rows.user_column]
        #: Which limits in time there are -> the condition.
        self._beyond: dict[tuple[bool, bool], ColumnElement[bool]] = {}

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

    def is_used_up(self, upload_id: UUID) -> bool:
        """Is a complete final made of this partial upload, and no other waits?"""
        values = {"upload_id": upload_id}
        return bool(self._database.run(self._members.used_up, values).rows)

    def group_activity(self, upload: Upload) -> datetime | None:
        """Last activity in the waiting concatenation that the upload belongs to."""
        if not upload.partial:
            moments = [row.last_activity_at for row in self.members(upload.id) if row]
            return max(moments, default=None)
        values = {"upload_id": upload.id}
        found = self._database.run(self._members.unfinished, values).rows
        finals = [self._rows.to_upload(row) for row in found]
        members = (row for final in finals for row in self.members(final.id))
        moments = [row.last_activity_at for row in (*finals, *members) if row]
        return max(moments, default=None)

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        """Uploads that are too old and may expire; expired ones on request."""
        c = self._table.c
        old = and_(self._may_expire(), self._is_beyond(cutoff))
        wanted = or_(old, c.status == Status.EXPIRED.value) if expired_too else old
        return self.matching(wanted, _moments(cutoff))

    def expirable_of(self, owner: object, cutoff: Cutoff) -> Iterator[Upload]:
        """Uploads of one owner that are too old and may expire."""
        mine = self._owner.is_(None) if owner is None else self._owner == owner
        old = and_(self._may_expire(), self._is_beyond(cutoff))
        return self.matching(and_(mine, old), _moments(cutoff))

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
        where = (page.limit, page.skip, page.after)
        if self._pages.is_plain(query):
            statement = self._pages.merged(self._by_status(query, page), *where)
        else:
            statement = self._pages.whole(self._filtered(query, page), *where)
        values = _moments(page.cutoff)
        with self._database.transaction() as connection:
            rows = connection.execute(statement, values)
            return [self._rows.to_upload(row) for row in rows]

    def count(self, query: Select[Any], page: Page) -> int:
        """How many rows the query has on all pages."""
        queries = [self._filtered(query, page)]
        if self._pages.is_plain(query):
            queries = self._by_status_and_age(query, page)
        statement, values = self._pages.count(queries), _moments(page.cutoff)
        with self._database.transaction() as connection:
            return int(connection.execute(statement, values).scalar_one())

    def _by_status(self, query: Select[Any], page: Page) -> list[Select[Any]]:
        """One query for each status: in the index one comes after the other."""
        return [self._of_status(query, page, status) for status in page.statuses]

    def _by_status_and_age(self, query: Select[Any], page: Page) -> list[Select[Any]]:
        """The same for counts: what is young needs no look at its last activity."""
        cutoff = page.cutoff
        limits = () if cutoff is None else (cutoff.idle_since, cutoff.created_before)
        known = [limit for limit in limits if limit is not None]
        if not known:
            return self._by_status(query, page)
        created_at, newest = self._table.c.created_at, max(known)
        queries = []
        for status in page.statuses:
            every = self._of_status(query, page, status)
            if not _has_end(page, status):
                queries.append(every)
                continue
            # No upload is active before it is created.
            young = self._of_status(query, replace(page, cutoff=None), status)
            queries.append(young.where(created_at > newest))
            queries.append(every.where(created_at <= newest))
        return queries

    def _of_status(self, query: Select[Any], page: Page, status: Status) -> Select[Any]:
        # What has no end in time is not to be looked at for its activity.
        cutoff = page.cutoff if _has_end(page, status) else None
        return self._filtered(query, replace(page, statuses=(status,), cutoff=cutoff))

    def matching(
        self,
        condition: ColumnElement[bool] | None = None,
        values: Mapping[str, object] | None = None,
    ) -> Iterator[Upload]:
        """All rows of this blueprint that match, in batches; safe against changes.

        :param values: of the condition's parameters.
        """
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
                found = connection.execute(statement, values or {})
                rows = [self._rows.to_upload(row) for row in found]
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
        """Too old; its parameters are those of :func:`_moments`.

        Kept, because it takes longer to build than a short list takes to read.
        """
        limits = (cutoff.idle_since is not None, cutoff.created_before is not None)
        known = self._beyond.get(limits)
        if known is not None:
            return known
        c = self._table.c
        found = []
        if cutoff.idle_since is not None:
            since = bindparam("idle_since", type_=c.last_activity_at.type)
            idle = c.last_activity_at <= since
            found.append(and_(idle, ~self._members.is_kept_alive(since)))
        if cutoff.created_before is not None:
            before = bindparam("created_before", type_=c.created_at.type)
            found.append(c.created_at <= before)
        return self._beyond.setdefault(limits, or_(false(), *found))


def _moments(cutoff: Cutoff | None) -> dict[str, object]:
    """Values for what :meth:`Queries._is_beyond` compares with."""
    if cutoff is None:
        return {}
    moments = asdict(cutoff)
    return {name: moment for name, moment in moments.items() if moment is not None}


def _has_end(page: Page, status: Status) -> bool:
    """True if time gives uploads of this status up: partial ones while they exist."""
    return status is Status.UPLOADING or (page.partial and status is Status.COMPLETE)
