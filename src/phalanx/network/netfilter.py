"""Two questions to the kernel's netfilter that the `nft` tool does not answer, for the namespace the thread is in."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

_NETLINK_NETFILTER = 12
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NFT_GETGEN = 10 << 8 | 16  # linux/netfilter/nfnetlink.h: subsystem << 8 | message
_NFTA_GEN_ID = 1
_CT_GET, _CT_DELETE = 1 << 8 | 1, 1 << 8 | 2  # linux/netfilter/nfnetlink_conntrack.h
_CTA_TUPLE_ORIG, _CTA_TUPLE_IP, _CTA_ID = 1, 1, 12
_NLA_TYPE_MASK = 0x3FFF

_NLMSGHDR = struct.Struct("=IHHII")
_NFGENMSG = struct.Struct("=BBH")
_NLATTR = struct.Struct("=HH")


def generation() -> int:
    """Number of the nftables ruleset in force; every change by anybody counts it up by one, skipping 0 (32 bits).

    NFT_MSG_GETGEN of linux/netfilter/nf_tables.h. Raises OSError.
    """
    with _opened() as netlink:
        for payload in _request(netlink, _NFT_GETGEN, 0, socket.AF_UNSPEC):
            return int(struct.unpack(">I", dict(_attributes(payload))[_NFTA_GEN_ID])[0])
    raise OSError("the kernel did not tell the generation of its nftables ruleset")


def forget(address: str) -> None:
    """Drop every connection that conntrack knows with this IPv4 address at either end.

    A new owner of an address must not inherit what rules of the past had let in. Raises OSError.
    """
    wanted = socket.inet_aton(address)
    with _opened() as netlink, _opened() as second:
        for payload in _request(netlink, _CT_GET, _NLM_F_DUMP, socket.AF_INET):
            attributes = dict(_attributes(payload))
            original = attributes[_CTA_TUPLE_ORIG]
            ends = dict(_attributes(dict(_attributes(original))[_CTA_TUPLE_IP]))
            if wanted in ends.values():
                entry = _attribute(0x8000 | _CTA_TUPLE_ORIG, original) + _attribute(_CTA_ID, attributes[_CTA_ID])
                try:
                    list(_request(second, _CT_DELETE, _NLM_F_ACK, socket.AF_INET, entry))
                except FileNotFoundError:
                    continue  # it has expired meanwhile


def _opened() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    netlink.settimeout(10)
    return netlink


def _request(netlink: socket.socket, kind: int, flags: int, family: int, attributes: bytes = b"") -> Iterator[bytes]:
    """Send one request and yield the attributes of each answer, after the nfgenmsg. Raises OSError as the kernel says."""
    body = _NFGENMSG.pack(family, 0, 0) + attributes
    netlink.sendto(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), kind, flags | _NLM_F_REQUEST, 1, 0) + body, (0, 0))
    while True:
        data = netlink.recv(1 << 18)
        while data:
            length, answer, _, _, _ = _NLMSGHDR.unpack_from(data)
            payload = data[_NLMSGHDR.size : length]
            data = data[length + 3 & ~3 :]
            if answer == _NLMSG_DONE:
                return
            if answer == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
            yield payload[_NFGENMSG.size :]
            if not flags & (_NLM_F_DUMP | _NLM_F_ACK):
                return


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _NLATTR.size:
        length, kind = _NLATTR.unpack_from(data)
        yield kind & _NLA_TYPE_MASK, data[_NLATTR.size : length]
        data = data[length + 3 & ~3 :]


def _attribute(kind: int, value: bytes) -> bytes:
    return _NLATTR.pack(_NLATTR.size + len(value), kind) + value + bytes(-len(value) % 4)
