"""What is watched of the images that encoders embed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table of its own; encoders of before are watched from now on."""
    op.create_table(
        "drifts",
        sa.Column("encoder_id", sa.Text(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("detector_log_days", sa.Double(), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("alarm_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("encoder_id", name=op.f("pk_drifts")),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoders.id"], ondelete="CASCADE", name=op.f("fk_drifts_encoder_id")
        ),
    )


def downgrade() -> None:
    """Take the table away."""
    op.drop_table("drifts")
