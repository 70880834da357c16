"""What EC2's documentation says that security groups let through: a plain model, written without a look at the ruleset.

Sources: Amazon VPC User Guide, "Control traffic to your AWS resources using security groups" and "Security group rules";
Amazon EC2 User Guide, "Amazon EC2 security group connection tracking".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from phalanx.network.model import Rule

TCP, UDP, ICMP, ESP = 6, 17, 1, 50


@dataclass(frozen=True)
class Packet:
    """`ports` are source and destination port; ICMP has its type and code in `icmp` and an identifier as both ports."""

    sender: str
    receiver: str
    protocol: int
    ports: tuple[int, int] = (0, 0)
    icmp: tuple[int, int] = (0, 0)

    @property
    def flow(self) -> tuple[object, ...]:
        """What connection tracking knows a flow by: "for other protocols only the IP addresses and protocol number"."""
        return self.protocol, self.sender, self.receiver, self.ports

    @property
    def answered(self) -> tuple[object, ...]:
        """The flow that this packet would be a response of."""
        return self.protocol, self.receiver, self.sender, self.ports[::-1]


@dataclass
class Ec2:
    """The instances of a VPC by address, with their groups. `delivers` judges packets one after the other."""

    members: Mapping[str, tuple[str, ...]]
    groups: dict[str, tuple[Rule, ...]]
    flows: dict[tuple[object, ...], set[str]] = field(default_factory=dict)
    """Flows that were let in, each with the instances at which it is tracked."""

    def delivers(self, packet: Packet) -> bool:
        """Whether the packet leaves its sender and enters its receiver."""
        if not self._passes(packet, packet.sender, "egress") or not self._passes(packet, packet.receiver, "ingress"):
            return False
        if packet.flow not in self.flows and packet.answered not in self.flows:
            ends = ((packet.sender, "egress"), (packet.receiver, "ingress"))
            self.flows[packet.flow] = {end for end, direction in ends if self._tracks(packet, end, direction)}
        return True

    def _passes(self, packet: Packet, end: str, direction: str) -> bool:
        # "If you send a request from your instance, the response traffic is allowed to flow in, regardless of inbound rules."
        known = self.flows.get(packet.flow) or self.flows.get(packet.answered) or set()
        return end in known or bool(self._matching(packet, end, direction))

    def _matching(self, packet: Packet, end: str, direction: str) -> list[Rule]:
        peer = packet.receiver if end == packet.sender else packet.sender
        rules = [rule for group in self.members[end] for rule in self.groups.get(group, ()) if rule.direction == direction]
        return [rule for rule in rules if self._names(rule, peer) and _covers(rule, packet)]

    def _names(self, rule: Rule, peer: str) -> bool:
        if rule.group is not None:
            return rule.group in self.members[peer]
        network = ipaddress.ip_network(rule.cidr)
        return network.version == 4 and ipaddress.ip_address(peer) in network

    def _tracks(self, packet: Packet, end: str, direction: str) -> bool:
        if packet.protocol == ESP:
            # Phalanx's own promise, stricter than EC2: a revoked rule stops ESP at once, so nothing remembers it.
            return False
        if packet.protocol not in (TCP, UDP):
            return True
        # "… permits TCP or UDP flows for all traffic (0.0.0.0/0) and there is a corresponding rule in the other direction
        # that permits all response traffic (0.0.0.0/0) for any port (0-65535): then that flow of traffic is not tracked."
        opened = any(rule.cidr == "0.0.0.0/0" for rule in self._matching(packet, end, direction))
        other = "ingress" if direction == "egress" else "egress"
        answers = any(
            rule.cidr == "0.0.0.0/0"
            and rule.direction == other
            and (rule.protocol == "-1" or (rule.protocol, rule.from_port, rule.to_port) == (str(packet.protocol), 0, 65535))
            for group in self.members[end]
            for rule in self.groups.get(group, ())
        )
        return not (opened and answers)


def _covers(rule: Rule, packet: Packet) -> bool:
    if rule.protocol == "-1":
        return True
    if int(rule.protocol) != packet.protocol:
        return False
    if packet.protocol in (TCP, UDP):
        return rule.from_port <= packet.ports[1] <= rule.to_port
    if packet.protocol == ICMP:
        return rule.from_port in (-1, packet.icmp[0]) and rule.to_port in (-1, packet.icmp[1])
    return True
