"""What owners have open and stored, for their limits: ``chunked_upload_quota``."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make it; empty, because owners are counted when they are first met."""
    op.create_table(
        "chunked_upload_quota",
        sa.Column("blueprint", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("uploads", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.BigInteger()),
        sa.PrimaryKeyConstraint("blueprint", "owner"),
    )


def downgrade() -> None:
    """Drop it; ``check --repair`` counts anew should it come back."""
    op.drop_table("chunked_upload_quota")
