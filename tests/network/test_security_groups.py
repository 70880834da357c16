"""What security groups let through, shown with packets."""

from __future__ import annotations

import socket
import subprocess

import pytest

from network.lab import ALL_IN, ALL_OUT, Vpc, ipv4
from phalanx.network import namespace
from phalanx.network.model import Eni, Rule
from phalanx.network.ruleset import device

DOCUMENTED = (
    Rule("ingress", "17", 500, 500, group="sg-1"),
    Rule("ingress", "50", group="sg-1"),
    Rule("egress", "17", 500, 500, group="sg-1"),
    Rule("egress", "50", group="sg-1"),
)
"""The four rules that SageMaker's documentation asks for."""


def test_documented_rules_allow_ike_and_esp_only(vpc: Vpc):
    vpc.groups["sg-1"] = DOCUMENTED
    a, b = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    assert a.reaches_udp(b, 500, source=500)
    assert b.reaches_udp(a, 500, source=500)
    assert a.reaches_protocol(b, 50)
    assert b.reaches_protocol(a, 50)
    assert not a.reaches_udp(b, 4500, source=4500)
    assert not a.reaches_udp(b, 501)
    assert not a.reaches_protocol(b, 47)
    assert not a.reaches_protocol(b, 51)
    assert not a.reaches_tcp(b, 500)
    assert not a.pings(b)


def test_tcp_comes_back_but_is_not_opened_the_other_way(vpc: Vpc):
    vpc.groups["client"] = (ALL_OUT,)
    vpc.groups["server"] = (Rule("ingress", "6", 8000, 8010, group="client"),)
    client, server = vpc.instance("client"), vpc.instance("server")
    vpc.apply()
    assert client.reaches_tcp(server, 8000)
    assert client.reaches_tcp(server, 8010)
    assert not client.reaches_tcp(server, 7999)
    assert not client.reaches_tcp(server, 8011)
    assert not server.reaches_tcp(client, 8000)


def test_both_sides_must_allow(vpc: Vpc):
    vpc.groups.update({"in": (ALL_IN,), "out": (ALL_OUT,), "none": ()})
    both, receiver, mute = vpc.instance("in", "out"), vpc.instance("in"), vpc.instance("none")
    vpc.apply()
    assert both.reaches_udp(receiver, 9)
    assert not receiver.reaches_udp(both, 9)
    assert not both.reaches_udp(mute, 9)
    assert not mute.reaches_udp(both, 9)


def test_rules_of_several_groups_add_up(vpc: Vpc):
    vpc.groups["nine"] = (ALL_OUT, Rule("ingress", "17", 9, 9, cidr="10.0.0.0/24"))
    vpc.groups["ten"] = (Rule("ingress", "17", 10, 10, cidr="10.0.0.0/24"), Rule("ingress", "17", 11, 11, cidr="10.1.0.0/16"))
    a, b = vpc.instance("nine"), vpc.instance("nine", "ten")
    vpc.apply()
    assert a.reaches_udp(b, 9)
    assert a.reaches_udp(b, 10)
    assert not a.reaches_udp(b, 11)
    assert not b.reaches_udp(a, 10)


def test_egress_by_group_and_by_network(vpc: Vpc):
    vpc.groups["a"] = (Rule("egress", "17", 9, 9, group="b"), Rule("egress", "17", 10, 10, cidr="10.0.0.6/32"))
    vpc.groups["b"] = vpc.groups["c"] = (ALL_IN,)
    a, b, c = vpc.instance("a"), vpc.instance("b"), vpc.instance("c")
    vpc.apply()
    assert c.address == "10.0.0.6"
    assert a.reaches_udp(b, 9)
    assert not a.reaches_udp(c, 9)
    assert a.reaches_udp(c, 10)
    assert not a.reaches_udp(b, 10)


def test_icmp_by_type(vpc: Vpc):
    vpc.groups["sg-1"] = (ALL_OUT, Rule("ingress", "1", 8, -1, group="sg-1"))
    a, b = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    assert a.pings(b)
    assert not a.pings(b, kind=13)


def test_unknown_group_allows_nothing(vpc: Vpc):
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    a, b = vpc.instance("sg-1"), vpc.instance("sg-gone")
    vpc.apply()
    assert not a.reaches_udp(b, 9)
    assert not b.reaches_udp(a, 9)


