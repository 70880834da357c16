"""XFRM requests as charon sends them, built field by field from linux/xfrm.h, and a data plane behind real tables."""

from __future__ import annotations

import errno
import struct
from ipaddress import ip_address

from phalanx.ipsec.engine.core import Core
from phalanx.ipsec.engine.dispatch import Dispatcher
from phalanx.ipsec.engine.messages import Direction, Type
from phalanx.ipsec.engine.tables import Tables

OWN, PEER = "10.0.0.1", "10.0.0.2"
KEY = bytes(range(36))
INFINITE = 2**64 - 1
REQUEST, ACK, DUMP = 1, 4, 0x300
AEAD = "rfc4106(gcm(aes))"


def address(text: str) -> bytes:
    return ip_address(text).packed.ljust(16, b"\0")


def message(kind: int, body: bytes, seq: int = 1, flags: int = REQUEST | ACK) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 0) + body


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def selector(source: str = "", destination: str = "", prefixes: tuple[int, int] | None = None, protocol: int = 0) -> bytes:
    if not source:
        return bytes(56)
    version = ip_address(source).version
    source_prefix, destination_prefix = prefixes or ((32, 32) if version == 4 else (128, 128))
    family = 2 if version == 4 else 10
    return (
        address(destination)
        + address(source)
        + struct.pack("=8xHBBB3xII", family, destination_prefix, source_prefix, protocol, 0, 0)
    )


def limits(
    soft_bytes=INFINITE,
    hard_bytes=INFINITE,
    soft_packets=INFINITE,
    hard_packets=INFINITE,
    soft=0,
    hard=0,
    soft_use=0,
    hard_use=0,
):
    return struct.pack("=8Q", soft_bytes, hard_bytes, soft_packets, hard_packets, soft, hard, soft_use, hard_use)


def usersa(spi, source, destination, *, life=None, reqid=7, family=2, mode=1, flags=0xA0, protocol=50, sel=None):
    return (
        (sel or selector()) + address(destination) + struct.pack(">IB3x", spi, protocol) + address(source) + (life or limits())
        + bytes(32 + 12) + struct.pack("=IIHBBB7x", 0, reqid, family, mode, 0, flags)
    )  # fmt: skip


def aead(key: bytes = KEY, name: str = AEAD, icv: int = 128, kind: int = 18) -> bytes:
    return attribute(kind, name.encode().ljust(64, b"\0") + struct.pack("=II", 8 * len(key), icv) + key)


def replay(window: int = 4096, sent: int = 0, received: int = 0, words: int | None = None) -> bytes:
    words = (window + 31) // 32 if words is None else words
    head = struct.pack("=6I", words, sent & 0xFFFFFFFF, received & 0xFFFFFFFF, sent >> 32, received >> 32, window)
    return attribute(23, head + bytes(4 * words))


def new_sa(
    spi, source=PEER, destination=OWN, *, kind=Type.NEWSA, seq=1, key=KEY, window=4096, attributes=None, **info
) -> bytes:
    attributes = aead(key) + replay(window) if attributes is None else attributes
    return message(kind, usersa(spi, source, destination, **info) + attributes, seq)


def sa_id(kind, spi, destination=OWN, *, seq=1, flags=REQUEST | ACK) -> bytes:
    return message(kind, address(destination) + struct.pack(">I", spi) + struct.pack("=HBx", 2, 50), seq, flags)


def alloc_spi(low=0xC0000000, high=0xCFFFFFFF, *, destination=OWN, seq=1) -> bytes:
    return message(Type.ALLOCSPI, usersa(0, PEER, destination, flags=0) + struct.pack("=II", low, high), seq, REQUEST)


def template(spi, source, destination, *, reqid=7, mode=1, protocol=50, optional=0) -> bytes:
    everything = 0xFFFFFFFF
    return (
        address(destination) + struct.pack(">IB3x", spi, protocol) + struct.pack("=H2x", 2) + address(source)
        + struct.pack("=IBBBx3I", reqid, mode, 0, optional, everything, everything, everything)
    )  # fmt: skip


