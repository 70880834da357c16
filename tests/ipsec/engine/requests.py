"""XFRM requests as charon sends them, built field by field from linux/xfrm.h, and a data plane behind real tables."""

from __future__ import annotations

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


def replay(window: int = 4096, sent: int = 0, received: int = 0) -> bytes:
    words = (window + 31) // 32
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


def policy_id(kind, direction, sel=None, index=0, *, seq=1, flags=REQUEST | ACK) -> bytes:
    source, destination = (OWN, PEER) if direction == Direction.OUT else (PEER, OWN)
    return message(kind, (sel or selector(source, destination)) + struct.pack("=IB3x", index, direction), seq, flags)


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
