"""Keys keep the policy that they were given, aliases when they were given another key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from phalanx.store.base import TEXT

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("keys", sa.Column("policy", TEXT, nullable=True))
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("key_aliases", sa.Column("updated", number, nullable=True))
