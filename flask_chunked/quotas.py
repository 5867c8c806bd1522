"""How much each owner has open: one row per owner, in the transactions that change it.

Knows the table of quotas and that of uploads; nothing of requests.
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
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from .engine.records import Quota, Upload
from .engine.states import UNFINISHED
from .exceptions import QuotaExceeded, TooManyUploads

#: Of the table; one for all blueprints whose models share a database.
TABLE = "chunked_upload_quota"


@dataclass(frozen=True, slots=True)
class Drift:
    """A quota row that does not say what the uploads' rows say.

    :param owner: as the row names it; empty: uploads without an owner.
    :param uploads: how many more it counts than there are.
    :param size: how many bytes more.
    """

    owner: str
    uploads: int
    size: int


def quota_table(metadata: MetaData, schema: str | None) -> Table:
    """The table of quotas beside the uploads' own."""
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


class QuotaBook:
    """Who has how many unfinished uploads, and of how many bytes in all.

    Every method runs in the caller's transaction, beside what it counts. Only ``open``
    must have one of its own.

    :param uploads: the uploads' table.
    :param owner: its column that holds the owner.
    :param deferred: bytes that an unfinished upload without a length counts where
        nobody counted it yet.
    """

    def __init__(
        self, uploads: Table, owner: Any, blueprint: str, deferred: int | None
    ) -> None:
        self.table = quota_table(uploads.metadata, uploads.schema)
        self._uploads = uploads
        self._owner = owner
        self._blueprint = blueprint
        self._deferred = deferred

    def take(self, connection: Connection, owner: object, quota: Quota) -> bool:
        """Count one more upload, if there is room; ``False``: nobody counts yet.

        :raises TooManyUploads, QuotaExceeded: there is none.
        """
        q = self.table.c
        conditions = []
        if quota.max_uploads is not None:
            conditions.append(q.uploads < quota.max_uploads)
        if quota.max_bytes is not None:
            conditions.append(q.size <= quota.max_bytes - quota.reserve)
        statement = (
            update(self.table)
            .where(self._row_of(owner), *conditions)
            .values(uploads=q.uploads + 1, size=q.size + quota.reserve)
        )
        while connection.execute(statement).rowcount != 1:
            if not self.require_room(connection, owner, quota):
                return False
            # Somebody gave back what was missing, between the try and the look.
        return True

    def require_room(self, connection: Connection, owner: object, quota: Quota) -> bool:
        """Look only; ``False``: nobody counts yet.

        :raises TooManyUploads, QuotaExceeded: there is none.
        """
        q = self.table.c
        row = connection.execute(
            select(q.uploads, q.size).where(self._row_of(owner))
        ).first()
        uploads, size = (0, 0) if row is None else row
        if quota.max_uploads is not None and uploads >= quota.max_uploads:
            raise TooManyUploads(quota.max_uploads)
        if quota.max_bytes is not None and size + quota.reserve > quota.max_bytes:
            raise QuotaExceeded(quota.max_bytes, max(0, quota.max_bytes - size))
        return row is not None

    def open(self, connection: Connection, owner: object) -> None:
        """Begin to count: what the owner has open already counts too.

        :raises sqlalchemy.exc.IntegrityError: somebody else was faster.
        """
        connection.execute(
            insert(self.table).values(
                blueprint=self._blueprint, owner=_key(owner), uploads=0, size=0
            )
        )
        self.recount(connection, owner)

    def give_back(self, connection: Connection, upload: Upload) -> None:
        """The upload is finished, or gone; its row is locked, and counted it once."""
        q = self.table.c
        size = q.size - (upload.reserved or 0)
        connection.execute(
            update(self.table)
            .where(self._row_of(upload.user))
            .values(
                # Never below zero, should somebody have changed rows by hand.
                uploads=case((q.uploads > 0, q.uploads - 1), else_=0),
                size=case((size > 0, size), else_=0),
            )
        )

    def resize(self, connection: Connection, upload: Upload, length: int) -> None:
        """The length that was deferred is known now."""
        more = length - (upload.reserved or 0)
        connection.execute(
            update(self.table)
            .where(self._row_of(upload.user))
            .values(size=self.table.c.size + more)
        )

    def recount(self, connection: Connection, owner: object) -> None:
        """Set the owner's row to what the uploads' rows say."""
        u = self._uploads.c
        # The row is locked from here on, so that nothing is created or given back.
        connection.execute(
            update(self.table)
            .where(self._row_of(owner))
            .values(uploads=self.table.c.uploads)
        )
        mine = self._open_of(owner)
        connection.execute(
            update(self._uploads)
            .where(mine, u.reserved.is_(None))
            .values(reserved=func.coalesce(u.length, self._deferred, u.offset))
        )
        counted = connection.execute(
            select(func.count(), func.coalesce(func.sum(u.reserved), 0)).where(mine)
        ).one()
        connection.execute(
            update(self.table)
            .where(self._row_of(owner))
            .values(uploads=counted[0], size=int(counted[1]))
        )

    def drifts(self, connection: Connection) -> Iterator[Drift]:
        """Rows that differ from what the uploads' rows say."""
        q, u = self.table.c, self._uploads.c
        size = func.coalesce(u.reserved, u.length, self._deferred, u.offset)
        counted = {
            _key(owner): (count, int(total))
            for owner, count, total in connection.execute(
                select(self._owner, func.count(), func.sum(size))
                .where(u.blueprint == self._blueprint, u.status.in_(UNFINISHED))
                .group_by(self._owner)
            )
        }
        rows = connection.execute(
            select(q.owner, q.uploads, q.size).where(q.blueprint == self._blueprint)
        )
        for key, uploads, total in rows.all():
            # Who has no row yet gets one, well counted, with the next upload.
            there, bytes_there = counted.get(key, (0, 0))
            if (uploads, total) != (there, bytes_there):
                yield Drift(key, uploads - there, total - bytes_there)

    def _row_of(self, owner: object) -> ColumnElement[bool]:
        q = self.table.c
        return and_(q.blueprint == self._blueprint, q.owner == _key(owner))

    def _open_of(self, owner: object) -> ColumnElement[bool]:
        u = self._uploads.c
        return and_(
            u.blueprint == self._blueprint,
            self._owner.is_(None) if owner is None else self._owner == owner,
            u.status.in_(UNFINISHED),
        )


def _key(owner: object) -> str:
    return "" if owner is None else str(owner)
