"""The nftables rules of one VPC's router, as text for `nft -f`: anti-spoofing, guards, security groups.

A forwarded packet passes four base chains, each with policy drop; accepting in one hands it to the next (nft(8)):

    prerouting   only from an ENI, only with that ENI's IPv4 address; ESP is taken out of connection tracking
    guard        between instances of an encrypted job: IKE and ESP only, counted at the sender; connections mean nothing here.
                 Then what the network ACLs of both ends' subnets allow, each packet by itself
    egress       a tracked flow that was let in, a question for names where the sender's routes lead, or what its groups allow
    ingress      a tracked flow that was let in, or what the receiver's groups allow, or where the sender's routes lead

What other hosts' routers send comes from the tunnel, only with the address of an instance that is there, and only for one that
is here. Each end is decided where its instance is: egress by the sender's router, ingress by the receiver's, guards by both.

ESP is never tracked, so that a revoked rule stops it at once. What EC2 does not track, since anybody may begin it and its
answers may go anywhere, is marked at the end where that is so, and passes by rules alone. Connection tracking also
reassembles fragments before the first of these chains, so rules see whole packets. Nothing reaches or leaves the router
itself but ARP. What leaves the VPC goes to the exit (`exit`), which only ever answers; routes are not tracked either, so that
one that is taken away stops what it had let out.

The cost of a packet does not depend on the number of ENIs, guards, rules or members: each is looked up in a map or set.
ENIs with the same groups share a profile: what these groups allow together.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, collapse_addresses, ip_network

from phalanx.network.model import (
    AZURE,
    DIRECTIONS,
    EXIT,
    RESOLVER,
    S3_ADDRESS,
    S3_PORT,
    Acl,
    Direction,
    Eni,
    Exits,
    Guard,
    Rule,
    VpcState,
)

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
_ALL = -1
_EVERY = (0, 65535)
"""All ports."""
_OTHER = {"egress": "ingress", "ingress": "egress"}

_Peer = IPv4Network | str
"""Whom a rule names: a network, or a group by its id."""
_ANYWHERE = IPv4Network("0.0.0.0/0")
_EVERYBODY: frozenset[_Peer] = frozenset({_ANYWHERE})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_FRAGMENT = "ip frag-off & 0x3fff != 0"  # RFC 791: more-fragments flag or an offset

RESERVED = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    f"{AZURE}/32",
)
"""What is not the internet's (RFC 6890): the host, its neighbours, its metadata service. A NAT gateway leads to none of it."""

FLOWS = "flows"
"""The set that holds, for each address, how many tracked flows it has begun that have not ended."""

MOST_FLOWS = 4096
"""Tracked flows that one address may have begun: a 64th of what Linux tracks in a namespace by default. Who floods its peers
leaves the others of the VPC room to begin something, IKE included."""

_BEGUN, _ANSWERED = 1, 2
"""Bits of a flow's mark: it is not tracked at the end that began it, at the end that it was begun to."""


def _tracked(original: int, reply: int) -> Iterator[str]:
    """Rules that accept what belongs to a tracked flow, given the bits that speak against it in either direction."""
    for direction, bit in (("original", original), ("reply", reply)):
        yield f"ct state established,related ct direction {direction} ct mark & {bit} == 0 accept"


TUNNEL = "vxlan0"
"""The link of a router to the VPC's routers on other hosts."""


def device(eni_id: str) -> str:
    """Name of an ENI's router end: at most 15 bytes (IFNAMSIZ), told apart by 48 bits of SHA-256."""
    return "eni" + hashlib.sha256(eni_id.encode()).hexdigest()[:12]


_QUESTION = f"ip daddr {RESOLVER} meta l4proto {{ tcp, udp }} th dport 53 ip saddr @to-names"
"""To the name server, of an instance whose routes lead there."""

