"""VPCs and what is in them: subnets, security groups, interfaces, routes, gateways, endpoints; and the tags on all of it."""

from __future__ import annotations

import secrets
from typing import ClassVar

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from phalanx.store.base import Base, Json, now_ms


def new_id(prefix: str) -> str:
    """A resource id as EC2 forms it: `prefix`, a dash and 17 hexadecimal digits, the first of them 0."""
    return f"{prefix}-0{secrets.token_hex(8)}"


class Resource(Base):
    """A resource of EC2's with an id of its own."""

    __abstract__ = True
    prefix: ClassVar[str]
    """How its ids begin."""
    type_name: ClassVar[str]
    """Its type as tags and ARNs have it; empty for what has neither."""

    @declared_attr
    def id(cls) -> Mapped[str]:
        """Its id."""
        return mapped_column(primary_key=True, default=lambda: new_id(cls.prefix))


class DhcpOptions(Resource):
    """A set of DHCP options: by name, the values. `is_default` marks the one that new VPCs get."""

    __tablename__ = "dhcp_options"
    prefix, type_name = "dopt", "dhcp-options"

    configurations: Mapped[Json]
    is_default: Mapped[bool] = mapped_column(default=False)
    created: Mapped[int] = mapped_column(default=now_ms)


class Vpc(Resource):
    """A VPC. `state` is EC2's; without a set of DHCP options it has none."""

    __tablename__ = "vpcs"
    prefix, type_name = "vpc", "vpc"

    cidr: Mapped[str]
    is_default: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(default="available")
    dhcp_options_id: Mapped[str | None] = mapped_column(ForeignKey("dhcp_options.id"))
    dns_support: Mapped[bool] = mapped_column(default=True)
    dns_hostnames: Mapped[bool] = mapped_column(default=False)
    usage_metrics: Mapped[bool] = mapped_column(default=False)
    created: Mapped[int] = mapped_column(default=now_ms)


class Subnet(Resource):
    """A subnet: a block of a VPC's addresses in one availability zone."""

    __tablename__ = "subnets"
    prefix, type_name = "subnet", "subnet"

    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"), index=True)
    cidr: Mapped[str]
    zone: Mapped[str]
    """Name of the availability zone."""
    is_default: Mapped[bool] = mapped_column(default=False)
    map_public: Mapped[bool] = mapped_column(default=False)
    """Whether interfaces are to get a public address: EC2's MapPublicIpOnLaunch."""
    acl_id: Mapped[str | None]
    """Id of the network ACL that it was given; null for its VPC's default one."""
    acl_association: Mapped[str | None]
    """Id of what associates the two, from when it was given one."""
    created: Mapped[int] = mapped_column(default=now_ms)


class SecurityGroup(Resource):
    """A security group. `is_default` marks the one that came with its VPC."""

    __tablename__ = "security_groups"
    prefix, type_name = "sg", "security-group"
    __table_args__ = (UniqueConstraint("vpc_id", "name"),)

    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"))
    name: Mapped[str]
    description: Mapped[str]
    is_default: Mapped[bool] = mapped_column(default=False)
    created: Mapped[int] = mapped_column(default=now_ms)


