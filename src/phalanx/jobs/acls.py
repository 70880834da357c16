"""Network ACLs as the network room enforces them: those of a VPC that do not allow everything, and their subnets."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.network.model import DIRECTIONS, Acl, AclRule, Direction, Rule
from phalanx.store.base import Json
from phalanx.store.jobs import TrainingJob
from phalanx.store.network import NetworkAcl, Subnet


def of_vpc(session: Session, vpc_id: str) -> tuple[Acl, ...]:
    """The ACLs that something does not pass, as they and their subnets stand now."""
    acls = session.scalars(select(NetworkAcl).filter_by(vpc_id=vpc_id).order_by(NetworkAcl.id)).all()
    default = next((acl.id for acl in acls if acl.is_default), None)
    subnets: dict[str | None, list[str]] = {}
    for subnet in session.scalars(select(Subnet).filter_by(vpc_id=vpc_id).order_by(Subnet.id)):
        subnets.setdefault(subnet.acl_id or default, []).append(subnet.cidr)
    made = (Acl(acl.id, tuple(subnets.get(acl.id, ())), tuple(_rules(acl))) for acl in acls)
    return tuple(acl for acl in made if acl.networks and not all(_open(acl, direction) for direction in DIRECTIONS))


def of_job(session: Session, job: TrainingJob) -> tuple[Acl, ...]:
    """Those of the VPC that a job is, was or would be in; a VPC of its own has none."""
    config = job.request.get("VpcConfig")
    subnet = session.get(Subnet, config["Subnets"][0]) if config else None
    return () if subnet is None else of_vpc(session, subnet.vpc_id)


def _rules(acl: NetworkAcl) -> Iterator[AclRule]:
    """The rules about IPv4: no other packet passes a router."""
    for entry in sorted(acl.entries.values(), key=lambda entry: int(entry["RuleNumber"])):
        if "CidrBlock" in entry:
            yield AclRule(entry["RuleNumber"], entry["RuleAction"] == "allow", _rule(entry))


def _rule(entry: Json) -> Rule:
    ports, icmp = entry.get("PortRange", {}), entry.get("IcmpTypeCode", {})
    return Rule(
        direction="egress" if entry["Egress"] else "ingress",
        protocol=entry["Protocol"],
        from_port=ports.get("From", icmp.get("Type")),
        to_port=ports.get("To", icmp.get("Code")),
        cidr=entry["CidrBlock"],
    )


def _open(acl: Acl, direction: Direction) -> bool:
    """Whether everything passes in a direction: the first rule says so, as a default ACL's does."""
    first = next((each for each in acl.rules if each.rule.direction == direction), None)
    return first is not None and first.allow and (first.rule.protocol, first.rule.cidr) == ("-1", "0.0.0.0/0")
