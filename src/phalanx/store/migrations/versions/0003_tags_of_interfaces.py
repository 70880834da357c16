"""Tags of jobs' network interfaces went with these only from here on: those that were left are of nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    tags = sa.table("resource_tags", sa.column("resource_id"))
    interfaces = sa.table("network_interfaces", sa.column("id"))
    op.execute(sa.delete(tags).where(tags.c.resource_id.like("eni-%"), tags.c.resource_id.not_in(sa.select(interfaces.c.id))))
