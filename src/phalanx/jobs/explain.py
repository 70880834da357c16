"""Why traffic between two instances of a job passes the security groups, or why not: rule by rule, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from sqlalchemy.orm import Session

from phalanx.jobs import interfaces, plan
from phalanx.network.model import Direction, Rule
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
    """An instance: `networks` is its address, or the job's subnets where it never got one."""

    host: str
    networks: tuple[IPv4Network, ...]
    groups: tuple[str, ...]

    @classmethod
    def at(cls, host: str, address: str, groups: Iterable[str]) -> End:
        """One that has its address."""
        return cls(host, (IPv4Network(address),), tuple(groups))

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


def verdict(flow: Flow, sender: End, receiver: End, rules: Rules) -> Verdict:
    """Whether `flow` may begin from `sender` to `receiver`. `rules` are those of each group that exists, with their ids."""
    return Verdict(flow, (_check(flow, sender, receiver, "egress", rules), _check(flow, receiver, sender, "ingress", rules)))


def passing(flow: Flow, own: End, other: End, direction: Direction, rules: Rules) -> Iterator[tuple[str, str, Rule]]:
    """The rules of one end's groups that let a flow pass there, each with its group and its id."""
    for group in own.groups:
        for id_, rule in rules.get(group, ()):
            if rule.direction == direction and _covers(rule, flow) and _names(rule, other):
                yield group, id_, rule


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


def planned(made: plan.Plan) -> list[End]:
    """The instances of a plan, in its order."""
    return [End.at(each.host, each.eni.address, each.eni.groups) for each in made.placements]


def ends(session: Session, job: TrainingJob) -> dict[str, End]:
    """The instances of a job by host: as they are, as they were, or as they would have been. Raises InterfaceError."""
    if job.plan is not None:
        return {end.host: end for end in planned(plan.Plan.from_json(job.plan))}
    if job.evidence is not None and job.evidence["instances"]:
        return {
            item["host"]: End.at(item["host"], item["address"], item["security_groups"]) for item in job.evidence["instances"]
        }
    config = job.request.get("VpcConfig")
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


def _check(flow: Flow, own: End, other: End, direction: Direction, rules: Rules) -> Check:
    allowing = tuple(f"{id_} of {group}: {_words(rule)}" for group, id_, rule in passing(flow, own, other, direction, rules))
    if allowing:
        return Check(own.host, direction, allowing, None, None)
    gone = [group for group in own.groups if group not in rules]
    lost = f" {', '.join(gone)} does not exist any more." if gone else ""
    there = next((group for group in own.groups if group in rules), None)
    command = None if there is None else authorize([flow], direction, there, other.groups[0])
    return Check(own.host, direction, (), f"{lacking([(direction, flow)], own.groups, other.groups)}{lost}", command)


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
