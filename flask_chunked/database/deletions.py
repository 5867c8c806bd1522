"""Deletes rows of uploads, with all that counts them, and notes their bytes.

One transaction deletes the row and inserts the removal of its bytes. Only the
database's own constraints decide whether the row may be deleted: no cascade of the ORM
takes part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ..engine.records import Cutoff, Removal, Removed, Upload
from ..exceptions import CommitUnanswered, UploadInUse
from .queries import BATCH
from .statements import moments_of
from .transactions import BUSY_TIMEOUT
from .transitions import Transitions

logger = logging.getLogger("flask_chunked")


class Deletions(Transitions):
    """The part of the repository that deletes uploads.

    If the database refuses a deletion, nothing has changed.
    """

    def terminate(
        self, upload_id: UUID, at: datetime, *, spare_complete: bool = False
    ) -> Removed | None:
        """Delete the row of an upload in any state.

        :param spare_complete: leave a complete upload unchanged.
        :return: ``None``: there is no such row.
        :raises UploadInUse: a constraint of the database refuses.
        """
        known = self._statements
        statement = known.terminate_unfinished if spare_complete else known.terminate
        return self._delete_one(upload_id, statement, {}, at)

    def expire(self, upload_id: UUID, cutoff: Cutoff, at: datetime) -> Removed | None:
        """Delete the row of an upload that is expired, or may expire and is too old.

        :return: ``None``: there is no such row.
        :raises UploadInUse: a constraint of the database refuses.
        """
        values = moments_of(cutoff)
        return self._delete_one(upload_id, self._statements.expire, values, at)

    def expire_all(
        self, upload_ids: Sequence[UUID], cutoff: Cutoff, at: datetime
    ) -> list[Removed]:
        """:meth:`expire` in one transaction, for uploads without a concatenation.

        :return: the uploads that were deleted.
        :raises UploadInUse: a constraint refuses one of them, so all of them stay.
        """
        values = moments_of(cutoff)

        def delete(connection: Connection) -> list[Upload]:
            if self._database.supports_delete_returning:
                statement = self._statements.returning(self._statements.expire_all)
                ids = {**values, "upload_ids": list(upload_ids)}
                rows = map(self._rows.to_upload, connection.execute(statement, ids))
                # All transactions change the owners' rows in the same order.
                return sorted(rows, key=lambda row: str(row.user))
            statement = self._statements.expire
            found = (
                self._delete_returning(connection, upload_id, statement, values)
                for upload_id in upload_ids
            )
            return [row for row in found if row is not None]

        return self._delete(delete, at)

    def removals(self) -> Iterator[Removal]:
        """The bytes of this blueprint that are still to be removed."""
        last: UUID | None = None
        while True:
            with self._database.transaction() as connection:
                found = self._removals.after(connection, self._blueprint, last, BATCH)
            yield from found
            if len(found) < BATCH:
                return
            last = found[-1].upload_id

    def removed_keys(self, keys: Sequence[str]) -> set[str]:
        """Those of the storage keys whose bytes are still to be removed."""
        with self._database.transaction() as connection:
            return self._removals.keys_among(connection, keys)

    def forget_removals(self, upload_ids: Sequence[UUID]) -> None:
        """Delete removals whose bytes are gone."""
        if len(upload_ids) == 1:
            values = {"upload_id": upload_ids[0]}
            self._database.execute(self._removals.forget, values)
            return
        with self._database.transaction() as connection:
            self._removals.drop(connection, upload_ids)

    # -- inside --------------------------------------------------------------------

    def _delete_one(
        self,
        upload_id: UUID,
        statement: Any,
        values: Mapping[str, object],
        at: datetime,
    ) -> Removed | None:
        def delete(connection: Connection) -> list[Upload]:
            row = self._delete_returning(connection, upload_id, statement, values)
            return [] if row is None else [row]

        removed = self._delete(delete, at)
        return removed[0] if removed else None

    def _delete(
        self, delete: Callable[[Connection], list[Upload]], at: datetime
    ) -> list[Removed]:
        """Delete rows and what counts them, and insert their removals.

        :param delete: deletes rows in the transaction and returns them.
        """
        removed: list[Removed] = []
        try:
            self._delete_once(delete, at, removed)
        except CommitUnanswered:
            # The commit has deleted all rows or none.
            if not removed or self.get(removed[0].upload.id) is not None:
                removed = []
                self._delete_once(delete, at, removed)
        return removed

    def _delete_once(
        self,
        delete: Callable[[Connection], list[Upload]],
        at: datetime,
        removed: list[Removed],
    ) -> None:
        """:meth:`_delete` in one transaction.

        :param removed: takes what was deleted, before the commit.
        """
        try:
            with self._database.transaction() as connection:
                _limit_waiting(connection)
                removed += [
                    self._release(connection, row) for row in delete(connection)
                ]
                self._removals.add(connection, removed, self._blueprint, at)
        # Constraints are checked by the statement, or by the commit if they are
        # deferred.
        except IntegrityError as error:
            reason = str(error.orig).partition("\n")[0]
            logger.info("the database refuses to delete uploads: %.200s", repr(reason))
            raise UploadInUse() from error

    def _delete_returning(
        self,
        connection: Connection,
        upload_id: UUID,
        statement: Any,
        values: Mapping[str, object],
    ) -> Upload | None:
        """Execute a DELETE of one upload and return the deleted row."""
        values = {"upload_id": upload_id, **values}
        if self._database.supports_delete_returning:
            return self._first_returned(connection, statement, values)
        # The row is locked before it is read.
        connection.execute(self._statements.lock, {"upload_id": upload_id})
        row = self._select(connection, upload_id)
        is_deleted = connection.execute(statement, values).rowcount == 1
        return row if is_deleted else None

    def _release(self, connection: Connection, row: Upload) -> Removed:
        """Give back what the deleted row counts; delete its parts and memberships."""
        blob = row.blob
        if self._parts is not None:
            parts = self._parts.take(connection, row.id)
            blob = None if blob is None else replace(blob, parts=parts)
        quotas = self._quotas
        release = None if quotas is None else quotas.begin_removal(connection, row)
        if row.partial:
            self._members.drop_partial(connection, row.id)
        elif row.concat is not None:
            was_complete = row.completed_at is not None
            self._members.drop_final(connection, row.id, was_complete=was_complete)
        if quotas is not None and release is not None:
            quotas.give_back(connection, release)
        return Removed(row, blob)


def _limit_waiting(connection: Connection) -> None:
    """Let the transaction wait for locks no longer than on SQLite.

    An application's transaction that inserts a reference to an upload locks the
    upload's row on PostgreSQL, and may wait for this request itself.
    """
    if connection.dialect.name == "postgresql":
        milliseconds = int(BUSY_TIMEOUT * 1000)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
