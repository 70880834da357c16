"""Packets through the data plane's own code without devices, against scapy's independent ESP."""

import random
import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

from phalanx.ipsec.engine.messages import Direction, Type

from .requests import KEY, OWN, PEER, Instance, limits, new_sa, policy, sa_id, selector

SPI_IN, SPI_OUT = 0xC0000001, 0xC0000002
KEY_IN, KEY_OUT = KEY, KEY[::-1]


def peer_sa(spi, key, source, destination, high=0):
    """scapy's idea of the same SA."""
    header = IP(src=source, dst=destination)
    return SecurityAssociation(ESP, spi=spi, crypt_algo="AES-GCM", crypt_key=key, tunnel_header=header, esn_en=True, esn=high)


def inbound(packet, sequence=1, spi=SPI_IN, key=KEY_IN, source=PEER, destination=OWN) -> bytes:
    sa = peer_sa(spi, key, source, destination, sequence >> 32)
    return bytes(sa.encrypt(packet, seq_num=sequence & 0xFFFFFFFF, iv=struct.pack(">Q", sequence)))


def sealed(plain: bytes, next_header=4, sequence=1, pad=None, source=PEER, destination=OWN) -> bytes:
    """An authentic packet with any contents, which scapy would not make."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    pad = bytes(range(1, 1 + (-(len(plain) + 2)) % 4)) if pad is None else pad
    body = plain + pad + bytes([len(pad), next_header])
    iv, aad = struct.pack(">Q", sequence), struct.pack(">IQ", SPI_IN, sequence)
    payload = AESGCM(KEY_IN[:32]).encrypt(KEY_IN[32:] + iv, body, aad)
    return bytes(
        IP(src=source, dst=destination, proto=50) / Raw(struct.pack(">II", SPI_IN, sequence & 0xFFFFFFFF) + iv + payload)
    )


@pytest.fixture
def pair(instance: Instance) -> Instance:
    instance.establish(SPI_IN, SPI_OUT, KEY_IN, KEY_OUT)
    return instance


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 100, 1400, 8918])
def test_scapy_opens_what_the_engine_seals(pair, size):
    plain = bytes(IP(src=OWN, dst=PEER, tos=0x28) / UDP(sport=1, dport=2) / Raw(b"x" * size))
    wire = pair.core.pass_packet(Direction.OUT, plain)
    outer = IP(wire)
    assert (outer.src, outer.dst, outer.proto, outer.flags.DF, outer.tos, outer.len) == (OWN, PEER, 50, True, 0x28, len(wire))
    assert outer[ESP].spi == SPI_OUT
    assert len(wire) <= 9001
    assert bytes(peer_sa(SPI_OUT, KEY_OUT, OWN, PEER).decrypt(outer)) == plain


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 100, 1400, 8918])
def test_the_engine_opens_what_scapy_seals(pair, size):
    plain = IP(src=PEER, dst=OWN) / TCP(sport=1, dport=2) / Raw(b"y" * size)
    assert pair.core.pass_packet(Direction.IN, inbound(plain)) == bytes(plain)


def test_ipv6_inside(instance):
    here, there = "2001:db8::1", "2001:db8::2"
    instance.establish(SPI_IN, SPI_OUT, KEY_IN, KEY_OUT)
    instance.do(
        policy(Direction.OUT, SPI_OUT, sel=selector(here, there)), policy(Direction.IN, sel=selector(there, here, (120, 128)))
    )
    plain = bytes(IPv6(src=here, dst=there) / UDP() / Raw(b"six"))
    opened = peer_sa(SPI_OUT, KEY_OUT, OWN, PEER).decrypt(IP(instance.core.pass_packet(Direction.OUT, plain)))
    assert bytes(opened) == plain
    back = bytes(IPv6(src=there, dst=here) / UDP() / Raw(b"six"))
    assert instance.core.pass_packet(Direction.IN, sealed(back, 41)) == back
    assert instance.core.pass_packet(Direction.IN, sealed(back, 4, 2)) == "in_malformed"


def test_sequence_numbers_and_ivs_only_grow(pair):
    seen = [pair.core.pass_packet(Direction.OUT, bytes(IP(src=OWN, dst=PEER) / ICMP())) for _ in range(50)]
    assert [struct.unpack_from(">IQ", wire, 24) for wire in seen] == [(n, n) for n in range(1, 51)]


def test_a_high_half_of_the_sequence_number_that_is_not_on_the_wire(pair):
    for number in (2**31, 2**32 - 3, 2**32 - 1, 2**32 + 1, 2**32 + 5, 2**32 - 2, 2**32 + 2):
        assert not isinstance(pair.core.pass_packet(Direction.IN, inbound(IP(src=PEER, dst=OWN) / ICMP(), number)), str), number
    inner = bytes(IP(src=PEER, dst=OWN) / ICMP())
    assert pair.core.pass_packet(Direction.IN, sealed(inner, sequence=2**32)) == inner  # scapy cannot say 0
    assert pair.core.pass_packet(Direction.IN, sealed(inner, sequence=2**32)) == "in_replay"
    assert pair.drops() == {"in_replay": 1}


def test_nothing_leaves_without_policy_or_sa(instance):
    plain = bytes(IP(src=OWN, dst=PEER) / ICMP())
    assert instance.core.pass_packet(Direction.OUT, plain) == "out_no_policy"
    instance.do(policy(Direction.OUT))
    assert instance.core.pass_packet(Direction.OUT, plain) == "out_no_sa"
    instance.do(policy(Direction.OUT, SPI_OUT, kind=Type.UPDPOLICY))
    assert instance.core.pass_packet(Direction.OUT, plain) == "out_no_sa"
    instance.do(new_sa(SPI_OUT, OWN, PEER, window=1))
    assert not isinstance(instance.core.pass_packet(Direction.OUT, plain), str)
    instance.do(sa_id(Type.DELSA, SPI_OUT, PEER))
    assert instance.core.pass_packet(Direction.OUT, plain) == "out_no_sa"
    instance.do(policy(Direction.OUT, kind=Type.UPDPOLICY, action=1, templates=[]))
    assert instance.core.pass_packet(Direction.OUT, plain) == "out_blocked"
    assert instance.drops() == {"out_no_policy": 1, "out_no_sa": 3, "out_blocked": 1}


@pytest.mark.parametrize("port", [500, 501])
@pytest.mark.parametrize("options", [b"", b"\x01" * 4])
def test_ike_has_no_place_in_the_tunnel(pair, port, options):
    """A peer's daemon would answer it in the clear, with what the container that sent it chose."""

    def datagram(source, destination, **fields):
        ports = {"sport": 40000, "dport": port, **fields}
        return bytes(IP(src=source, dst=destination, options=options) / UDP(**ports) / Raw(b"SECRET!!" * 4))

    assert pair.core.pass_packet(Direction.OUT, datagram(OWN, PEER)) == "out_no_policy"
    assert pair.core.pass_packet(Direction.IN, sealed(datagram(PEER, OWN))) == "in_no_policy"
    for number, other in enumerate(({"sport": port, "dport": 40000}, {"dport": 502}), 2):
        assert not isinstance(pair.core.pass_packet(Direction.OUT, datagram(OWN, PEER, **other)), str)
        assert pair.core.pass_packet(Direction.IN, sealed(datagram(PEER, OWN, **other), sequence=number)) is not None
    assert pair.drops() == {"out_no_policy": 1, "in_no_policy": 1}


