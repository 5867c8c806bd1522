"""The parts that a storage keeps of unfinished uploads.

Only a storage with :attr:`~flask_chunked.storage.base.Storage.keeps_parts` needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, Table, delete, insert, select

from ..storage.base import Part
from .table_definitions import part_table


class PartTable:
    """Reads and writes parts. Each method runs in the caller's transaction.

    :param uploads: the table of uploads.
    """

    def __init__(self, uploads: Table) -> None:
        self.table = part_table(uploads)

    def add(
        self, connection: Connection, upload_id: UUID, parts: Sequence[Part]
    ) -> None:
        """Insert parts.

        :raises sqlalchemy.exc.IntegrityError: the upload has a part of that number.
        """
        connection.execute(
            insert(self.table),
            [
                {
                    "upload_id": upload_id,
                    "number": part.number,
                    "size": part.size,
                    "etag": part.etag,
                    "checksum": part.checksum,
                }
                for part in parts
            ],
        )

    def of(self, connection: Connection, upload_id: UUID) -> list[Part]:
        """The parts of an upload, in the order of their numbers."""
        c = self.table.c
        rows = connection.execute(
            select(c.number, c.size, c.etag, c.checksum)
            .where(c.upload_id == upload_id)
            .order_by(c.number)
        )
        return [Part(*row) for row in rows]

    def take(self, connection: Connection, upload_id: UUID) -> tuple[Part, ...]:
        """Delete the parts of an upload whose row has been deleted, and return them."""
        parts = tuple(self.of(connection, upload_id))
        if parts:
            self.drop(connection, upload_id)
        return parts

    def drop(self, connection: Connection, upload_id: UUID) -> None:
        """Delete the parts of an upload that is complete or expired."""
        connection.execute(
            delete(self.table).where(self.table.c.upload_id == upload_id)
        )
