"""What security groups let through, shown with packets."""

from __future__ import annotations

import socket

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
    vpc.groups["sg-1"] = (Rule("ingress", "-1", group="sg-1"), ALL_OUT)
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
