"""The repository: what the engine and the maintenance functions do with uploads.

It uses compare-and-set in short transactions, so that no request waits for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ..engine.records import OffsetCommit, Quota, Upload
from ..engine.states import Status
from ..exceptions import CommitUnanswered
from ..storage.base import Part
from .deletions import Deletions
from .quotas import QuotaMismatch
from .rows import RowMapper
from .statements import completion_values
from .transactions import Database
from .transitions import Tables


class SQLRepository(Deletions):
    """The uploads of one blueprint.

    :param blueprint: the name under which the blueprint is registered.
    :param user_field: the model's attribute that holds the owner.
    """

    def __init__(
        self,
        database: Database,
        model: type[Any],
        blueprint: str,
        user_field: str,
        tables: Tables,
    ) -> None:
        super().__init__(database, RowMapper(model, user_field), blueprint, tables)

    def name_fields(self, keys: Mapping[str, str]) -> None:
        """Report errors of attributes under the keys that clients send.

        :param keys: attribute of the model to key.
        """
        self._rows.keys = keys

    # -- for the engine --------------------------------------------------------------

    def require_room(self, owner: object, quota: Quota) -> None:
        """Check that the owner's quota has room for a new upload.

        :raises TooManyUploads: the owner has the maximum of unfinished uploads.
        :raises QuotaExceeded: the owner would have more bytes than the maximum.
        """
        with self._database.transaction() as connection:
            is_counted = self._counted.require_room(connection, owner, quota)
        if not is_counted:
            self._start_counting(owner)
            with self._database.transaction() as connection:
                self._counted.require_room(connection, owner, quota)

    def holds(self, upload_id: UUID, fence: int, offset: int) -> bool:
        """True if the upload is open and has this fence and this offset."""
        values = {"upload_id": upload_id, "its_fence": fence, "its_offset": offset}
        return bool(self._database.execute(self._statements.holds, values).rows)

    def advance(self, commit: OffsetCommit) -> bool:
        """Commit bytes: move the offset and store the storage's state.

        :return: ``False``: another request has changed fence, offset or status, or has
            declared a length below the new offset.
        """
        values = {
            "upload_id": commit.upload_id,
            "its_fence": commit.fence,
            "its_offset": commit.old_offset,
            "new_offset": commit.offset,
            "new_last_start": commit.start,
            "new_last_digest": commit.digest,
            "new_last_activity_at": commit.at,
            "new_storage_state": commit.state,
            "new_hash_state": commit.hash_state,
        }
        if commit.completes or commit.completion is not None:
            values["new_verify_started_at"] = commit.verify_started_at
        if commit.completion is not None:
            values |= completion_values(commit.completion, commit.at)
        try:
            return self._advance(commit, values)
        except CommitUnanswered:
            row = self.get(commit.upload_id)
            # No other request can commit with this fence meanwhile. A commit may store
            # a new state without moving the offset.
            fence, status, event_id = commit.fence, Status.UPLOADING, None
            if commit.completes:
                fence, status = fence + 1, Status.COMPLETING
            if commit.completion is not None:
                status, event_id = Status.COMPLETE, commit.completion.event_id
            expected = (fence, status, commit.offset, event_id)
            if row is None or _progress(row) != expected:
                raise
            if row.storage_state != commit.state:
                raise
            return True

    def _advance(self, commit: OffsetCommit, values: Mapping[str, object]) -> bool:
        known = self._statements
        statement = known.advance_to_end if commit.completes else known.advance
        if commit.completion is not None:
            statement = known.advance_and_finish
        if not commit.parts or self._parts is None:
            return self._database.execute(statement, values).count == 1
        with self._database.transaction() as connection:
            if connection.execute(statement, values).rowcount != 1:
                return False
            self._parts.add(connection, commit.upload_id, commit.parts)
            return True

    def parts(self, upload_id: UUID) -> list[Part]:
        """The parts that commits have stored of an unfinished upload."""
        if self._parts is None:  # pragma: no cover - keeping parts creates the table
            raise RuntimeError("there is no table of parts")
        with self._database.transaction() as connection:
            return self._parts.of(connection, upload_id)

    def declare_length(
        self, seen: Upload, length: int, quota: Quota | None
    ) -> Upload | None:
        """Store the length of an upload that has none, if its offset is as seen.

        :param length: bytes.
        :raises QuotaExceeded: the quota has no room for it.
        """
        statement = self._statements.declare_length
        values = {"new_length": length, "its_offset": seen.offset}
        try:
            with self._database.transaction() as connection:
                row = self._update_returning(connection, seen.id, statement, values)
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

    def note_verification(
        self, upload_id: UUID, fence: int, started_at: datetime | None
    ) -> None:
        """Store when a verification began, unless another request has the upload.

        :param started_at: ``None``: no verification is running.
        """
        values = {"its_fence": fence, "new_verify_started_at": started_at}
        self._update(upload_id, self._statements.note_verification, values)

    def claim_delivery(
        self, upload_id: UUID, at: datetime, stale: datetime
    ) -> Upload | None:
        """Claim the pending event, unless a delivery began after ``stale``."""
        values = {"new_delivery_started_at": at, "stale": stale}
        return self._update(upload_id, self._statements.claim_delivery, values)

    def mark_delivered(self, upload_id: UUID, at: datetime) -> None:
        """Store that the event was delivered."""
        values = {"new_delivered_at": at}
        self._update(upload_id, self._statements.mark_delivered, values)

    # -- for the blueprint and maintenance -------------------------------------------

    def forget_file(self, upload_id: UUID) -> None:
        """Store that a complete upload has no file any more."""
        quotas = self._quotas
        if quotas is None or not quotas.counts_stored:
            self._update(upload_id, self._statements.forget_file, {})
            return

        def forget() -> None:
            statement = self._statements.forget_file
            with self._database.transaction() as connection:
                row = self._update_returning(connection, upload_id, statement, {})
                if row is not None and row.is_complete:
                    quotas.remove_file(connection, row)

        self._repeat_unanswered(forget)

    def quota_mismatches(self) -> list[QuotaMismatch]:
        """The quota rows that differ from the uploads.

        Concurrent requests may cause some of the differences; see
        :meth:`quota_mismatch_of`.
        """
        if self._quotas is None:
            return []
        with self._database.transaction() as connection:
            return list(self._quotas.mismatches(connection))

    def quota_mismatch_of(self, owner: object) -> QuotaMismatch | None:
        """Compare one owner's row with the uploads while requests must wait."""
        with self._database.transaction() as connection:
            return self._counted.mismatch_of(connection, owner)

    def recount(self, owner: object) -> None:
        """Set an owner's quota row to the sums over the owner's uploads."""
        with self._database.transaction() as connection:
            self._counted.recount(connection, owner)


def _progress(row: Upload) -> tuple[int, Status, int, UUID | None]:
    return row.fence, row.status, row.offset, row.event_id
