"""Inserts uploads and changes their state, by one conditional UPDATE for each change.

Quota, members and parts change in the same transaction. The ORM inserts the row if the
model has its own columns, event listeners or validators, so that they take effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from ..engine.gate import MAX_WAITING
from ..engine.records import CompletionRecord, Cutoff, Quota, Upload
from ..engine.states import Event, target
from ..exceptions import (
    CommitUnanswered,
    DatabaseUnavailable,
    PartialMissing,
    TooManyFinals,
)
from .parts import PartTable
from .queries import Queries
from .quotas import OwnerNotCounted, QuotaTable
from .rows import RowMapper
from .statements import Statements, completion_values, moments_of
from .transactions import Database

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables that a repository writes to.

    :param uploads: the statements on the table of uploads.
    :param quotas: the quota table; ``None``: nothing limits what owners have.
    :param parts: the table of parts; ``None``: the storage keeps no parts.
    """

    uploads: Statements
    quotas: QuotaTable | None
    parts: PartTable | None


class Transitions(Queries):
    """The part of the repository that inserts uploads and changes their state.

    Each change returns the changed upload, or ``None`` if its conditions are not met.
    """

    def __init__(
        self, database: Database, rows: RowMapper, blueprint: str, tables: Tables
    ) -> None:
        super().__init__(database, rows, blueprint, tables.uploads)
        self._quotas = tables.quotas
        self._parts = tables.parts
        self._removals = tables.uploads.removals

    def create(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None = None,
        members: Sequence[UUID] = (),
    ) -> Upload:
        """Insert the row of a draft.

        :param fields: values of the application's own columns.
        :param quota: the owner's limits, with the bytes to reserve.
        :param members: of a final upload, in order.
        :return: the upload as the database has it.
        :raises InvalidFields: the model or the database refuses a value.
        :raises OwnerRequired: the database refuses an upload without an owner.
        :raises TooManyUploads, QuotaExceeded: the owner would pass a limit.
        :raises PartialMissing: a member does not exist or cannot be used.
        :raises TooManyFinals: too many final uploads wait for a member.
        """
        try:
            return self._insert(draft, fields, quota, members)
        except OwnerNotCounted:
            self._start_counting(draft.user)
        try:
            return self._insert(draft, fields, quota, members)
        except OwnerNotCounted as error:  # pragma: no cover - the row was deleted
            raise DatabaseUnavailable() from error

    def claim(
        self, upload_id: UUID, start: int, expected_fence: int | None = None
    ) -> Upload | None:
        """Increment the fence of an open upload whose offset is ``start``.

        :param expected_fence: the upload must also have this fence; ``None``: any.
        """
        if expected_fence is None:
            return self._transition(upload_id, Event.APPEND, its_offset=start)
        values = {"its_offset": start, "its_fence": expected_fence}
        return self._update(upload_id, self._statements.claim_if_unchanged, values)

    def take_over(self, upload_id: UUID) -> Upload | None:
        """Increment the fence of an open upload."""
        return self._transition(upload_id, Event.TAKE_OVER)

    def begin_completion(
        self, upload_id: UUID, at: datetime, verify_stale: datetime | None
    ) -> Upload | None:
        """Change to completing, if all bytes are committed.

        :param verify_stale: a verification that began later refuses the change;
            ``None``: the upload is not verified, and no verification refuses it.
        """
        return self._transition(
            upload_id,
            Event.BEGIN_COMPLETION,
            new_last_activity_at=at,
            new_verify_started_at=None if verify_stale is None else at,
            verify_stale=at if verify_stale is None else verify_stale,
        )

    def refuse_completion(self, upload_id: UUID, fence: int) -> None:
        """Change back to uploading, unless another completion began since."""
        self._transition(upload_id, Event.REFUSE_COMPLETION, its_fence=fence)

    def complete(
        self,
        upload_id: UUID,
        record: CompletionRecord,
        at: datetime,
    ) -> Upload | None:
        """Change from completing to complete, and store digest and event."""
        values = completion_values(record, at)
        return self._end(upload_id, Event.COMPLETE, new_last_activity_at=at, **values)

    def finish(
        self, seen: Upload, record: CompletionRecord, at: datetime
    ) -> Upload | None:
        """Change from uploading to complete, if fence and offset are as seen."""
        return self._end(
            seen.id,
            Event.FINISH,
            its_fence=seen.fence,
            its_offset=seen.offset,
            new_last_activity_at=at,
            **completion_values(record, at),
        )

    def begin_expiry(self, upload_id: UUID, cutoff: Cutoff) -> Upload | None:
        """Change to expired, if the upload may expire and is past a limit."""
        return self._end(upload_id, Event.EXPIRE, **moments_of(cutoff))

    # -- inside --------------------------------------------------------------------

    def _transition(
        self, upload_id: UUID, event: Event, **values: object
    ) -> Upload | None:
        return self._update(upload_id, self._statements.transitions[event], values)

    def _end(self, upload_id: UUID, event: Event, **values: object) -> Upload | None:
        """A transition after which the upload no longer counts as unfinished."""
        try:
            if self._parts is None and self._quotas is None:
                statement = self._statements.ends[event]
                return self._execute_returning(upload_id, statement, values)
            statement = self._statements.transitions[event]
            with self._database.transaction() as connection:
                row = self._update_returning(connection, upload_id, statement, values)
                if row is not None and self._parts is not None:
                    self._parts.drop(connection, upload_id)
                if row is None or self._quotas is None:
                    return row
                if not self._quotas.end(connection, row):
                    return row
                return self._reserve(connection, row, None)
        except CommitUnanswered:
            row = self.get(upload_id)
            if row is None or row.status is not target(event):
                raise
            if row.event_id != values.get("new_event_id", row.event_id):
                # Another request has completed the upload.
                raise
            return row

    def _reserve(
        self, connection: Connection, row: Upload, reserved: int | None
    ) -> Upload:
        values = {"upload_id": row.id, "new_reserved": reserved}
        connection.execute(self._statements.reserve, values)
        return replace(row, reserved=reserved)

    def _update(
        self, upload_id: UUID, statement: Any, values: Mapping[str, object]
    ) -> Upload | None:
        """An UPDATE that is safe to repeat.

        At worst a fence is incremented twice, or a delivery stays pending.
        """
        return self._repeat_unanswered(
            lambda: self._execute_returning(upload_id, statement, values)
        )

    def _repeat_unanswered(self, change: Callable[[], T]) -> T:
        """Make a change, and make it again if its outcome is unknown."""
        try:
            return change()
        except CommitUnanswered:
            return change()

    def _execute_returning(
        self, upload_id: UUID, statement: Any, values: Mapping[str, object]
    ) -> Upload | None:
        """:meth:`_update_returning` in its own transaction."""
        if not self._database.supports_update_returning:
            with self._database.transaction() as connection:
                return self._update_returning(connection, upload_id, statement, values)
        statement = self._statements.returning(statement)
        values = {"upload_id": upload_id, **values}
        rows = self._database.execute(statement, values).rows
        return self._rows.to_upload(rows[0]) if rows else None

    def _update_returning(
        self,
        connection: Connection,
        upload_id: UUID,
        statement: Any,
        values: Mapping[str, object],
    ) -> Upload | None:
        """Execute an UPDATE of one upload and return the changed upload."""
        values = {"upload_id": upload_id, **values}
        if self._database.supports_update_returning:
            return self._first_returned(connection, statement, values)
        # The UPDATE locks the row before the SELECT reads it.
        if connection.execute(statement, values).rowcount != 1:
            return None
        return self._select(connection, upload_id)

    def _first_returned(
        self, connection: Connection, statement: Any, values: Mapping[str, object]
    ) -> Upload | None:
        """The upload that an UPDATE or a DELETE with RETURNING has changed."""
        row = connection.execute(self._statements.returning(statement), values).first()
        return None if row is None else self._rows.to_upload(row)

    # -- inserting -----------------------------------------------------------------

    def _insert(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None,
        members: Sequence[UUID],
    ) -> Upload:
        """:meth:`create` for an owner who has a quota row.

        :raises OwnerNotCounted: the owner has none; the transaction is rolled back.
        """
        bypasses_orm = not fields and self._rows.can_bypass_orm()
        instance = None if bypasses_orm else self._rows.instance(draft, fields)
        try:
            if bypasses_orm and quota is None and not members:
                values = self._rows.values(draft)
                self._database.execute(self._statements.insert, values)
                return draft
            with self._database.transaction() as connection:
                if members:
                    self._touch(connection, members, draft.created_at)
                if quota is not None:
                    self._counted.take(connection, draft.user, quota, members)
                elif members and self._quotas is not None:
                    self._quotas.take_members(connection, members)
                row = self._insert_row(connection, draft, instance)
                if members:
                    self._members.add(connection, draft.id, members)
        except CommitUnanswered as unanswered:
            try:
                row = self.get(draft.id)
            except DatabaseUnavailable:
                raise unanswered from None
            if row is None:
                raise
        except (StatementError, OverflowError) as error:
            # A column's type or the driver also refuses values, such as huge integers.
            from_database = isinstance(error, DBAPIError)
            if from_database and not isinstance(error, (IntegrityError, DataError)):
                raise
            raise self._rows.refusal(error, draft) from error
        if row is None:  # pragma: no cover - inserted in this transaction
            raise RuntimeError("the row of the new upload does not exist")
        return row

    def _insert_row(
        self, connection: Connection, draft: Upload, instance: Any
    ) -> Upload | None:
        if instance is None:
            values = self._rows.values(draft)
            connection.execute(self._statements.insert, values)
            return draft
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(instance)
            session.commit()
        return self._select(connection, draft.id)

    def _touch(
        self, connection: Connection, members: Sequence[UUID], at: datetime
    ) -> None:
        """Lock the members and set their last activity to ``at``."""
        c, row = self._table.c, self._table.alias("locked_row").c
        ids = list(dict.fromkeys(members))
        # All requests lock in the same order, so that none waits for another in turn.
        locked = (
            select(row.id).where(row.id.in_(ids)).order_by(row.id).with_for_update()
        )
        statement = self._statements.touch_members.where(c.id.in_(locked))
        values = {"new_last_activity_at": at}
        if connection.execute(statement, values).rowcount != len(ids):
            raise PartialMissing()
        # After the locks: now this sees what concurrent requests have committed.
        if connection.execute(self._members.awaited_too_often(ids)).first():
            raise TooManyFinals(MAX_WAITING)

    @property
    def _counted(self) -> QuotaTable:
        if self._quotas is None:  # pragma: no cover - a limit creates the table
            raise RuntimeError("there is no quota table")
        return self._quotas

    def _start_counting(self, owner: object) -> None:
        # A concurrent request may insert the same row first.
        with suppress(IntegrityError), self._database.transaction() as connection:
            self._counted.start_counting(connection, owner)
