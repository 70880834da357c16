"""What is kept of deleted jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from phalanx.store.base import TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "deleted_jobs",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("instances", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("encrypted", sa.Boolean(), nullable=False),
        sa.Column("doubt", TEXT, nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.Column("deleted", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("name", "created", name=op.f("pk_deleted_jobs")),
    )
