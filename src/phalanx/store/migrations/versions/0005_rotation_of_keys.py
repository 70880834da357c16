"""Keys are rotated: by themselves or when asked to, and what they were before goes on opening what it encrypted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from phalanx.store.base import TEXT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("keys", sa.Column("rotation_days", number, nullable=True))
    op.add_column("keys", sa.Column("rotates", number, nullable=True))
    op.create_table(
        "key_rotations",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("number", number, nullable=False),
        sa.Column("rotated", number, nullable=False),
        sa.Column("on_demand", sa.Boolean(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("data_key", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["keys.id"], name="fk_key_rotations_key_keys"),
        sa.PrimaryKeyConstraint("key", "number", name="pk_key_rotations"),
    )
