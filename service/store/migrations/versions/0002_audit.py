"""The audit log, and who created a job or a dataset."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows from before have no ``created_by``."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at_id"), "audit", ["at", "id"])
    op.create_index(op.f("ix_audit_who_at_id"), "audit", ["who", "at", "id"])
    op.add_column("jobs", sa.Column("created_by", sa.Text(), nullable=True))
    op.create_index(op.f("ix_jobs_created_by_state"), "jobs", ["created_by", "state"])
    op.add_column("datasets", sa.Column("created_by", sa.Text(), nullable=True))
    op.create_index(op.f("ix_datasets_created_by"), "datasets", ["created_by"])


def downgrade() -> None:
    """Take the log and the columns away."""
    op.drop_index(op.f("ix_datasets_created_by"), "datasets")
    op.drop_column("datasets", "created_by")
    op.drop_index(op.f("ix_jobs_created_by_state"), "jobs")
    op.drop_column("jobs", "created_by")
    op.drop_table("audit")
