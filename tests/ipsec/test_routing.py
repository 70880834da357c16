"""Rules and routes that somebody else made: seen whatever they select, and taken away again; no packet of theirs gets out."""

from __future__ import annotations

import contextlib
import socket
import subprocess

from ipsec.lab import Wire, run
from phalanx.ipsec import guard, netns, routing
from phalanx.linux.netlink import Netlink

PEER = "10.99.0.2"
FOREIGN = [
    f"rule add to {PEER} lookup 77 pref 5",
    "rule add from all lookup 77",
    f"rule add to {PEER} ipproto udp dport 7777 lookup 77",
    "rule add fwmark 7 lookup 77",
    "rule add uidrange 100000-165535 lookup 77",
    "rule add not from 192.0.2.1 lookup 77",
    "rule add tos 0x10 lookup 77",
    "rule add from all lookup main suppress_prefixlength 31 pref 9",
    f"rule add to {PEER} blackhole",
    "rule delete pref 32766",
    f"route add {PEER}/32 tos 0x10 via 169.254.1.1 dev eth0 onlink",
    f"route add {PEER}/32 metric 5 via 169.254.1.1 dev eth0 onlink",
    f"route add local {PEER}/32 dev lo table local",
    "route add local 10.99.0.0/29 dev lo table local",
    f"route add blackhole {PEER}/32 metric 7",
    f"route delete {PEER}/32 dev ipsec0",
]


def test_whatever_leads_elsewhere_is_seen_and_mended(wire: Wire) -> None:
    one, two = wire.hosts
    assert two.address == PEER
    wire.mesh()
    capture = wire.capture()
    for command in FOREIGN:
        run("ip", "-n", one.space, *command.split())
        assert one.member.health() is not None, command
        with one.open("eth0") as bound, one.open() as plain:
            for opened in (bound, plain):
                with contextlib.suppress(OSError):
                    opened.sendto(b"in the clear", (PEER, 7777))
        one.member.recover(10)
        assert one.member.health() is None, command
    assert one.reaches(two)
    assert capture.plaintext() == []


def test_rules_of_a_new_namespace_are_the_kernels_and_nothing_is_done(wire: Wire) -> None:
    one, two = wire.hosts
    before = run("ip", "-n", one.space, "rule")
    with netns.inside(one.space, lambda: Netlink(socket.NETLINK_ROUTE)) as kernel:
        assert routing.check(one.space, kernel) is None
    guard.up(one.space, [two.address], "eth0")
    assert run("ip", "-n", one.space, "rule") == before
    subprocess.run(["ip", "-n", one.space, "rule", "flush"], check=True)
    with netns.inside(one.space, lambda: Netlink(socket.NETLINK_ROUTE)) as kernel:
        assert "lacks" in str(routing.check(one.space, kernel))
    guard.up(one.space, [two.address], "eth0")
    assert run("ip", "-n", one.space, "rule") == before
