"""The network interfaces of jobs: is a VpcConfig usable, which address does each instance get, which rules apply."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from phalanx.network import model
from phalanx.store.network import (
    NetworkInterface,
    NetworkInterfaceGroup,
    PrefixList,
    PrefixListEntry,
    ResourceTag,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)

RESERVED_ADDRESSES = 5
"""Addresses of every subnet that no interface gets: the first four and the last (Amazon VPC user guide, "Subnet sizing")."""


OF_S3 = [f"{model.S3_ADDRESS}/32"]
"""The blocks of AWS's own prefix list, that of S3, which is not stored."""


class InterfaceError(ValueError):
    """A VpcConfig cannot be used; the text is for the user."""


class NoAddress(InterfaceError):
    """The subnets have not enough free addresses."""


class NoZone(InterfaceError):
    """No host is in the availability zone of any of the subnets."""


def within(session: Session, subnets: Sequence[str], zones: Sequence[str] | None) -> dict[str, str]:
    """Those of the subnets that are in `zones` (None: all of them), and the zone of each. Raises NoZone where there is none."""
    found = {row.id: row.zone for row in session.scalars(select(Subnet).where(Subnet.id.in_(subnets)))}
    usable = {subnet: found[subnet] for subnet in subnets if subnet in found and (zones is None or found[subnet] in zones)}
    if found and not usable:
        names = ", ".join(sorted(set(found.values())))
        raise NoZone(f"No host is in the availability zones of the job's subnets: {names}.")
    return usable


def check_vpc_config(session: Session, subnets: Sequence[str], groups: Sequence[str]) -> str:
    """The VPC that a VpcConfig's subnets and security groups are in.

    Raises InterfaceError for one that does not exist, or that is in another VPC than the first subnet; worded as EC2
    words it when it makes an interface.
    """
    found = _subnets(session, subnets)
    group_vpcs = {
        group.id: group.vpc_id for group in session.scalars(select(SecurityGroup).where(SecurityGroup.id.in_(groups)))
    }
    for group in groups:
        if group not in group_vpcs:
            raise InterfaceError(f"The security group '{group}' does not exist")
    vpc_id = found[subnets[0]].vpc_id
    for subnet in subnets:
        if found[subnet].vpc_id != vpc_id:
            raise InterfaceError(f"Subnet {subnets[0]} and subnet {subnet} belong to different networks.")
    for group in groups:
        if group_vpcs[group] != vpc_id:
            raise InterfaceError(f"Security group {group} and subnet {subnets[0]} belong to different networks.")
    return vpc_id


def allocate(
    session: Session, job: str, hosts: Sequence[str], subnets: Sequence[str], groups: Sequence[str]
) -> list[NetworkInterface]:
    """An interface for each host of a job, in the order of `hosts`; a host that has one keeps it.

    The hosts take turns over the subnets, each the lowest free address; a full subnet is passed over. Raises NoAddress
    where all are full, InterfaceError where a subnet does not exist.
    """
    found = _subnets(session, subnets)
    present = {row.host: row for row in session.scalars(select(NetworkInterface).filter_by(job=job))}
    turns = _turns([(found[subnet], free_addresses(session, found[subnet])) for subnet in dict.fromkeys(subnets)])
    interfaces = []
    for host in hosts:
        if host not in present:
            place = next(turns, None)
            if place is None:
                names = ", ".join(f"'{subnet}'" for subnet in dict.fromkeys(subnets))
                where = f"subnet {names}" if len(found) == 1 else f"subnets {names}"
                raise NoAddress(f"There are not enough free addresses in {where} for {len(hosts)} instances.")
            present[host] = _interface(job, host, *place, groups)
            session.add(present[host])
        interfaces.append(present[host])
    session.flush()
    return interfaces


def release(session: Session, job: str) -> None:
    """Delete a job's interfaces and their tags; nothing happens where it has none."""
    for interface in session.scalars(select(NetworkInterface).filter_by(job=job)):
        session.execute(delete(ResourceTag).where(ResourceTag.resource_id == interface.id))
        session.delete(interface)
    session.flush()