def test_policy_decides_by_source_too_and_by_priority(pair):
    assert pair.core.pass_packet(Direction.OUT, bytes(IP(src="10.0.0.9", dst=PEER) / ICMP())) == "out_no_policy"
    pair.do(policy(Direction.OUT, sel=selector(OWN, PEER, (32, 24)), priority=1, action=1, templates=[]))
    assert pair.core.pass_packet(Direction.OUT, bytes(IP(src=OWN, dst=PEER) / ICMP())) == "out_blocked"


def test_rekey_switches_with_the_policy_and_keeps_the_old_inbound(pair):
    plain = bytes(IP(src=OWN, dst=PEER) / ICMP())
    pair.do(new_sa(SPI_IN + 16, key=KEY_OUT), new_sa(SPI_OUT + 16, OWN, PEER, window=1))
    assert IP(pair.core.pass_packet(Direction.OUT, plain))[ESP].spi == SPI_OUT
    pair.do(policy(Direction.OUT, SPI_OUT + 16, kind=Type.UPDPOLICY), sa_id(Type.DELSA, SPI_OUT, PEER))
    assert IP(pair.core.pass_packet(Direction.OUT, plain))[ESP].spi == SPI_OUT + 16
    back = IP(src=PEER, dst=OWN) / ICMP()
    assert pair.core.pass_packet(Direction.IN, inbound(back)) == bytes(back)
    assert pair.core.pass_packet(Direction.IN, inbound(back, spi=SPI_IN + 16, key=KEY_OUT)) == bytes(back)
    pair.do(sa_id(Type.DELSA, SPI_IN))
    assert pair.core.pass_packet(Direction.IN, inbound(back, 2)) == "in_unknown_spi"
    assert pair.drops() == {"in_unknown_spi": 1}


