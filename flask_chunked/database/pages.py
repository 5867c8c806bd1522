"""Statements for pages and counts of lists, which read little but the owner index.

Each status has a statement of its own: within one status, the index has the order of
the list. Knows nothing of expiry.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from operator import add
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, func, literal, select, tuple_, union_all

#: (creation time, id) of the previous page's last row.
Cursor = tuple[datetime, UUID]


class Pages:
    """Builds statements on the table of one model."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def has_order_or_limit(self, query: Select[Any]) -> bool:
        """True if the application gave the query an order, a limit or an offset."""
        return not query.compare(query.order_by(None).limit(None).offset(None))

    def from_query(
        self, query: Select[Any], limit: int, skip: int, after: Cursor | None
    ) -> Select[Any]:
        """A page of one query, with all columns. The query's own order comes first.

        :param limit: most rows of the page.
        :param skip: rows to skip.
        :param after: the page begins after this position.
        """
        c = self._table.c
        query = query.with_only_columns(*c, maintain_column_froms=True)
        return self._ordered(query, after).limit(limit).offset(skip)

    def merged(
        self,
        queries: Sequence[Select[Any]],
        limit: int,
        skip: int,
        after: Cursor | None,
    ) -> Select[Any]:
        """A page of several queries that have no row in common, with all columns.

        The statement first finds the ids of the page, in the best case in the index
        alone, then reads their rows. Parameters as in :meth:`from_query`.
        """
        c = self._table.c
        parts = []
        for query in queries:
            keys = query.with_only_columns(
                c.created_at, c.id, maintain_column_froms=True
            )
            # One query may supply the whole page and all rows that are skipped.
            part = self._ordered(keys, after).limit(skip + limit).subquery()
            parts.append(select(part.c.created_at, part.c.id))
        every = union_all(*parts).subquery()
        page = (
            select(every.c.id)
            .order_by(every.c.created_at, every.c.id)
            .limit(limit)
            .offset(skip)
            .subquery()
        )
        return select(*c).join(page, page.c.id == c.id).order_by(c.created_at, c.id)

    def count(self, queries: Sequence[Select[Any]]) -> Select[Any]:
        """The number of rows of several queries that have no row in common."""
        c = self._table.c
        counts = [
            select(func.count())
            .select_from(
                query.with_only_columns(c.id, maintain_column_froms=True).subquery()
            )
            .scalar_subquery()
            for query in queries
        ]
        return select(reduce(add, counts))

    def _ordered(self, query: Select[Any], after: Cursor | None) -> Select[Any]:
        c = self._table.c
        if after is not None:
            created_at, upload_id = after
            # The index can search for a tuple.
            query = query.where(
                tuple_(c.created_at, c.id)
                > tuple_(
                    literal(created_at, c.created_at.type),
                    literal(upload_id, c.id.type),
                )
            )
        return query.order_by(c.created_at, c.id)
