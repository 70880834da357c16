"""Segmentation and coalescing: what the TUN hands over is cut, sealed, opened, put together: bytes in are bytes out."""

import random
import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Raw

from phalanx.ipsec.engine.messages import Direction

from .requests import OWN, PEER, Instance, new_sa, policy, selector, template
from .test_esp import KEY_IN, SPI_IN, SPI_OUT, peer_sa

OWN6, PEER6 = "2001:db8::1", "2001:db8::2"
NONE, TCP4, TCP6, UDP_L4 = 0, 1, 4, 5
NEEDS_CSUM = 1
FIELD = {TCP: 16, UDP: 6}


class Pair:
    """Two data planes, back to back: what `own` seals, `peer` opens."""

    def __init__(self):
        self.own, self.peer = Instance(OWN), Instance(PEER)
        self.own.establish(SPI_IN, SPI_OUT, KEY_IN, KEY_IN[::-1])
        tunnel = [template(0, OWN, PEER)]
        self.peer.do(
            new_sa(SPI_OUT, OWN, PEER, key=KEY_IN[::-1]),
            policy(Direction.IN, sel=selector(OWN, PEER), templates=tunnel),
            policy(Direction.IN, sel=selector(OWN6, PEER6), templates=tunnel),
        )
        self.own.do(policy(Direction.OUT, SPI_OUT, sel=selector(OWN6, PEER6)))

    def cut(self, *handed: bytes) -> list[bytes]:
        return self.own.core.pass_packets(Direction.OUT, handed)

    def plain(self, wires: list[bytes]) -> list:
        """The inner packets, opened by scapy."""
        sa = peer_sa(SPI_OUT, KEY_IN[::-1], OWN, PEER)
        return [sa.decrypt(IP(wire)) for wire in wires]

    def merge(self, wires: list[bytes]) -> list[bytes]:
        return self.peer.core.pass_packets(Direction.IN, wires)

    def close(self) -> None:
        assert self.own.drops() == {}
        assert self.peer.drops() == {}
        self.own.core.close()
        self.peer.core.close()


@pytest.fixture
def pair():
    made = Pair()
    yield made
    made.close()


def offloaded(packet, kind=NONE, size=0, finished=False) -> bytes:
    """A packet as the TUN hands it over: with a partial checksum, unless it is finished, and to be cut into `size` bytes."""
    data = bytearray(bytes(packet))
    if finished:
        return struct.pack("=BBHHHH", 0, NONE, 0, 0, 0, 0) + data
    layer = TCP if packet.haslayer(TCP) else UDP
    start = len(data) - len(packet[layer])
    header = start + (packet[layer].dataofs or data[start + 12] >> 4) * 4 if layer is TCP else start + 8
    length = len(data) - start
    addresses = data[12:20] if packet.version == 4 else data[8:40]
    pseudo = bytes(addresses) + struct.pack(">II", length, 6 if layer is TCP else 17)
    data[start + FIELD[layer] : start + FIELD[layer] + 2] = struct.pack(">H", fold(pseudo))
    return struct.pack("=BBHHHH", NEEDS_CSUM, kind, header, size, start, FIELD[layer]) + data


