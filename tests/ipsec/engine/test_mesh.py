"""Two engines, two real charons, and a router between them that counts every packet: what the wire shows, and what never."""

import hashlib
import os
import re
import socket
import struct
import threading

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

from phalanx.ipsec.engine.process import DEAD

from .testbed import Testbed, inside, until

MARK = b"plaintext! "


def keys(site) -> dict[str, tuple[int, bytes]]:
    """SPI and key material by the SA's source, newest last, from the engine's tables through `ip xfrm state`."""
    found = re.findall(r"src (\S+) dst \S+\n\s+proto esp spi (0x\w+).*?aead \S+ 0x(\w+) 128", site.xfrm("state"), re.DOTALL)
    return {source: (int(spi, 16), bytes.fromhex(key)) for source, spi, key in found}


def scapy_sa(site, source: str, destination: str) -> SecurityAssociation:
    spi, key = keys(site)[source]
    header = IP(src=source, dst=destination)
    return SecurityAssociation(ESP, spi=spi, crypt_algo="AES-GCM", crypt_key=key, tunnel_header=header, esn_en=True, esn=0)


def transfer(bed: Testbed, size: int, meanwhile=lambda: None) -> None:
    """A TCP stream from a to b whose digest must arrive; `meanwhile` runs while it is on its way."""
    block = os.urandom(1 << 20)
    sent, received = hashlib.sha256(), hashlib.sha256()
    with inside(bed.b.netns):
        listener = socket.create_server((bed.b.address, 5201))
    with inside(bed.a.netns):
        sender = socket.socket()
    listener.settimeout(30)
    sender.settimeout(60)

    def send():
        sender.connect((bed.b.address, 5201))
        for number in range(size >> 20):
            part = number.to_bytes(8, "big") + block[8:]
            sender.sendall(part)
            sent.update(part)
        sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with listener, listener.accept()[0] as stream:
            stream.settimeout(60)
            total, told = 0, False
            while part := stream.recv(1 << 20):
                received.update(part)
                total += len(part)
                if not told and total > size // 10:
                    told = True
                    threading.Thread(target=meanwhile).start()
    finally:
        thread.join()
        sender.close()
    assert total == size
    assert received.digest() == sent.digest()


def lost(before, after) -> dict[str, int]:
    return {cause: after.drops[cause] - count for cause, count in before.drops.items() if after.drops[cause] != count}


def installed(report, site) -> int:
    return report.totals[site.peer].installed


def test_ping_and_tcp_pass_and_the_wire_shows_ike_and_esp_only(mesh):
    before = [site.report() for site in mesh.sites]
    capture = mesh.capture()
    mesh.b.charon.rekey()  # some IKE while we look
    until(lambda: [each.installed for each in mesh.a.report().totals.values()] == [2], "a rekey")
    assert mesh.a.ping(20) == 20
    assert mesh.a.ping(3, size=8918) == 3  # the largest that is not fragmented
    assert mesh.a.ping(3, size=30000) == 3
    transfer(mesh, 20 << 20)
    kinds = capture.close()
    assert set(kinds) == {"ike", "esp"}
    assert all(MARK not in frame for frame in capture.kept)
    assert [lost(*pair) for pair in zip(before, (site.report() for site in mesh.sites), strict=True)] == [{}, {}]


def test_counts_are_exact(mesh):
    def traffic(site):
        totals = site.report().totals[site.peer]
        return totals.packets_out, totals.bytes_out, totals.packets_in, totals.bytes_in

    before = [traffic(site) for site in mesh.sites]
    assert mesh.a.ping(50, size=100) == 50
    after = [traffic(site) for site in mesh.sites]
    for old, new in zip(before, after, strict=True):
        assert [now - then for now, then in zip(new, old, strict=True)] == [50, 50 * 128, 50, 50 * 128]
    report = mesh.a.report()
    assert report.work.seconds_in > 0
    assert report.work.seconds_out > 0
    assert report.work.wakes >= 2
    ends = (mesh.a.address, mesh.a.peer)
    assert {(sa.source, sa.destination) for sa in report.associations} == {ends, ends[::-1]}
    assert {(sa.algorithm, sa.key_bits, sa.esn) for sa in report.associations} == {("AES_GCM_16", 256, True)}


