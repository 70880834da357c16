"""The nftables rules of one VPC's router, as text for `nft -f`: anti-spoofing, guards, security groups.

A forwarded packet passes four base chains, each with policy drop; accepting in one hands it to the next (nft(8)):

    prerouting   only from an ENI, only with that ENI's IPv4 address; ESP is taken out of connection tracking
    guard        between instances of an encrypted job: IKE and ESP only, counted; connections mean nothing here
    egress       a tracked connection that was let in, or what the sender's groups allow
    ingress      a tracked connection that was let in, or what the receiver's groups allow

ESP is never tracked, so that a revoked rule stops it at once. Connection tracking also reassembles fragments before the
first of these chains, so rules see whole packets. Nothing reaches or leaves the router itself but ARP.
The cost of a packet does not depend on the number of ENIs or guards: each chain looks its interface or address up in a map.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, collapse_addresses, ip_network

from phalanx.network.model import Eni, Guard, Rule, SecurityGroup, VpcState

TABLE = "inet phalanx"
"""The one table of a router namespace."""

BASE_CHAINS = {
    "prerouting": ("prerouting", -300, "drop"),
    "input": ("input", 0, "drop"),
    "output": ("output", 0, "drop"),
    "forward-guard": ("forward", -10, "drop"),
    "forward-egress": ("forward", 0, "drop"),
    "forward-ingress": ("forward", 10, "drop"),
}
"""Chains that hang on the kernel's hooks, with hook, priority and policy: made once and never removed, so that there is no
moment without their policy."""

GUARD_COUNTERS = ("ike", "esp", "dropped")
"""The counters of each guard, see `counter`."""

_TCP, _UDP, _ICMP, _ICMPV6, _ESP = 6, 17, 1, 58, 50
_IKE_PORT = 500
_ANYWHERE = IPv4Network("0.0.0.0/0")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_FRAGMENT = "ip frag-off & 0x3fff != 0"  # RFC 791: more-fragments flag or an offset

_BASE_RULES = {
    "prerouting": ("meta l4proto 50 notrack", "iifname . ip saddr @sources accept"),
    "input": (),
    "output": (),
    "forward-guard": ("meta nfproto != ipv4 drop", "ip saddr vmap @guards", "accept"),
    "forward-egress": ("ct state established,related accept", "iifname vmap @senders"),
    "forward-ingress": ("ct state established,related accept", "oifname vmap @receivers"),
}


def device(eni_id: str) -> str:
    """Name of an ENI's router end: at most 15 bytes (IFNAMSIZ), told apart by 48 bits of SHA-256."""
    return "eni" + hashlib.sha256(eni_id.encode()).hexdigest()[:12]


def counter(job: str, name: str) -> str:
    """Name of a guard's counter in the table; `name` is one of GUARD_COUNTERS."""
    return f"guard-{_name(job)}-{name}"


def ruleset(state: VpcState) -> str:
    """The table for `state`, for a transaction that starts from the base chains or from nothing.

    A group that `state` does not hold allows nothing. Raises ValueError where the state contradicts itself: an address
    with two ENIs or two guards, a rule with neither or both of `cidr` and `group`, a protocol or port out of range.
    """
    enis = {eni.id: eni for eni in state.enis}
    _once("ENI", [eni.id for eni in state.enis])
    _once("address", [eni.address for eni in state.enis])
    _once("address in a guard", [address for guard in state.guards for address in guard.addresses])
    _once("guard", [guard.job for guard in state.guards])
    groups = {group.id: group for group in state.groups}
    _once("security group", [group.id for group in state.groups])

    members: dict[str, list[str]] = {_name(id_): [] for id_ in groups}
    for group in state.groups:
        members.update({_name(rule.group): [] for rule in group.rules if rule.group is not None})
    for eni in state.enis:
        for id_ in _groups(eni):
            members.setdefault(_name(id_), []).append(_address(eni.address))

    parts = [f"table {TABLE} {{\n"]
    for guard in state.guards:
        # Declaring a counter that exists leaves it, and what it has counted, alone.
        parts += [f"    counter {counter(guard.job, name)} {{ packets 0 bytes 0 }}\n" for name in GUARD_COUNTERS]
        parts.append(_set(f"guarded-{guard.job}", map(_address, guard.addresses)))
    for id_, addresses in members.items():
        parts.append(_set(f"members-{id_}", addresses))
    links = [(device(eni.id), _address(eni.address)) for eni in enis.values()]
    parts.append(_elements("set sources", "ifname . ipv4_addr", [f'"{name}" . {address}' for name, address in links]))
    parts.append(_elements("map senders", "ifname : verdict", [f'"{name}" : jump from-{name}' for name, _ in links]))
    parts.append(_elements("map receivers", "ifname : verdict", [f'"{name}" : jump to-{name}' for name, _ in links]))
    guarded = [f"{_address(address)} : jump guard-{guard.job}" for guard in state.guards for address in guard.addresses]
    parts.append(_elements("map guards", "ipv4_addr : verdict", guarded))
    for name, (hook, priority, policy) in BASE_CHAINS.items():
        hooked = f"type filter hook {hook} priority {priority}; policy {policy};"
        parts.append(_chain(name, (hooked, *_BASE_RULES[name])))
    parts += [_chain(f"guard-{guard.job}", _guard(guard)) for guard in state.guards]
    for id_ in members:
        group = groups.get(id_, SecurityGroup(id_, ()))
        parts.append(_chain(f"egress-{id_}", _allows(group, "egress")))
        parts.append(_chain(f"ingress-{id_}", _allows(group, "ingress")))
    for eni in enis.values():
        parts.append(_chain(f"from-{device(eni.id)}", (f"jump egress-{id_}" for id_ in _groups(eni))))
        parts.append(_chain(f"to-{device(eni.id)}", (f"jump ingress-{id_}" for id_ in _groups(eni))))
    parts.append("}\n")
    return "".join(parts)