def fold(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip(version, **fields):
    return IP(src=OWN, dst=PEER, flags="DF", id=700, **fields) if version == 4 else IPv6(src=OWN6, dst=PEER6, **fields)


def stream(version, data, *, seq=1000, flags="A", ack=5, options=True, sport=40000, **fields):
    extras = [("NOP", None), ("NOP", None), ("Timestamp", (111, 222))] if options else []
    return (
        ip(version, **fields)
        / TCP(sport=sport, dport=80, seq=seq, ack=ack, flags=flags, window=500, options=extras)
        / Raw(data)
    )


def again(packet) -> bytes:
    """The packet with all checksums computed by scapy."""
    fresh = packet.copy()
    for layer in (IP, TCP, UDP):
        if fresh.haslayer(layer):
            del fresh[layer].chksum
    return bytes(fresh)


def payload(handed: bytes, layer=TCP) -> bytes:
    packet = parsed(handed)
    return bytes(packet[layer].payload)


def parsed(handed: bytes):
    data = handed[10:]
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def offload_of(handed: bytes):
    return struct.unpack("=BBHHHH", handed[:10])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("size", "mss"), [(65000, 8894), (65000, 1348), (20000, 536), (5001, 333), (3000, 7), (8894, 8894), (1, 1400)]
)
def test_a_train_is_cut_as_a_card_would_and_comes_out_whole(pair, version, size, mss):
    data = random.Random(size).randbytes(size)
    handed = offloaded(stream(version, data, flags="PA"), TCP4 if version == 4 else TCP6, mss)
    wires = pair.cut(handed)
    inner = pair.plain(wires)
    assert len(inner) == -(-size // mss)
    seq = 1000
    for number, packet in enumerate(inner):
        assert bytes(packet) == again(packet), "lengths and checksums are right"
        assert packet[TCP].seq == seq
        assert packet[TCP].flags == ("PA" if number == len(inner) - 1 else "A")
        if version == 4:
            assert packet[IP].id == 700 + number
        seq += len(packet[TCP].payload)
    assert b"".join(bytes(packet[TCP].payload) for packet in inner) == data
    bundles = pair.merge(wires)
    assert b"".join(map(payload, bundles)) == data
    limit = min(64, 65535 // mss) if size > mss else 1
    assert len(bundles) <= -(-len(inner) // limit) + 1
    for bundle in bundles:
        flags, kind, length, gso, start, field = offload_of(bundle)
        if len(payload(bundle)) > mss:
            assert (flags, kind, gso, field) == (NEEDS_CSUM, TCP4 if version == 4 else TCP6, mss, 16)
            assert length == start + 32
            assert len(bundle) - 10 == (parsed(bundle).len if version == 4 else parsed(bundle).plen + 40)


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_are_cut_and_bundled_and_keep_their_borders(pair, version):
    data = random.Random(9).randbytes(1200 * 20 + 77)
    wires = pair.cut(offloaded(ip(version) / UDP(sport=9, dport=10) / Raw(data), UDP_L4, 1200))
    inner = pair.plain(wires)
    assert [len(packet[UDP].payload) for packet in inner] == [1200] * 20 + [77]
    assert all(bytes(packet) == again(packet) for packet in inner)
    (bundle,) = pair.merge(wires)
    assert offload_of(bundle)[1:4] == (UDP_L4, 48 if version == 6 else 28, 1200)
    assert payload(bundle, UDP) == data


def test_long_and_short_packets_share_the_senders_memory(pair):
    sizes = [1, 65000, 100, 65000, 40000, *[9] * 200, 65400, 65400, 65400, 1]
    data = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    wires = pair.cut(*(offloaded(ip(4) / UDP(sport=9, dport=10) / Raw(each)) for each in data))
    assert [bytes(packet[UDP].payload) for packet in pair.plain(wires)] == data


def test_a_bundle_cut_again_gives_the_same_packets(pair):
    data = random.Random(5).randbytes(30000)
    wires = pair.cut(offloaded(stream(4, data, flags="PA"), TCP4, 1448))
    (bundle,) = pair.merge(wires)
    again_cut = pair.cut(bundle)
    assert [bytes(packet) for packet in pair.plain(again_cut)] == [bytes(packet) for packet in pair.plain(wires)]


def test_counters_count_packets_of_the_wire_at_both_ends(pair):
    wires = pair.cut(offloaded(stream(4, bytes(50000)), TCP4, 1400))
    pair.merge(wires)
    sent = pair.own.core.usage(next(sa for sa in pair.own.tables.associations() if sa.info.spi == SPI_OUT))
    received = pair.peer.core.usage(next(iter(pair.peer.tables.associations())))
    assert (sent.packets, sent.bytes) == (received.packets, received.bytes) == (36, 50000 + 36 * 52)


def single(packet) -> bytes:
    return offloaded(packet, finished=True)


def merged(pair, *packets) -> list[bytes]:
    return [bundle[10:] for bundle in pair.merge(pair.cut(*map(single, packets)))]


def sizes(bundles) -> list[int]:
    return [len(bytes((IP(each) if each[0] >> 4 == 4 else IPv6(each))[TCP].payload)) for each in bundles]


def test_push_and_a_short_segment_end_a_bundle(pair):
    parts = [stream(4, b"a" * 100, seq=0), stream(4, b"b" * 100, seq=100, flags="PA"), stream(4, b"c" * 100, seq=200),
             stream(4, b"d" * 60, seq=300), stream(4, b"e" * 100, seq=360)]  # fmt: skip
    bundles = merged(pair, *parts)
    assert sizes(bundles) == [200, 160, 100]
    assert [str(IP(each)[TCP].flags) for each in bundles] == ["PA", "A", "A"]


def test_what_differs_is_not_merged(pair):
    first = stream(4, b"a" * 100, seq=0)
    for other in (
        stream(4, b"b" * 100, seq=101),  # a gap
        stream(4, b"b" * 100, seq=0),  # a repetition
        stream(4, b"b" * 101, seq=100),  # larger than the first
        stream(4, b"b" * 100, seq=100, ack=6),
        stream(4, b"b" * 100, seq=100, options=False),
        stream(4, b"b" * 100, seq=100, tos=4),
        stream(4, b"b" * 100, seq=100, ttl=7),
        stream(4, b"b" * 100, seq=100, flags="FA"),
        stream(4, b"b" * 100, seq=100, flags="UA"),
        stream(4, b"b" * 100, seq=100, flags="EA"),
        stream(4, b"", seq=100),
        stream(6, b"b" * 100, seq=100),
        IP(
            bytes(
                stream(4, b"b" * 100, seq=100).__class__(src=OWN, dst=PEER, flags=0, id=700)
                / stream(4, b"b" * 100, seq=100)[TCP]
            )
        ),
        IP(src=OWN, dst=PEER, flags="DF", options=b"\x01\x01\x01\x01") / stream(4, b"b" * 100, seq=100)[TCP],
        IP(src=OWN, dst=PEER, flags="MF") / stream(4, b"b" * 100, seq=100)[TCP],
    ):
        packets = [bytes(first), bytes(other)]
        assert merged(pair, first, other) == packets, other.summary()


def test_a_wrong_checksum_is_neither_merged_nor_mended(pair):
    wrong = stream(4, b"b" * 100, seq=100)
    wrong[TCP].chksum = 0x1234
    right = [stream(4, b"a" * 100, seq=0), stream(4, b"c" * 100, seq=200)]
    for packets in ([right[0], wrong], [wrong, right[1]]):
        bundles = merged(pair, *packets)
        assert bundles == [bytes(packet) for packet in packets]
    bad_header = IP(bytes(stream(4, b"b" * 100, seq=100)))
    bad_header.chksum ^= 0x100
    assert merged(pair, right[0], bad_header) == [bytes(right[0]), bytes(bad_header)]


def test_datagrams_without_checksum_stay_alone(pair):
    packets = [IP(src=OWN, dst=PEER) / UDP(sport=1, dport=2, chksum=0) / Raw(b"x" * 50) for _ in range(3)]
    assert merged(pair, *packets) == [bytes(packet) for packet in packets]


def test_extension_headers_and_other_protocols_pass_untouched(pair):
    packets = [
        IPv6(src=OWN6, dst=PEER6) / IPv6ExtHdrDestOpt() / TCP(flags="A") / Raw(b"x" * 50),
        IP(src=OWN, dst=PEER) / ICMP(),
        IP(src=OWN, dst=PEER, frag=9) / Raw(b"y" * 64),
    ]
    assert merged(pair, *packets) == [bytes(packet) for packet in packets]


def test_a_train_behind_extension_headers_is_cut(pair):
    packet = IPv6(src=OWN6, dst=PEER6) / IPv6ExtHdrDestOpt() / TCP(sport=1, dport=2, flags="A") / Raw(b"z" * 1000)
    inner = pair.plain(pair.cut(offloaded(packet, TCP6, 300)))
    assert [len(each[TCP].payload) for each in inner] == [300, 300, 300, 100]
    assert all(bytes(each) == again(each) for each in inner)


def test_an_unfinished_checksum_is_finished(pair):
    for packet in (stream(4, b"odd"), stream(6, b"even"), IP(src=OWN, dst=PEER) / UDP(sport=5, dport=6) / Raw(b"datagram")):
        (wire,) = pair.cut(offloaded(packet))
        (inner,) = pair.plain([wire])
        assert bytes(inner) == again(packet)


def test_a_datagram_whose_checksum_is_zero_says_so(pair):
    """RFC 768: a sum of 0 is sent as all ones, 0 means that there is none."""
    base = IP(src=OWN, dst=PEER) / UDP(sport=5, dport=6) / Raw(b"\0\0")
    data = bytearray(offloaded(base))
    finished = bytes(pair.plain(pair.cut(bytes(data)))[0])
    data[10 + 28 : 10 + 30] = finished[26:28]  # makes the sum zero
    (inner,) = pair.plain(pair.cut(bytes(data)))
    assert inner[UDP].chksum == 0xFFFF


@pytest.mark.parametrize("seed", range(30))
def test_mixed_flows_out_of_order_lose_nothing(pair, seed):
    """Streams and datagrams, cut, shuffled a little, put together: each flow's packets come out as they came in, in order."""
    chosen = random.Random(seed)
    flows = [(version, 40000 + number) for version in (4, 6) for number in range(3)]
    sequences = dict.fromkeys(flows, 0)
    handed, datagrams = [], []
    for _ in range(chosen.randrange(3, 12)):
        flow = chosen.choice(flows)
        data = chosen.randbytes(chosen.choice([1, 99, 1500, 9000, 20000]))
        kind = TCP4 if flow[0] == 4 else TCP6
        packet = stream(flow[0], data, seq=sequences[flow], sport=flow[1], flags=chosen.choice(["A", "PA"]))
        handed.append(offloaded(packet, kind, chosen.choice([100, 536, 1448, 8948])))
        sequences[flow] += len(data)
        if chosen.random() < 0.3:
            datagrams.append(chosen.randbytes(40))
            handed.append(offloaded(IP(src=OWN, dst=PEER) / UDP(sport=1, dport=2) / Raw(datagrams[-1])))
    wires = pair.cut(*handed)
    for _ in range(chosen.choice([0, 0, 5])):
        at = chosen.randrange(len(wires))
        wires.insert(chosen.randrange(len(wires)), wires.pop(at))
    expected = list(map(bytes, pair.plain(wires)))
    packets = list(map(bytes, pair.plain(pair.cut(*pair.merge(wires)))))
    assert by_flow(packets) == by_flow(expected)


def by_flow(packets: list[bytes]) -> dict:
    """Without what the identification, void where DF is set, makes different."""
    found = {}
    for packet in packets:
        if packet[0] >> 4 == 4:
            packet = packet[:4] + bytes(2) + packet[6:10] + bytes(2) + packet[12:]
        found.setdefault(flow_of(packet), []).append(packet)
    return found


def flow_of(packet: bytes):
    start = 20 if packet[0] >> 4 == 4 else 40
    return packet[0] >> 4, packet[start : start + 4]


def test_malformed_offload_headers_are_dropped_and_counted(instance):
    instance.establish(SPI_IN, SPI_OUT)
    good = offloaded(stream(4, bytes(5000)), TCP4, 1000)

    def changed(at, form, value, packet=good):
        data = bytearray(packet)
        struct.pack_into(form, data, at, value)
        return bytes(data)

    bad = [
        changed(1, "=B", 3),  # UFO
        changed(1, "=B", 77),
        changed(1, "=B", UDP_L4),  # TCP is not UDP
        changed(4, "=H", 0),  # no size
        changed(10 + 20 + 12, "=B", 0x10),  # TCP header too short
        changed(10 + 20 + 12, "=B", 0xF0, good[: 10 + 20 + 40]),  # and beyond the packet
        changed(10, "=B", 0x41),
        changed(10 + 6, ">H", 0x2000),  # a fragment
        changed(10 + 9, "=B", 17),
        good[: 10 + 30],
        good[: 10 + 5],
        good[:10],
        changed(6, "=H", 60000, offloaded(stream(4, b"x"))),  # checksum beyond the packet
        changed(8, "=H", 60000, offloaded(stream(4, b"x"))),
        changed(6, "=H", 0, offloaded(stream(4, b"x"))),
    ]
    for number, handed in enumerate(bad, 1):
        assert instance.core.pass_packets(Direction.OUT, [handed]) == []
        assert instance.drops() == {"out_malformed": number}
    # The length of headers is a guess of the sender's, and is not used.
    assert len(instance.core.pass_packets(Direction.OUT, [changed(2, "=H", 65535)])) == 5


def test_random_offload_headers_crash_nothing(pair):
    chosen = random.Random(1)
    samples = [offloaded(stream(4, bytes(3000)), TCP4, 500), offloaded(stream(6, bytes(3000)), TCP6, 500),
               offloaded(ip(4) / UDP() / Raw(bytes(900)), UDP_L4, 100)]  # fmt: skip
    for _ in range(3000):
        data = bytearray(chosen.choice(samples))
        for _ in range(chosen.randrange(1, 5)):
            data[chosen.randrange(80)] = chosen.randrange(256)
        try:
            wires = pair.own.core.pass_packets(
                Direction.OUT, [bytes(data[: chosen.choice([len(data), chosen.randrange(10, len(data))])])]
            )
        except ValueError:  # more than fits the test's buffer: one byte of data per packet
            continue
        pair.peer.core.pass_packets(Direction.IN, wires)
    for side in (pair.own, pair.peer):
        side.drops = dict