def test_scapy_decrypts_what_was_captured(mesh):
    capture = mesh.capture()
    assert mesh.a.ping(10, size=200) == 10
    for site, source, kind in ((mesh.a, mesh.a.address, 8), (mesh.b, mesh.b.address, 0)):
        sa = scapy_sa(mesh.a, source, mesh.b.address if source == mesh.a.address else mesh.a.address)
        opened = [sa.decrypt(packet) for packet in capture.esp(site.address)]
        assert len(opened) == 10
        for packet in opened:
            assert (packet.src, packet[ICMP].type) == (source, kind)
            assert bytes(packet[ICMP].payload) == (MARK * 200)[:200]


def test_forged_replayed_truncated_and_strange_packets_from_the_router(testbed):
    """Put on the wire by somebody between the two: each is dropped and counted, an authentic one is delivered."""
    testbed.establish()
    a, b = testbed.a, testbed.b
    sa = scapy_sa(a, a.address, b.address)
    with inside(b.netns):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((b.address, 7777))
        receiver.settimeout(5)
    with inside(testbed.router):
        wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    inner = IP(src=a.address, dst=b.address) / UDP(sport=1, dport=7777) / Raw(b"made by scapy")
    ahead = 1000
    seal = lambda packet, number: bytes(sa.encrypt(packet, seq_num=number, iv=struct.pack(">Q", number)))  # noqa: E731
    good = seal(inner, ahead)
    before = b.report()

    def send(packet: bytes) -> None:
        wire.sendto(packet, (b.address, 0))

    def total() -> int:
        return sum(b.report().drops.values()) - sum(before.drops.values())

    with receiver, wire:
        send(good)
        assert receiver.recv(100) == b"made by scapy"
        wrong_spi = bytearray(good)
        wrong_spi[20:24] = b"\xcf\xff\xff\xf1"
        tampered = bytearray(seal(inner, ahead + 1))
        tampered[40] ^= 1
        foreign = IP(seal(inner, ahead + 2))
        foreign.src = "10.77.1.99"
        del foreign.chksum
        truncated = IP(good[:45])
        truncated.len = 45
        del truncated.chksum
        stranger = seal(IP(src="10.77.1.99", dst=b.address) / UDP(dport=7777) / Raw(b"no"), ahead + 3)
        for packet in (good, wrong_spi, tampered, bytes(foreign), bytes(truncated), stranger):
            send(bytes(packet))
        until(lambda: total() == 6, "six drops")
        receiver.settimeout(0.2)
        with pytest.raises(TimeoutError):
            receiver.recv(100)
    expected = ("in_replay", "in_unknown_spi", "in_icv", "in_address", "in_malformed", "in_no_policy")
    assert lost(before, b.report()) == dict.fromkeys(expected, 1)


def test_rekeys_under_a_running_transfer_lose_nothing(mesh):
    before = [site.report() for site in mesh.sites]

    def rekeyed(times: int) -> bool:
        pairs = zip(before, mesh.sites, strict=True)
        return all(installed(site.report(), site) >= installed(old, site) + times for old, site in pairs)

    def rekey():
        for number in range(5):
            mesh.sites[number % 2].charon.rekey()
            # One begun by the other side meanwhile would be the same one.
            until(lambda done=number + 1: rekeyed(done), f"rekey {number + 1}")

    capture = mesh.capture()
    transfer(mesh, 400 << 20, rekey)
    until(lambda: rekeyed(5), "five rekeys", 120)
    assert mesh.a.ping(20) == 20
    assert capture.plain() == 0
    for old, site in zip(before, mesh.sites, strict=True):
        new = site.report()
        assert installed(new, site) == installed(old, site) + 5
        assert lost(old, new) == {}


def test_soft_limit_by_packets_rekeys_without_loss(testbed):
    """The hard limit is out of reach: a hundred packets take 20 ms here, and a busy charon may need longer for its exchange."""
    testbed.establish(rekey_packets="300", life_packets="100000", rand_packets="0")
    assert testbed.a.ping(1000) == 1000
    until(lambda: installed(testbed.a.report(), testbed.a) >= 4, "three rekeys")


