"""Why traffic between two instances of a job passes security groups and network ACLs, or why not: rule by rule, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs import interfaces, plan
from phalanx.network.model import Acl, AclRule, Direction, Rule
from phalanx.store.jobs import TrainingJob
from phalanx.store.network import Subnet

Rules = Mapping[str, Sequence[tuple[str, Rule]]]
"""The rules of each group that exists, with their ids."""

_SIDES: dict[Direction, str] = {"ingress": "inbound", "egress": "outbound"}
_WAYS: dict[Direction, str] = {"ingress": "from", "egress": "to"}
_NAMES = {"6": "TCP", "17": "UDP", "1": "ICMP"}


@dataclass(frozen=True, slots=True)
class Flow:
    """What is sent: an IP protocol number as text, and the destination port of TCP or UDP or the type of ICMP."""

    protocol: str
    port: int | None = None

    def __str__(self) -> str:
        if self == ESP:
            return "ESP (protocol 50)"
        name = _NAMES.get(self.protocol, f"protocol {self.protocol}")
        if self == IKE:
            return "IKE (UDP 500)"
        return name if self.port is None else f"{name} type {self.port}" if self.protocol == "1" else f"{name} {self.port}"


IKE = Flow("17", 500)
ESP = Flow("50")


@dataclass(frozen=True, slots=True)
class End:
    """An instance: `networks` is its address, or the job's subnets where it never got one; `subnet` is where that is."""

    host: str
    networks: tuple[IPv4Network, ...]
    groups: tuple[str, ...]
    subnet: IPv4Network | None = None

    @classmethod
    def at(cls, host: str, address: str, groups: Iterable[str], blocks: Iterable[IPv4Network] = ()) -> End:
        """One that has its address, in that of the subnets' blocks which has it."""
        own = IPv4Network(address)
        return cls(host, (own,), tuple(groups), next((block for block in blocks if own.subnet_of(block)), None))

    @property
    def address(self) -> str:
        """Its address, or where that would be."""
        return ", ".join(str(n.network_address) if n.prefixlen == 32 else str(n) for n in self.networks)


@dataclass(frozen=True, slots=True)
class Check:
    """One side of a flow: the rules that let it pass; where there are none, `reason` says so and `command` mends it."""

    host: str
    direction: Direction
    allowed_by: tuple[str, ...]
    reason: str | None
    command: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both sides of a flow from one instance to another."""

    flow: Flow
    checks: tuple[Check, Check]

    @property
    def allowed(self) -> bool:
        """Whether it leaves its sender and enters its receiver."""
        return all(check.allowed_by for check in self.checks)


Taken = set[tuple[str, Direction, int]]
"""Numbers of rules that commands have taken already: of which ACL, in which direction."""


def verdict(
    flow: Flow, sender: End, receiver: End, rules: Rules, acls: Sequence[Acl] = (), taken: Taken | None = None
) -> Verdict:
    """Whether `flow` may begin from `sender` to `receiver`. `rules` are those of each group that exists, with their ids, `acls`
    those that do not allow everything; what mends several flows shares `taken`."""
    taken = set() if taken is None else taken
    leaves = _check(flow, sender, receiver, "egress", rules, acls, taken)
    return Verdict(flow, (leaves, _check(flow, receiver, sender, "ingress", rules, acls, taken)))


def passing(flow: Flow, own: End, other: End, direction: Direction, rules: Rules) -> Iterator[tuple[str, str, Rule]]:
    """The rules of one end's groups that let a flow pass there, each with its group and its id."""
    for group in own.groups:
        for id_, rule in rules.get(group, ()):
            if rule.direction == direction and _covers(rule, flow) and _names(rule, other):
                yield group, id_, rule


def border(acls: Sequence[Acl], own: End, other: End) -> Acl | None:
    """The ACL that watches what passes between an end's subnet and another end; none does within a subnet."""
    for acl in acls:
        for network in map(IPv4Network, acl.networks):
            if any(each.subnet_of(network) for each in own.networks):
                within = all(each.subnet_of(network) for each in (*own.networks, *other.networks))
                return None if within else acl
    return None