def security_groups(session: Session, vpc_id: str) -> tuple[model.SecurityGroup, ...]:
    """The security groups of a VPC and their rules, as the network room enforces them."""
    return tuple(
        model.SecurityGroup(group, tuple(rule for _, rule in of_group)) for group, of_group in rules(session, vpc_id).items()
    )


def rules(session: Session, vpc_id: str) -> dict[str, list[tuple[str, model.Rule]]]:
    """The rules of each security group of a VPC, with their ids.

    A rule with a prefix list is one rule for each block that the list has now: none where it is empty.
    """
    found: dict[str, list[tuple[str, model.Rule]]] = {
        group: [] for group in session.scalars(select(SecurityGroup.id).filter_by(vpc_id=vpc_id).order_by(SecurityGroup.id))
    }
    if not found:
        # A VPC that belongs to a job alone, as most may.
        return found
    blocks = prefix_lists(session)
    query = select(SecurityGroupRule).join(SecurityGroup, SecurityGroup.id == SecurityGroupRule.group_id)
    for row in session.scalars(query.where(SecurityGroup.vpc_id == vpc_id).order_by(SecurityGroupRule.number)):
        cidrs: Sequence[str | None] = [row.cidr] if row.prefix_list is None else blocks.get(row.prefix_list, OF_S3)
        for cidr in cidrs:
            rule = model.Rule(
                direction=cast(model.Direction, row.direction),
                protocol=row.protocol,
                from_port=row.from_port,
                to_port=row.to_port,
                cidr=cidr,
                group=row.peer_group,
            )
            found[row.group_id].append((row.id, rule))
    return found


def prefix_lists(session: Session) -> dict[str, list[str]]:
    """The blocks that each managed prefix list of the account has in its newest version; another list is `OF_S3`."""
    blocks: dict[str, list[str]] = {id_: [] for id_ in session.scalars(select(PrefixList.id))}
    query = select(PrefixListEntry).where(PrefixListEntry.until.is_(None)).order_by(PrefixListEntry.cidr)
    for entry in session.scalars(query):
        blocks[entry.prefix_list_id].append(entry.cidr)
    return blocks


def free_addresses(session: Session, subnet: Subnet) -> Iterator[str]:
    """Free addresses of a subnet, lowest first. The reserved ones are never free."""
    taken = set(session.scalars(select(NetworkInterface.address).filter_by(subnet_id=subnet.id)))
    network = ipaddress.IPv4Network(subnet.cidr)
    # The last address is one of the reserved ones; the others are the first.
    for offset in range(RESERVED_ADDRESSES - 1, network.num_addresses - 1):
        address = str(network[offset])
        if address not in taken:
            yield address


def _subnets(session: Session, ids: Sequence[str]) -> dict[str, Subnet]:
    """The subnets of those ids. Raises InterfaceError for one that does not exist."""
    found = {row.id: row for row in session.scalars(select(Subnet).where(Subnet.id.in_(ids)))}
    for id_ in ids:
        if id_ not in found:
            raise InterfaceError(f"The subnet ID '{id_}' does not exist")
    return found


def _turns(free: Sequence[tuple[Subnet, Iterator[str]]]) -> Iterator[tuple[Subnet, str]]:
    """A free address of each subnet in turn, until all are full."""
    rest = list(free)
    while rest:
        for entry in list(rest):
            subnet, addresses = entry
            address = next(addresses, None)
            if address is None:
                rest.remove(entry)
            else:
                yield subnet, address


def _interface(job: str, host: str, subnet: Subnet, address: str, groups: Sequence[str]) -> NetworkInterface:
    return NetworkInterface(
        subnet_id=subnet.id,
        vpc_id=subnet.vpc_id,
        address=address,
        description=f"Training job {job}, {host}",
        job=job,
        host=host,
        memberships=[
            NetworkInterfaceGroup(position=position, group_id=group) for position, group in enumerate(dict.fromkeys(groups))
        ],
    )
