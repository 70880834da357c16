"""Artifacts, and what is associated with what: the curves and files that a run logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from phalanx.store.base import TEXT

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "artifacts",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=True),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("uri", TEXT, nullable=False),
        sa.Column("source", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("properties", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("metadata_properties", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created", number, nullable=False),
        sa.Column("created_by", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("modified", number, nullable=False),
        sa.Column("modified_by", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_artifacts"),
        sa.UniqueConstraint("arn", name="uq_artifacts_arn"),
    )
    op.create_index("ix_artifacts_created", "artifacts", ["created", "name"])
    op.create_index("ix_artifacts_uri", "artifacts", ["uri"])
    op.create_table(
        "associations",
        sa.Column("source", TEXT, nullable=False),
        sa.Column("destination", TEXT, nullable=False),
        sa.Column("source_type", TEXT, nullable=False),
        sa.Column("destination_type", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=True),
        sa.Column("created", number, nullable=False),
        sa.Column("created_by", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("source", "destination", name="pk_associations"),
    )
    op.create_index("ix_associations_created", "associations", ["created", "source", "destination"])
    op.create_index("ix_associations_destination", "associations", ["destination"])
