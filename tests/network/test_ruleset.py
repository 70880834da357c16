from __future__ import annotations

import re

import pytest

from phalanx.network.model import Eni, Guard, Rule, SecurityGroup, VpcState
from phalanx.network.ruleset import device, ruleset


def _text(*rules: Rule, enis: tuple[Eni, ...] = (), guards: tuple[Guard, ...] = ()) -> str:
    return ruleset(VpcState("vpc-1", (SecurityGroup("sg-1", rules),), enis, guards))


IN_SG_1 = Eni("eni-1", "10.0.0.4", ("sg-1",))
IN_BOTH = Eni("eni-2", "10.0.0.5", ("sg-1", "sg-2"))


def _chains(*rules: Rule) -> dict[str, list[str]]:
    """The rules of each chain, for a VPC with one ENI in sg-1 and one in sg-1 and sg-2."""
    text = _text(*rules, enis=(IN_SG_1, IN_BOTH))
    return {
        name: [line.strip() for line in body.splitlines() if line.strip()]
        for name, body in re.findall(r"chain (\S+) \{\n(.*?)    \}", text, re.DOTALL)
    }


@pytest.mark.parametrize(
    ("rule", "chain", "line"),
    [
        (Rule("ingress", "-1", cidr="0.0.0.0/0"), "ingress-0", "accept"),
        (Rule("ingress", "-1", group="sg-2"), "ingress-0", "goto ingress-peers-0"),
        (Rule("egress", "-1", group="sg-2"), "egress-0", "goto egress-peers-0"),
        (Rule("ingress", "6", 80, 90, cidr="10.1.0.0/16"), "ingress-0-6", "th dport vmap { 80-90 : goto ingress-peers-0 }"),
        (Rule("ingress", "17", 500, 500, group="sg-1"), "ingress-0-17", "th dport vmap { 500-500 : goto ingress-peers-0 }"),
        (Rule("ingress", "1", 8, -1, cidr="0.0.0.0/0"), "ingress-0-1", "th sport vmap { 2048-2303 : accept }"),
        (Rule("ingress", "1", 3, 4, cidr="0.0.0.0/0"), "ingress-0-1", "th sport vmap { 772-772 : accept }"),
    ],
)
def test_a_rule_becomes_an_entry_of_a_map(rule: Rule, chain: str, line: str):
    assert line in _chains(rule)[chain]


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        (Rule("ingress", "17", 0, 65535, group="sg-1"), "17 : goto ingress-peers-0"),
        (Rule("ingress", "50", 1, 2, group="sg-1"), "50 : goto ingress-peers-0"),
        (Rule("ingress", "1", -1, -1, cidr="0.0.0.0/0"), "1 : accept"),
    ],
)
def test_a_rule_without_ports_decides_by_protocol(rule: Rule, verdict: str):
    assert verdict in _chains(rule)["ingress-0"][0]


@pytest.mark.parametrize("rule", [Rule("ingress", "-1", cidr="::/0"), Rule("ingress", "58", -1, -1, cidr="0.0.0.0/0")])
def test_rules_about_ipv6_allow_nothing(rule: Rule):
    assert _chains(rule) == _chains()


def test_rules_of_all_groups_of_an_eni_are_cut_where_they_overlap():
    chains = _chains(
        Rule("ingress", "6", 20, 29, cidr="10.0.0.0/25"),
        Rule("ingress", "6", 25, 34, cidr="10.0.0.128/25"),
        Rule("ingress", "6", 40, 40, cidr="10.0.0.128/25"),
        Rule("ingress", "6", 41, 49, cidr="10.0.0.128/25"),
    )
    assert chains["ingress-0-6"] == [
        "th dport vmap { 20-24 : goto ingress-peers-0, 25-29 : goto ingress-peers-1, 30-34 : goto ingress-peers-2,"
        " 40-49 : goto ingress-peers-2 }"
    ]


def test_a_packet_meets_as_many_rules_with_six_hundred_as_with_one():
    ports = [Rule(way, "6", 2 * n, 2 * n, cidr=f"10.{n}.0.0/16") for n in range(150) for way in ("ingress", "egress")]
    protocols = [Rule("ingress", str(60 + n), cidr=f"10.{n}.0.0/16") for n in range(150)]
    esp = [Rule("ingress", "50", group=f"sg-{n}") for n in range(150)]
    for rules in ([esp[0]], [*ports, *protocols, *esp]):
        lengths = {name: len(lines) for name, lines in _chains(*rules).items() if name.startswith("ingress-")}
        assert max(lengths.values()) <= 2


def test_peers_are_the_addresses_of_groups_and_networks_once():
    text = _text(
        Rule("ingress", "50", group="sg-1"),
        Rule("ingress", "47", group="sg-1"),
        Rule("ingress", "51", group="sg-1"),
        Rule("ingress", "51", cidr="10.0.0.5/32"),
        Rule("ingress", "51", cidr="10.0.0.4/32"),
        Rule("ingress", "51", cidr="10.1.0.0/16"),
        enis=(Eni("eni-1", "10.0.0.4", ("sg-1", "sg-3", "sg-1")), Eni("eni-2", "10.0.0.5", ("sg-1",))),
    )
    assert "set members-0 { type ipv4_addr; elements = { 10.0.0.4, 10.0.0.5 }; }" in text
    assert "set members-1 { type ipv4_addr; elements = { 10.0.0.4, 10.0.0.5 }; }" in text
    assert "set networks-1 { type ipv4_addr; flags interval; elements = { 10.0.0.4/31, 10.1.0.0/16 }; }" in text
    assert text.count("set members-") + text.count("set networks-") == 3


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
