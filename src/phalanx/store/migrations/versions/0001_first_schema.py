"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from phalanx.store.base import TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "access_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("secret", TEXT, nullable=False),
        sa.Column("user_name", TEXT, nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_keys")),
    )
    with op.batch_alter_table("access_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_keys_user_name"), ["user_name"], unique=False)

    op.create_table(
        "inline_policies",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "owner", "name", name=op.f("pk_inline_policies")),
    )
    op.create_table(
        "managed_policies",
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("default_version", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("last_version", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("updated", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("arn", name=op.f("pk_managed_policies")),
        sa.UniqueConstraint("id", name=op.f("uq_managed_policies_id")),
        sa.UniqueConstraint("name", name=op.f("uq_managed_policies_name")),
    )
    op.create_table(
        "policy_attachments",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "owner", "policy", name=op.f("pk_policy_attachments")),
    )
    with op.batch_alter_table("policy_attachments", schema=None) as batch_op:
        batch_op.create_index("ix_policy_attachments_policy", ["policy"], unique=False)

    op.create_table(
        "roles",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("trust", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("longest", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_roles")),
        sa.UniqueConstraint("id", name=op.f("uq_roles_id")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("secret", TEXT, nullable=False),
        sa.Column("token", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("owner_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("policies", sa.JSON(), nullable=True),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("expires", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_expires"), ["expires"], unique=False)

    op.create_table(
        "users",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
        sa.UniqueConstraint("id", name=op.f("uq_users_id")),
    )
    op.create_table(
        "policy_versions",
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("document", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["arn"], ["managed_policies.arn"], name=op.f("fk_policy_versions_arn_managed_policies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("arn", "number", name=op.f("pk_policy_versions")),
    )
    op.create_table(
        "client_tokens",
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("token", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("response", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("operation", "token", name=op.f("pk_client_tokens")),
    )
    with op.batch_alter_table("client_tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_client_tokens_created"), ["created"], unique=False)

    op.create_table(
        "dhcp_options",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("configurations", sa.JSON(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dhcp_options")),
    )
    op.create_table(
        "elastic_addresses",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_elastic_addresses")),
        sa.UniqueConstraint("address", name=op.f("uq_elastic_addresses_address")),
    )
    op.create_table(
        "keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("data_key", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deletion", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("arn", name=op.f("uq_keys_arn")),
    )
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.create_index("ix_keys_created", ["created", "id"], unique=False)

    op.create_table(
        "key_aliases",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["keys.id"], name=op.f("fk_key_aliases_key_keys")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_key_aliases")),
        sa.UniqueConstraint("arn", name=op.f("uq_key_aliases_arn")),
    )
    with op.batch_alter_table("key_aliases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_key_aliases_key"), ["key"], unique=False)

    op.create_table(
        "nat_gateways",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=False),
        sa.Column("subnet_id", TEXT, nullable=False),
        sa.Column("connectivity", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("interface_id", TEXT, nullable=False),
        sa.Column("private_address", TEXT, nullable=False),
        sa.Column("allocation_id", TEXT, nullable=True),
        sa.Column("public_address", TEXT, nullable=True),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deleted", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nat_gateways")),
    )
    with op.batch_alter_table("nat_gateways", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_nat_gateways_vpc_id"), ["vpc_id"], unique=False)

    op.create_table(
        "prefix_lists",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("family", TEXT, nullable=False),
        sa.Column("max_entries", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prefix_lists")),
    )
    op.create_table(
        "resource_tags",
        sa.Column("resource_id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "key", name=op.f("pk_resource_tags")),
    )
    op.create_table(
        "tags",
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("arn", "key", name=op.f("pk_tags")),
    )
    op.create_table(
        "training_jobs",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("secondary_status", TEXT, nullable=False),
        sa.Column("failure_reason", TEXT, nullable=True),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("stage", TEXT, nullable=False),
        sa.Column("outcome", sa.JSON(), nullable=True),
        sa.Column("retries", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("modified", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("training_started", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("training_ended", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("idle", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("idle_since", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("interrupt", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("away_until", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("warm_pool", TEXT, nullable=True),
        sa.Column("warm_since", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("warm_ended", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("warm_from", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("warm_reused_by", TEXT, nullable=True),
        sa.Column("instances", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("encrypted", sa.Boolean(), nullable=False),
        sa.Column("caller", TEXT, nullable=False),
        sa.Column("tuning_job_arn", TEXT, nullable=True),
        sa.Column("plan", sa.JSON(), nullable=True),
        sa.Column("model_uri", TEXT, nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=True),
        sa.Column("attempts", sa.JSON(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_training_jobs")),
        sa.UniqueConstraint("arn", name=op.f("uq_training_jobs_arn")),
    )
    with op.batch_alter_table("training_jobs", schema=None) as batch_op:
        batch_op.create_index("ix_training_jobs_created", ["created", "name"], unique=False)
        batch_op.create_index("ix_training_jobs_status", ["status", "created"], unique=False)
        batch_op.create_index("ix_training_jobs_warm_pool", ["warm_pool"], unique=False)

    op.create_table(
        "log_streams",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("job", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("events", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("first_event", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("last_event", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("last_ingestion", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(
            ["job"], ["training_jobs.name"], name=op.f("fk_log_streams_job_training_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_log_streams")),
    )
    with op.batch_alter_table("log_streams", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_log_streams_job"), ["job"], unique=False)

    op.create_table(
        "prefix_list_entries",
        sa.Column("prefix_list_id", TEXT, nullable=False),
        sa.Column("cidr", TEXT, nullable=False),
        sa.Column("since", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("until", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("description", TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["prefix_list_id"],
            ["prefix_lists.id"],
            name=op.f("fk_prefix_list_entries_prefix_list_id_prefix_lists"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("prefix_list_id", "cidr", "since", name=op.f("pk_prefix_list_entries")),
    )
    op.create_table(
        "transitions",
        sa.Column("job", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("started", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ended", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(
            ["job"], ["training_jobs.name"], name=op.f("fk_transitions_job_training_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "number", name=op.f("pk_transitions")),
    )
    op.create_table(
        "vpcs",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("cidr", TEXT, nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("dhcp_options_id", TEXT, nullable=True),
        sa.Column("dns_support", sa.Boolean(), nullable=False),
        sa.Column("dns_hostnames", sa.Boolean(), nullable=False),
        sa.Column("usage_metrics", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["dhcp_options_id"], ["dhcp_options.id"], name=op.f("fk_vpcs_dhcp_options_id_dhcp_options")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vpcs")),
    )
    op.create_table(
        "internet_gateways",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=True),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_internet_gateways_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_internet_gateways")),
        sa.UniqueConstraint("vpc_id", name=op.f("uq_internet_gateways_vpc_id")),
    )
    op.create_table(
        "log_events",
        sa.Column("stream", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("timestamp", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ingested", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["stream"], ["log_streams.name"], name=op.f("fk_log_events_stream_log_streams"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("stream", "number", name=op.f("pk_log_events")),
    )
    op.create_table(
        "network_acls",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_network_acls_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_acls")),
        sa.UniqueConstraint("vpc_id", name=op.f("uq_network_acls_vpc_id")),
    )
    op.create_table(
        "route_tables",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_route_tables_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_tables")),
    )
    with op.batch_alter_table("route_tables", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_route_tables_vpc_id"), ["vpc_id"], unique=False)

    op.create_table(
        "security_groups",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_security_groups_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_groups")),
        sa.UniqueConstraint("vpc_id", "name", name=op.f("uq_security_groups_vpc_id")),
    )
    op.create_table(
        "subnets",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=False),
        sa.Column("cidr", TEXT, nullable=False),
        sa.Column("zone", TEXT, nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("map_public", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_subnets_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subnets")),
    )
    with op.batch_alter_table("subnets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_subnets_vpc_id"), ["vpc_id"], unique=False)

    op.create_table(
        "vpc_endpoints",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("service", TEXT, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("private_dns", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_vpc_endpoints_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vpc_endpoints")),
    )
    with op.batch_alter_table("vpc_endpoints", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_vpc_endpoints_vpc_id"), ["vpc_id"], unique=False)

    op.create_table(
        "network_interfaces",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("subnet_id", TEXT, nullable=False),
        sa.Column("vpc_id", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("job", TEXT, nullable=True),
        sa.Column("host", TEXT, nullable=True),
        sa.Column("owner", TEXT, nullable=True),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.CheckConstraint("(job IS NULL) <> (owner IS NULL)", name="ck_network_interfaces_owner"),
        sa.CheckConstraint("(job IS NULL) = (host IS NULL)", name="ck_network_interfaces_host"),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"], name=op.f("fk_network_interfaces_subnet_id_subnets")),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_network_interfaces_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_interfaces")),
        sa.UniqueConstraint("job", "host", name=op.f("uq_network_interfaces_job")),
        sa.UniqueConstraint("subnet_id", "address", name=op.f("uq_network_interfaces_subnet_id")),
    )
    with op.batch_alter_table("network_interfaces", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_network_interfaces_owner"), ["owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_network_interfaces_vpc_id"), ["vpc_id"], unique=False)

    op.create_table(
        "route_table_associations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("route_table_id", TEXT, nullable=False),
        sa.Column("subnet_id", TEXT, nullable=True),
        sa.Column("vpc_id", TEXT, nullable=True),
        sa.CheckConstraint("(subnet_id IS NULL) <> (vpc_id IS NULL)", name="ck_route_table_associations_of"),
        sa.ForeignKeyConstraint(
            ["route_table_id"], ["route_tables.id"], name=op.f("fk_route_table_associations_route_table_id_route_tables")
        ),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"], name=op.f("fk_route_table_associations_subnet_id_subnets")),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpcs.id"], name=op.f("fk_route_table_associations_vpc_id_vpcs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_table_associations")),
        sa.UniqueConstraint("subnet_id", name=op.f("uq_route_table_associations_subnet_id")),
        sa.UniqueConstraint("vpc_id", name=op.f("uq_route_table_associations_vpc_id")),
    )
    with op.batch_alter_table("route_table_associations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_route_table_associations_route_table_id"), ["route_table_id"], unique=False)

    op.create_table(
        "routes",
        sa.Column("route_table_id", TEXT, nullable=False),
        sa.Column("destination", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["route_table_id"], ["route_tables.id"], name=op.f("fk_routes_route_table_id_route_tables"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("route_table_id", "destination", name=op.f("pk_routes")),
    )
    op.create_table(
        "security_group_rules",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("group_id", TEXT, nullable=False),
        sa.Column("direction", TEXT, nullable=False),
        sa.Column("protocol", TEXT, nullable=False),
        sa.Column("from_port", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("to_port", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("cidr", TEXT, nullable=True),
        sa.Column("peer_group", TEXT, nullable=True),
        sa.Column("prefix_list", TEXT, nullable=True),
        sa.Column("description", TEXT, nullable=True),
        sa.CheckConstraint("direction IN ('ingress', 'egress')", name="ck_security_group_rules_direction"),
        sa.CheckConstraint(
            "(cidr IS NULL) <> (coalesce(peer_group, prefix_list) IS NULL)", name="ck_security_group_rules_peer"
        ),
        sa.CheckConstraint("peer_group IS NULL OR prefix_list IS NULL", name="ck_security_group_rules_one_peer"),
        sa.ForeignKeyConstraint(
            ["group_id"], ["security_groups.id"], name=op.f("fk_security_group_rules_group_id_security_groups")
        ),
        sa.ForeignKeyConstraint(
            ["peer_group"], ["security_groups.id"], name=op.f("fk_security_group_rules_peer_group_security_groups")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_security_group_rules")),
        sa.UniqueConstraint("id", name=op.f("uq_security_group_rules_id")),
    )
    with op.batch_alter_table("security_group_rules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_security_group_rules_group_id"), ["group_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_security_group_rules_peer_group"), ["peer_group"], unique=False)
        batch_op.create_index(batch_op.f("ix_security_group_rules_prefix_list"), ["prefix_list"], unique=False)

    op.create_table(
        "vpc_endpoint_groups",
        sa.Column("endpoint_id", TEXT, nullable=False),
        sa.Column("group_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["vpc_endpoints.id"],
            name=op.f("fk_vpc_endpoint_groups_endpoint_id_vpc_endpoints"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["security_groups.id"], name=op.f("fk_vpc_endpoint_groups_group_id_security_groups")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "group_id", name=op.f("pk_vpc_endpoint_groups")),
    )
    with op.batch_alter_table("vpc_endpoint_groups", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_vpc_endpoint_groups_group_id"), ["group_id"], unique=False)

    op.create_table(
        "vpc_endpoint_route_tables",
        sa.Column("endpoint_id", TEXT, nullable=False),
        sa.Column("route_table_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["vpc_endpoints.id"],
            name=op.f("fk_vpc_endpoint_route_tables_endpoint_id_vpc_endpoints"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["route_table_id"], ["route_tables.id"], name=op.f("fk_vpc_endpoint_route_tables_route_table_id_route_tables")
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "route_table_id", name=op.f("pk_vpc_endpoint_route_tables")),
    )
    with op.batch_alter_table("vpc_endpoint_route_tables", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_vpc_endpoint_route_tables_route_table_id"), ["route_table_id"], unique=False)

    op.create_table(
        "network_interface_groups",
        sa.Column("interface_id", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("group_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["security_groups.id"], name=op.f("fk_network_interface_groups_group_id_security_groups")
        ),
        sa.ForeignKeyConstraint(
            ["interface_id"],
            ["network_interfaces.id"],
            name=op.f("fk_network_interface_groups_interface_id_network_interfaces"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("interface_id", "position", name=op.f("pk_network_interface_groups")),
    )
    with op.batch_alter_table("network_interface_groups", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_network_interface_groups_group_id"), ["group_id"], unique=False)

    op.create_table(
        "algorithms",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_algorithms")),
        sa.UniqueConstraint("arn", name=op.f("uq_algorithms_arn")),
    )
    with op.batch_alter_table("algorithms", schema=None) as batch_op:
        batch_op.create_index("ix_algorithms_created", ["created", "name"], unique=False)

    op.create_table(
        "experiments",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_by", sa.JSON(), nullable=False),
        sa.Column("modified", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("modified_by", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_experiments")),
        sa.UniqueConstraint("arn", name=op.f("uq_experiments_arn")),
    )
    with op.batch_alter_table("experiments", schema=None) as batch_op:
        batch_op.create_index("ix_experiments_created", ["created", "name"], unique=False)

    op.create_table(
        "trial_components",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=True),
        sa.Column("run", TEXT, nullable=True),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_by", sa.JSON(), nullable=False),
        sa.Column("modified", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("modified_by", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trial_components")),
        sa.UniqueConstraint("arn", name=op.f("uq_trial_components_arn")),
    )
    with op.batch_alter_table("trial_components", schema=None) as batch_op:
        batch_op.create_index("ix_trial_components_created", ["created", "name"], unique=False)
        batch_op.create_index(batch_op.f("ix_trial_components_source"), ["source"], unique=False)

    op.create_table(
        "metric_series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["training_jobs.name"], name=op.f("fk_metric_series_job_training_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_series")),
        sa.UniqueConstraint("job", "host", "name", name="uq_metric_series_job"),
    )
    op.create_table(
        "trials",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("experiment", TEXT, nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_by", sa.JSON(), nullable=False),
        sa.Column("modified", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("modified_by", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["experiment"], ["experiments.name"], name=op.f("fk_trials_experiment_experiments")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trials")),
        sa.UniqueConstraint("arn", name=op.f("uq_trials_arn")),
    )
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.create_index("ix_trials_created", ["created", "name"], unique=False)
        batch_op.create_index(batch_op.f("ix_trials_experiment"), ["experiment"], unique=False)

    op.create_table(
        "metric_points",
        sa.Column("series", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("count", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("squares", sa.Double(), nullable=False),
        sa.Column("least", sa.Double(), nullable=False),
        sa.Column("most", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series"], ["metric_series.id"], name=op.f("fk_metric_points_series_metric_series"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series", "at", name=op.f("pk_metric_points")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trial_members",
        sa.Column("trial", TEXT, nullable=False),
        sa.Column("component", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["component"], ["trial_components.name"], name=op.f("fk_trial_members_component_trial_components")
        ),
        sa.ForeignKeyConstraint(["trial"], ["trials.name"], name=op.f("fk_trial_members_trial_trials")),
        sa.PrimaryKeyConstraint("trial", "component", name=op.f("pk_trial_members")),
    )
    with op.batch_alter_table("trial_members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trial_members_component"), ["component"], unique=False)

    op.create_table(
        "tuning_jobs",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arn", TEXT, nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("caller", TEXT, nullable=False),
        sa.Column("seed", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("warm", sa.JSON(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("failure_reason", TEXT, nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=True),
        sa.Column("converged", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("created", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("modified", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ended", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tuning_jobs")),
        sa.UniqueConstraint("arn", name=op.f("uq_tuning_jobs_arn")),
    )
    with op.batch_alter_table("tuning_jobs", schema=None) as batch_op:
        batch_op.create_index("ix_tuning_jobs_created", ["created", "name"], unique=False)
        batch_op.create_index("ix_tuning_jobs_status", ["status", "created"], unique=False)

    op.create_table(
        "tuning_children",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("tuning", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("definition", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("launched", sa.Boolean(), nullable=False),
        sa.Column("counted", TEXT, nullable=False),
        sa.Column("objective", sa.Double(), nullable=True),
        sa.Column("objective_status", TEXT, nullable=False),
        sa.Column("failure_reason", TEXT, nullable=True),
        sa.Column("settled", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(
            ["tuning"], ["tuning_jobs.name"], name=op.f("fk_tuning_children_tuning_tuning_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tuning_children")),
        sa.UniqueConstraint("tuning", "number", name=op.f("uq_tuning_children_tuning")),
    )
    op.create_table(
        "objective_values",
        sa.Column("job", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("timestamp", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["training_jobs.name"], name=op.f("fk_objective_values_job_training_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "host", "number", name=op.f("pk_objective_values")),
    )
    op.create_table(
        "leader",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("term", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("place", TEXT, nullable=False),
        sa.Column("sessions", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leader")),
    )
    op.create_table(
        "documents",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("content", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_documents")),
    )
    op.create_table(
        "used_signatures",
        sa.Column("signature", TEXT, nullable=False),
        sa.Column("used", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("signature", name=op.f("pk_used_signatures")),
    )
    with op.batch_alter_table("used_signatures", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_used_signatures_used"), ["used"], unique=False)


def downgrade() -> None:
    """Not supported: go back by restoring a backup."""
    raise NotImplementedError
