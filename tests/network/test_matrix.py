"""Security groups against EC2's documentation: real packets through real ENIs, judged by the model of `ec2_rules`.

`target` alone has the rules under test. A friend is what they name; a stranger is not. Both allow everything themselves. In
each scenario packets go the wrong way first, then the right way, then come answers; then the rules are revoked, and the
same flows go on, and new ones begin.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

import pytest

from network.ec2_rules import ESP, ICMP, TCP, UDP, Ec2, Packet
from network.lab import ALL_IN, ALL_OUT, Instance, Vpc, icmp
from phalanx.network import conntrack, namespace
from phalanx.network.model import Rule

GRE, AH, UNASSIGNED = 47, 51, 253
RAW = (ESP, GRE, AH, UNASSIGNED)
TCP_RANGE, UDP_RANGE = (8000, 8010), (9000, 9010)
PORTS = sorted({low + step for low, high in (TCP_RANGE, UDP_RANGE) for step in (-1, 0, 5, high - low, high - low + 1)})
FIRST, SECOND = 40001, 40002
"""Source ports (ICMP: identifiers) of the flows that begin before and after the rules are revoked."""
KINDS = ("group", "self", "cidr", "prefix-list", "anywhere", "anywhere-v6")
SETS = {
    "odd": ((TCP, *TCP_RANGE), (ICMP, 8, -1), (ESP, None, None), (AH, None, None)),
    "even": ((UDP, *UDP_RANGE), (ICMP, 13, 0), (GRE, None, None), (UNASSIGNED, None, None)),
    "all": ((-1, None, None),),
    "open": ((-1, None, None),),
}
"""What is allowed. With `open`, the other direction is open to the world as well: then EC2 does not track flows."""
SCENARIOS = [(direction, kind, allowed) for direction in ("ingress", "egress") for kind in KINDS for allowed in SETS]
ECHO_ANSWERS = {8: 0, 13: 14}


@dataclass
class Case:
    """One packet: what the documentation says of it, and what became of it."""

    stage: str
    packet: Packet
    expected: bool
    noted: tuple[str, int, bytes]


@dataclass
class Wire:
    """The VPC and all sockets of its instances, which note what comes in."""

    vpc: Vpc
    target: Instance
    friend: Instance
    stranger: Instance
    arrived: set[tuple[str, int, bytes]] = field(default_factory=set)
    """Receiver, protocol (ICMP: 256 + type) and mark of each packet."""
    marks: int = 0
    connections: dict[tuple[object, ...], socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.sockets: dict[tuple[str, int, int], socket.socket] = {}
        for end in (self.target, self.friend, self.stranger):
            for port in (*PORTS, FIRST, SECOND):
                self._open(end, UDP, port, end.udp(port))
            for port in PORTS:
                listener = end.socket(socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((end.address, port))
                listener.listen(64)
                self._open(end, TCP, port, listener)
            for protocol in (ICMP, *RAW):
                self._open(end, protocol, 0, end.socket(socket.SOCK_RAW, protocol))

    def _open(self, end: Instance, protocol: int, port: int, opened: socket.socket) -> None:
        opened.setblocking(False)
        self.sockets[end.address, protocol, port] = opened
        self.selector.register(opened, selectors.EVENT_READ, (end.address, protocol))

    def close(self) -> None:
        self.hang_up()
        for opened in self.sockets.values():
            opened.close()
        self.selector.close()

    def hang_up(self) -> None:
        """End all TCP connections, without a word to the other side."""
        lasting = set(self.sockets.values())
        passing = {key.fileobj for key in self.selector.get_map().values()} - lasting
        for opened in passing:
            self.selector.unregister(opened)
        for opened in passing | set(self.connections.values()):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            opened.close()
        self.connections.clear()

    def send(self, packet: Packet) -> tuple[str, int, bytes]:
        """Put a packet on the wire; what is noted of it where it arrives."""
        self.marks += 1
        # Four bytes: as much as an answer to an ICMP timestamp request repeats.
        mark = struct.pack("!I", self.marks)
        there = (packet.receiver, packet.ports[1])
        if packet.protocol == UDP:
            self.sockets[packet.sender, UDP, packet.ports[0]].sendto(mark, there)
        elif packet.protocol == ICMP:
            message = icmp(packet.icmp[0], packet.ports[0], mark + bytes(8))
            self.sockets[packet.sender, ICMP, 0].sendto(message, (packet.receiver, 0))
            return packet.receiver, 256 + packet.icmp[0], mark
        elif packet.protocol == TCP:
            self._send_tcp(packet, mark)
        else:
            # GRE's first four bytes are its header: version 0, no key.
            self.sockets[packet.sender, packet.protocol, 0].sendto(bytes(4) + mark, (packet.receiver, 0))
        return packet.receiver, packet.protocol, mark

    def _send_tcp(self, packet: Packet, mark: bytes) -> None:
        """A mark over the connection of this packet's flow; one that is not there yet is opened."""
        opened = self.connections.get(packet.flow)
        if opened is None:
            sender = next(end for end in (self.target, self.friend, self.stranger) if end.address == packet.sender)
            opened = self.connections[packet.flow] = sender.socket(socket.SOCK_STREAM)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((packet.sender, packet.ports[0]))
            opened.setblocking(False)
            opened.connect_ex((packet.receiver, packet.ports[1]))
            # The mark follows the handshake, where that succeeds.
            self.selector.register(opened, selectors.EVENT_WRITE, (packet.sender, mark))
            return
        with suppress(OSError):
            opened.send(mark)

    def settle(self, cases: list[Case], quiet: float) -> None:
        """Note what arrives, until all that should have has, and nothing more for `quiet` seconds."""
        deadline = time.monotonic() + 5
        self.pump(quiet)
        while any(case.expected and case.noted not in self.arrived for case in cases) and time.monotonic() < deadline:
            self.pump(0.05)

    def pump(self, quiet: float) -> None:
        """Note what arrives, until nothing has for `quiet` seconds."""
        until = time.monotonic() + quiet
        while (left := until - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                self._take(key)
                until = time.monotonic() + quiet

    def _take(self, key: selectors.SelectorKey) -> None:
        opened, (address, protocol) = key.fileobj, key.data
        if isinstance(protocol, bytes):
            if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.selector.unregister(opened)
            else:
                self.selector.modify(opened, selectors.EVENT_READ, (address, TCP))
                opened.send(protocol)
            return
        if protocol == TCP and opened in self.sockets.values():
            accepted, near = opened.accept()
            accepted.setblocking(False)
            self.selector.register(accepted, selectors.EVENT_READ, (address, TCP))
            # Its answers go by the same connection.
            self.connections[TCP, address, near[0], (opened.getsockname()[1], near[1])] = accepted
            return
        data = opened.recv(4096)
        if protocol == TCP and not data:
            self.selector.unregister(opened)
        for start in range(0, len(data), 4) if protocol == TCP else ():
            self.arrived.add((address, TCP, data[start : start + 4]))
        if protocol == UDP:
            self.arrived.add((address, UDP, data))
        elif protocol == ICMP:
            self.arrived.add((address, 256 + data[20], data[28:32]))
        elif protocol != TCP:
            self.arrived.add((address, protocol, data[24:28]))


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    prefix = f"phxt{os.getpid()}-matrix-"
    try:
        vpc = Vpc(prefix)
        vpc.router.ensure()
        target = vpc.instance("sg-target")
        friend = vpc.instance("sg-open", "sg-friend", "sg-target-too")
        stranger = vpc.instance("sg-open", "sg-stranger")
        made = Wire(vpc, target, friend, stranger)
        yield made
        made.close()
    finally:
        for name in namespace.listing(prefix):
            namespace.delete(name)


def rules(wire: Wire, direction: str, kind: str, allowed: str) -> tuple[Rule, ...]:
    address = wire.friend.address
    peers = {
        "group": [{"group": "sg-friend"}],
        "self": [{"group": "sg-target"}],
        "cidr": [{"cidr": f"{address}/32"}],
        "prefix-list": [
            {"cidr": "10.9.0.0/16"},
            {"cidr": f"{address}/32"},
            {"cidr": "192.0.2.0/24"},
            {"cidr": "2001:db8::/32"},
        ],
        "anywhere": [{"cidr": "0.0.0.0/0"}],
        "anywhere-v6": [{"cidr": "::/0"}],
    }[kind]
    made = [Rule(direction, str(protocol), low, high, **peer) for protocol, low, high in SETS[allowed] for peer in peers]
    if allowed == "open":
        made.append(ALL_OUT if direction == "ingress" else ALL_IN)
    return tuple(made)


def flows(direction: str, target: str, friend: str, stranger: str, source: int) -> tuple[list[Packet], list[Packet]]:
    """Flows that begin the wrong way, and flows that begin the way that the rules are about."""

    def between(near: str, far: str, port: int, own: int, udp: int) -> list[Packet]:
        found = [Packet(near, far, TCP, (source, port)), Packet(near, far, UDP, (source, udp))]
        found += [Packet(near, far, ICMP, (own, own), (8, 0)), *(Packet(near, far, protocol) for protocol in RAW)]
        return found

    middle_tcp, middle_udp = TCP_RANGE[0] + 5, UDP_RANGE[0] + 5
    there = (lambda peer: (peer, target)) if direction == "ingress" else (lambda peer: (target, peer))
    wrong = between(*there(friend)[::-1], middle_tcp, source + 100, middle_udp)
    right = between(*there(friend), middle_tcp, source, middle_udp)
    right += between(*there(stranger), middle_tcp, source, middle_udp)
    near, far = there(friend)
    right += [Packet(near, far, TCP, (source, port)) for port in PORTS if port != middle_tcp]
    right += [Packet(near, far, UDP, (source, port)) for port in PORTS if port != middle_udp]
    right.append(Packet(near, far, ICMP, (source + 200, source + 200), (13, 0)))
    return wrong, right


def observe(wire: Wire, direction: str, kind: str, allowed: str) -> list[Case]:
    """All packets of a scenario."""
    target, friend, stranger = wire.target, wire.friend, wire.stranger
    open_ = (ALL_IN, ALL_OUT)
    # With `self`, the friend is a member of the target's own group; its rules add nothing to what is open already.
    groups = ("sg-open", "sg-friend", "sg-target") if kind == "self" else ("sg-open", "sg-friend")
    friend.eni = type(friend.eni)(friend.eni.id, friend.address, groups)
    members = {end.address: end.eni.groups for end in (target, friend, stranger)}
    wire.vpc.groups = {"sg-open": open_, "sg-target": rules(wire, direction, kind, allowed), "sg-friend": (), "sg-stranger": ()}
    ec2 = Ec2(members, dict(wire.vpc.groups))
    wire.hang_up()
    with namespace.entered(wire.vpc.router_namespace):
        conntrack.forget(target.address)
    wire.vpc.apply()
    cases: list[Case] = []

    def send(stage: str, packets: list[Packet]) -> None:
        for packet in packets:
            expected = ec2.delivers(packet)
            if packet.protocol == TCP and stage in ("wrong way", "begins", "begins anew"):
                # A connection stands once the answer has come back; only then does data pass.
                expected = expected and ec2.delivers(_answer(packet))
            cases.append(Case(stage, packet, expected, wire.send(packet)))
        wire.settle(cases, 0.02)

    def answers(packets: list[Packet]) -> list[Packet]:
        # Kernels answer ICMP themselves, and TCP can only be answered where it has arrived.
        return [
            _answer(packet)
            for packet in packets
            if packet.protocol != ICMP and (packet.protocol != TCP or _answer(packet).flow in wire.connections)
        ]

    wrong, right = flows(direction, target.address, friend.address, stranger.address, FIRST)
    send("wrong way", wrong)
    send("begins", right)
    begun = [case.packet for case in cases if case.stage == "begins" and case.packet.protocol == ICMP]
    for packet in begun:
        noted = (packet.sender, 256 + ECHO_ANSWERS[packet.icmp[0]], _mark(cases, packet))
        back = Packet(packet.receiver, packet.sender, ICMP, packet.ports[::-1], (ECHO_ANSWERS[packet.icmp[0]], 0))
        cases.append(Case("is answered", back, packet.flow in ec2.flows and ec2.delivers(back), noted))
    send("is answered", answers(right))
    wire.settle(cases, 0.08)
    other = "egress" if direction == "ingress" else "ingress"
    left = tuple(rule for rule in wire.vpc.groups["sg-target"] if rule.direction == other)
    wire.vpc.groups["sg-target"] = ec2.groups["sg-target"] = left
    wire.vpc.apply()
    send("goes on", [packet for packet in right if packet.protocol != TCP or packet.flow in ec2.flows])
    send("is answered on", answers(right))
    _, anew = flows(direction, target.address, friend.address, stranger.address, SECOND)
    send("begins anew", anew)
    wire.settle(cases, 0.12)
    return cases


def _mark(cases: list[Case], packet: Packet) -> bytes:
    return next(case.noted[2] for case in cases if case.packet == packet)


def _answer(packet: Packet) -> Packet:
    return Packet(packet.receiver, packet.sender, packet.protocol, packet.ports[::-1], packet.icmp)


_judged: dict[tuple[object, ...], set[bool]] = defaultdict(set)
_count = 0


@pytest.mark.parametrize(("direction", "kind", "allowed"), SCENARIOS)
def test_packets_pass_as_documented(wire: Wire, direction: str, kind: str, allowed: str):
    global _count
    cases = observe(wire, direction, kind, allowed)
    wrong = [
        f"{case.stage}: {case.packet} {'should have arrived' if case.expected else 'arrived'}"
        for case in cases
        if (case.noted in wire.arrived) != case.expected
    ]
    assert wrong == []
    _count += len(cases)
    for case in cases:
        _judged[direction, kind, case.packet.protocol].add(case.expected)


def test_every_case_has_a_twin_that_ends_the_other_way():
    """Of each protocol, direction and kind of peer some packets passed and some did not."""
    assert len(_judged) == 2 * len(KINDS) * (3 + len(RAW))
    assert [key for key, outcomes in _judged.items() if len(outcomes) != 2] == []
    assert _count >= 150


ICMPV6 = 58
V6_KINDS = {
    "anywhere": [Rule("ingress", "-1", cidr="::/0")],
    "one block": [Rule("ingress", "-1", cidr="fd00::/16")],
    "group": [Rule("ingress", "-1", group="sg-open")],
    "each protocol": [
        *(Rule("ingress", str(protocol), 0, 65535, cidr="::/0") for protocol in (TCP, UDP)),
        Rule("ingress", str(ICMPV6), -1, -1, cidr="::/0"),
        *(Rule("ingress", str(protocol), cidr="::/0") for protocol in RAW),
    ],
}
"""Rules that allow IPv6 as far as EC2 understands them; each is tried as an outbound rule too."""


def v6_packets(near: Instance, near_address: str, far: Instance, far_address: str) -> set[int]:
    """One packet of each protocol; those that arrive."""
    arrived, listening = set(), {}
    with ExitStack() as stack:
        for protocol in (TCP, UDP, ICMPV6, *RAW):
            kind = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}.get(protocol, socket.SOCK_RAW)
            sender, receiver = (stack.enter_context(end.socket(kind, protocol, socket.AF_INET6)) for end in (near, far))
            sender.setblocking(False)
            if kind != socket.SOCK_RAW:
                receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                receiver.bind((far_address, 9))
            if protocol == TCP:
                receiver.listen()
                sender.connect_ex((far_address, 9))
            else:
                # As an ICMPv6 message: an echo request.
                sender.sendto(b"\x80" + bytes(15), (far_address, 9 if protocol == UDP else 0))
            listening[receiver] = protocol
        deadline = time.monotonic() + 0.1
        while (left := deadline - time.monotonic()) > 0:
            for receiver in select.select(list(listening), [], [], left)[0]:
                protocol = listening[receiver]
                source = receiver.accept()[1][0] if protocol == TCP else receiver.recvfrom(100)[1][0]
                if source == near_address:
                    arrived.add(protocol)
    return arrived


