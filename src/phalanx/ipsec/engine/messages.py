"""The kernel's XFRM netlink messages (linux/xfrm.h, linux/netlink.h), parsed and built. No state, no I/O.

Keys are handled as bytearrays, so that whoever holds one can wipe it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

Buffer = bytes | bytearray | memoryview

ESP = 50
TUNNEL = 1
INFINITE = 2**64 - 1

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_MULTI = 0x02
NLM_F_ACK = 0x04
NLM_F_DUMP = 0x300
NLM_F_CAPPED = 0x100


class Type(IntEnum):
    """XFRM_MSG_*."""

    NEWSA = 0x10
    DELSA = 0x11
    GETSA = 0x12
    NEWPOLICY = 0x13
    DELPOLICY = 0x14
    GETPOLICY = 0x15
    ALLOCSPI = 0x16
    ACQUIRE = 0x17
    EXPIRE = 0x18
    UPDPOLICY = 0x19
    UPDSA = 0x1A
    FLUSHSA = 0x1C
    FLUSHPOLICY = 0x1D
    NEWAE = 0x1E
    GETAE = 0x1F
    NEWSADINFO = 0x22
    GETSADINFO = 0x23
    NEWSPDINFO = 0x24
    GETSPDINFO = 0x25


class Attribute(IntEnum):
    """XFRMA_*, of messages about SAs and policies."""

    TMPL = 5
    LTIME_VAL = 9
    REPLAY_VAL = 10
    LASTUSED = 15
    POLICY_TYPE = 16
    ALG_AEAD = 18
    REPLAY_ESN_VAL = 23
    SA_EXTRA_FLAGS = 24
    SA_DIR = 33


class Direction(IntEnum):
    """XFRM_POLICY_IN, OUT, FWD; also XFRM_SA_DIR_IN, OUT less one."""

    IN = 0
    OUT = 1
    FWD = 2


class Action(IntEnum):
    """XFRM_POLICY_ALLOW, BLOCK."""

    ALLOW = 0
    BLOCK = 1


STATE_AF_UNSPEC = 32
STATE_ESN = 128
XFLAG_DONT_ENCAP_DSCP = 1

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_SELECTOR = struct.Struct("=16s16s4HHBBB3xiI")
_ID = struct.Struct("=16s4sB3x")
_LIMITS = struct.Struct("=8Q")
_CURRENT = struct.Struct("=4Q")
_SA_TAIL = struct.Struct("=3IIIHBBB7x")
_POLICY_TAIL = struct.Struct("=IIBBBB4x")
_TEMPLATE = struct.Struct("=16s4sB3xH2x16sIBBBx3I")
_SA_ID = struct.Struct("=16s4sHBx")
_POLICY_ID = struct.Struct("=56sIB3x")
_REPLAY = struct.Struct("=6I")
_AEAD = struct.Struct("=64sII")

SELECTOR_SIZE, SA_SIZE, POLICY_SIZE, _REPLAY_ID_SIZE = 56, 224, 168, 48


class Refused(Exception):
    """A request that is answered with an error. `number` is the errno that the kernel has for it."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {reason}")
        self.number = number


