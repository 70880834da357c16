"""What was left of what was deleted: tags of jobs' network interfaces went with these only from here on, and only from here on
a trial component keeps that its job was deleted (Settled), and follows no other of that name."""

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

    components = sa.table("trial_components", sa.column("name"), sa.column("source"), sa.column("content", sa.JSON()))
    jobs = sa.table("training_jobs", sa.column("arn"))
    connection = op.get_bind()
    there = set(connection.scalars(sa.select(jobs.c.arn)))
    query = sa.select(components).where(components.c.source.is_not(None))
    for name, source, content in connection.execute(query).all():
        # Metrics have the ARN of a job that was deleted, though there be one again under that name.
        if source not in there or any("SourceArn" in each for each in content.get("Metrics", [])):
            settled = {**content, "Settled": True}
            connection.execute(sa.update(components).where(components.c.name == name).values(content=settled))
