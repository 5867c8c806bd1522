"""The tables next to the uploads' table: members, removals, quotas and parts.

All models that share a database share these tables. Their rows name uploads by id
without a foreign key, because each model has its own table of uploads.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    String,
    Table,
    Uuid,
)
from sqlalchemy.schema import SchemaItem

MEMBER_TABLE = "chunked_upload_member"
REMOVAL_TABLE = "chunked_upload_removal"
QUOTA_TABLE = "chunked_upload_quota"
PART_TABLE = "chunked_upload_part"


def member_table(uploads: Table) -> Table:
    """The members of final uploads: final upload, position, partial upload.

    :param uploads: a table of uploads; the new table uses its metadata and schema.
    """
    return _shared_table(
        MEMBER_TABLE,
        uploads,
        Column("final_id", Uuid, primary_key=True),
        Column("position", Integer, primary_key=True, autoincrement=False),
        Column("partial_id", Uuid, nullable=False),
        Index(f"ix_{MEMBER_TABLE}_partial_id", "partial_id"),
    )


def removal_table(uploads: Table) -> Table:
    """Stored bytes to remove, whose upload has no row any more.

    The transaction that deletes the upload's row inserts a row here. It is deleted
    when the bytes are gone.

    :param uploads: a table of uploads; the new table uses its metadata and schema.
    """
    return _shared_table(
        REMOVAL_TABLE,
        uploads,
        Column("upload_id", Uuid, primary_key=True),
        Column("blueprint", String(255), nullable=False),
        Column("storage_key", String(512), nullable=False),
        Column("storage_state", JSON),
        Column("size", BigInteger, nullable=False),
        Column("parts", JSON),
        Column("removed_at", DateTime, nullable=False),
    )


def quota_table(uploads: Table) -> Table:
    """The uploads and bytes of each owner.

    :param uploads: a table of uploads; the new table uses its metadata and schema.
    """
    return _shared_table(
        QUOTA_TABLE,
        uploads,
        Column("blueprint", String(255), primary_key=True),
        Column("owner", String(255), primary_key=True),
        Column("uploads", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("stored", BigInteger),
    )


def part_table(uploads: Table) -> Table:
    """The stored parts of unfinished uploads.

    :param uploads: a table of uploads; the new table uses its metadata and schema.
    """
    return _shared_table(
        PART_TABLE,
        uploads,
        Column("upload_id", Uuid, primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("size", BigInteger, nullable=False),
        Column("etag", String(255), nullable=False),
        Column("checksum", String(255)),
    )


def _shared_table(name: str, uploads: Table, *items: SchemaItem) -> Table:
    """The table of this name; the first call defines it."""
    metadata, schema = uploads.metadata, uploads.schema
    known = metadata.tables.get(name if schema is None else f"{schema}.{name}")
    if known is not None:
        return known
    return Table(name, metadata, *items, schema=schema)
