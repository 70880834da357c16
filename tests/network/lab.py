"""A VPC of real namespaces, and instances that send real packets."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from phalanx.network import namespace
from phalanx.network.model import ENI_MTU, NO_EXITS, Eni, Exits, Guard, Rule, SecurityGroup, VpcState
from phalanx.network.router import Router
from phalanx.network.ruleset import device

ALL_OUT = Rule("egress", "-1", cidr="0.0.0.0/0")
ALL_IN = Rule("ingress", "-1", cidr="0.0.0.0/0")
QUIET = 0.25
"""Seconds after which a packet between two namespaces of one host will not come any more."""
FRAGMENTED = 2 * ENI_MTU
"""Bytes of data that need three fragments where packets are as long as between hosts."""


def ipv4(source: str, destination: str, protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    """An IPv4 packet; the kernel fills in length and checksum. `fragment` holds RFC 791's flags and offset."""
    return (
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(payload),
            7,
            fragment,
            64,
            protocol,
            0,
            socket.inet_aton(source),
            socket.inet_aton(destination),
        )
        + payload
    )


def icmp(kind: int, identifier: int, payload: bytes) -> bytes:
    """An ICMP request, whole with its checksum; `payload` has an even length."""
    body = struct.pack("!HH", identifier, 1) + payload
    return struct.pack("!BBH", kind, 0, _checksum(struct.pack("!BBH", kind, 0, 0) + body)) + body


@dataclass
class Instance:
    """One end: a namespace with an ENI."""

    eni: Eni
    namespace: str

    @property
    def address(self) -> str:
        return self.eni.address

    def socket(self, kind: int, protocol: int = 0, family: int = socket.AF_INET) -> socket.socket:
        with namespace.entered(self.namespace):
            opened = socket.socket(family, kind, protocol)
        opened.settimeout(QUIET)
        return opened

    def udp(self, port: int) -> socket.socket:
        opened = self.socket(socket.SOCK_DGRAM)
        opened.bind((self.address, port))
        return opened

    def shorten(self) -> None:
        """Have its packets no longer than between hosts from now on."""
        with namespace.entered(self.namespace):
            subprocess.run(["ip", "link", "set", "eth0", "mtu", str(ENI_MTU)], check=True)

    def send_raw(self, packet: bytes) -> None:
        with self.socket(socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
            opened.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def reaches_udp(self, other: Instance, port: int, source: int = 40000) -> bool:
        """Whether one datagram to `port` arrives."""
        with other.udp(port) as receiver, self.udp(source) as sender:
            sender.sendto(b"x", (other.address, port))
            return _received(receiver)

    def reaches_protocol(self, other: Instance, protocol: int, payload: bytes = b"\0\0\x10\1" + bytes(60)) -> bool:
        """Whether one packet of an IP protocol arrives."""
        with (
            other.socket(socket.SOCK_RAW, protocol) as receiver,
            self.socket(socket.SOCK_RAW, protocol) as sender,
        ):
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sender.sendto(payload, (other.address, 0))
            return _received(receiver)

    def reaches_tcp(self, other: Instance, port: int) -> bool:
        """Whether a connection to `port` carries a byte there and back."""
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(other.socket(socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((other.address, port))
            listener.listen()
            try:
                near, far = stack.enter_context(self.socket(socket.SOCK_STREAM)), None
                near.connect((other.address, port))
                far = stack.enter_context(listener.accept()[0])
                far.settimeout(QUIET)
                near.sendall(b"a")
                far.sendall(far.recv(1))
                return near.recv(1) == b"a"
            except TimeoutError:
                return False

    def pings(self, other: Instance, kind: int = 8) -> bool:
        """Whether the other's kernel answers an ICMP request (8 echo, 13 timestamp)."""
        with self.socket(socket.SOCK_RAW, socket.IPPROTO_ICMP) as opened:
            opened.sendto(icmp(kind, os.getpid() & 0xFFFF, bytes(12)), (other.address, 0))
            return _received(opened)


@dataclass
class Vpc:
    """A router and its instances; `apply` remembers what it was told, so that a test changes one thing at a time."""

    prefix: str
    router: Router = field(init=False)
    groups: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()
    exits: Exits = NO_EXITS
    instances: list[Instance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.router = Router(self.router_namespace)

    @property
    def router_namespace(self) -> str:
        return f"{self.prefix}router"

    @property
    def state(self) -> VpcState:
        groups = tuple(SecurityGroup(id_, rules) for id_, rules in self.groups.items())
        return VpcState("vpc-1", groups, tuple(instance.eni for instance in self.instances), self.guards, self.exits)

    def apply(self) -> None:
        self.router.apply(self.state)

    def instance(self, *groups: str) -> Instance:
        number = len(self.instances) + 4
        made = Instance(Eni(f"eni-0123456789abcde{number:02}", f"10.0.0.{number}", groups), f"{self.prefix}{number}")
        self.instances.append(made)
        namespace.create(made.namespace)
        self.router.attach(made.eni, made.namespace)
        return made

    def give_ipv6(self, instance: Instance) -> str:
        """Switch on IPv6 at both ends of an ENI, as somebody with root in either could; the instance's new address."""
        end, prefix = device(instance.eni.id), f"fd00:{self.instances.index(instance) + 1:x}:"
        with namespace.entered(self.router_namespace):
            namespace.sysctl(f"net/ipv6/conf/{end}/disable_ipv6", "0")
            namespace.sysctl("net/ipv6/conf/all/forwarding", "1")
        with namespace.entered(instance.namespace):
            namespace.sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")
        for where, link, own, peer, beyond in (
            (self.router_namespace, end, f"{prefix}:1", f"{prefix}:2", instance.namespace),
            (instance.namespace, "eth0", f"{prefix}:2", f"{prefix}:1", self.router_namespace),
        ):
            run(where, "ip", "addr", "add", f"{own}/64", "dev", link, "nodad")
            # Neighbours are static, so that only the packet itself is at stake.
            mac = run(beyond, "ip", "-br", "link", "show", end if link == "eth0" else "eth0").split()[2]
            run(where, "ip", "neigh", "replace", peer, "lladdr", mac, "dev", link)
        run(instance.namespace, "ip", "route", "add", "default", "via", f"{prefix}:1")
        return f"{prefix}:2"


def run(where: str, *command: str) -> str:
    """What a command prints in a namespace."""
    with namespace.entered(where):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def guard(job: str, *instances: Instance) -> Guard:
    return Guard(job, tuple(instance.address for instance in instances))


def eventually(check: Callable[[], bool]) -> bool:
    """Whether `check()` comes true within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


def _received(opened: socket.socket) -> bool:
    try:
        return bool(opened.recv(1 << 16))
    except TimeoutError:
        return False


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