@dataclass(frozen=True, slots=True)
class Header:
    """struct nlmsghdr, without length and port."""

    type: int
    flags: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Selector:
    """struct xfrm_selector. Addresses are 16 bytes, IPv4 in the first four; `others` says whether anything else is selected."""

    raw: bytes
    family: int
    source: bytes
    source_prefix: int
    destination: bytes
    destination_prefix: int
    others: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """struct xfrm_lifetime_cfg: bytes, packets, seconds since the SA was added, and since it was first used."""

    soft_bytes: int = INFINITE
    hard_bytes: int = INFINITE
    soft_packets: int = INFINITE
    hard_packets: int = INFINITE
    soft_seconds: int = 0
    hard_seconds: int = 0
    soft_use_seconds: int = 0
    hard_use_seconds: int = 0

    def pack(self) -> bytes:
        """The structure's bytes."""
        return _LIMITS.pack(
            self.soft_bytes, self.hard_bytes, self.soft_packets, self.hard_packets,
            self.soft_seconds, self.hard_seconds, self.soft_use_seconds, self.hard_use_seconds,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Current:
    """struct xfrm_lifetime_cur. Times in seconds of the wall clock."""

    octets: int = 0
    packets: int = 0
    added: int = 0
    used: int = 0

    def pack(self) -> bytes:
        """The structure's bytes."""
        return _CURRENT.pack(self.octets, self.packets, self.added, self.used)


@dataclass(frozen=True, slots=True)
class SaInfo:
    """struct xfrm_usersa_info. Addresses are 16 bytes, the SPI in host order."""

    selector: Selector
    source: bytes
    destination: bytes
    spi: int
    protocol: int
    limits: Limits
    sequence: int
    reqid: int
    family: int
    mode: int
    replay_window: int
    flags: int


@dataclass(frozen=True, slots=True)
class Aead:
    """struct xfrm_algo_aead. `key` is the caller's to wipe."""

    name: str
    key: bytearray
    icv_bits: int


@dataclass(frozen=True, slots=True)
class Replay:
    """struct xfrm_replay_state_esn without its bitmap; 64-bit numbers."""

    window: int
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class SaRequest:
    """NEWSA or UPDSA."""

    info: SaInfo
    aead: Aead | None
    replay: Replay | None
    extra_flags: int
    direction: Direction | None
    attributes: frozenset[int]


@dataclass(frozen=True, slots=True)
class SpiRequest:
    """ALLOCSPI: an SPI of the range for the SA that `info` will be."""

    info: SaInfo
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class SaId:
    """struct xfrm_usersa_id."""

    destination: bytes
    spi: int
    family: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Template:
    """struct xfrm_user_tmpl; `raw` as it came."""

    raw: bytes
    source: bytes
    destination: bytes
    spi: int
    protocol: int
    family: int
    reqid: int
    mode: int
    optional: bool


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """NEWPOLICY or UPDPOLICY; `direction` is as it came: 0 in, 1 out, 2 fwd, else nonsense."""

    selector: Selector
    limits: Limits
    priority: int
    direction: int
    action: int
    flags: int
    share: int
    templates: tuple[Template, ...]
    attributes: frozenset[int]


@dataclass(frozen=True, slots=True)
class PolicyId:
    """struct xfrm_userpolicy_id: by index where that is not 0, else by selector."""

    selector: Selector
    index: int
    direction: int


def parse_header(data: Buffer) -> tuple[Header, memoryview]:
    """A message's header and its body.

    Raises Refused where the length field does not fit `data`: then there is nothing to answer to.
    """
    if len(data) < _HEADER.size:
        raise Refused(errno.EINVAL, f"{len(data)} bytes are no netlink message")
    length, kind, flags, sequence, _port = _HEADER.unpack_from(data)
    if not _HEADER.size <= length <= len(data):
        raise Refused(errno.EINVAL, f"netlink length {length} in a message of {len(data)} bytes")
    return Header(kind, flags, sequence), memoryview(data)[_HEADER.size : length]


def parse_attributes(data: Buffer, offset: int) -> Mapping[int, memoryview]:
    """The attributes behind a structure of `offset` bytes. Raises Refused where one does not fit."""
    view, found = memoryview(data), dict[int, memoryview]()
    at = (offset + 3) & ~3
    while len(view) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(view, at)
        if not _ATTRIBUTE.size <= length <= len(view) - at:
            raise Refused(errno.EINVAL, f"attribute {kind} of {length} bytes does not fit its message")
        found[kind & 0x3FFF] = view[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def parse_selector(data: Buffer) -> Selector:
    """struct xfrm_selector."""
    (destination, source, dport, dport_mask, sport, sport_mask, family, destination_prefix, source_prefix, protocol, ifindex,
     user) = _SELECTOR.unpack_from(data)  # fmt: skip
    others = any((dport, dport_mask, sport, sport_mask, protocol, ifindex, user))
    raw = bytes(data[:SELECTOR_SIZE])
    return Selector(raw, family, source, source_prefix, destination, destination_prefix, others)


def parse_sa(data: Buffer) -> SaInfo:
    """struct xfrm_usersa_info."""
    if len(data) < SA_SIZE:
        raise Refused(errno.EINVAL, f"message too short: {len(data)} bytes where {SA_SIZE} are needed")
    destination, spi, protocol = _ID.unpack_from(data, 56)
    _, _, _, sequence, reqid, family, mode, window, flags = _SA_TAIL.unpack_from(data, 192)
    return SaInfo(
        selector=parse_selector(data),
        source=bytes(data[80:96]),
        destination=destination,
        spi=int.from_bytes(spi, "big"),
        protocol=protocol,
        limits=Limits(*_LIMITS.unpack_from(data, 96)),
        sequence=sequence,
        reqid=reqid,
        family=family,
        mode=mode,
        replay_window=window,
        flags=flags,
    )


def _parse_aead(data: memoryview) -> Aead:
    if len(data) < _AEAD.size:
        raise Refused(errno.ERANGE, f"an algorithm in {len(data)} bytes")
    name, key_bits, icv_bits = _AEAD.unpack_from(data)
    key = data[_AEAD.size : _AEAD.size + (key_bits + 7) // 8]
    if len(key) * 8 != key_bits:
        raise Refused(errno.EINVAL, f"a key of {key_bits} bits in {len(key)} bytes")
    return Aead(name.split(b"\0")[0].decode("ascii", "replace"), bytearray(key), icv_bits)


def _parse_replay(data: memoryview) -> Replay:
    if len(data) < _REPLAY.size:
        raise Refused(errno.ERANGE, f"a replay state in {len(data)} bytes")
    length, sent, received, sent_high, received_high, window = _REPLAY.unpack_from(data)
    if length > 4096 // 4 or len(data) < _REPLAY.size + 4 * length:
        raise Refused(errno.EINVAL, f"a replay bitmap of {length} words in {len(data)} bytes")
    if window > 32 * length:
        raise Refused(errno.EINVAL, f"a replay window of {window} packets in a bitmap of {length} words")
    return Replay(window, sent_high << 32 | sent, received_high << 32 | received)


def _u32(data: memoryview) -> int:
    if len(data) != 4:
        raise Refused(errno.ERANGE, f"an attribute of {len(data)} bytes where 4 are needed")
    return int.from_bytes(data, "little")


def parse_sa_request(body: Buffer) -> SaRequest:
    """NEWSA or UPDSA. The AEAD's key in the result is the caller's to wipe."""
    info = parse_sa(body)
    attributes = parse_attributes(body, SA_SIZE)
    replay, extra, way = (
        attributes.get(kind) for kind in (Attribute.REPLAY_ESN_VAL, Attribute.SA_EXTRA_FLAGS, Attribute.SA_DIR)
    )
    if way is not None and bytes(way) not in (b"\1", b"\2"):
        raise Refused(errno.EINVAL, "an SA direction that is neither in nor out")
    aead = attributes.get(Attribute.ALG_AEAD)
    return SaRequest(
        info=info,
        replay=None if replay is None else _parse_replay(replay),
        extra_flags=0 if extra is None else _u32(extra),
        direction=None if way is None else Direction(way[0] - 1),
        attributes=frozenset(attributes),
        aead=None if aead is None else _parse_aead(aead),
    )


def parse_spi_request(body: Buffer) -> SpiRequest:
    """ALLOCSPI: struct xfrm_userspi_info."""
    info = parse_sa(body)
    if len(body) < SA_SIZE + 8:
        raise Refused(errno.EINVAL, "message too short for a range of SPIs")
    minimum, maximum = struct.unpack_from("=II", body, SA_SIZE)
    return SpiRequest(info, minimum, maximum)


def parse_sa_id(body: Buffer) -> SaId:
    """struct xfrm_usersa_id, with which DELSA and GETSA begin."""
    if len(body) < _SA_ID.size:
        raise Refused(errno.EINVAL, "message too short for an SA's name")
    destination, spi, family, protocol = _SA_ID.unpack_from(body)
    return SaId(destination, int.from_bytes(spi, "big"), family, protocol)


def parse_replay_request(body: Buffer) -> tuple[SaId, int]:
    """GETAE: struct xfrm_aevent_id. The SA's name, and flags that the answer repeats."""
    if len(body) < _REPLAY_ID_SIZE:
        raise Refused(errno.EINVAL, "message too short for a question about an SA's replay state")
    return parse_sa_id(body), struct.unpack_from("=I", body, _REPLAY_ID_SIZE - 8)[0]


def _parse_templates(data: memoryview) -> tuple[Template, ...]:
    if 0 < len(data) < _TEMPLATE.size:
        raise Refused(errno.ERANGE, f"a template in {len(data)} bytes")
    if len(data) % _TEMPLATE.size:
        raise Refused(errno.EINVAL, f"{len(data)} bytes of templates")
    templates = list[Template]()
    for at in range(0, len(data), _TEMPLATE.size):
        destination, spi, protocol, family, source, reqid, mode, _, optional, _, _, _ = _TEMPLATE.unpack_from(data, at)
        raw = bytes(data[at : at + _TEMPLATE.size])
        number = int.from_bytes(spi, "big")
        templates.append(Template(raw, source, destination, number, protocol, family, reqid, mode, optional != 0))
    return tuple(templates)


def parse_policy_request(body: Buffer) -> PolicyRequest:
    """NEWPOLICY or UPDPOLICY: struct xfrm_userpolicy_info and its templates."""
    if len(body) < POLICY_SIZE:
        raise Refused(errno.EINVAL, f"message too short: {len(body)} bytes where {POLICY_SIZE} are needed")
    priority, _index, direction, action, flags, share = _POLICY_TAIL.unpack_from(body, 152)
    attributes = parse_attributes(body, POLICY_SIZE)
    kind = attributes.get(Attribute.POLICY_TYPE)
    if kind is not None and bytes(kind[:1]) != b"\0":
        raise Refused(errno.EINVAL, "a policy of another type than main")
    return PolicyRequest(
        selector=parse_selector(body),
        limits=Limits(*_LIMITS.unpack_from(body, SELECTOR_SIZE)),
        priority=priority,
        direction=direction,
        action=action,
        flags=flags,
        share=share,
        templates=_parse_templates(attributes.get(Attribute.TMPL, memoryview(b""))),
        attributes=frozenset(attributes),
    )


def parse_policy_id(body: Buffer) -> PolicyId:
    """struct xfrm_userpolicy_id, with which DELPOLICY and GETPOLICY begin."""
    if len(body) < _POLICY_ID.size:
        raise Refused(errno.EINVAL, "message too short for a policy's name")
    selector, index, direction = _POLICY_ID.unpack_from(body)
    return PolicyId(parse_selector(selector), index, direction)


def build(kind: int, body: Buffer, sequence: int = 0, flags: int = 0) -> bytearray:
    """A message from port 0, the kernel's."""
    message = bytearray(_HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0))
    message += body
    return message


def build_error(number: int, request: Header, length: int) -> bytearray:
    """NLMSG_ERROR; 0 is the acknowledgement.

    Always without the request's body (NLM_F_CAPPED), which may hold keys; `length` is the request's.
    """
    original = _HEADER.pack(length, request.type, request.flags, request.sequence, 0)
    return build(NLMSG_ERROR, struct.pack("=i", -number) + original, request.sequence, NLM_F_CAPPED)


def build_done(sequence: int) -> bytearray:
    """The end of a dump."""
    return build(NLMSG_DONE, struct.pack("=i", 0), sequence, NLM_F_MULTI)


def pack_attribute(kind: int, data: Buffer) -> bytearray:
    """An attribute, padded to four bytes."""
    packed = bytearray(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind))
    packed += data
    packed += bytes(-len(packed) % 4)
    return packed


def pack_larval_selector(source: bytes, destination: bytes) -> bytes:
    """The selector that the kernel gives an SPI without an SA: the SA's addresses, and no family."""
    return _SELECTOR.pack(destination, source, 0, 0, 0, 0, 0, 32, 32, 0, 0, 0)


def pack_selector(family: int, source: bytes, destination: bytes) -> bytes:
    """The selector of one flow, by addresses only."""
    bits = 8 * (4 if family == 2 else 16)
    return _SELECTOR.pack(destination.ljust(16, b"\0"), source.ljust(16, b"\0"), 0, 0, 0, 0, family, bits, bits, 0, 0, 0)


def pack_sa(info: SaInfo, current: Current, replays: int = 0, integrity_failures: int = 0) -> bytes:
    """struct xfrm_usersa_info."""
    return b"".join(
        (
            info.selector.raw,
            _ID.pack(info.destination, info.spi.to_bytes(4, "big"), info.protocol),
            info.source,
            info.limits.pack(),
            current.pack(),
            # The kernel's own counts of these wrap as well (struct xfrm_stats).
            _SA_TAIL.pack(0, replays & 0xFFFFFFFF, integrity_failures & 0xFFFFFFFF, info.sequence, info.reqid, info.family,
                          info.mode, info.replay_window, info.flags),
        )
    )  # fmt: skip


def pack_aead(name: str, key: bytearray, icv_bits: int) -> bytearray:
    """struct xfrm_algo_aead as an attribute; holds the key."""
    return pack_attribute(Attribute.ALG_AEAD, bytearray(_AEAD.pack(name.encode(), 8 * len(key), icv_bits)) + key)


def pack_replay(window: int, sent: int, received: int) -> bytearray:
    """struct xfrm_replay_state_esn as an attribute. The bitmap is empty: the window lives in the data plane."""
    words = (window + 31) // 32
    head = _REPLAY.pack(words, sent & 0xFFFFFFFF, received & 0xFFFFFFFF, sent >> 32, received >> 32, window)
    return pack_attribute(Attribute.REPLAY_ESN_VAL, head + bytes(4 * words))


def pack_no_replay() -> bytearray:
    """struct xfrm_replay_state of an SPI without an SA, as an attribute."""
    return pack_attribute(Attribute.REPLAY_VAL, bytes(12))


def pack_policy(request: PolicyRequest, index: int, current: Current) -> bytes:
    """struct xfrm_userpolicy_info."""
    tail = _POLICY_TAIL.pack(request.priority, index, request.direction, request.action, request.flags, request.share)
    return request.selector.raw + request.limits.pack() + current.pack() + tail


def pack_templates(templates: Sequence[Template]) -> bytearray:
    """The templates as one attribute."""
    return pack_attribute(Attribute.TMPL, b"".join(template.raw for template in templates))


def pack_main_type() -> bytearray:
    """struct xfrm_userpolicy_type of a main policy, as an attribute."""
    return pack_attribute(Attribute.POLICY_TYPE, bytes(6))


def build_expire(sa: bytes, hard: bool) -> bytearray:
    """EXPIRE: struct xfrm_user_expire around a packed SA."""
    return build(Type.EXPIRE, sa + struct.pack("=B7x", hard))


def build_acquire(selector: bytes, request: PolicyRequest, index: int, sequence: int) -> bytearray:
    """ACQUIRE: a packet of this flow met a policy whose SA is not there. struct xfrm_user_acquire and the template."""
    template = request.templates[0]
    everything = 0xFFFFFFFF
    body = b"".join(
        (
            _ID.pack(template.destination, bytes(4), template.protocol),
            template.source,
            selector,
            pack_policy(request, index, Current()),
            struct.pack("=4I", everything, everything, everything, sequence),
        )
    )
    return build(Type.ACQUIRE, body + pack_templates(request.templates))


def build_replay_state(
    name: SaId, source: bytes, flags: int, reqid: int, replay: bytearray, current: Current, sequence: int
) -> bytearray:
    """NEWAE, the answer to GETAE: struct xfrm_aevent_id with the flags of the question, replay state and lifetime."""
    spi = name.spi.to_bytes(4, "big")
    body = _SA_ID.pack(name.destination, spi, name.family, name.protocol) + source + struct.pack("=II", flags, reqid)
    return build(Type.NEWAE, body + replay + pack_attribute(Attribute.LTIME_VAL, current.pack()), sequence)


def build_spd_info(inbound: int, outbound: int, forward: int, sequence: int) -> bytearray:
    """NEWSPDINFO: how many policies there are, and hash sizes and thresholds as a kernel at rest has them."""
    attributes = pack_attribute(1, struct.pack("=6I", inbound, outbound, forward, 0, 0, 0))
    attributes += pack_attribute(2, struct.pack("=2I", 7, 1048576))
    attributes += pack_attribute(3, struct.pack("=2B", 32, 32)) + pack_attribute(4, struct.pack("=2B", 128, 128))
    return build(Type.NEWSPDINFO, bytes(4) + attributes, sequence)


def build_sad_info(count: int, sequence: int) -> bytearray:
    """NEWSADINFO: how many SAs there are."""
    attributes = pack_attribute(1, struct.pack("=I", count)) + pack_attribute(2, struct.pack("=2I", 8, 1048576))
    return build(Type.NEWSADINFO, bytes(4) + attributes, sequence)
