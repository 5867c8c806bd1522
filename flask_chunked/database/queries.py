"""Reads uploads, with SQLAlchemy Core in short transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.sql import ColumnElement

from ..engine.records import Cutoff, Upload
from ..engine.states import Status
from .pages import Pages
from .rows import RowMapper
from .statements import Statements, values_of
from .transactions import Database

#: Rows that one statement of :meth:`Queries.matching` reads.
BATCH = 200


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list.

    :param statuses: the list has only uploads with one of these.
    :param limit: most rows of the page.
    :param after: (creation time, id) of the previous page's last row; ``None``: the
        page is the first one.
    :param skip: rows to skip, for page numbers.
    :param cutoff: hide unfinished uploads past these limits; ``None``: hide none.
    :param partial: list the partial uploads instead of all others.
    """

    statuses: tuple[Status, ...]
    limit: int
    after: tuple[datetime, UUID] | None = None
    skip: int = 0
    cutoff: Cutoff | None = None
    partial: bool = False


class Queries:
    """Reads the table of one model.

    :param blueprint: the name of the blueprint whose uploads are read.
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
        self._expiry = statements.expiry
        self._owner = rows.table.c[rows.user_column]

    # -- for the engine ------------------------------------------------------------

    def get(self, upload_id: UUID) -> Upload | None:
        """The upload, in any state; ``None``: it has no row."""
        values = {"upload_id": upload_id}
        rows = self._database.execute(self._statements.select, values).rows
        return self._rows.to_upload(rows[0]) if rows else None

    def members(self, final_id: UUID) -> list[Upload | None]:
        """The members of a final upload, in order; ``None``: a member has no row."""
        values = {"upload_id": final_id}
        rows = self._database.execute(self._members.rows, values).rows
        return [self._rows.to_upload_or_none(row) for row in rows]

    def waiting_finals(self, upload_id: UUID) -> list[Upload]:
        """The final uploads that wait for this partial upload."""
        values = {"upload_id": upload_id}
        rows = self._database.execute(self._members.waiting, values).rows
        return [self._rows.to_upload(row) for row in rows]

    def is_used_up(self, upload_id: UUID) -> bool:
        """True if a complete final upload contains this partial upload.

        False while another final upload waits for it.
        """
        values = {"upload_id": upload_id}
        return bool(self._database.execute(self._members.used_up, values).rows)

    def group_activity(self, upload: Upload) -> datetime | None:
        """The last activity in the unfinished concatenations of an upload.

        :return: ``None``: the upload belongs to none.
        """
        if not upload.partial:
            moments = [row.last_activity_at for row in self.members(upload.id) if row]
            return max(moments, default=None)
        values = {"upload_id": upload.id}
        found = self._database.execute(self._members.unfinished, values).rows
        finals = [self._rows.to_upload(row) for row in found]
        members = (row for final in finals for row in self.members(final.id))
        moments = [row.last_activity_at for row in (*finals, *members) if row]
        return max(moments, default=None)

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        """The uploads that are past a limit and may expire.

        :param expired_too: also those that expired earlier and still have a row.
        """
        c = self._table.c
        old = and_(self._expiry.may_expire(), self._is_past(cutoff))
        wanted = or_(old, c.status == Status.EXPIRED.value) if expired_too else old
        return self.matching(wanted, _limits(cutoff))

    def expirable_of(self, owner: object, cutoff: Cutoff) -> Iterator[Upload]:
        """The uploads of one owner that are past a limit and may expire."""
        owned = self._owner.is_(None) if owner is None else self._owner == owner
        old = and_(self._expiry.may_expire(), self._is_past(cutoff))
        return self.matching(and_(owned, old), _limits(cutoff))

    def undelivered(self, before: datetime) -> Iterator[Upload]:
        """The complete uploads whose event is pending since ``before`` or earlier."""
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
        """The upload, if the application's query selects it."""
        statement = self.one_of(query)
        with self._database.transaction() as connection:
            row = connection.execute(statement, {"upload_id": upload_id}).first()
        return None if row is None else self._rows.to_upload(row)

    def one_of(self, query: Select[Any]) -> Select[Any]:
        """A statement that reads one upload that the query selects.

        Its parameter is ``upload_id``.
        """
        c = self._table.c
        return self._columns_of(query).where(
            c.id == bindparam("upload_id", type_=c.id.type)
        )

    def find_by(self, statement: Select[Any], **values: object) -> Upload | None:
        """Execute a statement of :meth:`one_of`, which the caller keeps."""
        rows = self._database.execute(statement, values).rows
        return self._rows.to_upload(rows[0]) if rows else None

    def page(self, query: Select[Any], page: Page) -> list[Upload]:
        """A page of the query's rows, oldest first."""
        position = (page.limit, page.skip, page.after)
        if self._pages.has_order_or_limit(query):
            statement = self._pages.from_query(self._filtered(query, page), *position)
        else:
            statement = self._pages.merged(self._by_status(query, page), *position)
        values = _limits(page.cutoff)
        with self._database.transaction() as connection:
            rows = connection.execute(statement, values)
            return [self._rows.to_upload(row) for row in rows]

    def count(self, query: Select[Any], page: Page) -> int:
        """The number of the query's rows on all pages."""
        if self._pages.has_order_or_limit(query):
            queries = [self._filtered(query, page)]
        else:
            queries = self._by_status_and_age(query, page)
        statement, values = self._pages.count(queries), _limits(page.cutoff)
        with self._database.transaction() as connection:
            return int(connection.execute(statement, values).scalar_one())

    def _by_status(self, query: Select[Any], page: Page) -> list[Select[Any]]:
        """One query for each status, as the index groups rows by status."""
        return [self._of_status(query, page, status) for status in page.statuses]

    def _by_status_and_age(self, query: Select[Any], page: Page) -> list[Select[Any]]:
        """The queries of a count: one for each status, or two if the status expires.

        The two are for uploads before and after the limits. The latter cannot be past
        a limit, so that the query does not have to read their last activity.
        """
        limits = _limits(page.cutoff).values()
        if not limits:
            return self._by_status(query, page)
        created_at, newest = self._table.c.created_at, max(limits)
        queries = []
        for status in page.statuses:
            every = self._of_status(query, page, status)
            if not _can_expire(page, status):
                queries.append(every)
                continue
            # The last activity of an upload is never before its creation.
            young = self._of_status(query, replace(page, cutoff=None), status)
            queries.append(young.where(created_at > newest))
            queries.append(every.where(created_at <= newest))
        return queries

    def _of_status(self, query: Select[Any], page: Page, status: Status) -> Select[Any]:
        # For other statuses the query must not read the last activity.
        cutoff = page.cutoff if _can_expire(page, status) else None
        return self._filtered(query, replace(page, statuses=(status,), cutoff=cutoff))

    def matching(
        self,
        condition: ColumnElement[bool] | None = None,
        values: Mapping[str, object] | None = None,
    ) -> Iterator[Upload]:
        """All uploads of this blueprint that match, in the order of their ids.

        Each batch is a statement of its own, so that uploads may change meanwhile.

        :param condition: ``None``: all uploads match.
        :param values: values of the condition's parameters, by name.
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
        """The uploads of all blueprints with one of the storage keys, by key."""
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
        is_hidden = self._expiry.is_hidden(partial=page.partial)
        return query.where(not_(and_(is_hidden, self._is_past(page.cutoff))))

    def _is_past(self, cutoff: Cutoff) -> ColumnElement[bool]:
        """The condition that takes the parameters of :func:`_limits`."""
        return self._expiry.is_past_limits(
            idle=cutoff.idle_since is not None, age=cutoff.created_before is not None
        )


def _limits(cutoff: Cutoff | None) -> dict[str, datetime]:
    """The limits of time that exist, by the name of their parameter."""
    if cutoff is None:
        return {}
    limits = {
        "idle_since": cutoff.idle_since,
        "created_before": cutoff.created_before,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def _can_expire(page: Page, status: Status) -> bool:
    """True if an upload of this status is hidden once it is past a limit."""
    return status is Status.UPLOADING or (page.partial and status is Status.COMPLETE)
