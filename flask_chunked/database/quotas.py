"""How much each owner has: one row per owner, in the transactions that change it.

Knows the tables of quotas, uploads and members; nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Table,
    insert,
    select,
    update,
)

from ..engine.records import Quota, Upload
from ..engine.states import Status
from ..exceptions import QuotaExceeded, TooManyUploads
from .members import MemberBook
from .quota_counts import Counts, key_of
from .quota_rows import Change, QuotaRows, quota_table


@dataclass(frozen=True, slots=True)
class Drift:
    """A quota row that does not say what the uploads' rows say.

    :param owner: as the row names it; empty: uploads without an owner.
    :param uploads: how many more it counts than there are.
    :param size: how many bytes more, of unfinished uploads.
    :param stored: how many bytes more, of finished ones.
    """

    owner: str
    uploads: int
    size: int
    stored: int = 0


class NotCounted(Exception):
    """An owner's uploads are not counted yet; the transaction is to be rolled back."""


class QuotaBook(QuotaRows):
    """What each owner has: unfinished uploads, their bytes, and the bytes of files.

    Every method runs in the caller's transaction, with what it counts. Only ``open``
    must have one of its own.

    An upload that is unfinished counts in ``uploads`` and ``size``; so does a partial
    one that no final names. Files, and partial uploads that a final names, count in
    ``stored``, where a limit asks for that; ``NULL``: it is not counted.

    :param uploads: the uploads' table.
    :param owner: its column that holds the owner.
    :param deferred: bytes that an unfinished upload without a length counts where
        nothing counted it yet.
    :param counts_stored: a limit asks for the bytes of files.
    """

    def __init__(
        self,
        uploads: Table,
        owner: Any,
        blueprint: str,
        members: MemberBook,
        *,
        deferred: int | None,
        counts_stored: bool,
    ) -> None:
        table = quota_table(uploads.metadata, uploads.schema)
        super().__init__(table, blueprint, counts_stored=counts_stored)
        self._counts = Counts(uploads, owner, blueprint, members, deferred)

    # -- what an owner asks for ------------------------------------------------------

    def take(
        self,
        connection: Connection,
        owner: object,
        quota: Quota,
        members: Sequence[UUID] = (),
    ) -> None:
        """Count one more upload, if there is room.

        :param members: of a final upload: from here on they count as stored.
        :raises TooManyUploads, QuotaExceeded: there is none.
        :raises NotCounted: the owner has no row yet.
        """
        freed = (0, 0)
        if members:
            self._lock(connection, owner, *self._counts.owners(connection, members))
            freed = self._free(connection, owner, members)
        while not self._change(
            connection,
            owner,
            Change(1 - freed[0], quota.reserve - freed[1], freed[1]),
            *self._room(quota, freed),
        ):
            if not self.require_room(connection, owner, quota, freed):
                raise NotCounted()
            # Another request gave back what was missing, between the try and the look.

    def take_nothing(self, connection: Connection, members: Sequence[UUID]) -> None:
        """A new final upload counts nothing itself; its members count as stored."""
        self._lock(connection, *self._counts.owners(connection, members))
        for owner, uploads, size in self._counts.counted_members(connection, members):
            self._change(connection, owner, Change(-uploads, -size, size))

    def require_room(
        self,
        connection: Connection,
        owner: object,
        quota: Quota,
        freed: tuple[int, int] = (0, 0),
    ) -> bool:
        """Look only; ``False``: the owner is not counted yet.

        :param freed: uploads and bytes that are given back at the same time.
        :raises TooManyUploads, QuotaExceeded: there is none.
        """
        q = self.table.c
        row = connection.execute(
            select(q.uploads, q.size, q.stored).where(self._row_of(owner))
        ).first()
        if row is None or (self.counts_stored and row.stored is None):
            return False
        uploads, size = row.uploads - freed[0], row.size - freed[1]
        if quota.max_uploads is not None and uploads >= quota.max_uploads:
            raise TooManyUploads(quota.max_uploads)
        if quota.max_bytes is not None and size + quota.reserve > quota.max_bytes:
            raise QuotaExceeded(quota.max_bytes, max(0, quota.max_bytes - size))
        if quota.max_stored is not None:
            left = quota.max_stored - row.size - (row.stored or 0)
            if quota.reserve > left:
                raise QuotaExceeded(quota.max_stored, max(0, left), stored=True)
        return True

    def resize(
        self, connection: Connection, upload: Upload, length: int, quota: Quota | None
    ) -> None:
        """The length that was deferred is known now.

        :raises QuotaExceeded: the upload counts more from now on than there is room.
        """
        more = length - (upload.reserved or 0)
        is_stored = upload.partial and self._is_named(connection, upload)
        change = Change(stored=more) if is_stored else Change(size=more)
        if quota is None or more <= 0:
            self._change(connection, upload.user, change)
            return
        wanted = Quota(
            None, None if is_stored else quota.max_bytes, more, quota.max_stored
        )
        while not self._change(connection, upload.user, change, *self._room(wanted)):
            if not self.require_room(connection, upload.user, wanted):
                return
            # Another request gave back what was missing, between the try and the look.

    # -- what happens to uploads -----------------------------------------------------

    def end(self, connection: Connection, upload: Upload) -> bool:
        """The upload is complete, or gone; its row is locked, and says so.

        :return: it counts nothing of its own any more.
        """
        reserved = upload.reserved
        if upload.status is Status.COMPLETE:
            if upload.partial or (reserved is None and not self.counts_stored):
                return False
            count = 0 if reserved is None else -1
            change = Change(count, -(reserved or 0), upload.offset)
            self._change(connection, upload.user, change)
            return reserved is not None
        if upload.completed_at is not None and not upload.partial:
            if upload.storage_key is not None:
                self.unstore(connection, upload)
            return reserved is not None
        given_back: Change | None = None
        if reserved is not None:
            given_back = Change(-1, -reserved)
            if upload.partial and self._is_named(connection, upload):
                given_back = Change(stored=-reserved)
        owners: list[Any] = []
        if upload.concat is not None and not upload.partial:
            owners = self._counts.owners_of_members(connection, upload.id)
            self._lock(connection, upload.user, *owners)
        if given_back is not None:
            self._change(connection, upload.user, given_back)
        # Its members count again.
        for owner in owners:
            self.recount(connection, owner)
        return reserved is not None

    def unstore(self, connection: Connection, upload: Upload) -> None:
        """The file of a finished upload is gone."""
        if self.counts_stored:
            change = Change(stored=-upload.offset)
            self._change(connection, upload.user, change)

    # -- counting anew -----------------------------------------------------------------

    def open(self, connection: Connection, owner: object) -> None:
        """Begin to count: what the owner has already counts too.

        :raises sqlalchemy.exc.IntegrityError: another request was faster.
        """
        if not self.recount(connection, owner):
            connection.execute(
                insert(self.table).values(
                    blueprint=self._blueprint, owner=key_of(owner), uploads=0, size=0
                )
            )
            if self.counts_stored:
                # A request that removes a file now does not see this row, and gives
                # nothing back: wait for it.
                self._counts.hold_files(connection, owner)
            self.recount(connection, owner)

    def recount(self, connection: Connection, owner: object) -> bool:
        """Set the owner's row to what the uploads' rows say; ``False``: it has none."""
        if not self._hold(connection, owner):
            return False
        counts = self._counts
        counts.reserve(connection, owner)
        uploads, size = counts.open(connection, owner)
        stored = counts.stored(connection, owner) if self.counts_stored else None
        connection.execute(
            update(self.table)
            .where(self._row_of(owner))
            .values(uploads=uploads, size=size, stored=stored)
        )
        return True

    def drifts(self, connection: Connection) -> Iterator[Drift]:
        """Rows that differ from what the uploads' rows say."""
        q = self.table.c
        counted = self._counts.open_by_owner(connection)
        stored = self._counts.stored_by_owner(connection)
        rows = connection.execute(
            select(q.owner, q.uploads, q.size, q.stored).where(
                q.blueprint == self._blueprint
            )
        )
        for row in rows.all():
            # An owner without a row gets a correct one with the next upload.
            opened = counted.get(row.owner, (0, 0))
            drift = self._drift(row, opened, stored.get(row.owner, 0))
            if drift is not None:
                yield drift

    def drift_of(self, connection: Connection, owner: object) -> Drift | None:
        """The same for one owner, and exact while requests are at work."""
        if not self._hold(connection, owner):
            return None
        q, counts = self.table.c, self._counts
        opened, stored = counts.open(connection, owner), 0
        if self.counts_stored:
            stored = counts.stored(connection, owner)
        row = connection.execute(
            select(q.owner, q.uploads, q.size, q.stored).where(self._row_of(owner))
        ).one()
        return self._drift(row, opened, stored)

    # -- inside ------------------------------------------------------------------------

    def _drift(self, row: Any, opened: tuple[int, int], stored: int) -> Drift | None:
        uploads, size = row.uploads - opened[0], row.size - opened[1]
        more = 0
        if self.counts_stored and row.stored is not None:
            more = row.stored - stored
        if (uploads, size, more) == (0, 0, 0):
            return None
        return Drift(row.owner, uploads, size, more)

    def _is_named(self, connection: Connection, partial: Upload) -> bool:
        """Does a final upload name this partial one, and stays that so?"""
        self._lock(connection, partial.user)
        return self._counts.is_named(connection, partial.id)

    def _free(
        self, connection: Connection, owner: object, members: Sequence[UUID]
    ) -> tuple[int, int]:
        """What the members of a new final upload count as unfinished, until now.

        Of other owners it is moved at once.

        :return: uploads and bytes of the caller's own.
        """
        mine = (0, 0)
        for other, uploads, size in self._counts.counted_members(connection, members):
            if key_of(other) == key_of(owner):
                mine = (uploads, size)
            else:
                self._change(connection, other, Change(-uploads, -size, size))
        return mine
