"""Which way a namespace's packets go: the routing rules that the kernel makes, and one route to each peer. Nothing else.

The guards do not depend on it: what is led past the tunnel meets them and is stopped. But a rule or a route that somebody
added would stop traffic, or the part of it that it selects, without anybody knowing why.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phalanx.ipsec import netns
from phalanx.linux.netlink import CREATE, Netlink, attributes

_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_DELROUTE, _GETROUTE = 25, 26
_RULE = struct.Struct("=BBBBBxxBI")
"""struct fib_rule_hdr: family, dst_len, src_len, tos, table, action, flags (linux/fib_rules.h)."""
_FRA_PRIORITY, _FRA_SUPPRESS, _FRA_TABLE, _FRA_PROTOCOL = 6, 14, 15, 21
_TO_TABLE = 1
_ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags (linux/rtnetlink.h)."""
_RTA_DST, _RTA_OIF = 1, 4
_UNICAST = 1
_DEFAULT, _MAIN, _LOCAL = 253, 254, 255
_NONE = 2**32 - 1
"""No suppression of routes, in a rule; no device's index, in a route."""

_RULES = {0: _LOCAL, 32766: _MAIN, 32767: _DEFAULT}
"""The rules that every namespace begins with (fib_default_rules_init): table by priority, for all packets."""


@dataclass(frozen=True, slots=True)
class _Route:
    """A route, as it matters for single addresses: whether it is the plain one through a device of that index (0: none, or
    several), and how it is named to the kernel."""

    plain: bool
    oif: int
    body: bytes


def check(space: str, kernel: Netlink) -> str | None:
    """None where a namespace's IPv4 routing rules, which `kernel` shows, are the kernel's own; else what is wrong.

    Raises OSError.
    """
    others, missing = _compared(kernel)
    if others:
        return f"{len(others)} routing rules in namespace {space} are not ours and may lead past the tunnel"
    if missing:
        return f"namespace {space} lacks the routing rules of the tables {', '.join(map(str, missing.values()))}"
    return None


def restore(space: str) -> None:
    """Have the kernel's own IPv4 routing rules, and no others. Raises OSError."""
    with netns.inside(space, _tables) as kernel:
        others, missing = _compared(kernel)
        for priority, table in missing.items():
            numbers = struct.pack("=HHIHHI", 8, _FRA_PRIORITY, priority, 8, _FRA_TABLE, table)
            kernel.do(_NEWRULE, _RULE.pack(socket.AF_INET, 0, 0, 0, table, _TO_TABLE, 0) + numbers, CREATE)
        for body in others:
            kernel.do(_DELRULE, body)


def astray(space: str, peers: Sequence[str], device: str) -> list[str]:
    """Those of the peers' addresses to which not every packet goes through a device of the namespace. Raises OSError."""
    index, routes = _read(space, device)
    found = []
    for peer in peers:
        ways = list(_deciding(routes, peer))
        if len(ways) != 1 or not (ways[0].plain and ways[0].oif == index):
            found.append(peer)
    return sorted(found)


def straighten(space: str, peers: Sequence[str], device: str) -> None:
    """Remove every route but the device's own by which packets to these addresses would go. Raises OSError."""
    index, routes = _read(space, device)
    strange = {route.body for peer in peers for route in _deciding(routes, peer) if not (route.plain and route.oif == index)}
    if strange:
        with netns.inside(space, _tables) as kernel:
            for body in strange:
                kernel.do(_DELROUTE, body)


def _tables() -> Netlink:
    return Netlink(socket.NETLINK_ROUTE)


_Routes = dict[int, dict[bytes, list[_Route]]]
"""Routes by the length of their prefix, and by the prefix."""


def _deciding(routes: _Routes, peer: str) -> Iterator[_Route]:
    """The routes by which packets to a single address may go, where the main table has one for it alone."""
    address = int.from_bytes(socket.inet_aton(peer))
    for length, prefixes in routes.items():
        prefix = address >> (32 - length) << (32 - length)
        yield from prefixes.get(prefix.to_bytes(4), ())


def _read(space: str, device: str) -> tuple[int, _Routes]:
    """The device's index, and the IPv4 routes of the local table and, for single addresses, of the main one."""

    def look() -> tuple[Netlink, int]:
        try:
            index = socket.if_nametoindex(device)
        except OSError:
            index = _NONE
        return _tables(), index

    found: _Routes = {}
    kernel, index = netns.inside(space, look)
    with kernel:
        for _, body in kernel.dump(_GETROUTE, _ROUTE.pack(socket.AF_INET, *[0] * 8)):
            _, length, _, tos, table, _, _, kind, _ = _ROUTE.unpack_from(body)
            if table == _LOCAL or (table == _MAIN and length == 32):
                values = dict(attributes(body[_ROUTE.size :]))
                plain = (table, tos, kind) == (_MAIN, 0, _UNICAST)
                route = _Route(plain, _number(values.get(_RTA_OIF), 0), body)
                found.setdefault(length, {}).setdefault(values.get(_RTA_DST, bytes(4)), []).append(route)
    return index, found


def _compared(kernel: Netlink) -> tuple[list[bytes], dict[int, int]]:
    """Rules that are not the kernel's own, as it names them, and those of its own that are missing."""
    others: list[bytes] = []
    missing = dict(_RULES)
    try:
        for _, body in kernel.dump(_GETRULE, _RULE.pack(socket.AF_INET, *[0] * 6)):
            priority = _own(body)
            if priority is None or missing.pop(priority, None) is None:
                others.append(body)
    except OSError as error:
        # A kernel without CONFIG_IP_MULTIPLE_TABLES has no rules, and nobody can add one.
        if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            return [], {}
        raise
    return others, missing


def _own(body: bytes) -> int | None:
    """The priority of a rule that is one of the kernel's own: for all packets, to its table, nothing else; else None."""
    values = dict(attributes(body[_RULE.size :]))
    priority, table = _number(values.get(_FRA_PRIORITY), 0), _number(values.get(_FRA_TABLE), body[4])
    plain = body[: _RULE.size] == _RULE.pack(socket.AF_INET, 0, 0, 0, table & 0xFF, _TO_TABLE, 0)
    known = set(values) <= {_FRA_PRIORITY, _FRA_SUPPRESS, _FRA_TABLE, _FRA_PROTOCOL}
    whole = _number(values.get(_FRA_SUPPRESS), _NONE) == _NONE
    return priority if plain and known and whole and _RULES.get(priority) == table else None


def _number(value: bytes | None, default: int) -> int:
    return default if value is None else int.from_bytes(value, sys.byteorder)
