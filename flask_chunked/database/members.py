"""The members of final uploads: which partial uploads a concatenation consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.sql import ColumnElement

from ..engine.gate import MAX_WAITING
from ..engine.states import UNFINISHED, Status
from .table_definitions import member_table


def is_unfinished(status: ColumnElement[str]) -> ColumnElement[bool]:
    """True for an upload that is uploading or completing.

    The condition has no list, because SQLAlchemy would build the text of such a
    statement for each execution.
    """
    return or_(*(status == one for one in UNFINISHED))


class MemberTable:
    """Statements about members. Methods with a connection run in its transaction.

    :param uploads: the table of uploads.
    """

    def __init__(self, uploads: Table) -> None:
        self.table = member_table(uploads)
        self._uploads = uploads
        m, partial = self.table.c, uploads.alias("member_row")
        upload_id = bindparam("upload_id", type_=uploads.c.id.type)
        #: The rows of a final upload's members, in order; NULLs if a row is missing.
        self.rows = (
            select(*partial.c)
            .select_from(self.table.outerjoin(partial, partial.c.id == m.partial_id))
            .where(m.final_id == upload_id)
            .order_by(m.position)
        )
        c = uploads.c
        finals = select(m.final_id).where(m.partial_id == upload_id).distinct()
        named = finals.subquery()
        # A join: with a list of ids, SQLite would read all uploads of the status.
        finals_of_partial = select(*c).join(named, named.c.final_id == c.id)
        #: The final uploads that wait for a partial upload.
        self.waiting = finals_of_partial.where(c.status == Status.UPLOADING.value)
        #: The unfinished final uploads that a partial upload is a member of.
        self.unfinished = finals_of_partial.where(is_unfinished(c.status))
        #: A partial upload that a complete final upload contains, if no unfinished
        #: final upload names it as well.
        self.used_up = self._select_used_up(upload_id)

    def _select_used_up(self, upload_id: ColumnElement[Any]) -> Select[Any]:
        c = self._uploads.c
        member, final = self.table.alias("named_by"), self._uploads.alias("its_final")
        is_its_final = member.c.final_id == final.c.id
        return select(c.id).where(
            c.id == upload_id,
            exists(
                select(member.c.final_id)
                .select_from(member.outerjoin(final, is_its_final))
                .where(
                    member.c.partial_id == c.id,
                    # Only a complete final upload leaves its members when its row is
                    # deleted.
                    or_(final.c.id.is_(None), final.c.completed_at.is_not(None)),
                )
            ),
            ~exists(
                select(member.c.final_id)
                .select_from(member.join(final, is_its_final))
                .where(member.c.partial_id == c.id, is_unfinished(final.c.status))
            ),
        )

    def add(
        self, connection: Connection, final_id: UUID, members: Sequence[UUID]
    ) -> None:
        """Insert the members of a new final upload, in order."""
        connection.execute(
            insert(self.table),
            [
                {"final_id": final_id, "position": position, "partial_id": partial_id}
                for position, partial_id in enumerate(members)
            ],
        )

    def drop_final(
        self, connection: Connection, final_id: UUID, *, was_complete: bool
    ) -> None:
        """Delete the members of a final upload whose row has been deleted.

        :param was_complete: keep the members whose partial upload still has a row.
        """
        c = self.table.c
        named = c.final_id == final_id
        if was_complete:
            self._lock_rows(connection, named)
            named = and_(named, ~self._has_row(c.partial_id))
        connection.execute(delete(self.table).where(named))

    def drop_partial(self, connection: Connection, partial_id: UUID) -> None:
        """Delete the memberships of a partial upload whose row has been deleted.

        Memberships in a final upload that still has a row stay. A waiting final upload
        can then report that its member is missing, and a final upload that is being
        assembled keeps its number of members.
        """
        c = self.table.c
        named = c.partial_id == partial_id
        self._lock_rows(connection, named)
        connection.execute(delete(self.table).where(named, ~self._has_row(c.final_id)))

    def _lock_rows(
        self, connection: Connection, condition: ColumnElement[bool]
    ) -> None:
        """Lock rows until the end of the transaction.

        A concurrent removal of the other upload then sees that this one has no row.
        """
        c = self.table.c
        rows = select(c.final_id).where(condition).order_by(c.final_id, c.position)
        connection.execute(rows.with_for_update()).all()

    def _has_row(self, upload_id: ColumnElement[Any]) -> ColumnElement[bool]:
        there = self._uploads.alias("there")
        return exists(select(there.c.id).where(there.c.id == upload_id))

    def is_named(self, partial_id: ColumnElement[Any]) -> ColumnElement[bool]:
        """True for a partial upload that a final upload names.

        A complete final upload names its members even after its row is deleted. A
        final upload that expired names none, and one that was terminated unfinished
        has no members any more.
        """
        m, final = self.table.c, self._uploads.alias("naming_row")
        expired = select(final.c.id).where(
            final.c.id == m.final_id, final.c.status == Status.EXPIRED.value
        )
        return exists(
            select(m.final_id).where(m.partial_id == partial_id, ~expired.exists())
        )

    def awaited_too_often(self, ids: Sequence[UUID]) -> Select[Any]:
        """Select a partial upload that ``MAX_WAITING`` final uploads wait for.

        :param ids: of the partial uploads in question.
        """
        m, c = self.table.c, self._uploads.c
        partial = self._uploads.alias("awaited_row")
        return (
            select(m.partial_id)
            .select_from(
                self.table.join(self._uploads, c.id == m.final_id).join(
                    partial, partial.c.id == m.partial_id
                )
            )
            .where(
                m.partial_id.in_(ids),
                is_unfinished(c.status),
                is_unfinished(partial.c.status),
            )
            .group_by(m.partial_id)
            .having(func.count(c.id.distinct()) >= MAX_WAITING)
            .limit(1)
        )

    def is_kept_alive(self, since: ColumnElement[Any]) -> ColumnElement[bool]:
        """True for an upload whose unfinished concatenation is active.

        A final upload is kept alive by its members, and a member by its final uploads
        and their other members.

        :param since: activity after this time counts.
        """
        c, m = self._uploads.c, self.table
        own, other = m.alias("own_member"), m.alias("other_member")
        final, partial = self._uploads.alias("group"), self._uploads.alias("active")
        active_member = (
            select(partial.c.id)
            .select_from(other.join(partial, partial.c.id == other.c.partial_id))
            .where(partial.c.last_activity_at > since)
        )
        as_final = active_member.where(other.c.final_id == c.id)
        as_member = (
            select(final.c.id)
            .select_from(own.join(final, final.c.id == own.c.final_id))
            .where(
                own.c.partial_id == c.id,
                is_unfinished(final.c.status),
                or_(
                    final.c.last_activity_at > since,
                    active_member.where(other.c.final_id == final.c.id).exists(),
                ),
            )
        )
        return and_(
            c.concat.is_not(None),
            or_(
                and_(c.partial.is_(False), as_final.exists()),
                and_(c.partial.is_(True), as_member.exists()),
            ),
        )