class SecurityGroupRule(Resource):
    """One rule of a security group, with exactly one peer: `cidr` (IPv4 or IPv6), `peer_group` or `prefix_list`.

    `direction` is ingress or egress. `protocol` is an IP protocol number as text, or -1 for all. The ports are set for
    protocols 6 and 17 only, and for 1 and 58, where they hold ICMP type and code (-1: any).
    """

    __tablename__ = "security_group_rules"
    prefix, type_name = "sgr", "security-group-rule"
    __table_args__ = (
        CheckConstraint("(cidr IS NULL) <> (coalesce(peer_group, prefix_list) IS NULL)", name="ck_security_group_rules_peer"),
        CheckConstraint("peer_group IS NULL OR prefix_list IS NULL", name="ck_security_group_rules_one_peer"),
        CheckConstraint("direction IN ('ingress', 'egress')", name="ck_security_group_rules_direction"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    """Orders the rules of a group by the time they were added."""
    id: Mapped[str] = mapped_column(unique=True, default=lambda: new_id(SecurityGroupRule.prefix))
    group_id: Mapped[str] = mapped_column(ForeignKey("security_groups.id"), index=True)
    direction: Mapped[str]
    protocol: Mapped[str]
    from_port: Mapped[int | None]
    to_port: Mapped[int | None]
    cidr: Mapped[str | None]
    peer_group: Mapped[str | None] = mapped_column(ForeignKey("security_groups.id"), index=True)
    prefix_list: Mapped[str | None] = mapped_column(index=True)
    """Id of a managed prefix list; those that AWS manages have no row, so this is no foreign key."""
    description: Mapped[str | None]


class PrefixList(Resource):
    """A managed prefix list. `family` is IPv4 or IPv6; `version` counts the changes of its entries, from 1."""

    __tablename__ = "prefix_lists"
    prefix, type_name = "pl", "prefix-list"

    name: Mapped[str]
    family: Mapped[str]
    max_entries: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(default="create-complete")
    created: Mapped[int] = mapped_column(default=now_ms)


class PrefixListEntry(Base):
    """A block in a managed prefix list: in its versions from `since` up to but not `until` (NULL: in the newest)."""

    __tablename__ = "prefix_list_entries"

    prefix_list_id: Mapped[str] = mapped_column(ForeignKey("prefix_lists.id", ondelete="CASCADE"), primary_key=True)
    cidr: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[int] = mapped_column(primary_key=True)
    until: Mapped[int | None]
    description: Mapped[str | None]


class NetworkInterface(Resource):
    """A network interface (ENI): of one instance of a job, or of the gateway or endpoint `owner`.

    `host` is the instance's name in the job (algo-1 …).
    """

    __tablename__ = "network_interfaces"
    prefix, type_name = "eni", "network-interface"
    __table_args__ = (
        UniqueConstraint("subnet_id", "address"),
        UniqueConstraint("job", "host"),
        CheckConstraint("(job IS NULL) <> (owner IS NULL)", name="ck_network_interfaces_owner"),
        CheckConstraint("(job IS NULL) = (host IS NULL)", name="ck_network_interfaces_host"),
    )

    subnet_id: Mapped[str] = mapped_column(ForeignKey("subnets.id"))
    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"), index=True)
    address: Mapped[str]
    description: Mapped[str]
    status: Mapped[str] = mapped_column(default="in-use")
    job: Mapped[str | None]
    host: Mapped[str | None]
    owner: Mapped[str | None] = mapped_column(index=True)
    """Id of the NAT gateway or VPC endpoint."""
    created: Mapped[int] = mapped_column(default=now_ms)
    memberships: Mapped[list[NetworkInterfaceGroup]] = relationship(
        order_by="NetworkInterfaceGroup.position", cascade="all, delete-orphan", lazy="selectin"
    )

    @property
    def groups(self) -> tuple[str, ...]:
        """Ids of its security groups, in the order they were given."""
        return tuple(membership.group_id for membership in self.memberships)


class NetworkInterfaceGroup(Base):
    """A network interface's membership in a security group."""

    __tablename__ = "network_interface_groups"

    interface_id: Mapped[str] = mapped_column(ForeignKey("network_interfaces.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("security_groups.id"), index=True)


class NetworkAcl(Resource):
    """A network ACL. `is_default` marks the one that came with its VPC, which subnets have that were given no other.

    `entries` are the model's NetworkAclEntry by direction and number, such as `egress-100`, but for the last, which denies all.
    """

    __tablename__ = "network_acls"
    prefix, type_name = "acl", "network-acl"

    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"), index=True)
    is_default: Mapped[bool] = mapped_column(default=False)
    entries: Mapped[Json]


class RouteTable(Resource):
    """A route table. Its local route, and those of its gateway endpoints, are not stored: they follow from the VPC's."""

    __tablename__ = "route_tables"
    prefix, type_name = "rtb", "route-table"

    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"), index=True)
    created: Mapped[int] = mapped_column(default=now_ms)


class RouteTableAssociation(Resource):
    """What a route table applies to: one subnet, or, as the main table of `vpc_id`, every subnet that has no other."""

    __tablename__ = "route_table_associations"
    prefix, type_name = "rtbassoc", ""
    __table_args__ = (CheckConstraint("(subnet_id IS NULL) <> (vpc_id IS NULL)", name="ck_route_table_associations_of"),)

    route_table_id: Mapped[str] = mapped_column(ForeignKey("route_tables.id"), index=True)
    subnet_id: Mapped[str | None] = mapped_column(ForeignKey("subnets.id"), unique=True)
    vpc_id: Mapped[str | None] = mapped_column(ForeignKey("vpcs.id"), unique=True)


class Route(Base):
    """A route: from `destination` (IPv4 or IPv6 block, or id of a prefix list) to `target`, the id of a gateway or interface.

    The target may be gone: the route stays, as a blackhole.
    """

    __tablename__ = "routes"

    route_table_id: Mapped[str] = mapped_column(ForeignKey("route_tables.id", ondelete="CASCADE"), primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str]


class InternetGateway(Resource):
    """An internet gateway, attached to at most one VPC."""

    __tablename__ = "internet_gateways"
    prefix, type_name = "igw", "internet-gateway"

    vpc_id: Mapped[str | None] = mapped_column(ForeignKey("vpcs.id"), unique=True)
    created: Mapped[int] = mapped_column(default=now_ms)


class ElasticAddress(Resource):
    """An allocated elastic address."""

    __tablename__ = "elastic_addresses"
    prefix, type_name = "eipalloc", "elastic-ip"

    address: Mapped[str] = mapped_column(unique=True)
    created: Mapped[int] = mapped_column(default=now_ms)


class NatGateway(Resource):
    """A NAT gateway. A deleted one is still shown for a while, when all that it refers to may be gone: it has no foreign keys.

    `connectivity` is public (with an elastic address) or private; `state` is available or deleted.
    """

    __tablename__ = "nat_gateways"
    prefix, type_name = "nat", "natgateway"

    vpc_id: Mapped[str] = mapped_column(index=True)
    subnet_id: Mapped[str]
    connectivity: Mapped[str]
    state: Mapped[str] = mapped_column(default="available")
    interface_id: Mapped[str]
    private_address: Mapped[str]
    allocation_id: Mapped[str | None]
    public_address: Mapped[str | None]
    created: Mapped[int] = mapped_column(default=now_ms)
    deleted: Mapped[int | None]

    @property
    def association_id(self) -> str:
        """Id of the association between a public one and its elastic address."""
        return "eipassoc-" + self.id.removeprefix("nat-")


class VpcEndpoint(Resource):
    """A VPC endpoint. `kind` is Gateway (with route tables) or Interface (with interfaces, one a subnet, and groups)."""

    __tablename__ = "vpc_endpoints"
    prefix, type_name = "vpce", "vpc-endpoint"

    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"), index=True)
    kind: Mapped[str]
    service: Mapped[str]
    policy: Mapped[str]
    private_dns: Mapped[bool] = mapped_column(default=False)
    created: Mapped[int] = mapped_column(default=now_ms)


class VpcEndpointRouteTable(Base):
    """A route table that leads to a gateway endpoint."""

    __tablename__ = "vpc_endpoint_route_tables"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("vpc_endpoints.id", ondelete="CASCADE"), primary_key=True)
    route_table_id: Mapped[str] = mapped_column(ForeignKey("route_tables.id"), primary_key=True, index=True)


class VpcEndpointGroup(Base):
    """A security group of an interface endpoint."""

    __tablename__ = "vpc_endpoint_groups"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("vpc_endpoints.id", ondelete="CASCADE"), primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("security_groups.id"), primary_key=True, index=True)


class ClientToken(Base):
    """A request that was made with an idempotency token, and what was answered (JSON)."""

    __tablename__ = "client_tokens"

    operation: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    response: Mapped[str]
    created: Mapped[int] = mapped_column(default=now_ms, index=True)


class ResourceTag(Base):
    """A tag of an EC2 resource, by the resource's id."""

    __tablename__ = "resource_tags"

    resource_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


BY_PREFIX: dict[str, type[Resource]] = {table.prefix: table for table in Resource.__subclasses__() if table.type_name}
"""The tables of resources that have a type, by how their ids begin."""
