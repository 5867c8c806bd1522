"""The bytes to remove of uploads whose row was deleted.

A removal's row is inserted in the transaction that deletes the upload's row, and is
deleted when the bytes are gone. Knows nothing of uploads that have a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table, bindparam, delete, insert, select

from ..engine.records import Removal, Removed
from ..storage.base import Blob, Part
from .table_definitions import removal_table


class RemovalTable:
    """Reads and writes removals. Each method runs in the caller's transaction.

    :param uploads: a table of uploads.
    """

    def __init__(self, uploads: Table) -> None:
        self.table = removal_table(uploads)
        c = self.table.c
        upload_id = bindparam("upload_id", type_=c.upload_id.type)
        #: Deletes one removal.
        self.forget = delete(self.table).where(c.upload_id == upload_id)

    def add(
        self,
        connection: Connection,
        removed: Iterable[Removed],
        blueprint: str,
        at: datetime,
    ) -> None:
        """Insert the removals of uploads that have bytes."""
        removed_at = at.astimezone(timezone.utc).replace(tzinfo=None)
        rows = [
            {
                "upload_id": one.upload.id,
                "blueprint": blueprint,
                "storage_key": one.blob.key,
                "storage_state": one.blob.state,
                "size": one.blob.size,
                "parts": [asdict(part) for part in one.blob.parts] or None,
                "removed_at": removed_at,
            }
            for one in removed
            if one.blob is not None
        ]
        if rows:
            connection.execute(insert(self.table), rows)

    def drop(self, connection: Connection, upload_ids: Sequence[UUID]) -> None:
        """Delete removals."""
        named = self.table.c.upload_id.in_(upload_ids)
        connection.execute(delete(self.table).where(named))

    def after(
        self, connection: Connection, blueprint: str, last: UUID | None, limit: int
    ) -> list[Removal]:
        """Removals of a blueprint, in the order of the uploads' ids.

        :param last: only those after this id; ``None``: from the first one.
        """
        c = self.table.c
        statement = select(self.table).where(c.blueprint == blueprint)
        if last is not None:
            statement = statement.where(c.upload_id > last)
        rows = connection.execute(statement.order_by(c.upload_id).limit(limit))
        return [_removal(row) for row in rows]

    def keys_among(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        """The storage keys that removals of any blueprint have."""
        c = self.table.c
        found = connection.execute(select(c.storage_key).where(c.storage_key.in_(keys)))
        return set(found.scalars())


def _removal(row: Any) -> Removal:
    parts = tuple(Part(**part) for part in row.parts or ())
    blob = Blob(row.storage_key, row.size, row.storage_state, parts)
    return Removal(row.upload_id, blob)
