"""VPCs and what is in them: subnets, security groups, interfaces, routes, gateways, endpoints; and the tags on all of it."""

from __future__ import annotations

import secrets

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from phalanx.store.base import Base, now_ms


def new_id(prefix: str) -> str:
    """A resource id as EC2 forms it: `prefix`, a dash and 17 hexadecimal digits, the first of them 0."""
    return f"{prefix}-0{secrets.token_hex(8)}"


class Vpc(Base):
    """A VPC. `state` is EC2's."""

    __tablename__ = "vpcs"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("vpc"))
    cidr: Mapped[str]
    is_default: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(default="available")
    created: Mapped[int] = mapped_column(default=now_ms)


class Subnet(Base):
    """A subnet: a block of a VPC's addresses in one availability zone."""

    __tablename__ = "subnets"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("subnet"))
    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"), index=True)
    cidr: Mapped[str]
    zone: Mapped[str]
    """Name of the availability zone."""
    is_default: Mapped[bool] = mapped_column(default=False)
    created: Mapped[int] = mapped_column(default=now_ms)


class SecurityGroup(Base):
    """A security group. `is_default` marks the one that came with its VPC."""

    __tablename__ = "security_groups"
    __table_args__ = (UniqueConstraint("vpc_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("sg"))
    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"))
    name: Mapped[str]
    description: Mapped[str]
    is_default: Mapped[bool] = mapped_column(default=False)
    created: Mapped[int] = mapped_column(default=now_ms)


class SecurityGroupRule(Base):
    """One rule of a security group, with exactly one peer: `cidr` (IPv4 or IPv6), `peer_group` or `prefix_list`.

    `direction` is ingress or egress. `protocol` is an IP protocol number as text, or -1 for all. The ports are set for
    protocols 6 and 17 only, and for 1 and 58, where they hold ICMP type and code (-1: any).
    """

    __tablename__ = "security_group_rules"
    __table_args__ = (
        CheckConstraint("(cidr IS NULL) <> (coalesce(peer_group, prefix_list) IS NULL)", name="ck_security_group_rules_peer"),
        CheckConstraint("peer_group IS NULL OR prefix_list IS NULL", name="ck_security_group_rules_one_peer"),
        CheckConstraint("direction IN ('ingress', 'egress')", name="ck_security_group_rules_direction"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    """Orders the rules of a group by the time they were added."""
    id: Mapped[str] = mapped_column(unique=True, default=lambda: new_id("sgr"))
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


class PrefixList(Base):
    """A managed prefix list. `family` is IPv4 or IPv6; `version` counts the changes of its entries, from 1."""

    __tablename__ = "prefix_lists"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("pl"))
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


class NetworkInterface(Base):
    """A network interface (ENI) of one instance of a job; `host` is the instance's name in the job (algo-1 …)."""

    __tablename__ = "network_interfaces"
    __table_args__ = (UniqueConstraint("subnet_id", "address"), UniqueConstraint("job", "host"))

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("eni"))
    subnet_id: Mapped[str] = mapped_column(ForeignKey("subnets.id"))
    vpc_id: Mapped[str] = mapped_column(ForeignKey("vpcs.id"), index=True)
    address: Mapped[str]
    description: Mapped[str]
    status: Mapped[str] = mapped_column(default="in-use")
    job: Mapped[str]
    host: Mapped[str]
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


class ResourceTag(Base):
    """A tag of an EC2 resource, by the resource's id."""

    __tablename__ = "resource_tags"

    resource_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
