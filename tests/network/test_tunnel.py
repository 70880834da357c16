"""One VPC on two hosts: two namespaces with a link between them, and in each a router of the VPC."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field, replace

import pytest

from network.lab import ALL_IN, ALL_OUT, Instance, guard, icmp, ipv4, run
from phalanx.network import namespace, tunnel
from phalanx.network.errors import NetworkError
from phalanx.network.model import (
    ENI_MTU,
    HOST_MTU,
    NO_EXITS,
    Acl,
    AclRule,
    Eni,
    Exits,
    Guard,
    Overlay,
    Remote,
    Rule,
    SecurityGroup,
    VpcState,
)
from phalanx.network.router import Router
from phalanx.network.ruleset import TUNNEL

VNI = 0xABCDEF
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h
HEADERS = 20 + 20 + 12
"""Bytes of IPv4 and of TCP with its timestamps."""


@dataclass
class Host:
    """A host: a namespace with the address `address` on the link, and the VPC's router on it."""

    name: str
    address: str
    instances: list[Instance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.router = Router(f"{self.name}-router")
        self.router.ensure()


@dataclass
class Lab:
    """Two hosts and what the control plane tells them."""

    prefix: str
    a: Host
    b: Host
    groups: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()
    exits: Exits = NO_EXITS

    def instance(self, host: Host, *groups: str, mtu: int = 1450) -> Instance:
        number = 4 + len(self.a.instances) + len(self.b.instances)
        made = Instance(Eni(f"eni-{number}", f"10.0.0.{number}", groups, mtu), f"{self.prefix}{number}")
        namespace.create(made.namespace)
        host.router.attach(made.eni, made.namespace)
        host.instances.append(made)
        return made

    def apply(self) -> None:
        groups = tuple(SecurityGroup(id_, rules) for id_, rules in self.groups.items())
        for host, other in ((self.a, self.b), (self.b, self.a)):
            remotes = tuple(Remote(instance.eni, other.address) for instance in other.instances)
            enis = tuple(instance.eni for instance in host.instances)
            host.router.apply(VpcState("vpc-1", groups, enis, self.guards, self.exits, remotes))
            with namespace.entered(host.name):
                host.router.reach(Overlay(VNI, host.address, remotes))


@pytest.fixture
def lab(prefix: str) -> Lab:
    names = f"{prefix}a", f"{prefix}b"
    for name in names:
        namespace.create(name)
    run(names[0], "ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1])
    for name, address in zip(names, ("192.168.7.1", "192.168.7.2"), strict=True):
        run(name, "ip", "addr", "add", f"{address}/24", "dev", "wire")
        run(name, "ip", "link", "set", "wire", "up")
    return Lab(prefix, Host(names[0], "192.168.7.1"), Host(names[1], "192.168.7.2"))


def test_network_acls_watch_borders_that_are_between_hosts(lab: Lab):
    lab.groups["sg-1"] = (ALL_OUT, ALL_IN)
    one, two = lab.instance(lab.a, "sg-1"), lab.instance(lab.b, "sg-1")
    lab.guards = (guard("job", one, two),)
    rules = [AclRule(100, True, rule) for rule in (ALL_OUT, ALL_IN)]
    denied = [AclRule(number, False, Rule(way, "50", cidr="0.0.0.0/0")) for number, way in ((1, "egress"), (2, "ingress"))]
    for subnet in (one, two):
        for own in ([], denied[:1], denied[1:]):
            lab.exits = Exits(acls=(Acl("acl-1", (f"{subnet.address}/32",), (*own, *rules)),))
            lab.apply()
            out, into = (not own or own[0].rule.direction != way for way in ("egress", "ingress"))
            here, there = (one, two) if subnet is one else (two, one)
            assert (here.reaches_protocol(there, 50), there.reaches_protocol(here, 50)) == (out, into)
            assert here.reaches_udp(there, 500, 500)


def test_groups_are_evaluated_at_both_ends(lab: Lab):
    lab.groups["sg-1"] = (ALL_OUT, Rule("ingress", "6", 7000, 7000, group="sg-1"))
    lab.groups["sg-2"] = (Rule("egress", "6", 7001, 7001, group="sg-1"), ALL_IN)
    one, two, mute = lab.instance(lab.a, "sg-1"), lab.instance(lab.b, "sg-1"), lab.instance(lab.b, "sg-2")
    lab.apply()
    # Members of a group on the other host are members; what answers comes back by the connection.
    assert one.reaches_tcp(two, 7000)
    assert two.reaches_tcp(one, 7000)
    assert not one.reaches_tcp(two, 7002)  # no ingress there
    assert one.reaches_tcp(mute, 7002)
    assert not mute.reaches_tcp(one, 7000)  # no egress here
    lab.groups["sg-1"] = (ALL_OUT,)
    lab.apply()
    assert not one.reaches_udp(two, 7000)


def test_only_what_lives_on_the_other_host_comes_from_it(lab: Lab):
    lab.groups["sg-1"] = (ALL_IN, ALL_OUT)
    one, near, two = lab.instance(lab.a, "sg-1"), lab.instance(lab.a, "sg-1"), lab.instance(lab.b, "sg-1")
    lab.apply()
    assert two.reaches_udp(one, 9)

    def comes(source: str) -> bool:
        """Whether host b's router, in somebody else's hands, puts a packet through to `one` that has this source."""
        with one.socket(socket.SOCK_RAW, 17) as receiver:
            with contextlib.suppress(OSError):
                two_router.send_raw(ipv4(source, one.address, 17, b"\0\1\0\2\0\x0c\0\0fake"))
            try:
                while True:
                    if receiver.recvfrom(1 << 16)[0][12:16] == bytes(map(int, source.split("."))):
                        return True
            except TimeoutError:
                return False

    run(f"{lab.b.name}-router", "nft", "flush", "ruleset")
    two_router = replace(two, namespace=f"{lab.b.name}-router")
    assert comes(two.address)  # so that the check can fail
    assert not comes(near.address)
    assert not comes("10.0.0.99")
    assert not comes("169.254.1.1")


def test_an_instance_cannot_take_the_address_of_one_on_another_host(lab: Lab):
    lab.groups["sg-1"] = (ALL_IN, ALL_OUT)
    one, near, two = lab.instance(lab.a, "sg-1"), lab.instance(lab.a, "sg-1"), lab.instance(lab.b, "sg-1")
    lab.apply()
    with near.socket(socket.SOCK_RAW, 1) as receiver:
        one.send_raw(ipv4(two.address, near.address, 1, icmp(8, 1, bytes(12))))
        with pytest.raises(TimeoutError):
            receiver.recv(1 << 16)


def test_the_guard_holds_on_both_hosts(lab: Lab):
    lab.groups["sg-1"] = (ALL_IN, ALL_OUT)
    one, two = lab.instance(lab.a, "sg-1"), lab.instance(lab.b, "sg-1")
    lab.guards = (guard("job", one, two),)
    lab.apply()
    assert one.reaches_protocol(two, 50)
    assert not one.reaches_tcp(two, 7000)
    assert lab.a.router.counters("job").dropped_packets > 0
    assert lab.b.router.counters("job").dropped_packets == 0
    # Counted once, by the sender's.
    assert [host.router.counters("job").esp_packets for host in (lab.a, lab.b)] == [1, 0]
    # The receiver's guard stands alone where the sender's is gone.
    guards, lab.guards = lab.guards, ()
    lab.apply()
    assert one.reaches_tcp(two, 7000)
    lab.b.router.apply(
        VpcState(
            "vpc-1",
            (SecurityGroup("sg-1", (ALL_IN, ALL_OUT)),),
            (two.eni,),
            guards,
            remotes=(Remote(one.eni, lab.a.address),),
        )
    )
    assert not one.reaches_tcp(two, 7001)
    assert lab.b.router.counters("job").dropped_packets > 0


def test_the_longest_packet_passes_and_the_tunnel_never_fragments(lab: Lab):
    lab.groups["sg-1"] = (ALL_IN, ALL_OUT)
    with namespace.entered(lab.a.name):
        mtu = tunnel.mtu(lab.a.address)
        with pytest.raises(NetworkError, match=r"192\.168\.7\.9"):
            tunnel.mtu("192.168.7.9")
    assert mtu == 1450
    one, two = lab.instance(lab.a, "sg-1", mtu=mtu), lab.instance(lab.b, "sg-1", mtu=mtu)
    lab.apply()
    with two.udp(9) as receiver, one.udp(40000) as sender:
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        sender.sendto(bytes(mtu - 28), (two.address, 9))
        assert len(receiver.recv(1 << 16)) == mtu - 28
    # The engine's packets, which are longer and travel in fragments: both routers put them together, for the guard to see.
    lab.guards = (guard("job", one, two),)
    lab.apply()
    for _ in range(3):
        assert one.reaches_protocol(two, 50, payload=b"\0\0\x10\1" + bytes(65000))
    assert [host.router.counters("job").esp_packets for host in (lab.a, lab.b)] == [3, 0]
    assert not one.reaches_protocol(two, 47, payload=bytes(65000))
    run(lab.a.name, "ip", "link", "set", "wire", "mtu", "9100")
    with namespace.entered(lab.a.name):
        assert tunnel.mtu(lab.a.address) == 9001


@pytest.mark.parametrize(("here", "there"), [(1500, 1500), (9000, 1500), (1500, 9000)])
def test_tcp_between_jobs_that_are_whole_on_their_hosts_fits_the_tunnel(lab: Lab, here: int, there: int):
    lab.groups["sg-1"] = (ALL_IN, ALL_OUT)
    for host, mtu in ((lab.a, here), (lab.b, there)):
        run(host.name, "ip", "link", "set", "wire", "mtu", str(mtu))
    one, near = (lab.instance(lab.a, "sg-1", mtu=HOST_MTU) for _ in range(2))
    two = lab.instance(lab.b, "sg-1", mtu=HOST_MTU)
    lab.apply()
    assert carries(one, two) == carries(two, one) == min(here, there) - tunnel.OVERHEAD - HEADERS
    assert carries(one, near) > ENI_MTU


def carries(one: Instance, two: Instance) -> int:
    """Bytes of the longest segment that a connection begins with, once it has carried more than that both ways."""
    size = 200_000

    def send(connection: socket.socket) -> None:
        with contextlib.suppress(TimeoutError):
            connection.sendall(bytes(size))

    with two.socket(socket.SOCK_STREAM) as listener, one.socket(socket.SOCK_STREAM) as near:
        listener.bind((two.address, 7000))
        listener.listen()
        near.connect((two.address, 7000))
        far, _ = listener.accept()
        with far:
            longest = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            for sender, receiver in ((near, far), (far, near)):
                sender.settimeout(5)
                receiver.settimeout(5)
                sending = threading.Thread(target=send, args=(sender,))
                sending.start()
                arrived = 0
                while arrived < size:
                    arrived += len(receiver.recv(size))
                sending.join()
            return longest


def test_laying_repeats_and_follows(lab: Lab):
    lab.groups["sg-1"] = (ALL_IN, ALL_OUT)
    one, two, gone = lab.instance(lab.a, "sg-1"), lab.instance(lab.b, "sg-1"), lab.instance(lab.b, "sg-1")
    lab.apply()
    assert one.reaches_udp(gone, 9)
    router = f"{lab.a.name}-router"
    before = run(router, "ip", "-d", "link", "show", TUNNEL)
    assert f"id {VNI}" in before
    assert "nolearning" in before
    lab.apply()
    assert run(router, "ip", "-d", "link", "show", TUNNEL) == before
    lab.b.router.detach(gone.eni.id)
    lab.b.instances.remove(gone)
    lab.apply()
    assert gone.address not in run(router, "ip", "route") + run(router, "ip", "neigh")
    assert one.reaches_udp(two, 9)
    # No host left: no entry of one either.
    lab.b.instances.clear()
    lab.apply()
    assert "192.168.7.2" not in run(router, "bridge", "fdb")
    run(router, "ip", "link", "del", TUNNEL)
    lab.b.instances.append(two)
    lab.apply()
    assert one.reaches_udp(two, 9)


def test_a_router_that_is_made_again_at_once_has_its_tunnel(lab: Lab):
    one, _ = lab.instance(lab.a, "sg-1"), lab.instance(lab.b, "sg-1")
    lab.apply()
    with namespace.entered(f"{lab.a.name}-router"):
        # As where the kernel is still busy with namespaces that ended before: this one is not taken down yet.
        alive = socket.socket()
    with alive:
        lab.a.router.destroy()
        lab.a.router.ensure()
        lab.a.router.attach(one.eni, one.namespace)
        lab.apply()