def test_revoking_stops_esp_at_once_and_new_flows(vpc: Vpc):
    vpc.groups["sg-1"] = DOCUMENTED
    a, b = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    assert a.reaches_protocol(b, 50)
    assert b.reaches_protocol(a, 50)
    vpc.groups["sg-1"] = tuple(rule for rule in DOCUMENTED if rule.protocol != "50" or rule.direction == "egress")
    vpc.apply()
    assert not a.reaches_protocol(b, 50)
    assert not b.reaches_protocol(a, 50)
    assert a.reaches_udp(b, 500, source=500)
    vpc.groups["sg-1"] = ()
    vpc.apply()
    assert not a.reaches_udp(b, 500, source=501)


def test_new_owner_of_an_address_inherits_no_connections(vpc: Vpc):
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    a, b = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    assert a.reaches_udp(b, 9)
    assert b.reaches_udp(a, 40000, source=9)
    vpc.groups["sg-1"] = ()
    vpc.apply()
    # A tracked connection outlives its rule, as in EC2 …
    assert a.reaches_udp(b, 9)
    vpc.router.detach(a.eni.id)
    a.eni = Eni("eni-of-another-job", a.address, ("sg-1",))
    vpc.router.attach(a.eni, a.namespace)
    vpc.apply()
    # … but not its owner.
    assert not a.reaches_udp(b, 9)


@pytest.mark.parametrize("strict", ["1", "0"])
def test_spoofed_source_is_dropped(vpc: Vpc, strict: str):
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    a, b, c = vpc.instance("sg-1"), vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    with namespace.entered(vpc.router_namespace):
        # Once with the kernel's reverse path filter, once with nftables alone.
        for where in ("all", device(a.eni.id)):
            namespace.sysctl(f"net/ipv4/conf/{where}/rp_filter", strict)
    payload = b"\x10\x00\x00\x09\x00\x0c\x00\x00spoof"[:12]
    with b.udp(9) as receiver:
        a.send_raw(ipv4(c.address, b.address, socket.IPPROTO_UDP, payload))
        a.send_raw(ipv4("8.8.8.8", b.address, socket.IPPROTO_UDP, payload))
        with pytest.raises(TimeoutError):
            receiver.recv(100)
        a.send_raw(ipv4(a.address, b.address, socket.IPPROTO_UDP, payload))
        assert receiver.recvfrom(100)[1][0] == a.address


def test_router_itself_answers_nothing(vpc: Vpc):
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    a = vpc.instance("sg-1")
    vpc.apply()
    with a.socket(socket.SOCK_STREAM) as opened, pytest.raises(TimeoutError):
        opened.connect(("169.254.1.1", 80))
    # Nowhere to go but the VPC.
    with a.socket(socket.SOCK_STREAM) as opened, pytest.raises(TimeoutError):
        opened.connect(("192.0.2.1", 80))


@pytest.mark.parametrize("rules", [True, False])
def test_ipv6_is_dropped_even_where_somebody_switches_it_on(vpc: Vpc, rules: bool):
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT, Rule("ingress", "-1", cidr="::/0"), Rule("egress", "-1", cidr="::/0"))
    a, b = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    for instance, suffix in ((a, "a"), (b, "b")):
        end = device(instance.eni.id)
        with namespace.entered(vpc.router_namespace):
            namespace.sysctl(f"net/ipv6/conf/{end}/disable_ipv6", "0")
            namespace.sysctl("net/ipv6/conf/all/forwarding", "1")
        _run(vpc.router_namespace, "ip", "addr", "add", f"fd00:{suffix}::1/64", "dev", end, "nodad")
        with namespace.entered(instance.namespace):
            namespace.sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")
        _run(instance.namespace, "ip", "addr", "add", f"fd00:{suffix}::2/64", "dev", "eth0", "nodad")
        _run(instance.namespace, "ip", "route", "add", "default", "via", f"fd00:{suffix}::1")
        # Neighbours are static, so that only the packet itself is at stake.
        near, far = _mac(instance.namespace, "eth0"), _mac(vpc.router_namespace, end)
        _run(vpc.router_namespace, "ip", "neigh", "replace", f"fd00:{suffix}::2", "lladdr", near, "dev", end)
        _run(instance.namespace, "ip", "neigh", "replace", f"fd00:{suffix}::1", "lladdr", far, "dev", "eth0")
    if not rules:
        _run(vpc.router_namespace, "nft", "flush", "ruleset")
    with namespace.entered(b.namespace):
        receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with namespace.entered(a.namespace):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind(("fd00:b::2", 9))
        receiver.settimeout(0.25)
        sender.sendto(b"x", ("fd00:b::2", 9))
        if rules:
            with pytest.raises(TimeoutError):
                receiver.recv(10)
        else:
            assert receiver.recv(10) == b"x"


def _run(where: str, *command: str) -> str:
    with namespace.entered(where):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _mac(where: str, link: str) -> str:
    return _run(where, "ip", "-br", "link", "show", link).split()[2]