_BASE_RULES = {
    "prerouting": (
        "meta l4proto 50 notrack",
        "iifname . ip saddr @sources accept",
        f'iifname "{device(EXIT.id)}" accept',
    ),
    "input": (),
    "output": (),
    "forward-guard": (
        "meta nfproto != ipv4 drop",
        f'iifname "{TUNNEL}" oifname {{ "{TUNNEL}", "{device(EXIT.id)}" }} drop',
        "ip saddr vmap @guards",
        # Jobs that are whole on their hosts have packets that no tunnel carries, and no router tells them so. Their segments
        # fit both ways, whichever end's tunnel is narrower: `rt mtu` is the shorter of there and back, and never lengthens.
        "tcp flags syn tcp option maxseg size set rt mtu",
        "accept",
    ),
    "forward-egress": (
        *_tracked(_BEGUN, _ANSWERED),
        # The exit begins nothing.
        f'ct state new iifname != "{device(EXIT.id)}" add @{FLOWS} {{ ip saddr ct count over {MOST_FLOWS} }} drop',
        # "Security groups do not apply to DNS queries to the Route 53 Resolver" (Amazon VPC user guide); routes do.
        f"{_QUESTION} accept",
        "iifname vmap @senders",
    ),
    "forward-ingress": (*_tracked(_ANSWERED, _BEGUN), "oifname vmap @receivers"),
}


_BORDERS = _BASE_RULES["forward-guard"].index("ip saddr vmap @guards") + 1
"""Where in that chain network ACLs have their say: after the guards, which go on with what they let pass."""


_BORDER_RULES = (
    "ip saddr vmap @borders-egress",
    "ip daddr vmap @borders-ingress",
    "ip saddr . ip daddr vmap @behind",
    "ip daddr . ip saddr vmap @behind",
)


def counter(job: str, name: str) -> str:
    """Name of a guard's counter in the table; `name` is one of GUARD_COUNTERS."""
    return f"guard-{_name(job)}-{name}"


def ruleset(state: VpcState) -> str:
    """The table for `state`, for a transaction that starts from the base chains or from nothing.

    A group that `state` does not hold allows nothing. Raises ValueError where the state contradicts itself: an address
    with two ENIs or two guards, a rule with neither or both of `cidr` and `group`, a protocol or port out of range.
    """
    attached = (*state.enis, *state.exits.endpoints)
    remote = [each.eni for each in state.remotes]
    groups = {group.id: group for group in state.groups}
    _check(state, (*attached, *remote))

    members: dict[str, list[str]] = {}
    profiles: dict[tuple[str, ...], str] = {}
    for eni in attached:
        profiles.setdefault(_groups(eni), str(len(profiles)))
    for eni in (*attached, *remote):
        for id_ in _groups(eni):
            members.setdefault(id_, []).append(_address(eni.address))

    parts = [f"table {TABLE} {{\n"]
    for guard in state.guards:
        # Declaring a counter that exists leaves it, and what it has counted, alone.
        parts += [f"    counter {counter(guard.job, name)} {{ packets 0 bytes 0 }}\n" for name in GUARD_COUNTERS]
        parts.append(_elements(f"set guarded-{guard.job}", "ipv4_addr", list(map(_address, guard.addresses))))
    links = [(device(eni.id), _address(eni.address), profiles[_groups(eni)]) for eni in state.enis]
    way_out = device(EXIT.id)
    senders = [f'"{way_out}" : goto exit-answers', *(f'"{name}" : goto egress-{to}' for name, _, to in links)]
    receivers = [f'"{way_out}" : goto exit', *(f'"{name}" : goto ingress-{to}' for name, _, to in links)]
    sources = [f'"{name}" . {address}' for name, address, _ in links]
    if remote:
        sources += [f'"{TUNNEL}" . {_address(eni.address)}' for eni in remote]
        # Decided by the router at that end.
        senders.append(f'"{TUNNEL}" : accept')
        receivers.append(f'"{TUNNEL}" : accept')
    endpoints = [f"{_address(eni.address)} : goto ingress-{profiles[_groups(eni)]}" for eni in state.exits.endpoints]
    # As with counters: what it holds already stays.
    parts.append(f"    set {FLOWS} {{ type ipv4_addr; size 65536; flags dynamic; }}\n")
    parts.append(_elements("set sources", "ifname . ipv4_addr", sources))
    parts.append(_elements("map senders", "ifname : verdict", senders))
    parts.append(_elements("map receivers", "ifname : verdict", receivers))
    parts.append(_elements("map endpoints", "ipv4_addr : verdict", endpoints))
    parts += _exit_sets(state.exits)
    guarded = [f"{_address(address)} : jump guard-{guard.job}" for guard in state.guards for address in guard.addresses]
    parts.append(_elements("map guards", "ipv4_addr : verdict", guarded))
    for name, (hook, priority, policy) in BASE_CHAINS.items():
        hooked = f"type filter hook {hook} priority {priority}; policy {policy};"
        lines: Sequence[str] = _BASE_RULES[name]
        if name == "forward-guard" and state.exits.acls:
            lines = [*lines[:_BORDERS], *_BORDER_RULES, *lines[_BORDERS:]]
        parts.append(_chain(name, (hooked, *lines)))
    parts += _borders(state.exits.acls)
    parts += [_chain(f"guard-{guard.job}", _guard(guard)) for guard in state.guards]
    for direction, bit in (("egress", _BEGUN), ("ingress", _ANSWERED)):
        parts.append(_chain(f"{direction}-untracked", (f"ct state new ct mark set ct mark or {bit}", "accept")))
    parts += [_chain("exit", _exit()), _chain("exit-answers", ("ct state established,related ct direction reply accept",))]
    peers = _Peers(members)
    for of_profile, profile in profiles.items():
        rules = [rule for id_ in of_profile if id_ in groups for rule in groups[id_].rules]
        for direction in ("egress", "ingress"):
            parts += _admission(profile, direction, rules, peers)
    parts += peers.declared()
    parts.append("}\n")
    return "".join(parts)