def test_attacks_are_dropped_and_counted(pair):
    inner = IP(src=PEER, dst=OWN) / UDP() / Raw(b"attack")
    good = inbound(inner)
    send = lambda wire: pair.core.pass_packet(Direction.IN, wire)  # noqa: E731
    for at in range(24, len(good)):  # every byte behind the SPI is authenticated
        assert send(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :]) in ("in_icv", "in_replay"), at
    assert send(good) == bytes(inner)
    assert send(good) == "in_replay"
    assert send(inbound(inner, 2, spi=SPI_IN + 1)) == "in_unknown_spi"
    assert send(inbound(inner, 2, source="10.0.0.66")) == "in_address"
    assert send(inbound(inner, 2, destination="10.0.0.67")) == "in_address"
    assert send(sealed(bytes(inner), 59, 3)) == "in_dummy"
    assert send(sealed(b"", 59, 4)) == "in_dummy"
    assert send(sealed(bytes(inner), 6, 5)) == "in_protocol"
    assert send(sealed(bytes(IP(src="10.0.0.66", dst=OWN) / UDP()), 4, 6)) == "in_no_policy"
    assert send(sealed(bytes(IP(src=PEER, dst="10.0.0.67") / UDP()), 4, 7)) == "in_no_policy"
    assert send(sealed(bytes(inner), 4, 8, pad=b"\1\2\2\4\5\6")) == "in_malformed"
    assert send(sealed(b"\x45", 4, 9)) == "in_malformed"
    assert send(sealed(bytes(inner)[:-1], 4, 10)) == "in_malformed"
    assert send(sealed(bytes(inner), 41, 11)) == "in_malformed"
    assert send(sealed(b"", 4, 12, pad=b"\1\2")) == "in_malformed"
    sums = pair.drops()
    assert sums["in_icv"] + sums["in_replay"] == len(good) - 24 + 1
    del sums["in_icv"], sums["in_replay"]
    assert sums == {"in_unknown_spi": 1, "in_address": 2, "in_dummy": 2, "in_protocol": 1, "in_no_policy": 2, "in_malformed": 5}


def test_padding_for_traffic_flow_confidentiality_is_cut_off(pair):
    inner = bytes(IP(src=PEER, dst=OWN) / UDP() / Raw(b"short"))
    assert pair.core.pass_packet(Direction.IN, sealed(inner + bytes(500))) == inner


def test_policy_wants_the_sa_of_its_own_peer(pair):
    """RFC 4301 5.2: an authentic peer must not speak for another address, even one that another policy allows."""
    third = "10.0.0.3"
    pair.do(
        new_sa(SPI_IN + 1, third, OWN, key=KEY_OUT, reqid=8),
        policy(Direction.IN, sel=selector(third, OWN), templates=None, reqid=8),
    )  # fmt: skip
    stolen = IP(src=PEER, dst=OWN) / UDP()
    assert pair.core.pass_packet(Direction.IN, inbound(stolen, spi=SPI_IN + 1, key=KEY_OUT, source=third)) == "in_no_policy"


def test_congestion_mark_reaches_the_inner_header_and_its_checksum(pair):
    for number, (ecn, expected) in enumerate([(1, 3), (2, 3), (0, 0), (3, 3)], 1):
        inner = IP(bytes(IP(src=PEER, dst=OWN, tos=ecn) / UDP()))
        outer = IP(inbound(inner, number))
        outer.tos = 3
        opened = IP(pair.core.pass_packet(Direction.IN, bytes(outer)))
        checksum = opened.chksum
        del opened.chksum
        assert (opened.tos, IP(bytes(opened)).chksum) == (expected, checksum)


