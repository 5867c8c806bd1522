"""Claims and compare-and-set on the rows of uploads: Core, in short transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from ..engine.records import Cutoff, Ending, Quota, Step, Upload
from ..engine.states import Event, Status, target
from ..exceptions import CommitUnanswered
from ..storage.base import Part
from .creations import Creations
from .parts import PartBook
from .quotas import Drift, QuotaBook
from .rows import RowMapper
from .statements import Statements
from .transactions import Database

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Books:
    """The tables next to that of the uploads.

    :param statements: on the uploads' table.
    :param quotas: what owners have, if anything limits it.
    :param parts: what the storage keeps apart, if it does.
    """

    statements: Statements
    quotas: QuotaBook | None
    parts: PartBook | None


class SQLRepository(Creations):
    """The repository on one model's table.

    :param blueprint: name under which this repository's uploads are registered.
    :param user_field: the model's attribute that holds the owner.
    :param books: the tables next to that of the uploads.
    """

    def __init__(
        self,
        database: Database,
        model: type[Any],
        blueprint: str,
        user_field: str,
        books: Books,
    ) -> None:
        rows = RowMapper(model, user_field)
        super().__init__(database, rows, blueprint, books.statements, books.quotas)
        self._parts = books.parts

    def name_fields(self, keys: Mapping[str, str]) -> None:
        """Report errors of attributes under the keys that clients send."""
        self._rows.keys = keys

    # -- the port of the engine ----------------------------------------------------

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
        if step.completes or step.ending is not None:
            values["new_verify_started_at"] = step.verify_started_at
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

    def declare_length(
        self, seen: Upload, length: int, quota: Quota | None
    ) -> Upload | None:
        """Store the length, if there is none and the offset is as seen."""
        statement = self._statements.declare_length
        values = {"new_length": length, "its_offset": seen.offset}
        try:
            with self._database.transaction() as connection:
                row = self._change(connection, seen.id, statement, values)
                if row is None or row.reserved is None:
                    return row
                if self._quotas is not None:
                    self._quotas.resize(connection, row, length, quota)
                return self._reserve(connection, row, length)
        except CommitUnanswered:
            row = self.get(seen.id)
            if row is None or row.length != length:
                raise
            return row

    def begin_completion(
        self, upload_id: UUID, at: datetime, verify_stale: datetime | None
    ) -> Upload | None:
        """To completing, where all bytes are there."""
        return self._transition(
            upload_id,
            Event.BEGIN_COMPLETION,
            new_last_activity_at=at,
            new_verify_started_at=None if verify_stale is None else at,
            verify_stale=at if verify_stale is None else verify_stale,
        )

    def note_verification(
        self, upload_id: UUID, fence: int, started_at: datetime | None
    ) -> None:
        """Since when verify is at work; nothing where another request is by now."""
        values = {"its_fence": fence, "new_verify_started_at": started_at}
        self._update(upload_id, self._statements.note_verification, values)

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

    def begin_termination(
        self, upload_id: UUID, *, spare_complete: bool = False
    ) -> Upload | None:
        """To terminating: no request appends, completes or sees it any more."""
        spared = Status.COMPLETE if spare_complete else Status.TERMINATING
        gone = self._end(upload_id, Event.TERMINATE, spared=spared.value)
        if gone is not None:
            return gone
        return self._update(upload_id, self._statements.terminate_again, {})

    def begin_expiry(self, upload_id: UUID, cutoff: Cutoff) -> Upload | None:
        """To expired, if it is unfinished and still too old."""
        return self._end(
            upload_id,
            Event.EXPIRE,
            idle_since=cutoff.idle_since,
            created_before=cutoff.created_before,
            verify_stale=cutoff.verify_stale,
        )

    def remove(self, upload: Upload) -> None:
        """Delete the row, and what it says of members."""
        values = {"upload_id": upload.id}
        if upload.concat is None:
            self._repeatable(
                lambda: self._database.run(self._statements.remove, values).count
            )
            return

        def remove() -> None:
            with self._database.transaction() as connection:
                connection.execute(self._statements.remove, values)
                if upload.partial:
                    self._members.drop_partial(connection, upload.id)
                else:
                    self._members.drop_final(
                        connection,
                        upload.id,
                        was_complete=upload.completed_at is not None,
                    )

        self._repeatable(remove)

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
        quotas = self._quotas
        if quotas is None or not quotas.counts_stored:
            self._update(upload_id, self._statements.forget_file, {})
            return

        def forget() -> None:
            statement = self._statements.forget_file
            with self._database.transaction() as connection:
                row = self._change(connection, upload_id, statement, {})
                # What is on its way out is not counted any more.
                if row is not None and row.is_complete:
                    quotas.unstore(connection, row)

        self._repeatable(forget)

    def drifts(self) -> list[Drift]:
        """Owners whose quota does not say what their uploads say."""
        if self._quotas is None:
            return []
        with self._database.transaction() as connection:
            return list(self._quotas.drifts(connection))

    def drift_of(self, owner: object) -> Drift | None:
        """The same for one owner, and exact while requests are at work."""
        with self._database.transaction() as connection:
            return self._counted.drift_of(connection, owner)

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
        """A transition after which an upload counts no more for its owner."""
        try:
            if self._parts is None and self._quotas is None:
                ends = self._statements.ends[happening]
                return self._alone(upload_id, ends, values)
            statement = self._statements.transitions[happening]
            with self._database.transaction() as connection:
                row = self._change(connection, upload_id, statement, values)
                if row is not None and self._parts is not None:
                    self._parts.drop(connection, upload_id)
                if row is None or self._quotas is None:
                    return row
                if not self._quotas.end(connection, row):
                    return row
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
