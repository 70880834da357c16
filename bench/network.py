"""What a VPC's router costs a packet with 60 and 600 security-group rules, and with 1,000 members, against one rule.

Each variant is a router of its own with two real ENIs. ESP is never tracked and meets the rules with every packet; so does a
UDP flow that nobody answers. The round trip is that of a tracked flow.
"""

from __future__ import annotations

import ctypes
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial

from pyroute2 import IPRoute

from bench.engine import Suite
from bench.result import Result
from phalanx.network import namespace
from phalanx.network.model import Eni, Rule, SecurityGroup, VpcState
from phalanx.network.router import Router

GROUPS = tuple(f"sg-{number}" for number in range(5))
"""As many as EC2 lets an ENI have; each may have 60 rules in a direction."""
BATCH = 64
"""Packets of one system call."""
PAYLOAD = bytes(64)
UDP_PORT = 9000

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Mmsghdr(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2)) with the msghdr in it, as on 64-bit Linux."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Iovec)),
        ("vectors_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),  # an int, and the padding of msghdr
        ("sent", ctypes.c_size_t),
    )


class Vpc:
    """A router with two attached instances, `hosts`, and as many more members as `rules` are to meet."""

    def __init__(self, name: str, rules: Sequence[Rule], members: int) -> None:
        self._prefix = f"phxb{os.getpid()}-{name}-"
        self._router = Router(f"{self._prefix}router")
        self._sockets: list[socket.socket] = []
        enis = [Eni(f"eni-{number:017}", f"10.0.{number // 200}.{4 + number % 200}", GROUPS) for number in range(members)]
        self.hosts = [eni.address for eni in enis[:2]]
        try:
            self._router.ensure()
            for number, eni in enumerate(enis[:2]):
                namespace.create(f"{self._prefix}{number}")
                self._router.attach(eni, f"{self._prefix}{number}")
            shares = tuple(SecurityGroup(group, tuple(rules[at :: len(GROUPS)])) for at, group in enumerate(GROUPS))
            self._router.apply(VpcState("vpc-bench", shares, tuple(enis), ()))
        except BaseException:
            self.close()
            raise

    def open(self, number: int, kind: int, protocol: int) -> socket.socket:
        """A socket in an instance."""
        with namespace.entered(f"{self._prefix}{number}"):
            opened = socket.socket(socket.AF_INET, kind, protocol)
        self._sockets.append(opened)
        return opened

    def rate(self, kind: int, protocol: int) -> Callable[[float], float]:
        """Prepares a one-way flow; called with seconds, it gives the 1,000 packets that arrive in each."""
        sender, receiver = self.open(0, kind, protocol), self.open(1, kind, protocol)
        # Somebody listens, so that no ICMP error comes back; nobody reads.
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._connect(sender, receiver, UDP_PORT)
        vector = _Iovec(PAYLOAD, len(PAYLOAD))
        batch = (_Mmsghdr * BATCH)(*[_Mmsghdr(vectors=ctypes.pointer(vector), vectors_length=1) for _ in range(BATCH)])

        def measure(seconds: float) -> float:
            before, sent, found = self._received(), 0, []
            until = time.perf_counter() + seconds
            # A packet has crossed the router when its send returns. A batch is short, so that most are not disturbed.
            while (began := time.perf_counter()) < until:
                sent += _libc.sendmmsg(sender.fileno(), batch, BATCH, 0)
                found.append(BATCH / (time.perf_counter() - began) / 1000)
            arrived = self._received() - before
            if arrived < len(found) * BATCH:
                raise RuntimeError(f"{sent} packets were sent and {arrived} crossed: {os.strerror(ctypes.get_errno())}")
            return statistics.median(found)

        return measure

    def round_trip(self) -> Callable[[float], float]:
        """Prepares a tracked UDP flow; called with seconds, it gives the microseconds from a request to its answer.

        One thread holds both ends, so that no process has to be woken.
        """
        near, far = self.open(0, socket.SOCK_DGRAM, 0), self.open(1, socket.SOCK_DGRAM, 0)
        self._connect(near, far, UDP_PORT + 1)
        far.connect((self.hosts[0], UDP_PORT + 1))
        for opened in (near, far):
            opened.settimeout(5)

        def measure(seconds: float) -> float:
            found = []
            until = time.perf_counter() + seconds
            while (began := time.perf_counter_ns()) < until * 1e9:
                near.send(PAYLOAD)
                far.send(far.recv(100))
                near.recv(100)
                found.append((time.perf_counter_ns() - began) / 1000)
            return statistics.median(found)

        return measure

    def _connect(self, sender: socket.socket, receiver: socket.socket, port: int) -> None:
        receiver.bind((self.hosts[1], port))
        sender.bind((self.hosts[0], port))
        sender.connect((self.hosts[1], port))

    def _received(self) -> int:
        with namespace.entered(f"{self._prefix}1"), IPRoute() as netlink:
            (link,) = netlink.get_links(netlink.link_lookup(ifname="eth0")[0])
            return int(link.get("stats64")["rx_packets"])

    def close(self) -> None:
        for opened in self._sockets:
            opened.close()
        for name in namespace.listing(self._prefix):
            namespace.delete(name)


def rules(number: int) -> list[Rule]:
    """So many rules, half of them each way, of all kinds; the last ones are about what is measured, alone if they are all."""
    needed = [
        Rule("ingress", "50", group=GROUPS[0]),
        Rule("ingress", "17", UDP_PORT, UDP_PORT + 1, group=GROUPS[1]),
    ]
    found: list[Rule] = []
    for at in range(number // 2 - len(needed)):
        block = f"10.{1 + at % 200}.0.0/16"
        kinds = (("6", 2 * at, 2 * at + 9), ("17", 2 * at, 2 * at), ("50", None, None), ("1", at % 256, -1), ("47", None, None))
        protocol, low, high = kinds[at % len(kinds)]
        found.append(Rule("ingress", protocol, low, high, cidr=block))
    found += needed
    return [*found, *(Rule("egress", rule.protocol, rule.from_port, rule.to_port, rule.cidr, rule.group) for rule in found)]


VARIANTS = {"60": (60, 2, "60 rules"), "600": (600, 2, "600 rules"), "members": (60, 1000, "60 rules, 1,000 members")}


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """Each measurement in turns, so that a busy moment of the machine meets all variants."""
    seconds, rounds = (0.1, 5) if quick else (0.2, 15)
    with ExitStack() as stack:
        suite = Suite(stack, seconds, lambda name: not chosen or name in chosen)
        for name, (number, members, _) in {"1": (1, 2, ""), **VARIANTS}.items():
            vpc = stack.enter_context(closing(Vpc(name, rules(number), members)))
            esp = vpc.rate(socket.SOCK_RAW, socket.IPPROTO_ESP)
            udp = vpc.rate(socket.SOCK_DGRAM, 0)
            tracked = vpc.round_trip()
            suite.measures[f"esp-{name}"] = partial(esp, seconds)
            suite.measures[f"udp-{name}"] = partial(udp, seconds)
            suite.measures[f"rr-{name}"] = partial(tracked, seconds)
        for name, (_, _, words) in VARIANTS.items():
            suite.case(f"rules-esp-{name}", f"esp-{name}", "esp-1", f"router, ESP, {words}", "1 rule", "kpps")
            suite.case(f"rules-udp-{name}", f"udp-{name}", "udp-1", f"router, unanswered UDP, {words}", "1 rule", "kpps")
            suite.case(f"rules-rr-{name}", f"rr-{name}", "rr-1", f"router, tracked round trip, {words}", "1 rule", "us")
        return suite.run(rounds)
