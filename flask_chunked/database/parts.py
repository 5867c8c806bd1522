"""The parts that a storage keeps of unfinished uploads, in a table beside theirs.

One table for all models of a database, keyed by upload id. Written only where a storage
keeps parts (:attr:`~flask_chunked.storage.base.Storage.keeps_parts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    delete,
    insert,
    select,
)

from ..storage.base import Part

#: Of the table; one for all models that share a database.
TABLE = "chunked_upload_part"


def part_table(metadata: MetaData, schema: str | None) -> Table:
    """The table of parts beside the uploads' own."""
    name = TABLE if schema is None else f"{schema}.{TABLE}"
    known = metadata.tables.get(name)
    if known is not None:
        return known
    return Table(
        TABLE,
        metadata,
        Column("upload_id", Uuid, primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("size", BigInteger, nullable=False),
        Column("etag", String(255), nullable=False),
        Column("checksum", String(255)),
        schema=schema,
    )


class PartBook:
    """Which parts an upload has. Every method runs in the caller's transaction.

    :param uploads: the uploads' table.
    """

    def __init__(self, uploads: Table) -> None:
        self.table = part_table(uploads.metadata, uploads.schema)

    def add(
        self, connection: Connection, upload_id: UUID, parts: Sequence[Part]
    ) -> None:
        """Parts that came with a step; a number that is there already is an error."""
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
        """An upload's parts, in their order."""
        c = self.table.c
        rows = connection.execute(
            select(c.number, c.size, c.etag, c.checksum)
            .where(c.upload_id == upload_id)
            .order_by(c.number)
        )
        return [Part(*row) for row in rows]

    def drop(self, connection: Connection, upload_id: UUID) -> None:
        """The upload is finished, or given up."""
        connection.execute(
            delete(self.table).where(self.table.c.upload_id == upload_id)
        )