def _guard(guard: Guard) -> Iterator[str]:
    ike, esp, dropped = (counter(guard.job, name) for name in GUARD_COUNTERS)
    yield f"ip daddr != @guarded-{guard.job} return"
    # Reassembly comes first; whatever still is a fragment hides what it carries.
    yield f'{_FRAGMENT} counter name "{dropped}" drop'
    yield f'meta l4proto {_ESP} counter name "{esp}" return'
    yield f'udp sport {_IKE_PORT} udp dport {_IKE_PORT} counter name "{ike}" return'
    yield f'counter name "{dropped}" drop'


def _allows(group: SecurityGroup, direction: str) -> Iterator[str]:
    """One accepting rule per match and kind of peer; those without ports first, since every ESP packet walks them."""
    found: dict[str, tuple[list[IPv4Network], dict[str, None]]] = {}
    rules = [rule for rule in group.rules if rule.direction == direction]
    for rule in sorted(rules, key=lambda rule: int(rule.protocol) in (_TCP, _UDP, _ICMP)):
        match = _match(rule)
        if match is None:
            continue
        networks, groups = found.setdefault(match, ([], {}))
        if rule.group is not None and rule.cidr is None:
            groups[_name(rule.group)] = None
        elif rule.cidr is not None and rule.group is None:
            network = ip_network(rule.cidr, strict=False)
            # IPv6 never passes the router, so rules about it allow nothing.
            if isinstance(network, IPv4Network):
                networks.append(network)
        else:
            raise ValueError(f"a rule of {group.id} must name either a CIDR or a group")
    side = "ip saddr" if direction == "ingress" else "ip daddr"
    for match, (networks, groups) in found.items():
        if networks:
            yield _within(side, networks) + match + "accept"
        for id_ in groups:
            yield f"{side} @members-{id_} {match}accept"


def _within(side: str, networks: list[IPv4Network]) -> str:
    merged = list(collapse_addresses(networks))
    return "" if merged == [_ANYWHERE] else f"{side} {{ {', '.join(map(str, merged))} }} "


def _match(rule: Rule) -> str | None:
    """What a rule says about protocol, ports or ICMP type, with a blank at its end; None if no IPv4 packet fits."""
    number = int(rule.protocol)
    if not -1 <= number <= 255:
        raise ValueError(f"not an IP protocol number: {rule.protocol}")
    low = -1 if rule.from_port is None else rule.from_port
    high = -1 if rule.to_port is None else rule.to_port
    if number == -1:
        return ""
    if number == _ICMPV6:
        return None
    if number in (_TCP, _UDP):
        name = "tcp" if number == _TCP else "udp"
        if (low, high) == (-1, -1) or (low, high) == (0, 65535):
            return f"meta l4proto {number} "
        if not 0 <= low <= high <= 65535:
            raise ValueError(f"not a port range: {rule.from_port}-{rule.to_port}")
        return f"{name} dport {low}-{high} " if low < high else f"{name} dport {low} "
    if number == _ICMP:
        if not (-1 <= low <= 255 and -1 <= high <= 255):
            raise ValueError(f"not an ICMP type and code: {rule.from_port}, {rule.to_port}")
        if low == -1:
            return f"meta l4proto {number} "
        return f"icmp type {low} " + (f"icmp code {high} " if high != -1 else "")
    return f"meta l4proto {number} "


def _groups(eni: Eni) -> list[str]:
    return [_name(id_) for id_ in dict.fromkeys(eni.groups)]


def _set(name: str, addresses: Iterable[str]) -> str:
    return _elements(f"set {name}", "ipv4_addr", list(addresses))


def _elements(declared: str, kind: str, elements: list[str]) -> str:
    content = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"    {declared} {{ type {kind};{content} }}\n"


def _chain(name: str, rules: Iterable[str]) -> str:
    return f"    chain {name} {{\n" + "".join(f"        {rule}\n" for rule in rules) + "    }\n"


def _address(text: str) -> str:
    return str(IPv4Address(text))


def _name(text: str) -> str:
    """A name of the caller's that goes into nft's language. Raises ValueError where it could be read as anything else."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"not a name for the ruleset: {text!r}")
    return text


def _once(what: str, values: Iterable[str]) -> None:
    twice = sorted(value for value, times in Counter(values).items() if times > 1)
    if twice:
        raise ValueError(f"{what} more than once: {', '.join(twice)}")
