"""The kernel's block policies, by packets: no charon and no engine is there."""

from __future__ import annotations

import socket
import struct
import subprocess
from pathlib import Path

import pytest

from ipsec.lab import PORT, Host, Wire, run
from phalanx.ipsec import guard, netns
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.xfrm import Xfrm

three = pytest.mark.parametrize("wire", [3], indirect=True)


def counted(host: Host) -> dict[str, int]:
    return {name: count for name, count in netns.xfrm_statistics(host.space).items() if count}


@three
def test_plaintext_to_and_from_a_peer_is_blocked_and_counted(wire: Wire) -> None:
    one, two, _ = wire.hosts
    capture = wire.capture()
    assert one.reaches(two)
    assert len(capture.packets()) == 4  # each crosses two interfaces of the router
    guard.up(one.space, [two.address], "eth0")

    for opened in (one.open(), one.open("eth0")):
        with opened, pytest.raises(PermissionError):
            opened.sendto(b"secret", (two.address, PORT))
    raw = netns.inside(one.space, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 50))
    with raw, pytest.raises(PermissionError):
        raw.sendto(bytes(16), (two.address, 0))
    stream = netns.inside(one.space, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with stream, pytest.raises(PermissionError):
        stream.connect((two.address, PORT))
    assert capture.packets() == []
    assert counted(one) == {"XfrmOutPolBlock": 4}

    two.send(one)
    with pytest.raises(TimeoutError):
        one.receive(0.2)
    assert counted(one) == {"XfrmOutPolBlock": 4, "XfrmInPolBlock": 1}


def test_nothing_is_said_to_everybody_in_the_clear(wire: Wire) -> None:
    one, two = wire.hosts
    capture = wire.capture()
    for guarded in (False, True):
        if guarded:
            guard.up(one.space, [two.address], "eth0")
            capture.packets()  # the kernel tells of the group that was left a moment later, perhaps before the guard stood
        for group in ("224.0.0.1", "239.1.2.3", "255.255.255.255"):
            with one.open("eth0") as opened:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                if guarded:
                    with pytest.raises(PermissionError):
                        opened.sendto(b"secret", (group, PORT))
                else:
                    opened.sendto(b"secret", (group, PORT))
        with one.open("eth0") as opened:  # joining makes the kernel send IGMP
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + bytes(4))
        sent = {packet.destination for packet in capture.packets()}
        assert sent == (set() if guarded else {"224.0.0.1", "239.1.2.3", "255.255.255.255"} | (sent & {"224.0.0.22"}))


