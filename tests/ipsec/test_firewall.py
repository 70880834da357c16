"""Who reaches the ports of an IKE daemon, by packets: no charon is there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ipsec.lab import Host, Wire, run
from phalanx.ipsec import netns
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.firewall import PORTS, Firewall

three = pytest.mark.parametrize("wire", [3], indirect=True)
OTHER = 4501
WAYS = ("peer", "stranger", "self", "loopback")


@pytest.fixture
def listeners(wire: Wire) -> Iterator[dict[int, socket.socket]]:
    """Sockets of the first host on the daemon's ports and another, for IPv4 and IPv6."""
    with ExitStack() as stack:
        found = {}
        for port in (*PORTS, OTHER):
            opened = netns.inside(wire.hosts[0].space, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            found[port] = stack.enter_context(opened)
            opened.bind(("::", port))
            opened.settimeout(0.3)
        yield found


def heard(wire: Wire, listener: socket.socket) -> set[str]:
    """Which of WAYS lead to a socket of the first host's."""
    one, two, three_ = wire.hosts
    port = listener.getsockname()[1]
    for way, sender, address in zip(WAYS, (two, three_, one, one), (*[one.address] * 3, "127.0.0.1"), strict=True):
        with sender.open() as program:
            program.sendto(way.encode(), (address, port))
    found = set()
    while True:
        try:
            found.add(listener.recv(100).decode())
        except TimeoutError:
            return found


@three
def test_peers_over_the_wire_and_nobody_else(wire: Wire, listeners: dict[int, socket.socket]) -> None:
    one, two, _ = wire.hosts
    for port in listeners:
        assert heard(wire, listeners[port]) == set(WAYS)
    firewall = Firewall(one.space, [two.address], "eth0")
    firewall.up()
    for port in PORTS:
        assert heard(wire, listeners[port]) == {"peer"}
    assert heard(wire, listeners[OTHER]) == set(WAYS)


def test_a_long_packet_in_fragments_is_one(wire: Wire) -> None:
    one, two = wire.hosts
    Firewall(one.space, ["192.0.2.1"], "eth0").up()
    with netns.inside(one.space, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener, two.open() as program:
        listener.bind((one.address, PORTS[0]))
        listener.settimeout(0.2)
        program.sendto(bytes(60000), (one.address, PORTS[0]))
        with pytest.raises(TimeoutError):
            listener.recv(65535)
        Firewall(one.space, [two.address], "eth0").up()
        program.sendto(bytes(60000), (one.address, PORTS[0]))
        assert len(listener.recv(65535)) == 60000


@three
def test_ipv6_is_shut_out_too(wire: Wire, listeners: dict[int, socket.socket]) -> None:
    one, two, _ = wire.hosts
    run("nsenter", f"--net={netns.path(one.space)}", "sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0")
    Firewall(one.space, [two.address], "eth0").up()
    with netns.inside(one.space, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as program:
        for port in listeners:
            program.sendto(b"hello", ("::1", port))
    for port in PORTS:
        with pytest.raises(TimeoutError):
            listeners[port].recv(100)
    assert listeners[OTHER].recv(100) == b"hello"


def rules(host: Host) -> str:
    return run("nsenter", f"--net={netns.path(host.space)}", "nft", "list", "ruleset")


def test_what_somebody_changed_is_put_back(wire: Wire) -> None:
    one, two = wire.hosts
    firewall = Firewall(one.space, [two.address], "eth0")
    firewall.up()
    wanted = rules(one)
    for change in ("flush ruleset", "flush table inet phalanx", "insert rule inet phalanx input accept"):
        run("nsenter", f"--net={netns.path(one.space)}", "nft", *change.split())
        assert rules(one) != wanted
        firewall.up()
        assert rules(one) == wanted
    Firewall(one.space, [two.address], "eth0").up()
    assert rules(one) == wanted


def test_rules_that_stand_are_only_looked_at(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = wire.hosts
    firewall = Firewall(one.space, [two.address], "eth0")
    firewall.up()
    monkeypatch.setenv("PATH", "/nowhere")
    firewall.up()
    with pytest.raises(MeshError, match=f"in namespace {one.space}: cannot run nft"):
        Firewall(one.space, [two.address], "eth0").up()


def test_no_namespace_no_firewall() -> None:
    with pytest.raises(MeshError, match="phxt-never-was"):
        Firewall("phxt-never-was", ["192.0.2.1"], "eth0").up()
