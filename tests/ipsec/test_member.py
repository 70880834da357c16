"""The mesh as the node sees it: real namespaces, charon, engine and packets."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipsec.lab import PORT, Host, Wire, begin_of_ike, eventually, run
from phalanx.ipsec import charon, guard, member, netns, pki
from phalanx.ipsec.charon import Charon
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.member import Member
from phalanx.ipsec.xfrm import Xfrm
from phalanx.network.model import HOST_MTU

three = pytest.mark.parametrize("wire", [3], indirect=True)


def process(host: Host, words: str) -> int:
    """The process of that host whose command line has these words."""
    found = [pid for pid in host.processes() if words in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(found) == 1
    return found[0]


def test_two_instances_exchange_esp_and_ike_on_port_500_only(wire: Wire) -> None:
    one, two = wire.hosts
    capture = wire.capture()
    specs = wire.mesh()
    before = one.member.measure().pairs[0]
    for number in range(50):
        one.send(two, b"secret %02d" % number)
        assert two.receive() == b"secret %02d" % number
    for _ in range(20):
        two.send(one, bytes(1000))
        one.receive()

    assert capture.plaintext() == []
    (pair,), (mirror,) = one.member.measure().pairs, two.member.measure().pairs
    assert (before.packets_out, before.packets_in) == (0, 0)
    assert (pair.packets_out, pair.bytes_out) == (mirror.packets_in, mirror.bytes_in) == (50, 50 * (20 + 8 + 9))
    assert (pair.packets_in, pair.bytes_in) == (mirror.packets_out, mirror.bytes_out) == (20, 20 * 1028)
    assert (pair.spi_in, pair.spi_out) == (mirror.spi_out, mirror.spi_in)
    assert pair.established
    assert (pair.algorithm, pair.key_bits, pair.esn, pair.ppk) == ("AES_GCM_16", 256, True, True)
    assert pair.ike == "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384"
    assert pair.local_certificate == mirror.remote_certificate == specs["algo-1"].fingerprint
    assert pair.remote_certificate == mirror.local_certificate == specs["algo-2"].fingerprint
    assert pair.rekeys == 0


@pytest.mark.parametrize("port", [500, 501])
def test_a_peers_daemon_repeats_nothing_that_a_container_says(wire: Wire, port: int) -> None:
    """It would answer outside of the tunnel, with the SPI of who asked: eight bytes of the container's choice."""
    one, two = wire.hosts
    capture = wire.capture()
    wire.mesh()
    with two.open() as program:
        program.bind(("0.0.0.0", 40000))
        for word in (b"PATIENT7", b"SECRET!!"):
            marker = b"" if port == 500 else bytes(4)
            program.sendto(marker + begin_of_ike(word), (one.address, port))
    assert two.reaches(one)
    assert capture.plaintext() == []
    assert two.member.measure().drops["out_no_policy"] == 2


def test_the_capture_sees_plaintext_where_there_is_no_mesh(wire: Wire) -> None:
    one, two = wire.hosts
    capture = wire.capture()
    assert one.reaches(two, b"secret")
    assert {packet.protocol for packet in capture.plaintext()} == {17}


@three
def test_three_instances_make_a_full_mesh(wire: Wire) -> None:
    capture = wire.capture()
    wire.mesh()
    for host in wire.hosts:
        others = [other for other in wire.hosts if other is not host]
        assert host.member.established() == {other.name for other in others}
        assert all(host.reaches(other) for other in others)
        assert [pair.remote for pair in host.member.measure().pairs] == [other.name for other in others]
    assert capture.plaintext() == []


def test_peers_are_asked_in_turn_and_first_those_that_were_not() -> None:
    assert member.in_turn("algo-2", {"algo-1", "algo-3", "algo-4"}, set()) == ["algo-3", "algo-4", "algo-1"]
    assert member.in_turn("algo-2", {"algo-1", "algo-3", "algo-4"}, {"algo-3"}) == ["algo-4", "algo-1", "algo-3"]