def test_truncated_and_random_packets(pair):
    """Nothing crashes, everything is counted, nothing is let in."""
    chosen = random.Random(4303)
    good = inbound(IP(src=PEER, dst=OWN) / UDP() / Raw(bytes(64)))
    wires = [good[:length] for length in range(len(good))]
    for _ in range(4000):
        wire = bytearray(chosen.choice([good, chosen.randbytes(chosen.randrange(120))]))
        for _ in range(chosen.randrange(1, 6)):
            if wire:
                wire[chosen.randrange(min(len(wire), 40))] = chosen.randrange(256)
        wires.append(bytes(wire))
    wires.append(b"\x45" + bytes(65534))
    for wire in wires:
        result = pair.core.pass_packet(Direction.IN, wire)
        assert isinstance(result, str) or wire[20:] == good[20:], wire.hex()
    dropped = sum(pair.drops().values())
    for wire in wires:
        pair.core.pass_packet(Direction.OUT, wire)
    assert sum(pair.drops().values()) >= dropped + len(wires) - 10


def test_outbound_lengths_must_be_what_the_header_says(pair):
    plain = bytes(IP(src=OWN, dst=PEER) / UDP() / Raw(b"abc"))
    for wrong in (b"", b"\x45", plain[:-1], plain + b"\0", b"\x65" + plain[1:]):
        assert pair.core.pass_packet(Direction.OUT, wrong) == "out_malformed"
    giant = bytes(IP(src=OWN, dst=PEER) / Raw(bytes(65535 - 20)))
    assert pair.core.pass_packet(Direction.OUT, giant) == "out_too_big"


@pytest.mark.parametrize(("direction", "cause"), [(Direction.OUT, "out_lifetime"), (Direction.IN, "in_lifetime")])
def test_limits_by_packets_and_bytes(instance, direction, cause):
    instance.establish(SPI_IN, SPI_OUT, KEY_IN, KEY_OUT, life=limits(soft_packets=3, hard_packets=5))
    spi = SPI_IN if direction == Direction.IN else SPI_OUT
    sa = next(sa for sa in instance.tables.associations() if sa.info.spi == spi)

    def send(number):
        if direction == Direction.OUT:
            return instance.core.pass_packet(direction, bytes(IP(src=OWN, dst=PEER) / ICMP()))
        return instance.core.pass_packet(direction, inbound(IP(src=PEER, dst=OWN) / ICMP(), number))

    results = []
    for number in range(1, 8):
        results.append(send(number))
        usage = instance.core.usage(sa)
        assert (usage.soft, usage.hard) == (number >= 3, number >= 6)
    assert [isinstance(result, str) for result in results] == [False] * 5 + [True] * 2
    assert instance.drops() == {cause: 2}
    assert (usage.packets, usage.bytes) == (5, 5 * 28)


def test_the_last_sequence_number_is_the_end(instance):
    """RFC 4303 section 3.3.3: the counter never cycles. Set near its end, which only a used key could reach."""
    from phalanx.ipsec.engine import core as binding

    instance.do(policy(Direction.OUT, SPI_OUT))
    config = binding.Config(spi=SPI_OUT, key_length=36, sequence=2**64 - 3)
    config.limits = binding.Limits(*[2**64 - 1] * 4)
    config.source[:], config.destination[:], config.key[:] = (10, 0, 0, 1), (10, 0, 0, 2), tuple(KEY_OUT)
    assert instance.core._library.phx_sa_add(instance.core._engine, 1, config) == 0
    plain = bytes(IP(src=OWN, dst=PEER) / ICMP())
    results = [instance.core.pass_packet(Direction.OUT, plain) for _ in range(4)]
    assert [struct.unpack_from(">Q", wire, 28)[0] for wire in results[:2]] == [2**64 - 2, 2**64 - 1]
    assert results[2:] == ["out_sequence", "out_lifetime"]
    instance.do(policy(Direction.OUT, kind=Type.UPDPOLICY))
