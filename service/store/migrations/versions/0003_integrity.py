"""Encoders whose files are damaged, and how large checkpoints are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Checkpoints from before have no size; the quota counts them as nothing."""
    op.create_table(
        "damages",
        sa.Column("encoder_id", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("encoder_id", name=op.f("pk_damages")),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], ondelete="CASCADE", name=op.f("fk_damages_encoder_id")
        ),
    )
    op.add_column("jobs", sa.Column("checkpoint_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """There is no way back; restore a copy of the database."""
    raise NotImplementedError
