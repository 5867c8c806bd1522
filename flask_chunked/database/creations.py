"""New rows of uploads: what is counted, named and inserted in one transaction.

The ORM inserts where a model has columns, events or validators of its own, so that
these work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
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
from .queries import Queries
from .quotas import NotCounted, QuotaBook
from .rows import RowMapper
from .statements import Statements
from .transactions import Database


class Creations(Queries):
    """The part of the repository that makes rows.

    :param quotas: where owners' uploads are counted, if they are.
    """

    def __init__(
        self,
        database: Database,
        rows: RowMapper,
        blueprint: str,
        statements: Statements,
        quotas: QuotaBook | None,
    ) -> None:
        super().__init__(database, rows, blueprint, statements)
        self._quotas = quotas

    def create(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None = None,
        members: Sequence[UUID] = (),
    ) -> Upload:
        """Insert the draft's row; through the ORM where the model has a say."""
        try:
            return self._insert(draft, fields, quota, members)
        except NotCounted:
            self._begin_to_count(draft.user)
        try:
            return self._insert(draft, fields, quota, members)
        except NotCounted as error:  # pragma: no cover - the table was emptied between
            raise DatabaseUnavailable() from error

    def _insert(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None,
        members: Sequence[UUID],
    ) -> Upload:
        """The new row.

        :raises NotCounted: its owner is not counted yet; nothing happened.
        """
        is_plain = self._rows.is_plain() and not fields
        instance = None if is_plain else self._rows.instance(draft, fields)
        try:
            if is_plain and quota is None and not members:
                self._database.run(self._statements.insert, self._rows.values(draft))
                return draft
            with self._database.transaction() as connection:
                if members:
                    self._touch(connection, members, draft.created_at)
                if quota is not None:
                    self._counted.take(connection, draft.user, quota, members)
                elif members and self._quotas is not None:
                    self._quotas.take_nothing(connection, members)
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
            # Also what a column's type or the driver cannot take, a huge integer say.
            theirs = isinstance(error, DBAPIError)
            if theirs and not isinstance(error, (IntegrityError, DataError)):
                raise
            raise self._rows.refusal(error) from error
        if row is None:  # pragma: no cover - inserted in this transaction
            raise RuntimeError("the new upload's row is not there")
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
        """Lock the members, for which being named is activity."""
        c, row = self._table.c, self._table.alias("locked_row").c
        ids = list(dict.fromkeys(members))
        # In one order, so that two requests never wait for one another.
        locked = (
            select(row.id).where(row.id.in_(ids)).order_by(row.id).with_for_update()
        )
        statement = self._statements.touch_members.where(c.id.in_(locked))
        values = {"new_last_activity_at": at}
        if connection.execute(statement, values).rowcount != len(ids):
            raise PartialMissing()
        # Only now: what other requests committed before the lock is seen.
        if connection.execute(self._members.awaited_too_often(ids)).first():
            raise TooManyFinals(MAX_WAITING)

    @property
    def _counted(self) -> QuotaBook:
        if self._quotas is None:  # pragma: no cover - who limits makes the table
            raise RuntimeError("there is no table of quotas")
        return self._quotas

    def _begin_to_count(self, owner: object) -> None:
        # Another request may have begun a moment ago.
        with suppress(IntegrityError), self._database.transaction() as connection:
            self._counted.open(connection, owner)
