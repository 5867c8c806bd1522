"""State changes of uploads: each is one conditional UPDATE.

A change after which an upload no longer counts as unfinished also changes the quota and
the parts, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from ..engine.records import Cutoff, Ending, Upload
from ..engine.states import Event, target
from ..exceptions import CommitUnanswered
from .inserts import Inserts

T = TypeVar("T")


class Transitions(Inserts):
    """The part of the repository that changes the state of uploads.

    Each method returns the changed upload, or ``None`` if its conditions are not met.
    """

    def claim(
        self, upload_id: UUID, start: int, fence: int | None = None
    ) -> Upload | None:
        """Increment the fence of an open upload whose offset is ``start``.

        :param fence: the upload must also have this fence; ``None``: any.
        """
        if fence is None:
            return self._transition(upload_id, Event.APPEND, its_offset=start)
        values = {"its_offset": start, "its_fence": fence}
        return self._update(upload_id, self._statements.claim_as_seen, values)

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
        ending: Ending,
        at: datetime,
    ) -> Upload | None:
        """Change from completing to complete, and store digest and event."""
        values = completion_values(ending, at)
        return self._end(upload_id, Event.COMPLETE, new_last_activity_at=at, **values)

    def finish(self, seen: Upload, ending: Ending, at: datetime) -> Upload | None:
        """Change from uploading to complete, if fence and offset are as seen."""
        return self._end(
            seen.id,
            Event.FINISH,
            its_fence=seen.fence,
            its_offset=seen.offset,
            new_last_activity_at=at,
            **completion_values(ending, at),
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
            changed = connection.execute(
                self._statements.returning(statement), values
            ).first()
            return None if changed is None else self._rows.to_upload(changed)
        # The UPDATE locks the row before the SELECT reads it.
        if connection.execute(statement, values).rowcount != 1:
            return None
        return self._select(connection, upload_id)


def moments_of(cutoff: Cutoff) -> dict[str, object]:
    """The parameters of statements that expire uploads."""
    return {
        "idle_since": cutoff.idle_since,
        "created_before": cutoff.created_before,
        "verify_stale": cutoff.verify_stale,
    }


def completion_values(ending: Ending, at: datetime) -> dict[str, object]:
    """The new values of the columns that a completion sets."""
    return {
        "new_digest": ending.digest,
        "new_completed_at": at,
        "new_event_id": ending.event_id,
        "new_delivered_at": at if ending.delivered else None,
    }
