"""Generators stand beside encoders: which of the two a row is, and the encoder that a job needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Whatever is registered so far is an encoder."""
    with op.batch_alter_table("encoders") as table:
        table.add_column(sa.Column("kind", sa.Text(), nullable=False, server_default="encoder"))
        table.drop_index(op.f("ix_encoders_created_at_id"))
        table.create_index(op.f("ix_encoders_kind_created_at_id"), ["kind", "created_at", "id"])
    with op.batch_alter_table("encoders") as table:
        table.alter_column("kind", existing_type=sa.Text(), server_default=None)
        table.create_check_constraint("kind", "kind IN ('encoder', 'generator')")
    op.add_column("jobs", sa.Column("source", sa.Text(), nullable=True))
    op.create_index(op.f("ix_jobs_source_state"), "jobs", ["source", "state"])


def downgrade() -> None:
    """There is no way back; restore a copy of the database."""
    raise NotImplementedError
