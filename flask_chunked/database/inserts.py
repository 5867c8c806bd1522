"""Inserts new uploads: quota, members and row in one transaction.

The ORM inserts the row if the model has its own columns, event listeners or
validators, so that they take effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from ..engine.gate import MAX_WAITING
from ..engine.records import Quota, Upload
from ..exceptions import (
    CommitUnanswered,
    DatabaseUnavailable,
    PartialMissing,
    TooManyFinals,
)
from .parts import PartTable
from .queries import Queries
from .quotas import OwnerNotCounted, QuotaTable
from .rows import RowMapper
from .statements import Statements
from .transactions import Database


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables that a repository writes to.

    :param uploads: the statements on the table of uploads.
    :param quotas: the quota table; ``None``: nothing limits what owners have.
    :param parts: the table of parts; ``None``: the storage keeps no parts.
    """

    uploads: Statements
    quotas: QuotaTable | None
    parts: PartTable | None


class Inserts(Queries):
    """The part of the repository that inserts uploads."""

    def __init__(
        self, database: Database, rows: RowMapper, blueprint: str, tables: Tables
    ) -> None:
        super().__init__(database, rows, blueprint, tables.uploads)
        self._quotas = tables.quotas
        self._parts = tables.parts
        self._removals = tables.uploads.removals

    def create(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None = None,
        members: Sequence[UUID] = (),
    ) -> Upload:
        """Insert the row of a draft.

        :param fields: values of the application's own columns.
        :param quota: the owner's limits, with the bytes to reserve.
        :param members: of a final upload, in order.
        :return: the upload as the database has it.
        :raises InvalidFields: the model or the database refuses a value.
        :raises OwnerRequired: the database refuses an upload without an owner.
        :raises TooManyUploads: the owner has the maximum of unfinished uploads.
        :raises QuotaExceeded: the owner would have more bytes than the maximum.
        :raises PartialMissing: a member does not exist or cannot be used.
        :raises TooManyFinals: too many final uploads wait for a member.
        """
        try:
            return self._insert(draft, fields, quota, members)
        except OwnerNotCounted:
            self._start_counting(draft.user)
        try:
            return self._insert(draft, fields, quota, members)
        except OwnerNotCounted as error:  # pragma: no cover - the row was deleted
            raise DatabaseUnavailable() from error

    def _insert(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None,
        members: Sequence[UUID],
    ) -> Upload:
        """:meth:`create` for an owner who has a quota row.

        :raises OwnerNotCounted: the owner has none; the transaction is rolled back.
        """
        bypasses_orm = not fields and self._rows.can_bypass_orm()
        instance = None if bypasses_orm else self._rows.instance(draft, fields)
        try:
            if bypasses_orm and quota is None and not members:
                values = self._rows.values(draft)
                self._database.execute(self._statements.insert, values)
                return draft
            with self._database.transaction() as connection:
                if members:
                    self._touch(connection, members, draft.created_at)
                if quota is not None:
                    self._counted.take(connection, draft.user, quota, members)
                elif members and self._quotas is not None:
                    self._quotas.take_members(connection, members)
                row = self._insert_row(connection, draft, instance)
                if members:
                    self._members.add(connection, draft.id, members)
        except CommitUnanswered as unanswered:
            try:
                row = self.get(draft.id)
            except DatabaseUnavailable:
                raise unanswered from None
            if row is None:
                raise
        except (StatementError, OverflowError) as error:
            # A column's type or the driver also refuses values, such as huge integers.
            from_database = isinstance(error, DBAPIError)
            if from_database and not isinstance(error, (IntegrityError, DataError)):
                raise
            raise self._rows.refusal(error) from error
        if row is None:  # pragma: no cover - inserted in this transaction
            raise RuntimeError("the row of the new upload does not exist")
        return row

    def _insert_row(
        self, connection: Connection, draft: Upload, instance: Any
    ) -> Upload | None:
        if instance is None:
            values = self._rows.values(draft)
            connection.execute(self._statements.insert, values)
            return draft
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(instance)
            session.commit()
        return self._select(connection, draft.id)

    def _touch(
        self, connection: Connection, members: Sequence[UUID], at: datetime
    ) -> None:
        """Lock the members and set their last activity to ``at``."""
        c, row = self._table.c, self._table.alias("locked_row").c
        ids = list(dict.fromkeys(members))
        # All requests lock in the same order, so that none waits for another in turn.
        locked = (
            select(row.id).where(row.id.in_(ids)).order_by(row.id).with_for_update()
        )
        statement = self._statements.touch_members.where(c.id.in_(locked))
        values = {"new_last_activity_at": at}
        if connection.execute(statement, values).rowcount != len(ids):
            raise PartialMissing()
        # After the locks: now this sees what concurrent requests have committed.
        if connection.execute(self._members.awaited_too_often(ids)).first():
            raise TooManyFinals(MAX_WAITING)

    @property
    def _counted(self) -> QuotaTable:
        if self._quotas is None:  # pragma: no cover - a limit creates the table
            raise RuntimeError("there is no quota table")
        return self._quotas

    def _start_counting(self, owner: object) -> None:
        # A concurrent request may insert the same row first.
        with suppress(IntegrityError), self._database.transaction() as connection:
            self._counted.start_counting(connection, owner)
