"""The rows of the quota table: conditional updates and locks.

The caller decides what an upload counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Table,
    and_,
    case,
    false,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from ..engine.records import Quota
from .quota_counts import MAX_SUM, owner_key


@dataclass(frozen=True, slots=True)
class QuotaChange:
    """The numbers to add to an owner's row; a negative number is subtracted.

    :param uploads: unfinished uploads.
    :param size: bytes of unfinished uploads.
    :param stored: bytes of files.
    """

    uploads: int = 0
    size: int = 0
    stored: int = 0


class QuotaRows:
    """One row for each owner. Each method runs in the caller's transaction.

    :param table: the quota table.
    :param counts_stored: a limit applies to the bytes of files.
    """

    def __init__(self, table: Table, blueprint: str, *, counts_stored: bool) -> None:
        self.table = table
        self.counts_stored = counts_stored
        self._blueprint = blueprint

    def _lock_owner(self, connection: Connection, owner: object) -> bool:
        """Lock the owner's row against all other changes.

        :return: ``False``: the owner has no row.
        """
        q = self.table.c
        locked = connection.execute(
            update(self.table).where(self._row_of(owner)).values(uploads=q.uploads)
        )
        return locked.rowcount == 1

    def _lock_owners(self, connection: Connection, *owners: object) -> None:
        """Lock the owners' rows, in the same order in all transactions.

        Memberships change only under these locks: read them in a later statement.
        """
        q = self.table.c
        keys = sorted({owner_key(owner) for owner in owners})
        connection.execute(
            select(q.owner)
            .where(q.blueprint == self._blueprint, q.owner.in_(keys))
            .order_by(q.owner)
            .with_for_update()
        ).all()

    def _add(
        self,
        connection: Connection,
        owner: object,
        change: QuotaChange,
        *conditions: ColumnElement[bool],
    ) -> bool:
        """Change the owner's row, if it exists and meets the conditions."""
        q = self.table.c
        stored: Any = _sum(q.stored, change.stored) if self.counts_stored else None
        statement = (
            update(self.table)
            .where(self._row_of(owner), *conditions)
            .values(
                uploads=_sum(q.uploads, change.uploads),
                size=_sum(q.size, change.size),
                stored=stored,
            )
        )
        return connection.execute(statement).rowcount == 1

    def _within(
        self, quota: Quota, freed: tuple[int, int] = (0, 0)
    ) -> Iterator[ColumnElement[bool]]:
        """Conditions on the owner's row before the change: the quota has room.

        :param freed: unfinished uploads and bytes that the same change subtracts.
        """
        q = self.table.c
        if self.counts_stored:
            yield q.stored.is_not(None)
        if quota.max_uploads is not None:
            yield q.uploads < min(MAX_SUM, quota.max_uploads + freed[0])
        if quota.max_bytes is not None:
            yield q.size <= min(MAX_SUM, quota.max_bytes - quota.reserve + freed[1])
        if quota.max_stored is not None:
            # Freed bytes move from `size` to `stored`; their sum stays the same.
            room = min(MAX_SUM, quota.max_stored - quota.reserve)
            yield case((q.size > room, false()), else_=q.stored <= room - q.size)

    def _row_of(self, owner: object) -> ColumnElement[bool]:
        q = self.table.c
        return and_(q.blueprint == self._blueprint, q.owner == owner_key(owner))


def _sum(column: Any, change: int) -> Any:
    """The sum, limited to the range from 0 to ``MAX_SUM``."""
    if change >= 0:
        change = min(MAX_SUM, change)
        return case((column > MAX_SUM - change, MAX_SUM), else_=column + change)
    # Rows that were changed by hand could give a negative sum.
    return case((column < -change, 0), else_=column + change)
