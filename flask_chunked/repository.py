"""Claims, compare-and-set and queries on the rows of uploads.

SQLAlchemy Core in short transactions; the ORM only for creation, so that the
application's columns, events and validators work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Select,
    and_,
    delete,
    false,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from .database import Database
from .engine.records import Cutoff, Step, Upload
from .engine.states import Event, Status, sources
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


class SQLRepository:
    """The repository on one model's table.

    :param blueprint: name under which this repository's uploads are registered.
    :param user_field: the model's attribute that holds the owner.
    """

    def __init__(
        self, database: Database, model: type[Any], blueprint: str, user_field: str
    ) -> None:
        self._database = database
        self._blueprint = blueprint
        self._rows = RowMapper(model, user_field)
        self._table = self._rows.table
        self._statements = Statements(self._table)

    # -- the port of the engine ----------------------------------------------------

    def create(self, draft: Upload, fields: Mapping[str, object]) -> Upload:
        """Insert the draft's row through the ORM, in a session of ours."""
        instance = self._rows.instance(draft, fields)
        try:
            with (
                self._database.transaction() as connection,
                Session(
                    connection, join_transaction_mode="create_savepoint"
                ) as session,
            ):
                session.add(instance)
                session.commit()
                row = self._select(connection, draft.id)
        except (StatementError, OverflowError) as error:
            # Also what a column's type or the driver cannot take, a huge integer say.
            theirs = isinstance(error, DBAPIError)
            if theirs and not isinstance(error, (IntegrityError, DataError)):
                raise
            raise self._rows.refusal(error) from error
        if row is None:  # pragma: no cover - inserted in this transaction
            raise RuntimeError("the new upload's row is not there")
        return row

    def get(self, upload_id: UUID) -> Upload | None:
        """The row, in whatever state."""
        with self._database.transaction() as connection:
            return self._select(connection, upload_id)

    def claim(self, upload_id: UUID, start: int) -> Upload | None:
        """Bump the fence where the upload is open and stands at ``start``."""
        return self._transition(upload_id, Event.APPEND, its_offset=start)

    def take_over(self, upload_id: UUID) -> Upload | None:
        """Bump the fence where the upload is open."""
        return self._transition(upload_id, Event.TAKE_OVER)

    def holds(self, upload_id: UUID, fence: int, offset: int) -> bool:
        """Still open, same fence, same offset?"""
        values = {"upload_id": upload_id, "its_fence": fence, "its_offset": offset}
        with self._database.transaction() as connection:
            found = connection.execute(self._statements.holds, values)
            return found.first() is not None

    def advance(self, step: Step) -> bool:
        """Move the offset, with the storage's receipt, if nobody else did."""
        values = {
            "upload_id": step.upload_id,
            "its_fence": step.fence,
            "its_offset": step.old_offset,
            "new_offset": step.offset,
            "new_last_start": step.start,
            "new_last_digest": step.digest,
            "new_last_activity_at": step.at,
            "new_storage_state": step.state,
            "new_hash_state": step.hash_state,
        }
        with self._database.transaction() as connection:
            moved = connection.execute(self._statements.advance, values)
            return bool(moved.rowcount == 1)

    def declare_length(self, upload_id: UUID, length: int) -> Upload | None:
        """Store the length, if there is none and no more bytes than that."""
        statement = self._statements.declare_length
        return self._update(upload_id, statement, {"new_length": length})

    def waiting_finals(self, upload_id: UUID) -> Iterator[Upload]:
        """Open uploads whose concatenation names this one."""
        c = self._table.c
        return self.matching(
            and_(
                c.status == Status.UPLOADING.value,
                c.concat.like(f"final;%{upload_id}%"),
            )
        )

    def begin_completion(self, upload_id: UUID, at: datetime) -> Upload | None:
        """To completing, where all bytes are there."""
        return self._transition(
            upload_id, Event.BEGIN_COMPLETION, new_last_activity_at=at
        )

    def refuse_completion(self, upload_id: UUID, fence: int) -> None:
        """Back to uploading, if no other completion began since."""
        self._transition(upload_id, Event.REFUSE_COMPLETION, its_fence=fence)

    def complete(
        self,
        upload_id: UUID,
        digest: str | None,
        event_id: UUID | None,
        at: datetime,
        *,
        delivered: bool = False,
    ) -> Upload | None:
        """To complete; digest and completion event in the same transaction."""
        return self._transition(
            upload_id,
            Event.COMPLETE,
            new_digest=digest,
            new_completed_at=at,
            new_last_activity_at=at,
            new_event_id=event_id,
            new_delivered_at=at if delivered else None,
        )

    def begin_termination(self, upload_id: UUID) -> Upload | None:
        """To terminating: nobody appends, completes or sees it any more."""
        return self._transition(upload_id, Event.TERMINATE)

    def begin_expiry(self, upload_id: UUID, cutoff: Cutoff) -> Upload | None:
        """To expired, if it is unfinished and still too old."""
        return self._transition(
            upload_id,
            Event.EXPIRE,
            idle_since=cutoff.idle_since,
            created_before=cutoff.created_before,
        )

    def remove(self, upload_id: UUID) -> None:
        """Delete the row."""
        statement = delete(self._table).where(self._table.c.id == upload_id)
        with self._database.transaction() as connection:
            connection.execute(statement)

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        """Unfinished uploads that are too old; expired ones on request."""
        c = self._table.c
        old = and_(
            c.status.in_(values_of(sources(Event.EXPIRE))), self._is_beyond(cutoff)
        )
        wanted = or_(old, c.status == Status.EXPIRED.value) if expired_too else old
        return self.matching(wanted)

    def claim_delivery(
        self, upload_id: UUID, at: datetime, stale: datetime
    ) -> Upload | None:
        """Take the pending event, unless somebody is at it since ``stale``."""
        values = {"new_delivery_started_at": at, "stale": stale}
        return self._update(upload_id, self._statements.claim_delivery, values)

    def mark_delivered(self, upload_id: UUID, at: datetime) -> None:
        """The event is done with."""
        values = {"new_delivered_at": at}
        self._update(upload_id, self._statements.mark_delivered, values)

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

    # -- queries of the blueprint and of maintenance ---------------------------------

    def forget_file(self, upload_id: UUID) -> None:
        """The file was moved away; the record stays without it."""
        self._update(upload_id, self._statements.forget_file, {})

    def find(self, query: Select[Any], upload_id: UUID) -> Upload | None:
        """The row, where the application's query lets the caller see it."""
        c = self._table.c
        statement = self._columns_of(query).where(
            c.id == upload_id, c.status != Status.TERMINATING.value
        )
        with self._database.transaction() as connection:
            row = connection.execute(statement).first()
        return None if row is None else self._rows.to_upload(row)

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

    def known_keys(self, keys: list[str]) -> set[str]:
        """Which of the storage keys some row of the table has, whatever blueprint."""
        c = self._table.c
        statement = select(c.storage_key).where(c.storage_key.in_(keys))
        with self._database.transaction() as connection:
            return {row.storage_key for row in connection.execute(statement)}

    # -- inside --------------------------------------------------------------------

    def _transition(
        self, upload_id: UUID, happening: Event, **values: object
    ) -> Upload | None:
        """One row of the transition table, as one conditional UPDATE."""
        statement = self._statements.transitions[happening]
        return self._update(upload_id, statement, values)

    def _update(
        self, upload_id: UUID, statement: Any, values: Mapping[str, object]
    ) -> Upload | None:
        values = {"upload_id": upload_id, **values}
        with self._database.transaction() as connection:
            if connection.dialect.update_returning:
                changed = connection.execute(
                    self._statements.returning(statement), values
                ).first()
                return None if changed is None else self._rows.to_upload(changed)
            # UPDATE first, SELECT second: the row is locked by then.
            if connection.execute(statement, values).rowcount != 1:
                return None
            return self._select(connection, upload_id)

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
