"""What an owner's limits count, as the rows of uploads say: conditions and sums.

Knows the tables of uploads and members; nothing of the table of quotas.
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
from .members import MemberBook

#: The largest sum; more is counted as that.
MOST = 2**63 - 1
#: A sum is taken in two halves, which no number of uploads makes too large.
_HALF = 2**32


class Counts:
    """Sums over the uploads of one blueprint. Methods run in the caller's transaction.

    :param owner: the column that holds the owner.
    :param deferred: bytes that an upload without a length counts where nothing
        counted it yet.
    """

    def __init__(
        self,
        uploads: Table,
        owner: Any,
        blueprint: str,
        members: MemberBook,
        deferred: int | None,
    ) -> None:
        u = uploads.c
        self._uploads = uploads
        self._owner = owner
        self._members = members
        self._here = u.blueprint == blueprint
        self._reserve = func.coalesce(u.length, deferred, u.offset)
        #: Bytes that an unfinished upload counts, also where nothing noted it yet.
        self._counted = func.coalesce(u.reserved, self._reserve)
        live_partial = and_(
            u.partial, u.status.in_((*UNFINISHED, Status.COMPLETE.value))
        )
        named = members.is_named(u.id)
        #: Counts as unfinished.
        self._open = or_(
            and_(u.status.in_(UNFINISHED), u.partial.is_(False)),
            and_(live_partial, ~named),
        )
        #: A partial upload whose bytes count as stored.
        self._kept = and_(live_partial, named)
        #: A finished upload that still has a file.
        self._file = and_(
            u.status == Status.COMPLETE.value,
            u.partial.is_(False),
            u.storage_key.is_not(None),
        )

    # -- of one owner ----------------------------------------------------------------

    def reserve(self, connection: Connection, owner: object) -> None:
        """Note in the uploads' rows what they count, where nothing did yet."""
        connection.execute(
            update(self._uploads)
            .where(self._of(owner), or_(self._open, self._kept))
            .where(self._uploads.c.reserved.is_(None))
            .values(reserved=self._reserve)
        )

    def hold_files(self, connection: Connection, owner: object) -> None:
        """Lock the rows of finished uploads, after what others do to them just now."""
        files = select(self._uploads.c.id).where(self._of(owner), self._file)
        held = files.with_for_update().subquery()
        connection.execute(select(func.count()).select_from(held))

    def open(self, connection: Connection, owner: object) -> tuple[int, int]:
        """Unfinished uploads and their bytes."""
        return self._sums(connection, owner, self._counted, self._open)

    def stored(self, connection: Connection, owner: object) -> int:
        """Bytes of files, and of partial uploads that final ones name."""
        u = self._uploads.c
        _, files = self._sums(connection, owner, u.offset, self._file)
        _, kept = self._sums(connection, owner, self._counted, self._kept)
        return min(MOST, files + kept)

    # -- of all owners -----------------------------------------------------------------

    def open_by_owner(self, connection: Connection) -> dict[str, tuple[int, int]]:
        """:meth:`open`, by the key of the owner's row."""
        return self._grouped(connection, self._counted, self._open)

    def stored_by_owner(self, connection: Connection) -> dict[str, int]:
        """:meth:`stored`, by the key of the owner's row."""
        u = self._uploads.c
        found = self._grouped(connection, u.offset, self._file)
        stored = {key: total for key, (_, total) in found.items()}
        partials = self._grouped(connection, self._counted, self._kept)
        for key, (_, kept) in partials.items():
            stored[key] = min(MOST, stored.get(key, 0) + kept)
        return stored

    # -- of concatenations -------------------------------------------------------------

    def is_named(self, connection: Connection, partial_id: UUID) -> bool:
        """Does a final upload name this partial one?"""
        named = self._members.is_named(literal(partial_id, self._uploads.c.id.type))
        return bool(connection.execute(select(named)).scalar_one())

    def counted_members(
        self, connection: Connection, members: Sequence[UUID]
    ) -> Iterator[tuple[Any, int, int]]:
        """Owner, uploads and bytes of those that count as unfinished until now."""
        u = self._uploads.c
        rows = connection.execute(
            select(self._owner, func.count(), *_halves(u.reserved))
            .where(self._here, u.id.in_(list(dict.fromkeys(members))))
            .where(u.reserved.is_not(None), ~self._members.is_named(u.id))
            .group_by(self._owner)
        )
        for owner, *sums in rows.all():
            yield owner, *_total(*sums)

    def owners(self, connection: Connection, members: Sequence[UUID]) -> list[Any]:
        """Of partial uploads, each once."""
        ids = list(dict.fromkeys(members))
        return self._owners(connection, self._uploads.c.id.in_(ids))

    def owners_of_members(self, connection: Connection, final_id: UUID) -> list[Any]:
        """Of a final upload's members, each once."""
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
        mine = self._owner.is_(None) if owner is None else self._owner == owner
        return and_(self._here, mine)

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
            .where(self._here, condition)
            .group_by(self._owner)
        )
        return {key_of(owner): _total(*sums) for owner, *sums in rows.all()}


def key_of(owner: object) -> str:
    """How the row of an owner's quota names them; empty: no owner."""
    return "" if owner is None else str(owner)


def _halves(size: Any) -> tuple[Any, Any]:
    return func.sum(size // _HALF), func.sum(size % _HALF)


def _total(count: int, high: Any, low: Any) -> tuple[int, int]:
    return count, min(MOST, int(high or 0) * _HALF + int(low or 0))
