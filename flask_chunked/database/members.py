"""Which partial uploads a final upload is made of, and the table of removals.

Removals are not written yet; their table is there so that no migration is needed later.
Two tables, one of each for all models that share a database. Rows name uploads by id
and refer to no table, because each model has a table of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    DateTime,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Uuid,
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

#: Of the tables.
MEMBER = "chunked_upload_member"
REMOVAL = "chunked_upload_removal"
#: The uploads that are on their way out.
GIVEN_UP = (Status.TERMINATING, Status.EXPIRED)


def member_table(metadata: MetaData, schema: str | None) -> Table:
    """The members of final uploads: final upload, position, partial upload."""
    known = metadata.tables.get(_full_name(MEMBER, schema))
    if known is not None:
        return known
    table = Table(
        MEMBER,
        metadata,
        Column("final_id", Uuid, primary_key=True),
        Column("position", Integer, primary_key=True, autoincrement=False),
        Column("partial_id", Uuid, nullable=False),
        schema=schema,
    )
    Index(f"ix_{MEMBER}_partial_id", table.c.partial_id)
    return table


def removal_table(metadata: MetaData, schema: str | None) -> Table:
    """Uploads whose row is gone and whose bytes are not: what finding them needs."""
    known = metadata.tables.get(_full_name(REMOVAL, schema))
    if known is not None:
        return known
    return Table(
        REMOVAL,
        metadata,
        Column("upload_id", Uuid, primary_key=True),
        Column("blueprint", String(255), nullable=False),
        Column("storage_key", String(512), nullable=False),
        Column("storage_state", JSON),
        Column("size", BigInteger, nullable=False),
        Column("parts", JSON),
        Column("removed_at", DateTime, nullable=False),
        schema=schema,
    )


def _full_name(name: str, schema: str | None) -> str:
    return name if schema is None else f"{schema}.{name}"


def is_unfinished(status: ColumnElement[str]) -> ColumnElement[bool]:
    """Not all bytes are there, checked and announced.

    No list: the text of a statement that has one is made for each execution.
    """
    return or_(*(status == one for one in UNFINISHED))


class MemberBook:
    """Who is a member of what. Methods with a connection run in its transaction.

    :param uploads: the uploads' table.
    """

    def __init__(self, uploads: Table) -> None:
        self.table = member_table(uploads.metadata, uploads.schema)
        self._uploads = uploads
        m, partial = self.table.c, uploads.alias("member_row")
        upload_id = bindparam("upload_id", type_=uploads.c.id.type)
        #: The members' rows in their order; a member that is gone gives NULLs.
        self.rows = (
            select(*partial.c)
            .select_from(self.table.outerjoin(partial, partial.c.id == m.partial_id))
            .where(m.final_id == upload_id)
            .order_by(m.position)
        )
        c = uploads.c
        named_by, final = self.table.alias("named_by"), uploads.alias("its_final")
        #: The finals that wait for a partial upload.
        finals = select(m.final_id).where(m.partial_id == upload_id).distinct()
        named = finals.subquery()
        # A join: where the ids are a list, SQLite reads all uploads of the status.
        self.waiting = (
            select(*c)
            .join(named, named.c.final_id == c.id)
            .where(c.status == Status.UPLOADING.value)
        )
        #: The finals that are not complete yet, of which it is a member.
        self.unfinished = (
            select(*c)
            .join(named, named.c.final_id == c.id)
            .where(is_unfinished(c.status))
        )
        of_it = named_by.c.final_id == final.c.id
        #: A partial upload that a complete final is made of, and no other waits for.
        self.used_up = select(c.id).where(
            c.id == upload_id,
            exists(
                select(named_by.c.final_id)
                .select_from(named_by.outerjoin(final, of_it))
                .where(
                    named_by.c.partial_id == c.id,
                    # Only a final that was complete leaves names when it goes.
                    or_(final.c.id.is_(None), final.c.completed_at.is_not(None)),
                )
            ),
            ~exists(
                select(named_by.c.final_id)
                .select_from(named_by.join(final, of_it))
                .where(named_by.c.partial_id == c.id, is_unfinished(final.c.status))
            ),
        )

    def add(
        self, connection: Connection, final_id: UUID, members: Sequence[UUID]
    ) -> None:
        """Note what a new final upload is made of."""
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
        """A final upload is gone.

        :param was_complete: its members that are still there stay named.
        """
        c = self.table.c
        names = c.final_id == final_id
        if was_complete:
            self._hold(connection, names)
            names = and_(names, ~self._is_there(c.partial_id))
        connection.execute(delete(self.table).where(names))

    def drop_partial(self, connection: Connection, partial_id: UUID) -> None:
        """A partial upload is gone; finals that are there keep its name.

        One that still waits for it can never be made, and says so. One that is being
        made must not look as if it had fewer members.
        """
        c = self.table.c
        names = c.partial_id == partial_id
        self._hold(connection, names)
        connection.execute(delete(self.table).where(names, ~self._is_there(c.final_id)))

    def _hold(self, connection: Connection, names: ColumnElement[bool]) -> None:
        """Let a rival that removes the other end of a name see this end gone."""
        c = self.table.c
        held = select(c.final_id).where(names).order_by(c.final_id, c.position)
        connection.execute(held.with_for_update()).all()

    def _is_there(self, upload_id: ColumnElement[Any]) -> ColumnElement[bool]:
        there = self._uploads.alias("there")
        return exists(select(there.c.id).where(there.c.id == upload_id))

    def is_named(self, partial_id: ColumnElement[Any]) -> ColumnElement[bool]:
        """Does a final upload name this partial one?

        A final that is complete names it also after its own row is gone; one that was
        given up names nothing.
        """
        m, final = self.table.c, self._uploads.alias("naming_row")
        given_up = select(final.c.id).where(
            final.c.id == m.final_id,
            # One that was complete is on its way out, and names them for ever.
            final.c.completed_at.is_(None),
            or_(*(final.c.status == one.value for one in GIVEN_UP)),
        )
        return exists(
            select(m.final_id).where(m.partial_id == partial_id, ~given_up.exists())
        )

    def awaited_too_often(self, ids: Sequence[UUID]) -> Select[Any]:
        """Those of the partial uploads that as many finals wait for as may."""
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
        """Is a concatenation that the upload belongs to active since then?

        A waiting final lives while a member is active, and its members live with it.
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