def test_ipv6_is_shut_whatever_rules_say_and_passes_where_there_are_none(vpc: Vpc):
    """EC2's instances in subnets without IPv6 have no IPv6 address. Here somebody gave them some: not even then."""
    a, b = vpc.instance("sg-1", "sg-open"), vpc.instance("sg-1", "sg-open")
    everything = {TCP, UDP, ICMPV6, *RAW}
    near, far = vpc.give_ipv6(a), vpc.give_ipv6(b)
    passed, count = {}, 0
    for kind, rules in V6_KINDS.items():
        for other_way in (False, True):
            both = [*rules, *(replace(rule, direction="egress") for rule in rules)]
            for stage in ("allowed", "revoked", "no rules at all"):
                # Friendly rules for IPv4 all the time: they say nothing about IPv6.
                vpc.groups["sg-1"] = (ALL_IN, ALL_OUT, *(both if stage == "allowed" else ()))
                vpc.apply()
                if stage == "no rules at all":
                    with namespace.entered(vpc.router_namespace):
                        subprocess.run(["nft", "flush", "ruleset"], check=True)
                ends = (b, far, a, near) if other_way else (a, near, b, far)
                passed[kind, other_way, stage] = v6_packets(*ends)
                count += len(everything)
    assert passed == {key: everything if key[2] == "no rules at all" else set() for key in passed}
    assert count >= 150
