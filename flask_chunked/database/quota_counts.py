"""Sums over the rows of uploads: how many uploads and bytes an owner has.

Knows the tables of uploads and members; nothing of the quota table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Table,
    and_,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from ..engine.states import UNFINISHED, Status
from .members import MemberTable

#: The largest sum in bytes. It also stands for any larger one.
MAX_SUM = 2**63 - 1
#: The high and low halves of the sizes are summed separately, so that no sum overflows.
_HALF = 2**32


class UploadCounts:
    """Counts uploads of one blueprint. Each method runs in the caller's transaction.

    :param owner: the column that holds the owner.
    :param deferred: bytes to reserve for an upload without a length; ``None``: its
        offset.
    """

    def __init__(
        self,
        uploads: Table,
        owner: Any,
        blueprint: str,
        members: MemberTable,
        deferred: int | None,
    ) -> None:
        u = uploads.c
        self._uploads = uploads
        self._owner = owner
        self._members = members
        self._of_blueprint = u.blueprint == blueprint
        self._reserve = func.coalesce(u.length, deferred, u.offset)
        #: Reserved bytes of an upload, also if its row does not have the number yet.
        self._reserved = func.coalesce(u.reserved, self._reserve)
        live_partial = and_(
            u.partial, u.status.in_((*UNFINISHED, Status.COMPLETE.value))
        )
        named = members.is_named(u.id)
        #: Uploads that count as unfinished.
        self._unfinished = or_(
            and_(u.status.in_(UNFINISHED), u.partial.is_(False)),
            and_(live_partial, ~named),
        )
        #: Partial uploads whose bytes count as stored.
        self._stored_partial = and_(live_partial, named)
        #: Complete uploads that have a file.
        self._file = and_(
            u.status == Status.COMPLETE.value,
            u.partial.is_(False),
            u.storage_key.is_not(None),
        )

    # -- of one owner ----------------------------------------------------------------

    def reserve(self, connection: Connection, owner: object) -> None:
        """Set ``reserved`` in the owner's rows that count and do not have it yet."""
        connection.execute(
            update(self._uploads)
            .where(self._of(owner), or_(self._unfinished, self._stored_partial))
            .where(self._uploads.c.reserved.is_(None))
            .values(reserved=self._reserve)
        )

    def lock_files(self, connection: Connection, owner: object) -> None:
        """Wait for concurrent changes of the owner's files, and lock their rows."""
        files = select(self._uploads.c.id).where(self._of(owner), self._file)
        locked = files.with_for_update().subquery()
        connection.execute(select(func.count()).select_from(locked))

    def unfinished(self, connection: Connection, owner: object) -> tuple[int, int]:
        """The number of unfinished uploads, and their bytes."""
        return self._sums(connection, owner, self._reserved, self._unfinished)

    def stored(self, connection: Connection, owner: object) -> int:
        """The bytes of files and of partial uploads that final uploads name."""
        u = self._uploads.c
        _, files = self._sums(connection, owner, u.offset, self._file)
        _, partials = self._sums(
            connection, owner, self._reserved, self._stored_partial
        )
        return min(MAX_SUM, files + partials)

    # -- of all owners -----------------------------------------------------------------

    def unfinished_by_owner(self, connection: Connection) -> dict[str, tuple[int, int]]:
        """:meth:`unfinished` of each owner, by :func:`owner_key`."""
        return self._grouped(connection, self._reserved, self._unfinished)

    def stored_by_owner(self, connection: Connection) -> dict[str, int]:
        """:meth:`stored` of each owner, by :func:`owner_key`."""
        u = self._uploads.c
        files = self._grouped(connection, u.offset, self._file)
        stored = {key: size for key, (_, size) in files.items()}
        partials = self._grouped(connection, self._reserved, self._stored_partial)
        for key, (_, size) in partials.items():
            stored[key] = min(MAX_SUM, stored.get(key, 0) + size)
        return stored

    # -- of concatenations -------------------------------------------------------------

    def is_named(self, connection: Connection, partial_id: UUID) -> bool:
        """True if a final upload names this partial upload."""
        named = self._members.is_named(literal(partial_id, self._uploads.c.id.type))
        return bool(connection.execute(select(named)).scalar_one())

    def unnamed_members(
        self, connection: Connection, members: Sequence[UUID]
    ) -> Iterator[tuple[Any, int, int]]:
        """The members that count as unfinished, because no final upload names them.

        :return: owner, number of uploads and bytes, for each owner.
        """
        u = self._uploads.c
        rows = connection.execute(
            select(self._owner, func.count(), *_halves(u.reserved))
            .where(self._of_blueprint, u.id.in_(list(dict.fromkeys(members))))
            .where(u.reserved.is_not(None), ~self._members.is_named(u.id))
            .group_by(self._owner)
        )
        for owner, *sums in rows.all():
            yield owner, *_total(*sums)

    def owners(self, connection: Connection, uploads: Sequence[UUID]) -> list[Any]:
        """The distinct owners of uploads."""
        ids = list(dict.fromkeys(uploads))
        return self._owners(connection, self._uploads.c.id.in_(ids))

    def owners_of_members(self, connection: Connection, final_id: UUID) -> list[Any]:
        """The distinct owners of a final upload's members."""
        m = self._members.table.c
        named = select(m.partial_id).where(m.final_id == final_id)
        return self._owners(connection, self._uploads.c.id.in_(named))

    # -- inside ------------------------------------------------------------------------

    def _owners(
        self, connection: Connection, condition: ColumnElement[bool]
    ) -> list[Any]:
        rows = connection.execute(select(self._owner).where(condition).distinct())
        return [owner for (owner,) in rows.all()]

    def _of(self, owner: object) -> ColumnElement[bool]:
        owned = self._owner.is_(None) if owner is None else self._owner == owner
        return and_(self._of_blueprint, owned)

    def _sums(
        self,
        connection: Connection,
        owner: object,
        size: Any,
        condition: ColumnElement[bool],
    ) -> tuple[int, int]:
        statement = select(func.count(), *_halves(size))
        rows = connection.execute(statement.where(self._of(owner), condition))
        return _total(*rows.one())

    def _grouped(
        self, connection: Connection, size: Any, condition: ColumnElement[bool]
    ) -> dict[str, tuple[int, int]]:
        rows = connection.execute(
            select(self._owner, func.count(), *_halves(size))
            .where(self._of_blueprint, condition)
            .group_by(self._owner)
        )
        return {owner_key(owner): _total(*sums) for owner, *sums in rows.all()}


def owner_key(owner: object) -> str:
    """The owner as the quota table stores it; empty for uploads without an owner."""
    return "" if owner is None else str(owner)


def _halves(size: Any) -> tuple[Any, Any]:
    return func.sum(size // _HALF), func.sum(size % _HALF)


def _total(count: int, high: Any, low: Any) -> tuple[int, int]:
    return count, min(MAX_SUM, int(high or 0) * _HALF + int(low or 0))