def _check(state: VpcState, enis: Sequence[Eni]) -> None:
    """Raises ValueError where the state contradicts itself; `enis` are all that it names."""
    _once("ENI", [eni.id for eni in enis])
    _once("address", [eni.address for eni in enis])
    _once("address in a guard", [address for guard in state.guards for address in guard.addresses])
    _once("guard", [guard.job for guard in state.guards])
    _once("security group", [group.id for group in state.groups])
    for group in state.groups:
        for rule in group.rules:
            _span(rule)
            _peer(rule)


def _guard(guard: Guard) -> Iterator[str]:
    ike, esp, dropped = (counter(guard.job, name) for name in GUARD_COUNTERS)
    yield f"ip daddr != @guarded-{guard.job} return"
    # Reassembly comes first; whatever still is a fragment hides what it carries.
    yield f'{_FRAGMENT} counter name "{dropped}" drop'
    for what, name in ((f"meta l4proto {_ESP}", esp), (f"udp sport {_IKE_PORT} udp dport {_IKE_PORT}", ike)):
        # What comes from another host, the sender's router there has counted.
        yield f'{what} iifname != "{TUNNEL}" counter name "{name}" return'
        yield f"{what} return"
    yield f'counter name "{dropped}" drop'


def _borders(acls: Sequence[Acl]) -> Iterator[str]:
    """What network ACLs let leave and enter their subnets: a chain for each subnet, which leads to the ACL's rules.

    They have no say within a subnet, and none about the name server ("Network ACLs can't block DNS requests to or from the
    Route 53 Resolver", Amazon VPC user guide).
    """
    if not acls:
        return
    subnets = [(str(IPv4Network(network)), index) for index, acl in enumerate(acls) for network in acl.networks]
    _once("subnet of a network ACL", [network for network, _ in subnets])
    for direction in DIRECTIONS:
        other = "daddr" if direction == "egress" else "saddr"
        for index, acl in enumerate(acls):
            yield _chain(f"acl-{direction}-{index}", (*_acl_rules(acl, direction, other), "drop"))
        for number, (network, index) in enumerate(subnets):
            exempt = f"ip {other} {{ {network}, {RESOLVER} }} return"
            yield _chain(f"border-{direction}-{number}", (exempt, f"goto acl-{direction}-{index}"))
        borders = [f"{network} : jump border-{direction}-{number}" for number, (network, _) in enumerate(subnets)]
        yield _elements(f"map borders-{direction}", "ipv4_addr : verdict; flags interval", borders)
    pairs = []
    for index, acl in enumerate(acls):
        # In and out again, there and back: the one looks at whence a packet comes, the other at where it goes.
        names = (f"ip {end} {RESOLVER} return" for end in ("saddr", "daddr"))
        yield _chain(f"behind-{index}", (*names, f"jump acl-ingress-{index}", f"jump acl-egress-{index}"))
        pairs += [f"{IPv4Network(subnet)} . {IPv4Network(where)} : jump behind-{index}" for subnet, where in acl.behind]
    yield _elements("map behind", "ipv4_addr . ipv4_addr : verdict; flags interval", pairs)


