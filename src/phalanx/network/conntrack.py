"""What the kernel's connection tracking knows, in the namespace that the thread is in."""

from __future__ import annotations

import socket
import struct

from phalanx.linux.netlink import NETLINK_NETFILTER, Netlink, attribute, attributes

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # linux/netfilter/nfnetlink_conntrack.h: subsystem << 8 | message
_TUPLE_ORIG, _TUPLE_IP, _ID = 1, 1, 12
_NESTED, _KIND = 0x8000, 0x3FFF  # NLA_F_NESTED, NLA_TYPE_MASK of linux/netlink.h
_HEAD = struct.pack("=BBH", socket.AF_INET, 0, 0)
"""struct nfgenmsg: family, version, resource."""


def forget(address: str) -> None:
    """Drop every connection that has this IPv4 address at either end.

    A new owner of an address must not inherit what rules of the past had let in. Raises OSError.
    """
    wanted = socket.inet_aton(address)
    with Netlink(NETLINK_NETFILTER) as kernel, Netlink(NETLINK_NETFILTER) as second:
        for _, body in kernel.dump(_GET, _HEAD):
            found = _named(body[len(_HEAD) :])
            if wanted in _named(_named(found[_TUPLE_ORIG])[_TUPLE_IP]).values():
                entry = attribute(_NESTED | _TUPLE_ORIG, found[_TUPLE_ORIG]) + attribute(_ID, found[_ID])
                try:
                    second.do(_DELETE, _HEAD + entry)
                except FileNotFoundError:
                    continue  # it has expired meanwhile


def _named(data: bytes) -> dict[int, bytes]:
    return {kind & _KIND: value for kind, value in attributes(data)}