def test_hard_limit_without_daemon_help_stops_traffic(testbed):
    """With no soft limit to rekey at, the SA ends exactly at its hard limit and what follows is dropped."""
    testbed.establish(rekey_packets="0", life_packets="100", rand_packets="0", close_action="none")
    (outbound,) = [sa.spi for sa in testbed.a.report().associations if sa.source == testbed.a.address]
    capture = testbed.capture()
    testbed.a.ping(130, wait=0.02)
    until(lambda: outbound not in {sa.spi for sa in testbed.a.report().associations}, "the SA is gone")
    old = [packet for packet in capture.esp(testbed.a.address) if packet[ESP].spi == outbound]
    assert [packet[ESP].seq for packet in old] == list(range(1, 101))
    assert capture.plain() == 0


def test_a_killed_engine_takes_charon_along_and_nothing_leaves(testbed):
    testbed.establish()
    a = testbed.a
    assert a.ping(3) == 3
    capture = testbed.capture()
    a.kill_engine()
    assert until(lambda: a.charon.process.poll() is not None, "charon ends") is True
    assert a.charon.process.returncode == 70
    assert "ipsec0" in a.run("ip", "route", "get", a.peer).stdout
    assert a.ping(5, wait=0.1) == 0
    assert a.engine.fault() == DEAD
    assert capture.close().total() == 0 or set(capture.kinds) <= {"ike"}
    a.start_engine()
    assert a.ping(2, wait=0.1) == 0  # nothing is remembered: no SA, no traffic
    assert a.report().drops["out_no_policy"] == 2
    a.start_charon()
    a.charon.initiate()
    assert a.ping(5) == 5  # INITIAL_CONTACT has cleared the peer's old SAs
    assert set(capture.kinds) <= {"ike", "esp"}


def test_a_killed_charon_leaves_no_sa_behind(testbed):
    testbed.establish()
    capture = testbed.capture()
    testbed.a.charon.end()
    until(lambda: not testbed.a.report().associations, "its SAs are flushed")
    assert testbed.a.ping(3, wait=0.1) == 0
    assert testbed.a.report().drops["out_no_policy"] == 3
    assert capture.plain() == 0


def test_the_kernel_guard_blocks_plaintext_but_not_the_engine(testbed):
    """Block policies for everything between the two: ESP passes by the raw socket's own policy, the TUN is exempt."""
    for site in testbed.sites:
        for direction in ("out", "in"):
            site.run("ip", "xfrm", "policy", "add", "dir", direction, "src", "10.77.0.0/16", "dst", "10.77.0.0/16",
                     "priority", "10000", "action", "block")  # fmt: skip
    testbed.establish()
    capture = testbed.capture()
    assert testbed.a.ping(5) == 5
    transfer(testbed, 5 << 20)
    # And past the TUN the guard stands: a socket bound to eth0 gets EPERM.
    with inside(testbed.a.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as leak:
        leak.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        with pytest.raises(PermissionError):
            leak.sendto(MARK, (testbed.a.peer, 9))
    assert set(capture.close()) == {"esp"}


def test_a_trap_policy_asks_charon_for_an_sa(testbed):
    for site in testbed.sites:
        site.start_engine()
        site.start_charon()
    testbed.a.charon.connect(testbed.a.address, testbed.a.peer, start_action="trap")
    until(lambda: "tmpl" in testbed.a.xfrm("policy"), "a trap policy")
    until(lambda: testbed.a.ping(1, wait=0.2), "the first packets bring up the SA")
    assert len(testbed.a.report().associations) == 2


def test_twin_without_engine_shows_that_the_capture_sees_plaintext(testbed):
    capture = testbed.capture()
    assert testbed.a.ping(3) == 3
    transfer(testbed, 1 << 20)
    assert capture.plain() > 6
    assert "plain 6" in capture.kinds
    assert "plain 1" in capture.kinds
    assert any(MARK in frame for frame in capture.kept)
