"""The short form of an encoder's report, so that lists need not read the long one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SECTIONS = ("certificate", "clean", "noisy", "probes", "clustering")
BATCH = 200


def upgrade() -> None:
    """Made from the report of every encoder there is; a few at a time, since reports are long."""
    op.add_column("encoders", sa.Column("summary", sa.JSON(none_as_null=True), nullable=True))
    encoders = sa.table(
        "encoders", sa.column("id", sa.Text), sa.column("report", sa.JSON), sa.column("summary", sa.JSON)
    )
    connection, last = op.get_bind(), ""
    while True:
        query = sa.select(encoders.c.id, encoders.c.report).where(encoders.c.id > last)
        rows = connection.execute(query.order_by(encoders.c.id).limit(BATCH)).all()
        for row in rows:
            statement = encoders.update().where(encoders.c.id == row.id)
            connection.execute(statement.values(summary=_summary(row.report)))
        if len(rows) < BATCH:
            break
        last = rows[-1].id
    with op.batch_alter_table("encoders") as table:
        table.alter_column("summary", existing_type=sa.JSON(none_as_null=True), nullable=False)


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in report.items()
        if name not in SECTIONS and not isinstance(value, list | dict)
    }


def downgrade() -> None:
    """There is no way back; restore a copy of the database."""
    raise NotImplementedError