def test_many_peers_are_asked_less_often_whether_they_live() -> None:
    assert [charon.dead_peer_delay(peers) for peers in (1, 40, 64, 999)] == [2, 2, 4, 62]


@three
def test_a_mesh_of_more_peers_than_are_asked_at_once_stands(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "_AT_ONCE", 1)
    wire.mesh()
    assert all(len(host.member.established()) == 2 for host in wire.hosts)


def test_large_packets_pass(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    assert one.reaches(two, os.urandom(30000))


@three
def test_another_authority_is_refused(wire: Wire) -> None:
    one, two, _ = wire.hosts
    capture = wire.capture()
    addresses = [(host.name, host.address) for host in (one, two)]
    specs = pki.issue_mesh("job", addresses)
    stranger = pki.issue_mesh("job", addresses)["algo-2"].credentials
    keys = dataclasses.replace(specs["algo-2"].credentials, certificate=stranger.certificate, private_key=stranger.private_key)
    specs["algo-2"] = dataclasses.replace(specs["algo-2"], credentials=keys)
    wire.mesh([one, two], specs=specs, connect=False)
    with pytest.raises(MeshError, match=r"algo-1 to algo-2: .*"):
        one.member.connect(timeout=10)
    assert refused(one, two)
    assert not one.reaches(two, seconds=0.2)
    assert capture.plaintext() == []


def test_another_ppk_is_refused(wire: Wire) -> None:
    one, two = wire.hosts
    specs = wire.specs()
    keys = dataclasses.replace(specs["algo-2"].credentials, ppk="00" * 32)
    specs["algo-2"] = dataclasses.replace(specs["algo-2"], credentials=keys)
    wire.mesh(specs=specs, connect=False)
    with pytest.raises(MeshError, match=r"algo-1 to algo-2: .*AUTH"):
        one.member.connect(timeout=10)
    assert refused(one, two)


@three
def test_another_instance_of_the_job_is_refused_in_a_peers_place(wire: Wire) -> None:
    one, two, _ = wire.hosts
    specs = wire.specs()
    posing = dataclasses.replace(specs["algo-3"], name="algo-2", address=two.address, peers=specs["algo-2"].peers[:1])
    wire.mesh([one, two], specs={"algo-1": specs["algo-1"], "algo-2": posing}, connect=False)
    with pytest.raises(MeshError, match=r"algo-1 to algo-2: "):
        one.member.connect(["algo-2"], timeout=10)
    assert refused(one, two)


STRONG = charon.proposals("standard", hybrid=False)


def refused(one: Host, two: Host) -> bool:
    """The side that answers has SAs for a moment: IKEv2's initiator judges last, and tells it."""
    return not one.member.established() and eventually(lambda: not two.member.established())


@pytest.mark.parametrize(
    ("ike", "esp"),
    [
        (STRONG[0], ["aes128gcm16-ecp384-esn"]),
        (STRONG[0], ["aes256gcm16-ecp384-noesn"]),
        (STRONG[0], ["aes256-sha256-ecp384-esn"]),
        (["aes256-sha256-modp2048"], STRONG[1]),
    ],
)
def test_nothing_weaker_is_agreed_on(wire: Wire, monkeypatch: pytest.MonkeyPatch, ike: list[str], esp: list[str]) -> None:
    one, two = wire.hosts
    specs = wire.mesh([two], specs=wire.specs(), connect=False)
    monkeypatch.setattr(charon, "proposals", lambda profile, hybrid: (ike, esp))
    wire.mesh([one], specs=specs, connect=False)
    with pytest.raises(MeshError, match=r"algo-1 to algo-2: .*(NO_PROPOSAL_CHOSEN|no CHILD_SA)"):
        one.member.connect(timeout=1)
    assert one.member.established() == frozenset()


@pytest.mark.parametrize("victim", ["/usr/lib/ipsec/charon", "phalanx.ipsec.engine"])
def test_a_killed_daemon_stops_traffic_until_recovery(wire: Wire, victim: str) -> None:
    one, two = wire.hosts
    specs = wire.mesh()
    client, server = connection(one, two)
    (before,) = one.member.measure().pairs
    capture = wire.capture()
    os.kill(process(one, victim), signal.SIGKILL)
    assert eventually(lambda: one.member.health() is not None)
    assert ("is in no total" in one.member.health()) == ("engine" in victim)
    client.sendall(b"secret")
    for _ in range(20):
        for sender, to in ((one, two), (two, one)):
            with sender.open("eth0") as bound, sender.open() as free:
                for each in (bound, free):
                    try:
                        each.sendto(b"secret", (to.address, 9))
                    except PermissionError:
                        continue
    one.member.recover(timeout=10)
    assert one.member.health() is None
    assert eventually(lambda: two.member.established() == {"algo-1"})
    assert eventually(lambda: one.reaches(two, os.urandom(8), 0.2))
    with client, server:
        assert server.recv(10) == b"secret"
    assert capture.plaintext() == []
    # As the next agent has it, too.
    for member_ in (one.member, Member(specs["algo-1"], one.space, one.rundir, "engine")):
        (after,) = member_.measure().pairs
        assert before.packets_out < after.packets_out
        assert before.bytes_in < after.bytes_in


def connection(one: Host, two: Host) -> tuple[socket.socket, socket.socket]:
    """A TCP connection, such as a training keeps all its life."""
    listener = netns.inside(two.space, lambda: socket.create_server((two.address, PORT)))
    client = netns.inside(one.space, lambda: socket.create_connection((two.address, PORT), 5))
    with listener:
        server, _ = listener.accept()
    server.settimeout(30)
    return client, server


def test_a_stopped_engine_is_noticed_and_replaced(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    os.kill(process(one, "phalanx.ipsec.engine"), signal.SIGSTOP)
    assert "engine" in one.member.health()
    one.member.recover(timeout=10)
    assert one.member.health() is None
    assert one.reaches(two)


def test_a_stopped_charon_is_noticed_and_replaced(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    os.kill(process(one, "/usr/lib/ipsec/charon"), signal.SIGSTOP)
    assert "does not answer" in one.member.health()
    assert one.reaches(two)
    one.member.recover(timeout=10)
    assert one.member.health() is None
    assert one.reaches(two)


def test_a_charon_that_answers_late_is_waited_for(wire: Wire) -> None:
    """As one does that has a large mesh to make."""
    one, two = wire.hosts
    wire.mesh(connect=False)
    os.kill(process(one, "/usr/lib/ipsec/charon"), signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        connecting = pool.submit(one.member.connect)
        with pytest.raises(TimeoutError):
            connecting.result(charon.ANSWER_TIMEOUT + 1)
        os.kill(process(one, "/usr/lib/ipsec/charon"), signal.SIGCONT)
        connecting.result()
    assert one.reaches(two)


def test_rekeying_loses_nothing(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    spis = {one.member.measure().pairs[0].spi_out}
    sent = 0
    for _ in range(3):
        one.rekey("algo-2")
        while (spi := one.member.measure().pairs[0].spi_out) in spis:
            assert one.reaches(two)
            sent += 1
        spis.add(spi)
    for _ in range(10):
        assert one.reaches(two)
        sent += 1
    pair, mirror = one.member.measure().pairs[0], two.member.measure().pairs[0]
    assert (pair.rekeys, mirror.rekeys) == (3, 3)
    assert pair.packets_out == pair.packets_in == mirror.packets_in == mirror.packets_out == sent
    assert pair.ppk


def test_a_dead_peer_is_seen(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    for pid in two.processes():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: one.member.established() == frozenset())
    two.member.recover(timeout=10)
    assert eventually(lambda: one.member.established() == {"algo-2"})
    assert eventually(lambda: one.reaches(two, os.urandom(8), 0.2))


def test_what_charon_does_not_tell_of_for_a_moment_is_asked_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = wire.hosts
    wire.mesh()
    asked = Charon.associations
    silent = iter([True])
    monkeypatch.setattr(Charon, "associations", lambda charon: [] if next(silent, False) else asked(charon))
    (pair,) = one.member.measure().pairs
    assert (pair.algorithm, pair.ike) == ("AES_GCM_16", "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384")
    monkeypatch.setattr(Charon, "associations", lambda charon: [])
    (pair,) = one.member.measure().pairs
    assert (pair.established, pair.algorithm, pair.ike) == (True, "", "")


def test_another_agent_adopts_what_runs(wire: Wire) -> None:
    one, two = wire.hosts
    specs = wire.mesh()
    pids = sorted(one.processes())
    again = Member(specs["algo-1"], one.space, one.rundir, "engine")
    again.guard()
    again.start()
    again.connect(timeout=10)
    assert sorted(one.processes()) == pids
    assert again.established() == {"algo-2"}
    assert one.reaches(two)
    assert again.measure().pairs[0].rekeys == 0


def test_stop_leaves_nothing_but_the_guard(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    mounts = one.mounts()
    one.member.stop()
    assert one.processes() == []
    assert {path.name for path in one.rundir.iterdir() if path.suffix != ".log"} <= {"engine.lock"}
    assert not one.reaches(two, seconds=0.2)
    assert eventually(lambda: two.member.established() == frozenset(), 2)
    assert one.member.unguarded() is None
    assert one.mounts() == mounts
    one.member.stop()
    guard.down(one.space, [two.address])
    with Xfrm.kernel(one.space) as xfrm:
        assert xfrm.policies() == []


@pytest.mark.usefixtures("many_descriptors")
def test_a_mesh_is_made_and_ended_by_an_agent_that_has_many_descriptors(wire: Wire) -> None:
    wire.mesh()
    one, two = wire.hosts
    assert one.reaches(two)
    for host in wire.hosts:
        host.member.stop()
        assert host.processes() == []


def test_no_key_is_written_or_named(wire: Wire) -> None:
    specs = wire.mesh()
    secrets = {spec.credentials.ppk for spec in specs.values()}
    secrets |= {line for spec in specs.values() for line in spec.credentials.private_key.splitlines()[1:3]}
    for host in wire.hosts:
        texts = [path.read_bytes().decode(errors="replace") for path in host.rundir.iterdir() if path.is_file()]
        for pid in host.processes():
            texts += [Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace") for file in ("cmdline", "environ")]
        assert not [secret for secret in secrets for text in texts if secret in text]
    assert not [secret for secret in secrets if secret in repr(specs)]


def test_nothing_starts_without_the_guard(wire: Wire) -> None:
    one, _ = wire.hosts
    specs = wire.specs()
    member = Member(specs["algo-1"], one.space, one.rundir, "engine")
    with pytest.raises(MeshError, match="guard"):
        member.start()
    assert one.processes() == []


def test_health_misses_a_policy_of_the_guard(wire: Wire) -> None:
    one, _ = wire.hosts
    wire.mesh()
    with Xfrm.kernel(one.space) as xfrm:
        xfrm.remove(next(policy for policy in xfrm.policies() if policy.direction == "out"))
    assert "lacks 1 policies" in one.member.health()
    one.member.recover(timeout=10)
    assert one.member.health() is None


@pytest.mark.parametrize("mtu", [1400, 40000])
def test_a_wire_whose_mtu_somebody_changed_is_seen_and_mended(wire: Wire, mtu: int) -> None:
    one, two = wire.hosts
    wire.mesh()
    run("ip", "-n", one.space, "link", "set", "eth0", "mtu", str(mtu))
    assert not one.reaches(two, bytes(50000), seconds=0.3)
    assert f"from {HOST_MTU} bytes to {mtu}" in one.member.health()
    one.member.recover(timeout=10)
    assert one.member.health() is None
    assert one.reaches(two, bytes(50000))


def test_a_wire_that_lost_its_name_is_seen(wire: Wire) -> None:
    """Rules before charon know peers by it: IKE would end a while later."""
    one, _ = wire.hosts
    wire.mesh()
    run("ip", "-n", one.space, "link", "set", "eth0", "name", "eth7")
    assert "eth0 cannot be read" in one.member.health()


@pytest.mark.parametrize("fault", ["link set ipsec0 down", "link delete ipsec0", "route delete {peer}/32 dev ipsec0"])
def test_a_way_to_a_peer_that_somebody_took_away_is_seen_and_mended(wire: Wire, fault: str) -> None:
    one, two = wire.hosts
    wire.mesh()
    capture = wire.capture()
    run("ip", "-n", one.space, *fault.format(peer=two.address).split())
    assert not one.reaches(two, seconds=0.1)
    assert eventually(lambda: one.member.health() is not None, 2)
    one.member.recover(timeout=10)
    assert one.member.health() is None
    assert eventually(lambda: one.reaches(two, seconds=0.1))
    assert capture.plaintext() == []


def test_what_a_kernel_does_not_count_cannot_be_measured_and_it_is_said(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = wire.hosts
    wire.mesh(connect=False)

    def missing(_name: str) -> dict[str, int]:
        raise FileNotFoundError("/proc/thread-self/net/xfrm_stat")

    monkeypatch.setattr(netns, "xfrm_statistics", missing)
    with pytest.raises(MeshError, match="CONFIG_XFRM_STATISTICS"):
        one.member.measure()


def test_a_pair_that_somebody_ended_is_made_again_when_asked(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    with Charon(one.space, one.rundir)._session() as session:
        assert list(session.terminate({"ike": "algo-2"}))
    assert eventually(lambda: one.member.established() == frozenset(), 5)
    two.member.initiate(["algo-1"])  # not its part
    one.member.initiate(["algo-2"])
    assert eventually(lambda: one.member.established() == {"algo-2"})
    assert one.reaches(two)


def test_connect_names_the_pair_that_does_not_answer(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh([one], specs=wire.specs(), connect=False)
    with pytest.raises(MeshError, match=r"job job: algo-1 to algo-2: the peer does not answer on UDP 500"):
        one.member.connect(timeout=1)
    wire.mesh([two], specs=wire.specs(), connect=False)


@three
def test_a_daemon_hears_its_peers_alone(wire: Wire) -> None:
    """Whom else security groups let in, and the container beside it, would have it work and fill its log."""
    one, two, stranger = wire.hosts
    wire.mesh([one, two])
    asked = [(stranger, one.address), (one, one.address), (one, "127.0.0.1")]
    said = Charon(one.space, one.rundir).log_size
    before = said()
    assert [answered(*each) for each in asked] == [False] * 3
    assert said() == before
    assert one.reaches(two)

    run("nsenter", f"--net={netns.path(one.space)}", "nft", "flush", "ruleset")
    assert [answered(*each, seconds=5) for each in asked] == [True] * 3
    assert one.member.health() is None
    assert [answered(*each) for each in asked] == [False] * 3


def answered(host: Host, address: str, seconds: float = 0.3) -> bool:
    """Whether the daemon at that address says anything to a program of that host."""
    with host.open() as program:
        program.sendto(begin_of_ike(os.urandom(8)), (address, 500))
        program.settimeout(seconds)
        try:
            return bool(program.recv(2000))
        except TimeoutError:
            return False


def test_ike_has_no_socket_on_port_4500(wire: Wire) -> None:
    one, _ = wire.hosts
    wire.mesh()
    table = netns.inside(one.space, lambda: Path("/proc/thread-self/net/udp").read_text())
    assert {int(line.split()[1].split(":")[1], 16) for line in table.splitlines()[1:]} == {500, 501, PORT}


def test_sockets_bound_to_the_wire_do_not_leak(wire: Wire) -> None:
    one, two = wire.hosts
    wire.mesh()
    capture = wire.capture()
    with one.open("eth0") as bound, pytest.raises(PermissionError):
        bound.sendto(b"secret", (two.address, 9))
    assert one.reaches(two)
    assert capture.plaintext() == []
    assert one.member.measure().plaintext_blocked_out == 1
