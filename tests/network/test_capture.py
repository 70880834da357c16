"""The capture sees what instances send, all of it, and says so when it does not."""

from __future__ import annotations

import struct
import subprocess
import threading
from pathlib import Path

import pytest
from scapy.layers.ipsec import ESP
from scapy.utils import rdpcap

from network.lab import ALL_IN, ALL_OUT, FRAGMENTED, Instance, Vpc, guard
from phalanx.network.capture import WHOLE, Capture, Flow
from phalanx.network.errors import NetworkError


@pytest.fixture
def pair(vpc: Vpc) -> tuple[Instance, Instance]:
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    made = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    return made


def _kinds(capture: Capture) -> dict[tuple[str, str, str], int]:
    return {(flow.source, flow.destination, flow.kind): flow.frames for flow in capture.summary() if flow.kind != "ARP"}


def test_plain_and_encrypted_traffic_are_told_apart(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    with Capture(vpc.router_namespace) as capture:
        assert a.reaches_protocol(b, 50)
        assert a.reaches_udp(b, 500, source=500)
        assert _kinds(capture) == {(a.address, b.address, "ESP"): 1, (a.address, b.address, "UDP 500"): 1}
        # The twin: it would have seen plain traffic.
        assert a.reaches_tcp(b, 80)
        seen = _kinds(capture)
        assert seen[a.address, b.address, "TCP"] >= 3
        assert seen[b.address, a.address, "TCP"] >= 2
    assert capture.lost == 0


def test_each_frame_counts_once_with_its_size(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    with Capture(vpc.router_namespace) as capture, a.udp(9) as sender:
        for _ in range(5000):
            sender.sendto(bytes(1000), (b.address, 9))
    flow = next(flow for flow in capture.summary() if flow.kind == "UDP")
    assert flow == Flow(a.address, b.address, "UDP", 5000, 5000 * (14 + 20 + 8 + 1000))
    assert capture.lost == 0


def test_plain_frames_that_the_guard_drops_are_seen_too(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    vpc.guards = (guard("job-1", a, b),)
    vpc.apply()
    with Capture(vpc.router_namespace) as capture:
        assert not a.reaches_udp(b, 9)
    assert _kinds(capture) == {(a.address, b.address, "UDP"): 1}


def test_interfaces_that_come_later_are_seen(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, _ = pair
    with Capture(vpc.router_namespace) as capture:
        late = vpc.instance("sg-1")
        vpc.apply()
        assert late.reaches_udp(a, 9)
    assert _kinds(capture)[late.address, a.address, "UDP"] == 1


def test_fragments_are_named(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    a.shorten()
    with Capture(vpc.router_namespace) as capture, a.udp(500) as sender, b.udp(500):
        sender.sendto(bytes(FRAGMENTED), (b.address, 500))
    assert _kinds(capture) == {(a.address, b.address, "fragment of UDP"): 3}


def test_file_holds_whole_frames_that_others_can_read(vpc: Vpc, pair: tuple[Instance, Instance], tmp_path: Path):
    a, b = pair
    file = tmp_path / "wire.pcap"
    with Capture(vpc.router_namespace, file, snaplen=WHOLE) as capture:
        assert a.reaches_protocol(b, 50, payload=struct.pack(">II", 0xC0FFEE, 7) + bytes(range(256)) * 30)
        assert a.reaches_udp(b, 9)
    packets = [packet for packet in rdpcap(str(file)) if packet.haslayer("IP")]
    assert [len(packet) for packet in packets] == [14 + 20 + 8 + 256 * 30, 14 + 20 + 8 + 1]
    assert packets[0][ESP].spi == 0xC0FFEE
    assert packets[0][ESP].data == bytes(range(256)) * 30
    assert sum(flow.frames for flow in capture.summary()) == len(rdpcap(str(file)))
    assert file.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(["tcpdump", "-nr", str(file), "esp"], capture_output=True, text=True, check=True).stdout
    assert f"{a.address} > {b.address}: ESP(spi=0x00c0ffee,seq=0x7)" in shown


def test_frames_that_did_not_fit_are_confessed(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    sent = 20000
    with Capture(vpc.router_namespace, ring=1) as capture:
        # The counting thread is held up, so that the ring runs over.
        with capture._lock, a.udp(9) as sender:
            for _ in range(sent):
                sender.sendto(bytes(100), (b.address, 9))
        counted = _kinds(capture)[a.address, b.address, "UDP"]
        assert capture.lost > 0
        arp = sum(flow.frames for flow in capture.summary() if flow.kind == "ARP")
    assert counted + capture.lost + arp >= sent


def test_a_full_disk_is_not_silent(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    capture = Capture(vpc.router_namespace, Path("/dev/full"), snaplen=WHOLE)
    capture.start()
    with a.udp(9) as sender:
        for _ in range(500):
            sender.sendto(bytes(1000), (b.address, 9))
    with pytest.raises(NetworkError, match="No space left"):
        capture.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("capture")]


def test_a_file_that_cannot_be_written_is_named(vpc: Vpc, tmp_path: Path):
    with pytest.raises(NetworkError, match=r"cannot write .*/no/wire.pcap: No such file"):
        Capture(vpc.router_namespace, tmp_path / "no" / "wire.pcap").start()


def test_missing_router_is_named(prefix: str):
    with pytest.raises(NetworkError, match="no network namespace"), Capture(prefix + "none"):
        pass


def test_stopped_twice_and_never_started_are_fine(vpc: Vpc):
    Capture(vpc.router_namespace).stop()
    capture = Capture(vpc.router_namespace)
    capture.start()
    capture.stop()
    capture.stop()
    assert capture.summary() == ()