def _acl_rules(acl: Acl, direction: Direction, other: str) -> Iterator[str]:
    for each in acl.rules:
        span, peer = _span(each.rule), _peer(each.rule)
        if each.rule.direction != direction or span is None or not isinstance(peer, IPv4Network):
            continue
        number = int(each.rule.protocol)
        about = [] if number == _ALL else [f"meta l4proto {number}"]
        if span != _EVERY:
            # As in `_admission`: ICMP has type and code there.
            about.append(f"th {'sport' if number == _ICMP else 'dport'} {span[0]}-{span[1]}")
        if peer != _ANYWHERE:
            about.append(f"ip {other} {peer}")
        yield " ".join([*about, "return" if each.allow else "drop"])


def _exit_sets(exits: Exits) -> Iterator[str]:
    pairs = [f"{IPv4Network(subnet)} . {IPv4Network(where)}" for subnet, where in exits.outside]
    for name, subnets in (("to-s3", exits.s3), ("to-names", exits.names), ("reserved", RESERVED)):
        yield _elements(f"set {name}", "ipv4_addr; flags interval", [str(IPv4Network(subnet)) for subnet in subnets])
    yield _elements("set to-outside", "ipv4_addr . ipv4_addr; flags interval", pairs)


def _exit() -> Iterator[str]:
    """Where routes lead; the same marks as at an instance keep what passes from being tracked."""
    yield f"ip daddr {S3_ADDRESS} tcp dport {S3_PORT} ip saddr @to-s3 goto ingress-untracked"
    yield f"{_QUESTION} goto ingress-untracked"
    yield "ip daddr vmap @endpoints"
    yield "ip daddr @reserved drop"
    yield "meta l4proto tcp ip saddr . ip daddr @to-outside goto ingress-untracked"


def _admission(profile: str, direction: str, rules: Sequence[Rule], peers: _Peers) -> Iterator[str]:
    """The chains that accept what `rules`, of all groups of an ENI, allow in one direction.

    Whatever their number, a packet is looked up three times at most: its protocol, its port, its peer.
    """
    name = f"{direction}-{profile}"
    leaving, coming = (
        {number: _cut(found) for number, found in _spans(rules, way).items()} for way in (direction, _OTHER[direction])
    )
    protocols = []
    for number, cut in leaving.items():
        if number == _ALL:
            continue
        # A flow that anybody may begin, and whose answers may go anywhere, is not tracked (EC2).
        tracked = number not in (_TCP, _UDP) or coming[number] != [(*_EVERY, _EVERYBODY)]
        verdicts = {among: peers.verdict(direction, among, tracked) for _, _, among in cut}
        if len(cut) == 1 and cut[0][:2] == _EVERY:
            verdict = verdicts[cut[0][2]]
        else:
            ports = (f"{low}-{high} : {verdicts[among]}" for low, high, among in cut)
            # Where other protocols have a source port, ICMP has type and code.
            field = "th sport" if number == _ICMP else "th dport"
            yield _chain(f"{name}-{number}", (f"{field} vmap {{ {', '.join(ports)} }}",) if cut else ())
            verdict = f"goto {name}-{number}"
        protocols.append(f"{number} : {verdict}")
    everything = [peers.verdict(direction, among, True) for _, _, among in leaving[_ALL]]
    yield _chain(name, (f"meta l4proto vmap {{ {', '.join(protocols)} }}", *everything))


