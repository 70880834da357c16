"""Where the route tables of a VPC lead: which subnets reach S3, a name server and the internet, as EC2 routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, collapse_addresses

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs import acls, explain, interfaces, plan
from phalanx.network.model import NO_EXITS, S3_ADDRESS, S3_PORT, Eni, Exits
from phalanx.store.network import (
    DhcpOptions,
    InternetGateway,
    NatGateway,
    NetworkInterface,
    Route,
    RouteTable,
    RouteTableAssociation,
    Subnet,
    Vpc,
    VpcEndpoint,
    VpcEndpointRouteTable,
)

NO_WAY_TO_S3 = (
    "ClientError: Artifact upload failed:Please ensure that the subnet's route table has a route to an S3 VPC endpoint or a"
    " NAT device, and both the security groups and the subnet's network ACL allow outbound traffic to S3"
)
"""SageMaker's FailureReason, to the letter."""

_S3 = IPv4Network(S3_ADDRESS)
_AWS_SERVERS = "AmazonProvidedDNS"
_NEEDED_OPTIONS = ("domain-name-servers", "domain-name")


def of_vpc(session: Session, vpc_id: str) -> Exits:
    """The ways out of a VPC as its subnets, route tables, gateways, endpoints and network ACLs stand now; none where it is not
    stored."""
    vpc = session.get(Vpc, vpc_id)
    if vpc is None:
        return NO_EXITS
    routes = _Routes(session, vpc)
    s3, outside = [], []
    subnets = {subnet.id: subnet for subnet in session.scalars(select(Subnet).filter_by(vpc_id=vpc_id).order_by(Subnet.id))}
    through: dict[str, list[tuple[str, str]]] = {}
    for subnet in subnets.values():
        for nat, network in routes.through(subnet.id):
            through.setdefault(subnets[nat].cidr, []).append((subnet.cidr, str(network)))
        ways = list(collapse_addresses(routes.ways(subnet.id)))
        if any(_S3.subnet_of(way) for way in ways):
            s3.append(subnet.cidr)
        outside += [(subnet.cidr, str(way)) for way in ways if way != _S3]
    through_nat = dict.fromkeys(subnet for subnet, _ in outside)
    endpoints = select(NetworkInterface).join(VpcEndpoint, VpcEndpoint.id == NetworkInterface.owner)
    return Exits(
        s3=tuple(s3),
        names=tuple(through_nat) if _has_names(session, vpc) else (),
        outside=tuple(outside),
        endpoints=tuple(
            Eni(row.id, row.address, row.groups)
            for row in session.scalars(endpoints.where(NetworkInterface.vpc_id == vpc_id).order_by(NetworkInterface.id))
        ),
        acls=tuple(
            replace(acl, behind=tuple(pair for network in acl.networks for pair in through.get(network, ())))
            for acl in acls.of_vpc(session, vpc_id)
        ),
    )


def reaches_s3(session: Session, made: plan.Plan) -> bool:
    """Whether routes, security groups and network ACLs let every instance of a job in a VPC reach S3."""
    exits, rules = of_vpc(session, made.vpc_id), interfaces.rules(session, made.vpc_id)
    flow = explain.Flow("6", S3_PORT)
    s3 = explain.End("S3", (_S3,), ("S3",))  # no group is called so: only a rule's address can mean it

    def reaches(eni: Eni) -> bool:
        own = explain.End.at(eni.id, eni.address, eni.groups)
        if any(own.networks[0].subnet_of(IPv4Network(subnet)) for subnet in exits.s3):
            leaving, _ = explain.verdict(flow, own, s3, rules, exits.acls).checks
            if leaving.allowed_by:
                return True
        ends = (explain.End.at(each.id, each.address, each.groups) for each in exits.endpoints)
        return any(explain.verdict(flow, own, end, rules, exits.acls).allowed for end in ends)

    return all(reaches(placement.eni) for placement in made.placements)


