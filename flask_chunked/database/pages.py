"""Statements for pages and counts of lists, which read the owner index and little else.

Each status is a statement of its own: in the index its rows lie in the order of the
list, and those of several statuses together do not. Knows nothing of limits in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from operator import add
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, func, literal, select, tuple_, union_all

#: (creation time, id) of the last row of the page before.
Cursor = tuple[datetime, UUID]


class Pages:
    """Statements on the table of one model."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def is_plain(self, query: Select[Any]) -> bool:
        """True if the query has no order and no limit of its own."""
        return query.compare(query.order_by(None).limit(None).offset(None))

    def whole(
        self, query: Select[Any], limit: int, skip: int, after: Cursor | None
    ) -> Select[Any]:
        """A page of one query, all columns; the query's own order comes first."""
        c = self._table.c
        query = query.with_only_columns(*c, maintain_column_froms=True)
        return self._page(query, after).limit(limit).offset(skip)

    def merged(
        self,
        queries: Sequence[Select[Any]],
        limit: int,
        skip: int,
        after: Cursor | None,
    ) -> Select[Any]:
        """A page of several queries without a row in common, all columns.

        The statement finds the page's ids, at best in the index alone, then its rows.
        """
        c = self._table.c
        parts = []
        for query in queries:
            keys = query.with_only_columns(
                c.created_at, c.id, maintain_column_froms=True
            )
            # Each may have the whole page, and what is skipped before it.
            part = self._page(keys, after).limit(skip + limit).subquery()
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
        """How many rows queries without a row in common have together."""
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

    def _page(self, query: Select[Any], after: Cursor | None) -> Select[Any]:
        c = self._table.c
        if after is not None:
            created_at, upload_id = after
            # As one value, of which the index finds the place.
            query = query.where(
                tuple_(c.created_at, c.id)
                > tuple_(
                    literal(created_at, c.created_at.type),
                    literal(upload_id, c.id.type),
                )
            )
        return query.order_by(c.created_at, c.id)