class _Peers:
    """The sets of addresses that rules name; those that name the same share one."""

    def __init__(self, members: Mapping[str, Sequence[str]]) -> None:
        self._members = members
        self._numbers: dict[frozenset[_Peer], int] = {}

    def verdict(self, direction: str, among: frozenset[_Peer], tracked: bool) -> str:
        """What becomes of a packet, all but whose peer has been found to be allowed."""
        if among == _EVERYBODY:
            return "accept" if tracked else f"goto {direction}-untracked"
        return f"goto {direction}-peers-{self._numbers.setdefault(among, len(self._numbers))}"

    def declared(self) -> Iterator[str]:
        """The sets, and for each the chains that look into it."""
        for among, number in self._numbers.items():
            groups = sorted(peer for peer in among if isinstance(peer, str))
            addresses = dict.fromkeys(address for group in groups for address in self._members.get(group, ()))
            networks = collapse_addresses(peer for peer in among if isinstance(peer, IPv4Network))
            # Apart, since single addresses are found by their hash, faster than networks.
            sets = {
                f"members-{number}": ("ipv4_addr", list(addresses)),
                f"networks-{number}": ("ipv4_addr; flags interval", list(map(str, networks))),
            }
            held = {name: content for name, content in sets.items() if content[1]}
            yield from (_elements(f"set {name}", *content) for name, content in held.items())
            yield _chain(f"egress-peers-{number}", (f"ip daddr @{name} accept" for name in held))
            yield _chain(f"ingress-peers-{number}", (f"ip saddr @{name} accept" for name in held))


def _spans(rules: Sequence[Rule], direction: str) -> dict[int, list[tuple[int, int, _Peer]]]:
    """By protocol, who is allowed what; TCP, UDP and all that rules name include what rules for all protocols allow."""
    spans: dict[int, list[tuple[int, int, _Peer]]] = {_ALL: [], _TCP: [], _UDP: []}
    for rule in rules:
        span, peer = _span(rule), _peer(rule)
        # IPv6 never passes the router, so rules about it allow nothing.
        if rule.direction == direction and span is not None and peer is not None:
            spans.setdefault(int(rule.protocol), []).append((*span, peer))
    return {number: found if number == _ALL else [*found, *spans[_ALL]] for number, found in spans.items()}


def _cut(spans: Sequence[tuple[int, int, _Peer]]) -> list[tuple[int, int, frozenset[_Peer]]]:
    """The same without overlaps: from each port on, up to the next where it changes, all who are allowed."""
    edges = sorted({low for low, _, _ in spans} | {high + 1 for _, high, _ in spans})
    cut: list[tuple[int, int, frozenset[_Peer]]] = []
    for low, after in itertools.pairwise(edges):
        among = frozenset(peer for first, last, peer in spans if first <= low <= last)
        among = _EVERYBODY if _ANYWHERE in among else among
        if cut and cut[-1][1] == low - 1 and cut[-1][2] == among:
            cut[-1] = (cut[-1][0], after - 1, among)
        elif among:
            cut.append((low, after - 1, among))
    return cut


def _peer(rule: Rule) -> _Peer | None:
    """Whom a rule names; None for IPv6."""
    if rule.group is not None and rule.cidr is None:
        return _name(rule.group)
    if rule.cidr is None or rule.group is not None:
        raise ValueError("a rule must name either a CIDR or a group")
    network = ip_network(rule.cidr, strict=False)
    return network if isinstance(network, IPv4Network) else None


def _span(rule: Rule) -> tuple[int, int] | None:
    """First and last port of a rule, or ICMP type and code as one number; None if no IPv4 packet fits."""
    number = int(rule.protocol)
    if not -1 <= number <= 255:
        raise ValueError(f"not an IP protocol number: {rule.protocol}")
    low = -1 if rule.from_port is None else rule.from_port
    high = -1 if rule.to_port is None else rule.to_port
    if number == _ICMPV6:
        return None
    if number in (_TCP, _UDP) and (low, high) != (-1, -1):
        if not 0 <= low <= high <= 65535:
            raise ValueError(f"not a port range: {rule.from_port}-{rule.to_port}")
        return low, high
    if number == _ICMP and low != -1:
        if not (0 <= low <= 255 and -1 <= high <= 255):
            raise ValueError(f"not an ICMP type and code: {rule.from_port}, {rule.to_port}")
        return (low << 8, low << 8 | 255) if high == -1 else (low << 8 | high, low << 8 | high)
    return _EVERY


def _groups(eni: Eni) -> tuple[str, ...]:
    return tuple(_name(id_) for id_ in dict.fromkeys(eni.groups))


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