def deciding(acl: Acl, flow: Flow, other: End, direction: Direction) -> AclRule | None:
    """The first rule of an ACL that is about a flow from or to another end; None for the last, which denies all."""
    about = (each for each in acl.rules if each.rule.direction == direction)
    return next((each for each in about if _covers(each.rule, flow) and _names(each.rule, other)), None)


def denied(acl: Acl, flows: Sequence[Flow], direction: Direction, found: AclRule | None, other: str) -> str:
    """That an ACL lets flows not pass from or to `other`, and by which of its rules."""
    rule = "no rule allows it" if found is None else f"rule {found.number} denies it"
    what = " and ".join(map(str, flows))
    return f"Network ACL {acl.id} lets no {_SIDES[direction]} {what} {_WAYS[direction]} {other} pass: {rule}."


def enter(acl: Acl, flow: Flow, direction: Direction, found: AclRule | None, other: End, taken: Taken) -> str | None:
    """The AWS CLI command that has an ACL allow a flow from or to another end's subnet, before the rule that denies it.

    None where no number is left; else the number is taken.
    """
    last = 32767 if found is None else found.number
    there = {each.number for each in acl.rules if each.rule.direction == direction}
    free = (each for each in range(last - 1, 0, -1) if each not in there and (acl.id, direction, each) not in taken)
    number = next(free, None)
    if number is None:
        return None
    taken.add((acl.id, direction, number))
    detail = ""
    if flow.protocol == "1":
        detail = f" --icmp-type-code Type={-1 if flow.port is None else flow.port},Code=-1"
    elif flow.port is not None:
        detail = f" --port-range From={flow.port},To={flow.port}"
    return (
        f"aws ec2 create-network-acl-entry --network-acl-id {acl.id} --{direction} --rule-number {number}"
        f" --protocol {flow.protocol}{detail} --cidr-block {other.subnet or other.networks[0]} --rule-action allow"
    )


def lacking(what: Sequence[tuple[Direction, Flow]], groups: Sequence[str], peers: Sequence[str]) -> str:
    """The rules that groups would need: `Security group sg-… has no inbound rule for … from itself, no …`."""
    one = len(groups) == 1
    subject = f"Security group {groups[0]} has" if one else f"Security groups {', '.join(groups)} have"
    other = ("itself" if one else "themselves") if peers == groups else ", ".join(peers)
    rules = (f"no {_SIDES[direction]} rule for {flow} {_WAYS[direction]} {other}" for direction, flow in what)
    return f"{subject} {', '.join(rules)}."


def authorize(flows: Iterable[Flow], direction: Direction, group: str, peer: str) -> str:
    """The AWS CLI command that adds rules for flows from or to `peer` to a group."""
    pairs = f"UserIdGroupPairs=[{{GroupId={peer}}}]"
    # Quoted: square brackets are a pattern to some shells.
    permissions = " ".join(f"'IpProtocol={flow.protocol},{''.join(_ports(flow))}{pairs}'" for flow in flows)
    return f"aws ec2 authorize-security-group-{direction} --group-id {group} --ip-permissions {permissions}"


def ends(session: Session, job: TrainingJob) -> dict[str, End]:
    """The instances of a job by host: as they are, as they were, or as they would have been. Raises InterfaceError."""
    config = job.request.get("VpcConfig")
    blocks = _subnets(session, config["Subnets"]) if config else []
    if job.plan is not None:
        made = plan.Plan.from_json(job.plan)
        return {each.host: End.at(each.host, each.eni.address, each.eni.groups, blocks) for each in made.placements}
    if job.evidence is not None and job.evidence["instances"]:
        return {
            item["host"]: End.at(item["host"], item["address"], item["security_groups"], blocks)
            for item in job.evidence["instances"]
        }
    if config:
        interfaces.check_vpc_config(session, config["Subnets"], config["SecurityGroupIds"])
        networks = tuple(IPv4Network(session.get_one(Subnet, subnet).cidr) for subnet in config["Subnets"])
        groups = tuple(config["SecurityGroupIds"])
    else:
        networks, groups = (IPv4Network(f"{plan.PLATFORM_NETWORK}0/24"),), (plan.platform_group(plan.platform_vpc(job)).id,)
    return {host: End(host, networks, groups) for host in (f"algo-{number}" for number in range(1, job.instances + 1))}