def options_fault(session: Session, vpc_id: str) -> str | None:
    """SageMaker's FailureReason where a VPC's DHCP options lack what it needs; None where they do not, or there are none."""
    vpc = session.get_one(Vpc, vpc_id)
    given = {} if vpc.dhcp_options_id is None else session.get_one(DhcpOptions, vpc.dhcp_options_id).configurations
    if vpc.dhcp_options_id is None or all(name in given for name in _NEEDED_OPTIONS):
        return None
    shown = " ".join(f"{name}:{','.join(given.get(name, ['<nil>']))}" for name in _NEEDED_OPTIONS)
    return (
        "ClientError: expected DHCP options to include keys domain-name-servers and domain-name, but missing one or more"
        f" attributes: {{DhcpOptionsId:{vpc.dhcp_options_id} {shown}}}."
        "Please refer to https://docs.aws.amazon.com/vpc/latest/userguide/DHCPOptionSet.html for more details"
    )


def _has_names(session: Session, vpc: Vpc) -> bool:
    """Whether the VPC's own name server serves it: its attribute and its DHCP options both say so."""
    if vpc.dhcp_options_id is None:
        return False
    options = session.get_one(DhcpOptions, vpc.dhcp_options_id).configurations
    return vpc.dns_support and _AWS_SERVERS in options.get("domain-name-servers", [])


class _Routes:
    """The route tables of one VPC."""

    def __init__(self, session: Session, vpc: Vpc) -> None:
        self._vpc = IPv4Network(vpc.cidr)
        mine = select(RouteTable.id).filter_by(vpc_id=vpc.id)
        self._tables = {
            association.subnet_id: association.route_table_id
            for association in session.scalars(
                select(RouteTableAssociation).where(RouteTableAssociation.route_table_id.in_(mine))
            )
        }
        """By subnet, its table; by None, the main one."""
        self._gateways = set(session.scalars(select(InternetGateway.id).filter_by(vpc_id=vpc.id)))
        nats = select(NatGateway).filter_by(vpc_id=vpc.id, state="available", connectivity="public")
        self._nats = {gateway.id: gateway.subnet_id for gateway in session.scalars(nats)}
        self._routes: dict[str, list[tuple[IPv4Network, str]]] = {}
        blocks = interfaces.prefix_lists(session)
        for route in session.scalars(select(Route).where(Route.route_table_id.in_(mine))):
            for block in [route.destination] if "/" in route.destination else blocks.get(route.destination, interfaces.OF_S3):
                if ":" not in block:
                    self._routes.setdefault(route.route_table_id, []).append((IPv4Network(block), route.target))
        leads = select(VpcEndpointRouteTable).where(VpcEndpointRouteTable.route_table_id.in_(mine))
        for lead in session.scalars(leads):
            self._routes.setdefault(lead.route_table_id, []).append((_S3, lead.endpoint_id))

    def ways(self, subnet: str) -> Iterator[IPv4Network]:
        """What a subnet's instances, which have no public address, reach outside: networks that do not overlap."""
        for network, target in self._own(subnet):
            if target.startswith("vpce-"):
                yield network
        for _, network in self.through(subnet):
            yield network

    def through(self, subnet: str) -> Iterator[tuple[str, IPv4Network]]:
        """What of that they reach by NAT gateways, each with the subnet that its gateway is in."""
        for network, target in self._own(subnet):
            if target in self._nats:
                beyond = [
                    way
                    for way, next_target in self._own(self._nats[target])
                    if next_target in self._gateways or next_target.startswith("vpce-")
                ]
                yield from ((self._nats[target], way) for way in _common(network, beyond))

    def _own(self, subnet: str) -> list[tuple[IPv4Network, str]]:
        """A subnet's routes, each without what a more specific one has taken: first of all the VPC's own addresses."""
        table = self._tables.get(subnet, self._tables.get(None, ""))
        taken, found = [self._vpc], []
        for network, target in sorted(self._routes.get(table, []), key=lambda route: -route[0].prefixlen):
            found += [(rest, target) for rest in _without(network, taken)]
            taken.append(network)
        return found


def _without(network: IPv4Network, taken: Iterable[IPv4Network]) -> list[IPv4Network]:
    rest = [network]
    for other in taken:
        left: list[IPv4Network] = []
        for each in rest:
            if other.subnet_of(each):
                left += each.address_exclude(other)
            elif not each.subnet_of(other):
                left.append(each)
        rest = left
    return rest


def _common(network: IPv4Network, others: Sequence[IPv4Network]) -> Iterator[IPv4Network]:
    """What of a network lies in others too."""
    parts = [other if other.subnet_of(network) else network for other in others if other.overlaps(network)]
    return collapse_addresses(parts)