def policy(
    direction,
    spi=0,
    *,
    kind=Type.NEWPOLICY,
    seq=1,
    sel=None,
    priority=100,
    action=0,
    templates=None,
    more=b"",
    life=None,
    **tmpl,
):
    source, destination = (OWN, PEER) if direction == Direction.OUT else (PEER, OWN)
    body = (sel or selector(source, destination)) + (life or limits()) + bytes(32)
    body += struct.pack("=IIBBBB4x", priority, 0, direction, action, 0, 0)
    templates = [template(spi, source, destination, **tmpl)] if templates is None else templates
    if templates:
        body += attribute(5, b"".join(templates))
    return message(kind, body + more, seq)


def ae_id(spi, flags=0, destination=OWN, *, seq=1) -> bytes:
    name = address(destination) + struct.pack(">I", spi) + struct.pack("=HBx", 2, 50)
    return message(Type.GETAE, name + address(PEER) + struct.pack("=II", flags, 7), seq, REQUEST)


def policy_id(kind, direction, sel=None, index=0, *, seq=1, flags=REQUEST | ACK) -> bytes:
    source, destination = (OWN, PEER) if direction == Direction.OUT else (PEER, OWN)
    return message(kind, (sel or selector(source, destination)) + struct.pack("=IB3x", index, direction), seq, flags)


WRONG_SA = {
    "transport mode": ({"mode": 0}, errno.EINVAL),
    "BEET mode": ({"mode": 4}, errno.EINVAL),
    "AH": ({"protocol": 51}, errno.EINVAL),
    "IPv6 outside": ({"family": 10}, errno.EAFNOSUPPORT),
    "no ESN": ({"flags": 0x20}, errno.EINVAL),
    "other flags": ({"flags": 0xA0 | 8}, errno.EINVAL),
    "no algorithm": ({"attributes": replay()}, errno.EINVAL),
    "AES-CBC": ({"attributes": aead(KEY, "cbc(aes)", 0, kind=2) + replay()}, errno.EINVAL),
    "ChaCha20": ({"attributes": aead(KEY, "rfc7539esp(chacha20,poly1305)") + replay()}, errno.ENOSYS),
    "NULL": ({"attributes": aead(b"", "ecb(cipher_null)", 0) + replay()}, errno.ENOSYS),
    "a short ICV": ({"attributes": aead(icv=64) + replay()}, errno.ENOSYS),
    "AES-192": ({"attributes": aead(bytes(28)) + replay()}, errno.EINVAL),
    "a key without salt": ({"attributes": aead(bytes(32)) + replay()}, errno.EINVAL),
    "no window": ({"attributes": aead()}, errno.EINVAL),
    "a window of 1": ({"window": 1}, errno.EINVAL),
    "a window of 8192": ({"window": 8192}, errno.EINVAL),
    "a used key": ({"attributes": aead() + replay(received=5)}, errno.EINVAL),
    "UDP encapsulation": ({"attributes": aead() + replay() + attribute(4, struct.pack("=H22x", 2))}, errno.EOPNOTSUPP),
    "a mark": ({"attributes": aead() + replay() + attribute(21, bytes(8))}, errno.EOPNOTSUPP),
    "an interface": ({"attributes": aead() + replay() + attribute(31, bytes(4))}, errno.EOPNOTSUPP),
    "offload": ({"attributes": aead() + replay() + attribute(28, bytes(8))}, errno.EOPNOTSUPP),
    "something of a later kernel": ({"attributes": aead() + replay() + attribute(77, bytes(4))}, errno.EOPNOTSUPP),
    "numbers that may wrap": ({"attributes": aead() + replay() + attribute(24, b"\2\0\0\0")}, errno.EINVAL),
    "the other direction": ({"attributes": aead() + replay() + attribute(33, b"\2")}, errno.EINVAL),
    "a lifetime from first use": ({"life": limits(hard_use=9)}, errno.EINVAL),
    "a selector": ({"sel": selector(PEER, OWN)}, errno.EINVAL),
    "strangers": ({"source": "10.0.0.8", "destination": "10.0.0.9"}, errno.EINVAL),
    "itself": ({"source": OWN}, errno.EINVAL),
    "a key that is cut off": ({"attributes": aead()[:-8] + replay()}, errno.EINVAL),
    "a mode that is none": ({"mode": 9}, errno.EINVAL),
    "TCP": ({"protocol": 6}, errno.EINVAL),
    "no address family": ({"family": 0}, errno.EINVAL),
    "an unknown algorithm": ({"attributes": aead(KEY, "rot13") + replay()}, errno.ENOSYS),
    "an ICV of five bytes": ({"attributes": aead(icv=40) + replay()}, errno.ENOSYS),
    "an algorithm in eight bytes": ({"attributes": attribute(18, bytes(8)) + replay()}, errno.ERANGE),
    "a key of five bytes": ({"attributes": aead(bytes(5)) + replay()}, errno.EINVAL),
    "a window of 0": ({"window": 0}, errno.EINVAL),
    "a window larger than its bitmap": ({"attributes": aead() + replay(4096, words=1)}, errno.EINVAL),
    "a replay state in eight bytes": ({"attributes": aead() + attribute(23, bytes(8))}, errno.ERANGE),
    "flags in two bytes": ({"attributes": aead() + replay() + attribute(24, b"\2\0")}, errno.ERANGE),
}
"""SAs that are not carried, and the errno of the answer."""