def rules(session: Session, job: TrainingJob) -> dict[str, list[tuple[str, Rule]]]:
    """The rules of the groups in a job's VPC, with their ids. Raises InterfaceError where its subnets are gone."""
    config = job.request.get("VpcConfig")
    if not config:
        group = plan.platform_group(plan.platform_vpc(job))
        return {group.id: [("the platform's rule", rule) for rule in group.rules]}
    vpc_id = interfaces.check_vpc_config(session, config["Subnets"], ())
    return interfaces.rules(session, vpc_id)


def _check(flow: Flow, own: End, other: End, direction: Direction, rules: Rules, acls: Sequence[Acl], taken: Taken) -> Check:
    acl = border(acls, own, other)
    found = None if acl is None else deciding(acl, flow, other, direction)
    allowing = tuple(f"{id_} of {group}: {_words(rule)}" for group, id_, rule in passing(flow, own, other, direction, rules))
    if allowing and acl is not None:
        if found is None or not found.allow:
            reason = denied(acl, [flow], direction, found, other.address)
            return Check(own.host, direction, (), reason, enter(acl, flow, direction, found, other, taken))
        allowing += (f"rule {found.number} of {acl.id}",)
    if allowing:
        return Check(own.host, direction, allowing, None, None)
    gone = [group for group in own.groups if group not in rules]
    lost = f" {', '.join(gone)} does not exist any more." if gone else ""
    there = next((group for group in own.groups if group in rules), None)
    command = None if there is None else authorize([flow], direction, there, other.groups[0])
    return Check(own.host, direction, (), f"{lacking([(direction, flow)], own.groups, other.groups)}{lost}", command)


def _subnets(session: Session, ids: Sequence[str]) -> list[IPv4Network]:
    """The blocks of these subnets, those that there are."""
    return [IPv4Network(cidr) for cidr in session.scalars(select(Subnet.cidr).where(Subnet.id.in_(ids)))]


def _covers(rule: Rule, flow: Flow) -> bool:
    """Whether a rule is about such packets; of ICMP a flow has a type, and any code."""
    if rule.protocol == "-1":
        return True
    if rule.protocol != flow.protocol:
        return False
    if flow.protocol == "1":
        return rule.from_port in (None, -1) or (rule.from_port == flow.port and rule.to_port in (None, -1))
    if flow.port is None:
        return True
    return rule.from_port is not None and rule.to_port is not None and rule.from_port <= flow.port <= rule.to_port


def _names(rule: Rule, end: End) -> bool:
    if rule.group is not None:
        return rule.group in end.groups
    network = ip_network(rule.cidr or "")
    return isinstance(network, IPv4Network) and all(each.subnet_of(network) for each in end.networks)


def _words(rule: Rule) -> str:
    what = "all traffic" if rule.protocol == "-1" else str(Flow(rule.protocol, rule.from_port))
    if rule.protocol in ("6", "17"):
        span = str(rule.from_port) if rule.from_port == rule.to_port else f"{rule.from_port}-{rule.to_port}"
        what = f"{_NAMES[rule.protocol]} {span}"
    elif rule.protocol == "1" and rule.from_port in (None, -1):
        what = "ICMP"
    return f"{_SIDES[rule.direction]} {what} {_WAYS[rule.direction]} {rule.group or rule.cidr}"


def _ports(flow: Flow) -> Iterator[str]:
    if flow.protocol == "1":
        yield f"FromPort={-1 if flow.port is None else flow.port},ToPort=-1,"
    elif flow.port is not None:
        yield f"FromPort={flow.port},ToPort={flow.port},"
