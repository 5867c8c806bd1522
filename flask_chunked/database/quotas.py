"""The quota table: how many uploads and bytes each owner has, one row for each owner.

An upload and its owner's row change in the same transaction. Knows the tables of
quotas, uploads and members; nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from .members import MemberTable
from .quota_counts import UploadCounts, owner_key
from .quota_rows import QuotaChange, QuotaRows
from .table_definitions import quota_table


@dataclass(frozen=True, slots=True)
class QuotaMismatch:
    """A quota row that differs from the sums over the owner's uploads.

    The numbers are the row's minus the sums; a negative number: the row has less.

    :param owner: as in the quota table; empty: uploads without an owner.
    :param uploads: difference in unfinished uploads.
    :param size: difference in bytes of unfinished uploads.
    :param stored: difference in bytes of files.
    """

    owner: str
    uploads: int
    size: int
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """What an upload that is removed gives back.

    :param change: of the owner's row.
    :param owners_of_members: of an unfinished final upload. Their rows are recounted.
    """

    owner: object
    change: QuotaChange
    owners_of_members: tuple[Any, ...] = ()


class OwnerNotCounted(Exception):
    """The owner has no quota row yet. The caller rolls the transaction back."""


class QuotaTable(QuotaRows):
    """What each owner has: unfinished uploads, their bytes, and the bytes of files.

    Each method runs in the transaction in which the caller changes the upload. Only
    :meth:`start_counting` needs a transaction of its own.

    An unfinished upload counts in ``uploads`` and ``size``, and so does a partial
    upload that no final upload names. Files and named partial uploads count in
    ``stored``, which is ``NULL`` while no limit needs it.

    :param uploads: the table of uploads.
    :param owner: its column that holds the owner.
    :param deferred: bytes to count for an upload whose ``length`` and ``reserved`` are
        both NULL; ``None``: its offset.
    :param counts_stored: a limit applies to the bytes of files.
    """

    def __init__(
        self,
        uploads: Table,
        owner: Any,
        blueprint: str,
        members: MemberTable,
        *,
        deferred: int | None,
        counts_stored: bool,
    ) -> None:
        super().__init__(quota_table(uploads), blueprint, counts_stored=counts_stored)
        self._counts = UploadCounts(uploads, owner, blueprint, members, deferred)

    # -- new uploads -------------------------------------------------------------------

    def take(
        self,
        connection: Connection,
        owner: object,
        quota: Quota,
        members: Sequence[UUID] = (),
    ) -> None:
        """Count a new upload, if the quota has room for it.

        :param members: of a new final upload; they count as stored from now on.
        :raises TooManyUploads: the owner has the maximum of unfinished uploads.
        :raises QuotaExceeded: the owner would have more bytes than the maximum.
        :raises OwnerNotCounted: the owner has no row yet.
        """
        freed = (0, 0)
        if members:
            owners = self._counts.owners(connection, members)
            self._lock_owners(connection, owner, *owners)
            freed = self._move_members(connection, owner, members)
        while not self._add(
            connection,
            owner,
            QuotaChange(1 - freed[0], quota.reserve - freed[1], freed[1]),
            *self._within(quota, freed),
        ):
            if not self.require_room(connection, owner, quota, freed):
                raise OwnerNotCounted()
            # Another request made room between the two statements: try again.

    def take_members(self, connection: Connection, members: Sequence[UUID]) -> None:
        """Move the members of a new final upload from unfinished to stored.

        The final upload itself has no quota and is not counted.
        """
        self._lock_owners(connection, *self._counts.owners(connection, members))
        for owner, uploads, size in self._counts.unnamed_members(connection, members):
            self._add(connection, owner, QuotaChange(-uploads, -size, size))

    def require_room(
        self,
        connection: Connection,
        owner: object,
        quota: Quota,
        freed: tuple[int, int] = (0, 0),
    ) -> bool:
        """Check that the quota has room, without a change.

        :param freed: uploads and bytes that the caller subtracts at the same time.
        :return: ``False``: the owner has no row yet.
        :raises TooManyUploads: the owner has the maximum of unfinished uploads.
        :raises QuotaExceeded: the owner would have more bytes than the maximum.
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
        """Count the declared length instead of the bytes reserved so far.

        :param length: bytes.
        :raises QuotaExceeded: the quota has no room for the difference.
        """
        more = length - (upload.reserved or 0)
        is_stored = upload.partial and self._is_named(connection, upload)
        change = QuotaChange(stored=more) if is_stored else QuotaChange(size=more)
        if quota is None or more <= 0:
            self._add(connection, upload.user, change)
            return
        wanted = Quota(
            None, None if is_stored else quota.max_bytes, more, quota.max_stored
        )
        while not self._add(connection, upload.user, change, *self._within(wanted)):
            if not self.require_room(connection, upload.user, wanted):
                return
            # Another request made room between the two statements: try again.

    # -- uploads that end --------------------------------------------------------------

    def end(self, connection: Connection, upload: Upload) -> bool:
        """Count an upload that is complete or expired by now.

        The caller has changed, and so locked, the upload's row.

        :return: ``True``: clear ``reserved`` in the upload's row.
        """
        reserved = upload.reserved
        if upload.status is Status.COMPLETE:
            if upload.partial or (reserved is None and not self.counts_stored):
                return False
            count = 0 if reserved is None else -1
            change = QuotaChange(count, -(reserved or 0), upload.offset)
            self._add(connection, upload.user, change)
            return reserved is not None
        self.give_back(connection, self.begin_removal(connection, upload))
        return reserved is not None

    def begin_removal(self, connection: Connection, upload: Upload) -> Release:
        """What an upload that is expired, or whose row is deleted, gives back.

        The caller has locked the upload's row and not yet changed its memberships. The
        owners' rows stay locked.
        """
        if upload.completed_at is not None and not upload.partial:
            if upload.concat is not None:
                # Lock in the order of a partial upload: first owners, then members.
                self._lock_owners(connection, upload.user)
            stored = -upload.offset if upload.storage_key is not None else 0
            return Release(upload.user, QuotaChange(stored=stored))
        change = QuotaChange()
        if upload.reserved is not None:
            change = QuotaChange(-1, -upload.reserved)
            if upload.partial and self._is_named(connection, upload):
                change = QuotaChange(stored=-upload.reserved)
        owners: list[Any] = []
        if upload.concat is not None and not upload.partial:
            owners = self._counts.owners_of_members(connection, upload.id)
            self._lock_owners(connection, upload.user, *owners)
        return Release(upload.user, change, tuple(owners))

    def give_back(self, connection: Connection, release: Release) -> None:
        """Subtract what :meth:`begin_removal` has found."""
        change = release.change
        if not self.counts_stored:
            change = replace(change, stored=0)
        if change != QuotaChange():
            self._add(connection, release.owner, change)
        # The members of this final upload count as unfinished again.
        for owner in release.owners_of_members:
            self.recount(connection, owner)

    def remove_file(self, connection: Connection, upload: Upload) -> None:
        """Subtract the bytes of a complete upload that has no file any more."""
        if self.counts_stored:
            change = QuotaChange(stored=-upload.offset)
            self._add(connection, upload.user, change)

    # -- sums over the uploads ---------------------------------------------------------

    def start_counting(self, connection: Connection, owner: object) -> None:
        """Set the owner's quota row to the sums over the uploads, or insert it.

        :raises sqlalchemy.exc.IntegrityError: another request inserted it first.
        """
        if not self.recount(connection, owner):
            connection.execute(
                insert(self.table).values(
                    blueprint=self._blueprint, owner=owner_key(owner), uploads=0, size=0
                )
            )
            if self.counts_stored:
                # A concurrent request that removes a file does not see the new row and
                # subtracts nothing: wait for it.
                self._counts.lock_files(connection, owner)
            self.recount(connection, owner)

    def recount(self, connection: Connection, owner: object) -> bool:
        """Set the owner's row to the sums over the owner's uploads.

        :return: ``False``: the owner has no row.
        """
        if not self._lock_owner(connection, owner):
            return False
        counts = self._counts
        counts.reserve(connection, owner)
        uploads, size = counts.unfinished(connection, owner)
        stored = counts.stored(connection, owner) if self.counts_stored else None
        connection.execute(
            update(self.table)
            .where(self._row_of(owner))
            .values(uploads=uploads, size=size, stored=stored)
        )
        return True

    def mismatches(self, connection: Connection) -> Iterator[QuotaMismatch]:
        """Compare all quota rows with the uploads. A running request can distort it."""
        q = self.table.c
        unfinished = self._counts.unfinished_by_owner(connection)
        stored = self._counts.stored_by_owner(connection)
        rows = connection.execute(
            select(q.owner, q.uploads, q.size, q.stored).where(
                q.blueprint == self._blueprint
            )
        )
        for row in rows.all():
            # An owner without a row gets one with the next upload.
            counted = unfinished.get(row.owner, (0, 0))
            mismatch = self._compare(row, counted, stored.get(row.owner, 0))
            if mismatch is not None:
                yield mismatch

    def mismatch_of(
        self, connection: Connection, owner: object
    ) -> QuotaMismatch | None:
        """Compare one owner's row with the uploads, under the row's lock."""
        if not self._lock_owner(connection, owner):
            return None
        q, counts = self.table.c, self._counts
        unfinished, stored = counts.unfinished(connection, owner), 0
        if self.counts_stored:
            stored = counts.stored(connection, owner)
        row = connection.execute(
            select(q.owner, q.uploads, q.size, q.stored).where(self._row_of(owner))
        ).one()
        return self._compare(row, unfinished, stored)

    # -- inside ------------------------------------------------------------------------

    def _compare(
        self, row: Any, unfinished: tuple[int, int], stored: int
    ) -> QuotaMismatch | None:
        uploads, size = row.uploads - unfinished[0], row.size - unfinished[1]
        more = 0
        if self.counts_stored and row.stored is not None:
            more = row.stored - stored
        if (uploads, size, more) == (0, 0, 0):
            return None
        return QuotaMismatch(row.owner, uploads, size, more)

    def _is_named(self, connection: Connection, partial: Upload) -> bool:
        """True if a final upload names the partial upload; locked until the commit."""
        self._lock_owners(connection, partial.user)
        return self._counts.is_named(connection, partial.id)

    def _move_members(
        self, connection: Connection, owner: object, members: Sequence[UUID]
    ) -> tuple[int, int]:
        """Count the members of a new final upload as stored, for all other owners.

        :return: unfinished uploads and bytes to move in the row of ``owner``.
        """
        own = (0, 0)
        for other, uploads, size in self._counts.unnamed_members(connection, members):
            if owner_key(other) == owner_key(owner):
                own = (uploads, size)
            else:
                self._add(connection, other, QuotaChange(-uploads, -size, size))
        return own