WRONG_POLICY = {
    "a bypass": ({"templates": []}, errno.EINVAL),
    "two templates": ({"templates": [template(0, PEER, OWN)] * 2}, errno.EINVAL),
    "an optional template": ({"optional": 1}, errno.EINVAL),
    "transport mode": ({"mode": 0}, errno.EINVAL),
    "AH": ({"protocol": 51}, errno.EINVAL),
    "one protocol only": ({"sel": selector(PEER, OWN, protocol=6)}, errno.EOPNOTSUPP),
    "a long prefix": ({"sel": selector(PEER, OWN, (33, 32))}, errno.EINVAL),
    "no family": ({"sel": selector()}, errno.EINVAL),
    "a lifetime": ({"life": limits(hard=5)}, errno.EOPNOTSUPP),
    "an unknown action": ({"action": 2}, errno.EINVAL),
    "a mark": ({"more": attribute(21, bytes(8))}, errno.EOPNOTSUPP),
    "a sub policy": ({"more": attribute(16, b"\1\0\0\0\0\0")}, errno.EINVAL),
    "another type of policy": ({"more": attribute(16, b"\7\0\0\0\0\0")}, errno.EINVAL),
    "seven templates": ({"templates": [template(0, PEER, OWN)] * 7}, errno.EINVAL),
    "TCP": ({"protocol": 6}, errno.EINVAL),
    "a mode that is none": ({"mode": 9}, errno.EINVAL),
    "a template in ten bytes": ({"templates": [], "more": attribute(5, bytes(10))}, errno.ERANGE),
}
"""Policies that are not kept, and the errno of the answer."""


def error_of(answers: list[bytearray]) -> int:
    """The errno of the last answer, which must be an NLMSG_ERROR."""
    kind = struct.unpack_from("=H", answers[-1], 4)[0]
    assert kind == 2, f"answer of type {kind:#x}"
    return -struct.unpack_from("=i", answers[-1], 16)[0]


class Instance:
    """Tables and a data plane that runs no threads, spoken to as charon would."""

    def __init__(self, own: str = OWN, **options):
        self.core = Core()
        self.tables = Tables(own, self.core, **options)
        self.dispatcher = Dispatcher(self.tables)
        self.now = 1000.0
        self._seq = 0

    def ask(self, request: bytes, owner="charon") -> list[bytearray]:
        """Sends a request under a number of its own."""
        self._seq += 1
        return self.dispatcher.handle(request[:8] + struct.pack("=I", self._seq) + request[12:], owner, self.now)

    def do(self, *requests: bytes, owner="charon") -> None:
        for request in requests:
            error = error_of(self.ask(request, owner))
            assert error == 0, f"errno {error}: {self.dispatcher.refusals}"

    def establish(self, spi_in=0xC0000001, spi_out=0xC0000002, key_in=KEY, key_out=KEY[::-1], **info) -> None:
        """Both SAs of a pair and their policies, in charon's order."""
        self.do(
            new_sa(spi_in, PEER, OWN, key=key_in, **info),
            new_sa(spi_out, OWN, PEER, key=key_out, window=1, **info),
            policy(Direction.IN), policy(Direction.FWD), policy(Direction.OUT, spi_out),
        )  # fmt: skip

    def drops(self) -> dict[str, int]:
        return {cause: count for cause, count in self.core.drops().items() if count}
