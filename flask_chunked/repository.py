"""Claims and compare-and-set on the rows of uploads.

SQLAlchemy Core in short transactions; the ORM for creations by models with columns,
events or validators of their own, so that these work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from .database import Database
from .engine.records import Cutoff, Ending, Quota, Step, Upload
from .engine.states import Event, Status, target
from .exceptions import CommitUnanswered, DatabaseUnavailable
from .parts import PartBook
from .queries import Queries
from .quotas import Drift, QuotaBook
from .rows import RowMapper
from .storage.base import Part

Result = TypeVar("Result")


class SQLRepository(Queries):
    """The repository on one model's table.

    :param blueprint: name under which this repository's uploads are registered.
    :param user_field: the model's attribute that holds the owner.
    :param quotas: where owners' unfinished uploads are counted, if they are.
    :param parts: where the storage's parts are kept, if it has any.
    """

    def __init__(
        self,
        database: Database,
        model: type[Any],
        blueprint: str,
        user_field: str,
        quotas: QuotaBook | None = None,
        parts: PartBook | None = None,
    ) -> None:
        super().__init__(database, RowMapper(model, user_field), blueprint)
        self._quotas = quotas
        self._parts = parts

    # -- the port of the engine ----------------------------------------------------

    def create(
        self, draft: Upload, fields: Mapping[str, object], quota: Quota | None = None
    ) -> Upload:
        """Insert the draft's row; through the ORM where the model has a say."""
        created = self._insert(draft, fields, quota)
        if created is None:
            self._begin_to_count(draft.user)
            created = self._insert(draft, fields, quota)
        if created is None:  # pragma: no cover - somebody emptied the table between
            raise DatabaseUnavailable()
        return created

    def _insert(
        self, draft: Upload, fields: Mapping[str, object], quota: Quota | None
    ) -> Upload | None:
        """The new row; ``None``: its owner is not counted yet."""
        is_plain = self._rows.is_plain() and not fields
        instance = None if is_plain else self._rows.instance(draft, fields)
        try:
            if is_plain and quota is None:
                self._database.run(self._statements.insert, self._rows.values(draft))
                return draft
            with self._database.transaction() as connection:
                if quota is not None and not self._counted.take(
                    connection, draft.user, quota
                ):
                    return None
                if is_plain:
                    values = self._rows.values(draft)
                    connection.execute(self._statements.insert, values)
                    return draft
                with Session(
                    connection, join_transaction_mode="create_savepoint"
                ) as session:
                    session.add(instance)
                    session.commit()
                row = self._select(connection, draft.id)
        except CommitUnanswered as unanswered:
            try:
                row = self.get(draft.id)
            except DatabaseUnavailable:
                raise unanswered from None
            if row is None:
                raise
        except (StatementError, OverflowError) as error:
            # Also what a column's type or the driver cannot take, a huge integer say.
            theirs = isinstance(error, DBAPIError)
            if theirs and not isinstance(error, (IntegrityError, DataError)):
                raise
            raise self._rows.refusal(error) from error
        if row is None:  # pragma: no cover - inserted in this transaction
            raise RuntimeError("the new upload's row is not there")
        return row

    @property
    def _counted(self) -> QuotaBook:
        if self._quotas is None:  # pragma: no cover - who limits makes the table
            raise RuntimeError("there is no table of quotas")
        return self._quotas

    def _begin_to_count(self, owner: object) -> None:
        # Somebody else may have begun a moment ago.
        with suppress(IntegrityError), self._database.transaction() as connection:
            self._counted.open(connection, owner)

    def require_room(self, owner: object, quota: Quota) -> None:
        """Would there be room now?"""
        with self._database.transaction() as connection:
            is_counted = self._counted.require_room(connection, owner, quota)
        if not is_counted:
            self._begin_to_count(owner)
            with self._database.transaction() as connection:
                self._counted.require_room(connection, owner, quota)

    def claim(
        self, upload_id: UUID, start: int, fence: int | None = None
    ) -> Upload | None:
        """Bump the fence where the upload is open and stands at ``start``."""
        if fence is None:
            return self._transition(upload_id, Event.APPEND, its_offset=start)
        values = {"its_offset": start, "its_fence": fence}
        return self._update(upload_id, self._statements.claim_as_seen, values)

    def take_over(self, upload_id: UUID) -> Upload | None:
        """Bump the fence where the upload is open."""
        return self._transition(upload_id, Event.TAKE_OVER)

    def holds(self, upload_id: UUID, fence: int, offset: int) -> bool:
        """Still open, same fence, same offset?"""
        values = {"upload_id": upload_id, "its_fence": fence, "its_offset": offset}
        return bool(self._database.run(self._statements.holds, values).rows)

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
        if step.ending is not None:
            values |= _columns_of(step.ending, step.at)
        try:
            return self._advance(step, values)
        except CommitUnanswered:
            row = self.get(step.upload_id)
            # Whoever else has this fence cannot move while we write. A state may be
            # stored without a move.
            fence, status, event_id = step.fence, Status.UPLOADING, None
            if step.completes:
                fence, status = fence + 1, Status.COMPLETING
            if step.ending is not None:
                status, event_id = Status.COMPLETE, step.ending.event_id
            wanted = (fence, status, step.offset, event_id)
            if row is None or _seen_in(row) != wanted:
                raise
            if row.storage_state != step.state:
                raise
            return True

    def _advance(self, step: Step, values: Mapping[str, object]) -> bool:
        known = self._statements
        statement = known.advance_to_end if step.completes else known.advance
        if step.ending is not None:
            statement = known.advance_and_finish
        if not step.parts or self._parts is None:
            return self._database.run(statement, values).count == 1
        with self._database.transaction() as connection:
            if connection.execute(statement, values).rowcount != 1:
                return False
            self._parts.add(connection, step.upload_id, step.parts)
            return True

    def parts(self, upload_id: UUID) -> list[Part]:
        """What steps left there of parts."""
        if self._parts is None:  # pragma: no cover - who keeps parts makes the table
            raise RuntimeError("there is no table of parts")
        with self._database.transaction() as connection:
            return self._parts.of(connection, upload_id)

    def declare_length(self, upload_id: UUID, length: int) -> Upload | None:
        """Store the length, if there is none and no more bytes than that."""
        statement = self._statements.declare_length
        values = {"new_length": length}
        try:
            with self._database.transaction() as connection:
                row = self._change(connection, upload_id, statement, values)
                if row is None or row.reserved is None:
                    return row
                if self._quotas is not None:
                    self._quotas.resize(connection, row, length)
                return self._reserve(connection, row, length)
        except CommitUnanswered:
            row = self.get(upload_id)
            if row is None or row.length != length:
                raise
            return row

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
        ending: Ending,
        at: datetime,
    ) -> Upload | None:
        """To complete; digest and completion event in the same transaction."""
        values = _columns_of(ending, at)
        return self._end(upload_id, Event.COMPLETE, new_last_activity_at=at, **values)

    def finish(self, seen: Upload, ending: Ending, at: datetime) -> Upload | None:
        """The same without the steps between, if nobody was there since."""
        return self._end(
            seen.id,
            Event.FINISH,
            its_fence=seen.fence,
            its_offset=seen.offset,
            new_last_activity_at=at,
            **_columns_of(ending, at),
        )

    def begin_termination(self, upload_id: UUID) -> Upload | None:
        """To terminating: nobody appends, completes or sees it any more."""
        return self._end(upload_id, Event.TERMINATE)

    def begin_expiry(self, upload_id: UUID, cutoff: Cutoff) -> Upload | None:
        """To expired, if it is unfinished and still too old."""
        return self._end(
            upload_id,
            Event.EXPIRE,
            idle_since=cutoff.idle_since,
            created_before=cutoff.created_before,
        )

    def remove(self, upload_id: UUID) -> None:
        """Delete the row."""
        values = {"upload_id": upload_id}
        self._repeatable(
            lambda: self._database.run(self._statements.remove, values).count
        )

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

    # -- for the blueprint and maintenance -------------------------------------------

    def forget_file(self, upload_id: UUID) -> None:
        """The file was moved away; the record stays without it."""
        self._update(upload_id, self._statements.forget_file, {})

    def drifts(self) -> list[Drift]:
        """Owners whose quota does not say what their uploads say."""
        if self._quotas is None:
            return []
        with self._database.transaction() as connection:
            return list(self._quotas.drifts(connection))

    def recount(self, owner: object) -> None:
        """Set an owner's quota to what the uploads say."""
        with self._database.transaction() as connection:
            self._counted.recount(connection, owner)

    # -- inside --------------------------------------------------------------------

    def _transition(
        self, upload_id: UUID, happening: Event, **values: object
    ) -> Upload | None:
        """One row of the transition table, as one conditional UPDATE."""
        statement = self._statements.transitions[happening]
        return self._update(upload_id, statement, values)

    def _end(
        self, upload_id: UUID, happening: Event, **values: object
    ) -> Upload | None:
        """A transition behind which an upload counts no more for its owner."""
        try:
            if self._parts is None and self._quotas is None:
                ends = self._statements.ends[happening]
                return self._alone(upload_id, ends, values)
            statement = self._statements.transitions[happening]
            with self._database.transaction() as connection:
                row = self._change(connection, upload_id, statement, values)
                if row is not None and self._parts is not None:
                    self._parts.drop(connection, upload_id)
                if row is None or row.reserved is None:
                    return row
                if self._quotas is not None:
                    self._quotas.give_back(connection, row)
                return self._reserve(connection, row, None)
        except CommitUnanswered:
            row = self.get(upload_id)
            if row is None or row.status is not target(happening):
                raise
            if row.event_id != values.get("new_event_id", row.event_id):
                # Another request's completion.
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
        # They may: a fence is bumped once more, a delivery stays pending.
        return self._repeatable(lambda: self._alone(upload_id, statement, values))

    def _repeatable(self, act: Callable[[], Result]) -> Result:
        """A transaction that may happen twice, where nobody tells if it did once."""
        try:
            return act()
        except CommitUnanswered:
            return act()

    def _alone(
        self, upload_id: UUID, statement: Any, values: Mapping[str, object]
    ) -> Upload | None:
        """:meth:`_change` in a transaction of its own."""
        if not self._database.returns_changes:
            with self._database.transaction() as connection:
                return self._change(connection, upload_id, statement, values)
        statement = self._statements.returning(statement)
        rows = self._database.run(statement, {"upload_id": upload_id, **values}).rows
        return self._rows.to_upload(rows[0]) if rows else None

    def _change(
        self,
        connection: Connection,
        upload_id: UUID,
        statement: Any,
        values: Mapping[str, object],
    ) -> Upload | None:
        values = {"upload_id": upload_id, **values}
        if self._database.returns_changes:
            changed = connection.execute(
                self._statements.returning(statement), values
            ).first()
            return None if changed is None else self._rows.to_upload(changed)
        # UPDATE first, SELECT second: the row is locked by then.
        if connection.execute(statement, values).rowcount != 1:
            return None
        return self._select(connection, upload_id)


def _columns_of(ending: Ending, at: datetime) -> dict[str, object]:
    return {
        "new_digest": ending.digest,
        "new_completed_at": at,
        "new_event_id": ending.event_id,
        "new_delivered_at": at if ending.delivered else None,
    }


def _seen_in(row: Upload) -> tuple[int, Status, int, UUID | None]:
    return row.fence, row.status, row.offset, row.event_id
