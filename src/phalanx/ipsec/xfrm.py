"""The kernel's IPsec tables, policies and states, by its NETLINK_XFRM protocol (linux/xfrm.h)."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

from phalanx.ipsec import netns
from phalanx.linux.netlink import CREATE, Netlink, attribute, attributes

NETLINK_XFRM = 6

Direction = Literal["in", "out", "fwd"]
DIRECTIONS: tuple[Direction, ...] = ("in", "out", "fwd")

NEWSA, DELSA, _GETSA, EXPIRE, UPDSA = 16, 17, 18, 24, 26
_NEWPOLICY, _DELPOLICY, _GETPOLICY, _UPDPOLICY = 19, 20, 21, 25
_TMPL, _ALG_AEAD = 5, 18
_BINDING = (16, 21, 31)
"""XFRMA_POLICY_TYPE, XFRMA_MARK and XFRMA_IF_ID: a policy is found by its index only with what it is bound to."""
_STATE_ESN = 128
_INFINITE = 2**64 - 1

_SELECTOR = struct.Struct("=16s16s8xHBBB3xiI")
"""struct xfrm_selector: daddr, saddr, (ports), family, prefixlen_d, prefixlen_s, proto, ifindex, user."""
_POLICY = struct.Struct("=56s64s32sIIBBBB4x")
"""struct xfrm_userpolicy_info: sel, lft, curlft, priority, index, dir, action, flags, share."""
_POLICY_ID = struct.Struct("=56sIB3x")
"""struct xfrm_userpolicy_id: sel, index, dir."""
STATE = struct.Struct("=56s16s4sB3x16s64sQQQQ12sIIHBBB7x")
"""struct xfrm_usersa_info: sel, id{daddr, spi, proto}, saddr, lft, curlft{bytes, packets, add, use}, stats, seq, reqid,
family, mode, replay_window, flags."""
STATE_ID = struct.Struct("=16s4sHBx")
"""struct xfrm_usersa_id: daddr, spi, family, proto."""
_AEAD = struct.Struct("=64sII")
"""struct xfrm_algo_aead without the key: name, key length and ICV length in bits. The key includes 32 bits of salt."""
_TEMPLATE = struct.Struct("=16s4sB3xH2x16sIBBBxIII")
"""struct xfrm_user_tmpl: id{daddr, spi, proto}, family, saddr, reqid, mode, share, optional, aalgos, ealgos, calgos."""
_LIFETIME = struct.pack("=QQQQQQQQ", *[_INFINITE] * 4, 0, 0, 0, 0)
"""struct xfrm_lifetime_cfg without any limit."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of the SPD: what it selects, and what becomes of such packets. Lower priority wins.

    `template`: whether it demands ESP; one that does not lets packets pass as they are, if it lets them pass.
    """

    direction: Direction
    source: Network
    destination: Network
    action: Literal["allow", "block"]
    priority: int
    template: bool = False


Key = tuple[bytes, int, int, int, bool]
"""What tells a policy from others: the whole selector, direction, action, priority, and whether it demands ESP."""


def key(policy: Policy) -> Key:
    """The key of a policy as `Xfrm.put` installs it, for all ports, protocols and devices."""
    action = 1 if policy.action == "block" else 0
    return (_pack_selector(policy), DIRECTIONS.index(policy.direction), action, policy.priority, policy.template)


@dataclass(frozen=True, slots=True)
class State:
    """An ESP SA of the SAD. `bytes` and `packets` are what the kernel counted; `algorithm` is its name there; no key in it."""

    source: str
    destination: str
    spi: int
    algorithm: str
    key_bits: int
    icv_bits: int
    esn: bool
    bytes: int
    packets: int


class Xfrm(Netlink):
    """A connection to these tables. Raises OSError with the errno that the kernel gave."""

    @classmethod
    def kernel(cls, space: str) -> Self:
        """The kernel's tables of a network namespace."""
        return netns.inside(space, lambda: cls(NETLINK_XFRM))

    def put(self, policy: Policy) -> None:
        """Install the policy, or replace the one with the same selector and direction."""
        selector, direction, action, priority, _ = key(policy)
        self.do(_UPDPOLICY, _POLICY.pack(selector, _LIFETIME, b"", priority, 0, direction, action, 0, 0), CREATE)

    def remove(self, policy: Policy) -> None:
        """Remove the policy with that selector and direction; none there is fine."""
        try:
            self.do(_DELPOLICY, _POLICY_ID.pack(_pack_selector(policy), 0, DIRECTIONS.index(policy.direction)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def keys(self) -> set[Key]:
        """By what all policies of the namespace are told apart: costs far less than `policies`."""
        return {key for key, _ in self._dumped()}

    def prune(self, doomed: Callable[[Key], bool]) -> None:
        """Remove the policies with such keys, whatever else they are bound to: ports, marks, interfaces."""
        for key, entry in list(self._dumped()):
            if doomed(key):
                bound = b"".join(
                    attribute(kind, value) for kind, value in attributes(entry[_POLICY.size :]) if kind in _BINDING
                )
                index = _POLICY.unpack_from(entry)[4]
                self.do(_DELPOLICY, _POLICY_ID.pack(key[0], index, key[1]) + bound)

    def policies(self) -> list[Policy]:
        """All policies of the namespace; those of single sockets (IP_XFRM_POLICY) are left out."""
        found: list[Policy] = []
        for (selector, direction, action, priority, template), _ in self._dumped():
            if direction < len(DIRECTIONS):
                source, destination = _unpack_selector(selector)
                verdict: Literal["allow", "block"] = "block" if action else "allow"
                found.append(Policy(DIRECTIONS[direction], source, destination, verdict, priority, template))
        return found

    def _dumped(self) -> Iterator[tuple[Key, bytes]]:
        """Each policy's key, and all that the kernel says of it."""
        for kind, body in self.dump(_GETPOLICY, _POLICY_ID.pack(bytes(56), 0, 0)):
            if kind == _NEWPOLICY:
                selector, _, _, priority, _, direction, action, _, _ = _POLICY.unpack_from(body)
                template = any(kind == _TMPL and _demands(value) for kind, value in attributes(body[_POLICY.size :]))
                yield (selector, direction, action, priority, template), body

    def states(self) -> list[State]:
        """All ESP SAs, also SPIs that are only reserved (ALLOCSPI): these have no algorithm."""
        return [state for kind, body in self.dump(_GETSA, b"") if kind == NEWSA and (state := parse_state(body))]

    def remove_state(self, state: State) -> None:
        """Remove the SA; none there is fine."""
        address = ipaddress.ip_address(state.destination)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            self.do(DELSA, STATE_ID.pack(address.packed, state.spi.to_bytes(4, "big"), family, socket.IPPROTO_ESP))
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise


def _demands(templates: bytes) -> bool:
    """Whether one of these templates (XFRMA_TMPL) is ESP and must be met."""
    whole = len(templates) - len(templates) % _TEMPLATE.size
    return any(
        protocol == socket.IPPROTO_ESP and not optional
        for _, _, protocol, _, _, _, _, _, optional, *_ in _TEMPLATE.iter_unpack(templates[:whole])
    )


def parse_state(body: bytes) -> State | None:
    """An SA from struct xfrm_usersa_info and its attributes; None where it is not ESP. No AEAD: no algorithm."""
    _, to, spi, protocol, from_, _, size, packets, _, _, _, _, _, family, _, _, flags = STATE.unpack_from(body)
    if protocol != socket.IPPROTO_ESP:
        return None
    name, key_bits, icv_bits = b"", 0, 0
    for kind, value in attributes(body[STATE.size :]):
        if kind == _ALG_AEAD:
            name, key_bits, icv_bits = _AEAD.unpack_from(value)
    return State(
        source=str(_address(family, from_)),
        destination=str(_address(family, to)),
        spi=int.from_bytes(spi, "big"),
        algorithm=name.rstrip(b"\0").decode(),
        key_bits=key_bits,
        icv_bits=icv_bits,
        esn=bool(flags & _STATE_ESN),
        bytes=size,
        packets=packets,
    )


def _pack_selector(policy: Policy) -> bytes:
    return _SELECTOR.pack(
        policy.destination.network_address.packed,
        policy.source.network_address.packed,
        socket.AF_INET if policy.destination.version == 4 else socket.AF_INET6,
        policy.destination.prefixlen,
        policy.source.prefixlen,
        0,
        0,
        0,
    )


def _unpack_selector(data: bytes) -> tuple[Network, Network]:
    to, from_, family, to_length, from_length, _, _, _ = _SELECTOR.unpack(data)
    return (
        ipaddress.ip_network((_address(family, from_).packed, from_length)),
        ipaddress.ip_network((_address(family, to).packed, to_length)),
    )


def _address(family: int, data: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.IPv4Address(data[:4]) if family == socket.AF_INET else ipaddress.IPv6Address(data)