@three
def test_others_and_loopback_are_not_touched(wire: Wire) -> None:
    one, two, three_ = wire.hosts
    guard.up(one.space, [two.address], "eth0")
    assert one.reaches(three_)
    assert three_.reaches(one)
    assert one.reaches(one)
    run("nsenter", f"--net={netns.path(one.space)}", "sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = netns.inside(one.space, lambda family=family: socket.socket(family, socket.SOCK_DGRAM))
        client = netns.inside(one.space, lambda family=family: socket.socket(family, socket.SOCK_DGRAM))
        with server, client:
            server.bind((address, 0))
            server.settimeout(1)
            client.sendto(b"hello", server.getsockname())
            assert server.recv(10) == b"hello"
    assert counted(one) == {}


def test_ipv6_is_off_and_blocked_even_where_it_is_switched_on_again(wire: Wire) -> None:
    one, two = wire.hosts
    guard.up(one.space, [two.address], "eth0")
    for host, address in ((one, "fd00::1"), (two, "fd00::2")):
        enter = ("nsenter", f"--net={netns.path(host.space)}")
        run(*enter, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0", "net.ipv6.conf.all.forwarding=0")
        run(*enter, "ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
    assert "eth0/disable_ipv6 lets packets pass" in guard.check(one.space, [two.address], "eth0")
    sender = netns.inside(one.space, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    with sender, pytest.raises(PermissionError):
        sender.sendto(b"secret", ("fd00::2", PORT))


def test_it_stands_before_there_is_a_wire(wire: Wire) -> None:
    one, two = wire.hosts
    space = f"{wire.space}-late"
    run("ip", "netns", "add", space)
    try:
        guard.up(space, [two.address], "eth0")
        assert guard.check(space, [two.address], "eth0") is None
        one.socket.close()
        run("ip", "-n", one.space, "link", "set", "eth0", "netns", space)
        lines = [f"addr add {one.address}/32 dev eth0", "link set eth0 up", "route add 169.254.1.1 dev eth0 scope link"]
        lines += ["route add default via 169.254.1.1 dev eth0"]
        run("ip", "-n", space, "-batch", "-", text="\n".join(lines) + "\n")
        assert guard.check(space, [two.address], "eth0") is None
        late = netns.inside(space, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with late, pytest.raises(PermissionError):
            late.sendto(b"secret", (two.address, PORT))
    finally:
        run("ip", "netns", "del", space)


def test_it_may_be_raised_twice_and_goes_without_a_trace(wire: Wire) -> None:
    one, two = wire.hosts
    for _ in range(2):
        guard.up(one.space, [two.address], "eth0")
    with Xfrm.kernel(one.space) as xfrm:
        assert sorted(map(repr, xfrm.policies())) == sorted(map(repr, guard.policies([two.address])))
    for _ in range(2):
        guard.down(one.space, [two.address])
    with Xfrm.kernel(one.space) as xfrm:
        assert xfrm.policies() == []
    assert one.reaches(two)
    guard.down("phxt-never-was", [two.address])


@pytest.mark.parametrize("key", ["disable_xfrm", "disable_policy"])
@pytest.mark.parametrize("where", ["all", "eth0"])
def test_a_setting_that_lets_packets_pass_is_mended_and_seen(wire: Wire, key: str, where: str) -> None:
    one, two = wire.hosts
    set_ = ("nsenter", f"--net={netns.path(one.space)}", "sysctl", "-qw", f"net.ipv4.conf.{where}.{key}=1")
    run(*set_)
    guard.up(one.space, [two.address], "eth0")
    assert not one.reaches(two, seconds=0.1)
    run(*set_)
    assert key in guard.check(one.space, [two.address], "eth0")


def test_check_names_what_is_missing(wire: Wire) -> None:
    one, two = wire.hosts
    assert "lacks" in guard.check(one.space, [two.address], "eth0")
    guard.up(one.space, [two.address], "eth0")
    assert guard.check(one.space, [two.address], "eth0") is None
    subprocess.run(["ip", "-n", one.space, "xfrm", "policy", "flush"], check=True)
    assert "lacks" in guard.check(one.space, [two.address], "eth0")


@pytest.mark.parametrize("narrow", ["proto udp", "dev lo", "proto tcp dport 22"])
def test_a_policy_for_some_packets_alone_is_not_the_guards(wire: Wire, narrow: str) -> None:
    one, two = wire.hosts
    guard.up(one.space, [two.address], "eth0")
    ip = ["ip", "-n", one.space, "xfrm", "policy"]
    run(*ip, "delete", "dst", f"{two.address}/32", "dir", "out")
    rest = ["dir", "out", "action", "block", "priority", str(guard.PRIORITY)]
    run(*ip, "add", "src", "0.0.0.0/0", "dst", f"{two.address}/32", *narrow.split(), *rest)
    assert "lacks 1 policies, the first: block out" in guard.check(one.space, [two.address], "eth0")
    guard.up(one.space, [two.address], "eth0")
    assert guard.check(one.space, [two.address], "eth0") is None


ESP = "tmpl src {one} dst {two} proto esp mode transport"


@pytest.mark.parametrize(
    "rest",
    [
        "priority 1",
        f"priority {guard.LOWEST}",
        f"priority {guard.PRIORITY}",
        f"priority 1 {ESP} level use",
        "priority 1 tmpl proto comp mode transport",
        "proto udp dport 9999 priority 1",
        "priority 1 mark 7 mask 7",
        "priority 1 if_id 3",
    ],
)
def test_a_policy_above_it_that_lets_packets_pass_is_seen_and_removed(wire: Wire, rest: str) -> None:
    one, two = wire.hosts
    guard.up(one.space, [two.address], "eth0")
    for direction, source, destination in (("out", one, two), ("in", two, one)):
        ends = ("src", f"{source.address}/32", "dst", f"{destination.address}/32")
        more = rest.format(one=source.address, two=destination.address).split()
        run("ip", "-n", one.space, "xfrm", "policy", "add", "dir", direction, "action", "allow", *ends, *more)
    assert "2 policies that somebody made" in guard.check(one.space, [two.address], "eth0")
    guard.up(one.space, [two.address], "eth0")
    assert guard.check(one.space, [two.address], "eth0") is None
    assert not one.reaches(two, seconds=0.1)
    with Xfrm.kernel(one.space) as xfrm:
        assert sorted(map(repr, xfrm.policies())) == sorted(map(repr, guard.policies([two.address])))


def test_policies_that_demand_esp_and_those_of_single_sockets_are_no_fault(wire: Wire) -> None:
    one, two = wire.hosts
    guard.up(one.space, [two.address], "eth0")
    selector = ["src", f"{one.address}/32", "dst", f"{two.address}/32", "dir", "out", "priority", "1"]
    run("ip", "-n", one.space, "xfrm", "policy", "add", *selector, *ESP.format(one=one.address, two=two.address).split())
    with one.open() as own:
        bypass = struct.pack(
            "=56s64s32sIIBBBB4x", bytes(40) + struct.pack("=H", socket.AF_INET) + bytes(14), b"", b"", 0, 0, 1, 0, 0, 0
        )
        own.setsockopt(socket.IPPROTO_IP, 17, bypass)
        assert guard.check(one.space, [two.address], "eth0") is None
        guard.up(one.space, [two.address], "eth0")
        own.sendto(b"x", (two.address, PORT))


def test_no_namespace_no_guard() -> None:
    with pytest.raises(MeshError, match="phxt-never-was"):
        guard.up("phxt-never-was", ["192.0.2.1"], "eth0")
    assert not Path(netns.path("phxt-never-was")).exists()
