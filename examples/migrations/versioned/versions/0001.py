"""Uploads: the table of the default model, and the two tables that each model needs.

``chunked_upload``, ``chunked_upload_member`` and ``chunked_upload_removal``.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them, with their checks and indexes."""
    create_uploads()
    create_members()
    create_removals()


def create_uploads() -> None:
    """One row for each upload."""
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
        sa.Column("verify_started_at", sa.DateTime()),
        sa.Column("expected_digest", sa.String(255)),
        sa.Column("attached_at", sa.DateTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "status IN ('uploading', 'completing', 'complete', 'expired')",
            name="chunked_upload_status",
        ),
        sa.CheckConstraint('"offset" >= 0', name="chunked_upload_offset_ge_0"),
        sa.CheckConstraint(
            'length IS NULL OR "offset" <= length',
            name="chunked_upload_offset_le_length",
        ),
    )
    op.create_index(
        "ix_chunked_upload_owner",
        "chunked_upload",
        ["blueprint", "user", "status", "partial", "created_at", "id"],
    )
    op.create_index(
        "ix_chunked_upload_activity", "chunked_upload", ["status", "last_activity_at"]
    )


def create_members() -> None:
    """The partial uploads that a final upload is made of."""
    op.create_table(
        "chunked_upload_member",
        sa.Column("final_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("partial_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("final_id", "position"),
    )
    op.create_index(
        "ix_chunked_upload_member_partial_id", "chunked_upload_member", ["partial_id"]
    )


def create_removals() -> None:
    """Uploads whose row is gone and whose bytes are not yet."""
    op.create_table(
        "chunked_upload_removal",
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        sa.Column("blueprint", sa.String(255), nullable=False),
        sa.Column("storage_key", sa.String(512), nullable=False),
        sa.Column("storage_state", sa.JSON()),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.JSON()),
        sa.Column("removed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("upload_id"),
    )


def downgrade() -> None:
    """Drop them; the files stay where they are."""
    op.drop_table("chunked_upload_removal")
    op.drop_table("chunked_upload_member")
    op.drop_table("chunked_upload")
