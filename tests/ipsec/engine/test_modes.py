"""The engine's modes over real devices, with fixed keys, without IKE: what passes, what the wire shows, what is counted."""

import contextlib
import re
import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.engine.messages import Direction

from .requests import KEY, error_of, new_sa, policy, selector, template
from .test_mesh import transfer
from .testbed import MTU, Testbed, inside, until

SPIS = {"a": 0xC000000A, "b": 0xC000000B}
KEYS = {"a": KEY, "b": KEY[::-1]}


@contextlib.contextmanager
def joined(link: int = MTU, **options):
    """Two engines with SAs between them, which last as long as the connections that made them."""
    bed = Testbed(link)
    with contextlib.ExitStack() as stack:
        stack.callback(bed.close)
        for site, other in (bed.sites, bed.sites[::-1]):
            site.engine.start(site.address, [site.peer], **options)
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.connect(str(site.engine.xfrm_socket))
            for request in (
                new_sa(SPIS[other.name], site.peer, site.address, key=KEYS[other.name]),
                new_sa(SPIS[site.name], site.address, site.peer, key=KEYS[site.name], window=1),
                policy(Direction.IN, sel=selector(site.peer, site.address), templates=[template(0, site.peer, site.address)]),
                policy(Direction.OUT, sel=selector(site.address, site.peer),
                       templates=[template(SPIS[site.name], site.address, site.peer)]),
            ):  # fmt: skip
                client.send(request)
                assert error_of([client.recv(4096)]) == 0
        yield bed


def datagrams(bed: Testbed, count: int, size: int) -> int:
    """How many of `count` datagrams, sent by one call of the kernel's (UDP_SEGMENT), arrive whole and in order."""
    with inside(bed.b.netns):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((bed.b.address, 7777))
        receiver.settimeout(2)
    with inside(bed.a.netns):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sent = [number.to_bytes(2, "big") * (size // 2) for number in range(count)]
    with receiver, sender:
        sender.sendmsg([b"".join(sent)], [(socket.IPPROTO_UDP, 103, size.to_bytes(2, "little"))], 0, (bed.b.address, 7777))
        return sum(receiver.recv(65536) == each for each in sent)


def fragment(packet: IP) -> bool:
    return bool(packet.flags.MF or packet.frag)


LONGEST = 65535
SHORT = 7000
MODES = {
    "raw": {},
    "raw-short": {"link": SHORT},
    "raw-long": {"link": LONGEST},
    "libcrypto": {"aead": "libcrypto"},
    "small": {"mtu": 1400},
    "udp": {"udp_port": 4500},
    "udp-small": {"udp_port": 4500, "mtu": 1400},
}


@pytest.mark.parametrize("name", MODES)
def test_streams_datagrams_and_pings_pass_and_both_ends_count_the_same(name):
    with joined(**MODES[name]) as bed:
        capture = bed.capture()
        assert bed.a.ping(5) == 5
        assert bed.b.ping(2, size=8000) == 2
        transfer(bed, 20 << 20)
        assert datagrams(bed, 20, 1200) == 20
        kinds = capture.close()
        outer = [Ether(frame)[IP] for frame in capture.kept]

        def agree():
            here, there = (site.report().totals[site.peer] for site in bed.sites)
            return (here.packets_out, here.bytes_out, here.packets_in, here.bytes_in) == (
                there.packets_in, there.bytes_in, there.packets_out, there.bytes_out)  # fmt: skip

        until(agree, "both ends have counted the same packets and bytes")
        assert [{cause: count for cause, count in site.report().drops.items() if count} for site in bed.sites] == [
            {},
            {},
        ]
    assert set(kinds) == ({"plain 17"} if "udp" in name else {"esp"})
    most = MODES[name].get("link", MTU)
    assert all(packet.len <= most and fragment(packet) != packet.flags.DF for packet in outer if UDP not in packet)
    assert any(fragment(packet) for packet in outer) == (name in ("raw", "libcrypto"))
    assert any(packet.len > MTU for packet in outer) == (most > MTU or "udp" in name)
    assert all(packet[UDP].sport == packet[UDP].dport == 4500 for packet in outer if UDP in packet)


@pytest.mark.parametrize("name", ["raw", "raw-short", "raw-long", "udp"])
def test_the_outer_header_is_the_same_whoever_writes_it(name):
    with joined(**MODES[name]) as bed:
        capture = bed.capture()
        with inside(bed.a.netns):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x2A)
            sender.sendto(b"marked", (bed.b.address, 7777))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0)
            sender.sendto(b"unmarked", (bed.b.address, 7777))
        until(lambda: len(capture.kept) >= 2, "both are on the wire")
        capture.close()
        seen = [Ether(frame)[IP] for frame in capture.kept if Ether(frame)[IP].src == bed.a.address]
        assert [packet.tos for packet in seen] == [0x2A, 0]
        for packet in seen:
            sum_, packet.chksum = packet.chksum, None
            assert (packet.dst, packet.ttl, packet.flags.DF, packet.ihl) == (bed.b.address, 64, True, 5)
            assert IP(bytes(packet)).chksum == sum_


@pytest.mark.parametrize("link", [SHORT, LONGEST])
def test_a_packet_larger_than_the_device_takes_is_dropped_and_counted(link):
    """DF is set on every outer packet: where the device's MTU shrinks, nothing is fragmented, and the counter says so."""
    with joined(link) as bed:
        bed.a.run("ip", "link", "set", "eth0", "mtu", "1500")
        assert bed.a.ping(1, size=4000, wait=0.3) == 0
        assert bed.a.report().drops["out_too_big"] == 1
        assert bed.a.ping(1) == 1


def test_a_port_that_is_taken_is_an_error(testbed):
    with inside(testbed.a.netns):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with other:
        other.bind((testbed.a.address, 4500))
        with pytest.raises(EngineError, match="UDP port 4500 on eth0"):
            testbed.a.engine.start(testbed.a.address, [testbed.a.peer], udp_port=4500)


def test_where_packets_travel_in_fragments_they_go_by_the_path_there_is():
    with joined() as bed:
        for site in bed.sites:
            site.run("ip", "link", "set", "eth0", "mtu", "1500")
        capture = bed.capture()
        assert bed.a.ping(1, size=30000) == 1
        assert bed.a.ping(1) == 1
        capture.close()
        outer = [Ether(frame)[IP] for frame in capture.kept if Ether(frame)[IP].src == bed.a.address]
        assert max(packet.len for packet in outer) <= 1500
        assert [packet.flags.DF for packet in outer if not fragment(packet)] == [True]
        assert not any(count for site in bed.sites for count in site.report().drops.values())


def test_a_lost_fragment_costs_its_packet_alone():
    with joined() as bed:
        for _ in range(3):
            # A fragment of a packet whose rest never comes; the kernel forgets it.
            with inside(bed.a.netns):
                raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            with raw:
                lone = IP(src=bed.a.address, dst=bed.b.address, proto=50, flags="MF", id=7) / bytes(1480)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                raw.sendto(bytes(lone), (bed.b.address, 0))
            transfer(bed, 4 << 20)
        waiting = lambda: int(re.search(r"FRAG: inuse (\d+)", bed.b.run("cat", "/proc/net/sockstat").stdout)[1])  # noqa: E731
        assert waiting() <= 1
        until(lambda: waiting() == 0, "what is not whole is forgotten")
