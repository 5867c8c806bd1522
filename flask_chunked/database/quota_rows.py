"""The rows of owners' limits: what is added, on which conditions, and who is locked.

Knows the table of quotas alone; callers say what an upload counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    and_,
    case,
    false,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from ..engine.records import Quota
from .quota_counts import MOST, key_of

#: Of the table; one for all blueprints whose models share a database.
TABLE = "chunked_upload_quota"


def quota_table(metadata: MetaData, schema: str | None) -> Table:
    """The table of quotas, next to that of the uploads."""
    name = TABLE if schema is None else f"{schema}.{TABLE}"
    known = metadata.tables.get(name)
    if known is not None:
        return known
    return Table(
        TABLE,
        metadata,
        Column("blueprint", String(255), primary_key=True),
        Column("owner", String(255), primary_key=True),
        Column("uploads", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("stored", BigInteger),
        schema=schema,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to an owner's sums; negative numbers are given back."""

    uploads: int = 0
    size: int = 0
    stored: int = 0


class QuotaRows:
    """One row for each owner. Every method runs in the caller's transaction.

    :param counts_stored: a limit asks for the bytes of files.
    """

    def __init__(self, table: Table, blueprint: str, *, counts_stored: bool) -> None:
        self.table = table
        self.counts_stored = counts_stored
        self._blueprint = blueprint

    def _hold(self, connection: Connection, owner: object) -> bool:
        """Lock the owner's row, so that nothing is created or given back."""
        q = self.table.c
        locked = connection.execute(
            update(self.table).where(self._row_of(owner)).values(uploads=q.uploads)
        )
        return locked.rowcount == 1

    def _lock(self, connection: Connection, *owners: object) -> None:
        """Lock the owners' rows, in one order for all transactions.

        Which partial uploads are named changes only under this lock; read that in a
        statement after this one.
        """
        q = self.table.c
        keys = sorted({key_of(owner) for owner in owners})
        connection.execute(
            select(q.owner)
            .where(q.blueprint == self._blueprint, q.owner.in_(keys))
            .order_by(q.owner)
            .with_for_update()
        ).all()

    def _change(
        self,
        connection: Connection,
        owner: object,
        change: Change,
        *conditions: ColumnElement[bool],
    ) -> bool:
        q = self.table.c
        stored: Any = _plus(q.stored, change.stored) if self.counts_stored else None
        statement = (
            update(self.table)
            .where(self._row_of(owner), *conditions)
            .values(
                uploads=_plus(q.uploads, change.uploads),
                size=_plus(q.size, change.size),
                stored=stored,
            )
        )
        return connection.execute(statement).rowcount == 1

    def _room(
        self, quota: Quota, freed: tuple[int, int] = (0, 0)
    ) -> Iterator[ColumnElement[bool]]:
        """Conditions on the owner's row as it is before the change."""
        q = self.table.c
        if self.counts_stored:
            yield q.stored.is_not(None)
        if quota.max_uploads is not None:
            yield q.uploads < min(MOST, quota.max_uploads + freed[0])
        if quota.max_bytes is not None:
            yield q.size <= min(MOST, quota.max_bytes - quota.reserve + freed[1])
        if quota.max_stored is not None:
            # What is freed moves from one sum to the other.
            room = min(MOST, quota.max_stored - quota.reserve)
            yield case((q.size > room, false()), else_=q.stored <= room - q.size)

    def _row_of(self, owner: object) -> ColumnElement[bool]:
        q = self.table.c
        return and_(q.blueprint == self._blueprint, q.owner == key_of(owner))


def _plus(column: Any, more: int) -> Any:
    """The sum, between nothing and the most that a column holds."""
    if more >= 0:
        more = min(MOST, more)
        return case((column > MOST - more, MOST), else_=column + more)
    # Never below zero, should rows have been changed by hand.
    return case((column < -more, 0), else_=column + more)
