"""Network ACLs at the borders of subnets: real packets through real ENIs."""

from __future__ import annotations

import socket

import pytest

from network.lab import ALL_IN, ALL_OUT, Vpc, guard
from phalanx.network.model import Acl, AclRule, Exits, Rule

HERE, THERE = "10.0.0.4/31", "10.0.0.6/31"
ESP = "50"
OPEN = tuple(AclRule(100, True, rule) for rule in (ALL_OUT, ALL_IN))


@pytest.fixture
def vpc(vpc: Vpc) -> Vpc:
    """Two instances in one subnet, and one in another; their groups allow everything."""
    vpc.groups = {"sg-1": (ALL_IN, ALL_OUT)}
    for _ in range(3):
        vpc.instance("sg-1")
    return vpc


def rules(*found: tuple[str, bool, str, int | None, int | None, str]) -> tuple[AclRule, ...]:
    made = []
    for number, (direction, allow, protocol, first, last, cidr) in enumerate(found, 1):
        assert direction in ("ingress", "egress")
        made.append(AclRule(number, allow, Rule(direction, protocol, first, last, cidr=cidr)))  # type: ignore[arg-type]
    return tuple(made)


def watch(vpc: Vpc, *found: AclRule, networks: tuple[str, ...] = (HERE,)) -> None:
    vpc.exits = Exits(acls=(Acl("acl-1", networks, found),))
    vpc.apply()


def test_nothing_is_allowed_but_what_a_rule_allows_and_nothing_is_denied_within_a_subnet(vpc: Vpc) -> None:
    near, neighbour, far = vpc.instances
    vpc.apply()
    assert near.pings(far)
    watch(vpc)
    assert near.reaches_udp(neighbour, 9000)
    assert neighbour.reaches_tcp(near, 9001)
    for one, other in ((near, far), (far, near)):
        assert not one.reaches_udp(other, 9000)
        assert not one.reaches_protocol(other, 50)
        assert not one.pings(other)
    watch(vpc, *OPEN)
    assert near.pings(far)
    assert far.reaches_tcp(near, 9001)
    # Two subnets with the same ACL have a border, too.
    watch(vpc, networks=(HERE, THERE))
    assert near.pings(neighbour)
    assert not near.pings(far)


def test_every_packet_is_judged_by_itself(vpc: Vpc) -> None:
    """As EC2's, which are stateless: answers need a rule of their own, and a flow that there is ends with its rule."""
    near, _, far = vpc.instances
    there = [("egress", True, "6", 9001, 9001, "0.0.0.0/0")]
    watch(vpc, *rules(*there))
    assert not near.reaches_tcp(far, 9001)
    watch(vpc, *rules(*there, ("ingress", True, "6", 1024, 65535, "10.0.0.0/24")))
    assert near.reaches_tcp(far, 9001)
    assert not near.reaches_tcp(far, 9002)
    vpc.exits = Exits()
    vpc.apply()
    with far.udp(9003) as receiver, near.udp(40000) as sender:
        sender.sendto(b"1", (far.address, 9003))
        assert receiver.recv(9) == b"1"
        watch(vpc)
        sender.sendto(b"2", (far.address, 9003))
        with pytest.raises(TimeoutError):
            receiver.recv(9)
        vpc.exits = Exits()
        vpc.apply()
        sender.sendto(b"3", (far.address, 9003))
        assert receiver.recv(9) == b"3"


def test_the_first_rule_decides(vpc: Vpc) -> None:
    near, neighbour, far = vpc.instances
    watch(
        vpc,
        *rules(
            ("egress", False, "17", 9000, 9010, "10.0.0.6/32"),
            ("egress", False, "1", 13, -1, "0.0.0.0/0"),
            ("egress", True, "-1", None, None, "0.0.0.0/0"),
            ("egress", False, "17", 9020, 9020, "0.0.0.0/0"),
            ("ingress", True, "-1", None, None, "0.0.0.0/0"),
        ),
    )
    assert [near.reaches_udp(far, port) for port in (8999, 9000, 9010, 9011, 9020)] == [True, False, False, True, True]
    assert far.reaches_udp(near, 9005)
    assert (near.pings(far, 8), near.pings(far, 13), far.pings(near, 13)) == (True, False, True)
    assert neighbour.reaches_protocol(far, 47)


def test_esp_passes_or_not_whatever_the_guard_lets_pass(vpc: Vpc) -> None:
    near, _, far = vpc.instances
    vpc.guards = (guard("job", near, far),)
    watch(vpc, *OPEN)
    assert near.reaches_protocol(far, 50)
    assert not near.reaches_udp(far, 9000)
    ike_alone = [(way, True, "17", 500, 500, "0.0.0.0/0") for way in ("ingress", "egress")]
    watch(vpc, *rules(*ike_alone))
    assert near.reaches_udp(far, 500, 500)
    assert not near.reaches_protocol(far, 50)
    # What an ACL allows, the guard does not let pass for it.
    watch(vpc, *rules(*[(way, True, ESP, None, None, "10.0.0.0/24") for way in ("ingress", "egress")]))
    assert near.reaches_protocol(far, 50)
    assert not near.reaches_udp(far, 500, 500)
    assert not near.reaches_protocol(far, socket.IPPROTO_GRE)


def test_rules_about_ipv6_let_nothing_pass(vpc: Vpc) -> None:
    near, _, far = vpc.instances
    watch(vpc, *rules(*[(way, True, "-1", None, None, "::/0") for way in ("ingress", "egress")]))
    assert not near.pings(far)


def test_what_goes_by_a_nat_gateway_crosses_the_borders_of_its_subnet(vpc: Vpc) -> None:
    """The other subnet here is where a NAT gateway leads: whom the ACL of the gateway's own subnet stops does not get there."""
    near, neighbour, far = vpc.instances
    gateways = "10.0.0.128/25"

    def nat(*found: AclRule, behind: tuple[tuple[str, str], ...] = (("10.0.0.4/32", THERE),)) -> None:
        vpc.exits = Exits(acls=(Acl("acl-1", (gateways,), found, behind),))
        vpc.apply()

    nat(behind=())
    assert near.reaches_tcp(far, 9001)
    nat()
    assert not near.reaches_udp(far, 9001)
    assert not far.reaches_udp(near, 9001)
    assert neighbour.reaches_tcp(far, 9001)
    there = [("ingress", True, "6", 9001, 9001, HERE), ("egress", True, "6", 9001, 9001, THERE)]
    back = [("ingress", True, "6", 1024, 65535, THERE), ("egress", True, "6", 1024, 65535, HERE)]
    for missing in range(4):
        nat(*rules(*(rule for number, rule in enumerate([*there, *back]) if number != missing)))
        assert not near.reaches_tcp(far, 9001)
    nat(*rules(*there, *back))
    assert near.reaches_tcp(far, 9001)


def test_a_subnet_has_one_acl(vpc: Vpc) -> None:
    vpc.exits = Exits(acls=(Acl("acl-1", (HERE,), OPEN), Acl("acl-2", (HERE,), OPEN)))
    with pytest.raises(ValueError, match="subnet of a network ACL"):
        vpc.apply()
