"""What a run logs is kept value by value, beside what it sums up to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from phalanx.store.base import TEXT

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "logged_values",
        sa.Column("component", TEXT, nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("number", number, nullable=False, autoincrement=False),
        sa.Column("step", number, nullable=True),
        sa.Column("at", number, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["component"], ["trial_components.name"], name="fk_logged_values_component_trial_components", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("component", "metric", "number", name="pk_logged_values"),
        sqlite_with_rowid=False,
    )
