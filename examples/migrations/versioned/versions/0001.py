"""Uploads: the table of the default model, ``chunked_upload``."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make it, with its checks and indexes."""
    op.create_table(
        "chunked_upload",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("blueprint", sa.String(255), nullable=False),
        sa.Column("user", sa.String(255)),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("last_start", sa.BigInteger()),
        sa.Column("last_digest", sa.String(64)),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("last_activity_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime()),
        sa.Column("storage_key", sa.String(512)),
        sa.Column("dialect", sa.String(32), nullable=False),
        sa.Column("partial", sa.Boolean(), nullable=False),
        sa.Column("concat", sa.Text()),
        sa.Column("raw_metadata", sa.Text()),
        sa.Column("content_type", sa.String(255)),
        sa.Column("hash_name", sa.String(32)),
        sa.Column("hash_state", sa.LargeBinary()),
        sa.Column("digest", sa.String(255)),
        sa.Column("event_id", sa.Uuid()),
        sa.Column("delivered_at", sa.DateTime()),
        sa.Column("delivery_started_at", sa.DateTime()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("storage_state", sa.JSON()),
        sa.Column("reserved", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "status IN ('uploading', 'completing', 'complete', 'terminating', "
            "'expired')",
            name="chunked_upload_status",
        ),
        sa.CheckConstraint('"offset" >= 0', name="chunked_upload_offset_ge_0"),
        sa.CheckConstraint(
            'length IS NULL OR "offset" <= length',
            name="chunked_upload_offset_le_length",
        ),
    )
    op.create_index(
        "ix_chunked_upload_listing",
        "chunked_upload",
        ["blueprint", "status", "created_at", "id"],
    )
    op.create_index(
        "ix_chunked_upload_activity", "chunked_upload", ["status", "last_activity_at"]
    )


def downgrade() -> None:
    """Drop it; the files stay where they are."""
    op.drop_table("chunked_upload")
