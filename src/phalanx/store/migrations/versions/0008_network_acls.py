"""Network ACLs are made and changed, and subnets have the one that they were given."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from phalanx.store.base import TEXT

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# What every ACL has allowed until now: everything.
_OPEN = {
    f"{direction}-100": {
        "RuleNumber": 100,
        "Protocol": "-1",
        "RuleAction": "allow",
        "Egress": direction == "egress",
        "CidrBlock": "0.0.0.0/0",
    }
    for direction in ("egress", "ingress")
}


def upgrade() -> None:
    """Forward."""
    with op.batch_alter_table("network_acls") as batch:
        batch.drop_constraint("uq_network_acls_vpc_id", type_="unique")
        batch.add_column(sa.Column("is_default", sa.Boolean(), nullable=True))
        batch.add_column(sa.Column("entries", sa.JSON(none_as_null=True), nullable=True))
    acls = sa.table("network_acls", sa.column("is_default", sa.Boolean()), sa.column("entries", sa.JSON()))
    op.execute(sa.update(acls).values(is_default=True, entries=_OPEN))
    with op.batch_alter_table("network_acls") as batch:
        batch.alter_column("is_default", existing_type=sa.Boolean(), nullable=False)
        batch.alter_column("entries", existing_type=sa.JSON(none_as_null=True), nullable=False)
        batch.create_index("ix_network_acls_vpc_id", ["vpc_id"])
    op.add_column("subnets", sa.Column("acl_id", TEXT, nullable=True))
    op.add_column("subnets", sa.Column("acl_association", TEXT, nullable=True))
