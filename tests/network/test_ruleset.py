from __future__ import annotations

import pytest

from phalanx.network.model import Eni, Guard, Rule, SecurityGroup, VpcState
from phalanx.network.ruleset import device, ruleset


def _text(*rules: Rule, enis: tuple[Eni, ...] = (), guards: tuple[Guard, ...] = ()) -> str:
    return ruleset(VpcState("vpc-1", (SecurityGroup("sg-1", rules),), enis, guards))


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (Rule("ingress", "-1", cidr="0.0.0.0/0"), "accept"),
        (Rule("ingress", "-1", group="sg-2"), "ip saddr @members-sg-2 accept"),
        (Rule("egress", "-1", group="sg-2"), "ip daddr @members-sg-2 accept"),
        (Rule("ingress", "6", 80, 90, cidr="10.1.0.0/16"), "ip saddr { 10.1.0.0/16 } tcp dport 80-90 accept"),
        (Rule("ingress", "17", 500, 500, group="sg-1"), "ip saddr @members-sg-1 udp dport 500 accept"),
        (Rule("ingress", "17", 0, 65535, group="sg-1"), "ip saddr @members-sg-1 meta l4proto 17 accept"),
        (Rule("ingress", "50", 1, 2, group="sg-1"), "ip saddr @members-sg-1 meta l4proto 50 accept"),
        (Rule("ingress", "1", 8, -1, cidr="0.0.0.0/0"), "icmp type 8 accept"),
        (Rule("ingress", "1", 3, 4, cidr="0.0.0.0/0"), "icmp type 3 icmp code 4 accept"),
        (Rule("ingress", "1", -1, -1, cidr="0.0.0.0/0"), "meta l4proto 1 accept"),
    ],
)
def test_a_rule_becomes_one_line(rule: Rule, line: str):
    assert f"        {line}\n" in _text(rule)


@pytest.mark.parametrize("rule", [Rule("ingress", "-1", cidr="::/0"), Rule("ingress", "58", -1, -1, cidr="0.0.0.0/0")])
def test_rules_about_ipv6_allow_nothing(rule: Rule):
    assert "chain ingress-sg-1 {\n    }" in _text(rule)


def test_networks_of_one_match_are_merged():
    text = _text(
        Rule("ingress", "6", 22, 22, cidr="10.0.0.0/25"),
        Rule("ingress", "6", 22, 22, cidr="10.0.0.128/25"),
        Rule("ingress", "6", 22, 22, cidr="10.0.0.7/32"),
        Rule("ingress", "6", 22, 22, group="sg-9"),
    )
    assert "ip saddr { 10.0.0.0/24 } tcp dport 22 accept" in text
    assert "ip saddr @members-sg-9 tcp dport 22 accept" in text
    assert text.count("tcp dport 22") == 2


def test_rules_without_ports_come_first():
    text = _text(
        *(Rule("ingress", "6", port, port, cidr="0.0.0.0/0") for port in range(50)), Rule("ingress", "50", group="sg-1")
    )
    assert "chain ingress-sg-1 {\n        ip saddr @members-sg-1 meta l4proto 50 accept\n" in text


def test_members_are_the_addresses_of_a_groups_enis():
    enis = (Eni("eni-1", "10.0.0.4", ("sg-1", "sg-3", "sg-1")), Eni("eni-2", "10.0.0.5", ("sg-1",)))
    text = _text(enis=enis)
    assert "set members-sg-1 { type ipv4_addr; elements = { 10.0.0.4, 10.0.0.5 }; }" in text
    # The state does not hold sg-3: it has a member and allows nothing.
    assert "chain ingress-sg-3 {\n    }" in text


def test_device_names_fit_the_kernel_and_differ():
    names = {device(f"eni-0123456789abcd{number:03}") for number in range(500)}
    assert len(names) == 500
    assert all(len(name) == 15 for name in names)


@pytest.mark.parametrize(
    "rule",
    [
        Rule("ingress", "256", cidr="0.0.0.0/0"),
        Rule("ingress", "tcp", 1, 2, cidr="0.0.0.0/0"),
        Rule("ingress", "6", 2, 1, cidr="0.0.0.0/0"),
        Rule("ingress", "6", 1, None, cidr="0.0.0.0/0"),
        Rule("ingress", "6", 0, 65536, cidr="0.0.0.0/0"),
        Rule("ingress", "1", 256, -1, cidr="0.0.0.0/0"),
        Rule("ingress", "-1"),
        Rule("ingress", "-1", cidr="0.0.0.0/0", group="sg-1"),
        Rule("ingress", "-1", cidr="10.0.0.0/33"),
        Rule("ingress", "-1", group="x; accept"),
    ],
)
def test_impossible_rules_are_refused(rule: Rule):
    with pytest.raises(ValueError):
        _text(rule)


@pytest.mark.parametrize(
    ("enis", "guards"),
    [
        ((Eni("eni-1", "10.0.0.4", ()), Eni("eni-2", "10.0.0.4", ())), ()),
        ((Eni("eni-1", "10.0.0.4", ()), Eni("eni-1", "10.0.0.5", ())), ()),
        ((Eni("eni-1", "10.0.0.4; accept", ()),), ()),
        ((Eni("eni-1", "fd00::1", ()),), ()),
        ((), (Guard("a", ("10.0.0.4",)), Guard("b", ("10.0.0.4",)))),
        ((), (Guard("a", ("10.0.0.4",)), Guard("a", ("10.0.0.5",)))),
        ((), (Guard('a" accept', ("10.0.0.4",)),)),
    ],
)
def test_contradicting_states_are_refused(enis: tuple[Eni, ...], guards: tuple[Guard, ...]):
    with pytest.raises(ValueError):
        _text(enis=enis, guards=guards)
