"""The engine process: started, adopted, without rights, killed, stopped."""

import concurrent.futures
import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from phalanx.ipsec.engine.devices import LONGEST, inner_mtu, packet_size, sealed_size
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.engine.process import CONTROL_SOCKET, DEAD, Engine
from phalanx.ipsec.engine.server import listen
from phalanx.ipsec.model import Work
from phalanx.ipsec.plane import Association, PlaneReport, Totals

from .testbed import run, until


def status(path: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in (path / "status").read_text().splitlines() if ":" in line)


def links(site) -> str:
    return site.run("ip", "-o", "link").stdout


def test_inner_mtu_of_wire_and_giant_frames():
    assert [inner_mtu(outer) for outer in (1500, 9001, 65535)] == [1446, 8946, 65478]
    assert all(outer - 4 < sealed_size(inner_mtu(outer)) <= outer for outer in (1500, 1501, 1502, 1503, 9001, 65535))
    assert [packet_size(mtu) for mtu in (1450, 7999, 8000, 8951, 9001, 65535)] == [1450, 7999, *[65535] * 4]


def test_start_is_idempotent_and_stop_leaves_nothing(testbed):
    site = testbed.a
    assert site.engine.fault() == DEAD
    site.start_engine()
    pid = site.engine_pid()
    site.start_engine()
    assert site.engine_pid() == pid
    assert Engine(str(site.netns), site.rundir).fault() is None  # found by its sockets, not remembered
    assert f"ipsec0: <POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP> mtu {inner_mtu(LONGEST)}" in links(site)
    assert f"{site.peer} dev ipsec0 scope link src {site.address}" in site.run("ip", "route").stdout
    report = site.report()
    assert (report.associations, report.totals) == ((), {})
    assert set(report.drops.values()) == {0}
    for _ in range(2):
        site.engine.stop()
        assert site.engine.fault() == DEAD
        assert "ipsec0" not in links(site)
        assert sorted(path.name for path in site.rundir.iterdir()) == ["engine.lock", "engine.log"]
    with pytest.raises(EngineError, match=r"dead or hangs.*traffic to peers stands still"):
        site.report()


def test_many_starters_make_one_engine(testbed):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: testbed.a.start_engine(), range(4)))
    testbed.a.engine_pid()


def test_other_settings_are_an_error(testbed):
    testbed.a.start_engine()
    with pytest.raises(EngineError, match="other settings"):
        testbed.a.engine.start(testbed.a.address, ["10.99.0.1"])


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"device": "eth7"}, "network device eth7 cannot be read: No such device"),
        ({"tun": "eth0"}, "TUN device eth0 cannot be made"),
        ({"peers": ["not-an-address"]}, "cannot be configured"),
    ],
)
def test_a_failed_start_says_why(testbed, options, cause):
    site = testbed.a
    with pytest.raises(EngineError, match=cause):
        site.engine.start(**{"address": site.address, "peers": [site.peer], **options})
    assert site.engine.fault() == DEAD


def test_a_namespace_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="cannot be started"):
        Engine("/nonexistent/netns", tmp_path).start("10.0.0.1", ["10.0.0.2"])
    Engine("/nonexistent/netns", tmp_path).stop()
    gone = Engine("/nonexistent/netns", tmp_path / "gone")
    gone.stop()
    with pytest.raises(EngineError, match="gone cannot be used: No such file or directory"):
        gone.start("10.0.0.1", ["10.0.0.2"])


def test_an_engine_that_an_earlier_version_started_is_understood(tmp_path):
    """It told more of each SA, and not when it was started."""
    ends = {"source": "10.0.0.1", "destination": "10.0.0.2"}
    old = {
        "associations": [
            {"spi": 7, **ends, "direction": "out", "algorithm": "AES_GCM_16", "key_bits": 256, "esn": True,
             "packets": 3, "bytes": 84, "sequence": 3, "age": 1.5}
        ],
        "flows": [["10.0.0.1", "10.0.0.2"]],
        "pairs": [
            {"local": "10.0.0.1", "remote": "10.0.0.2", "packets_in": 1, "bytes_in": 28, "packets_out": 3, "bytes_out": 84,
             "installed": 2}
        ],
        "drops": {"in_icv": 1},
        "work": {"seconds_in": 0.5, "seconds_out": 0.25, "wakes": 4},
    }  # fmt: skip
    with listen(tmp_path / CONTROL_SOCKET, socket.SOCK_STREAM) as control, concurrent.futures.ThreadPoolExecutor(1) as pool:
        control.setblocking(True)

        def tell():
            with control.accept()[0] as asker:
                asker.sendall(json.dumps({"settings": {}, "report": old}).encode())

        pool.submit(tell)
        started, report = Engine("/nonexistent/netns", tmp_path).measure()
    assert started == 0
    assert report == PlaneReport(
        (Association(7, "10.0.0.1", "10.0.0.2", "AES_GCM_16", 256, True),),
        frozenset({("10.0.0.1", "10.0.0.2")}),
        {"10.0.0.2": Totals(packets_in=1, packets_out=3, bytes_in=28, bytes_out=84, installed=2)},
        {"in_icv": 1},
        Work(0.5, 0.25, 4),
    )


def test_the_process_has_no_rights_and_its_command_line_no_keys(testbed):
    testbed.establish()
    pid = testbed.a.engine_pid()
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    assert len(tasks) == 3  # control, TX, RX
    for task in tasks:
        found = status(task)
        assert {found[f"Cap{kind}"].strip() for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert found["NoNewPrivs"].strip() == "1"
        assert set(found["Uid"].split() + found["Gid"].split()) == {"65534"}
        assert found["Groups"].strip() == ""
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0  # not dumpable: not even its own user may look
    assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text())
    public = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert b"PHALANX" not in public
    assert b"secret" not in public
    assert (testbed.a.engine.xfrm_socket.stat().st_mode & 0o777) == 0o600


def turn(task: Path) -> int:
    """Nanoseconds of a thread's turn on its CPU."""
    return int(re.search(r"^se\.slice +: +(\d+)$", (task / "sched").read_text(), re.MULTILINE)[1])


def test_its_packet_threads_have_shorter_turns_than_who_computes(testbed):
    testbed.a.start_engine()
    tasks = Path(f"/proc/{testbed.a.engine_pid()}/task")
    everybodys = turn(Path("/proc/self"))
    packets = everybodys - everybodys // 8
    # Each thread asks when it begins, which may be a moment after the engine is ready.
    until(lambda: sorted(map(turn, tasks.iterdir())) == [packets, packets, everybodys], "the threads' turns")


def test_sigterm_ends_it_cleanly(testbed):
    testbed.a.start_engine()
    pid = testbed.a.engine_pid()
    os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the engine is gone")
    assert (testbed.a.rundir / "engine.log").read_text().endswith("stopped\n")


def test_a_hung_engine_is_replaced(testbed, monkeypatch):
    monkeypatch.setattr("phalanx.ipsec.engine.process.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("phalanx.ipsec.engine.process.STOP_SECONDS", 0.5)
    testbed.a.start_engine()
    hung = testbed.a.engine_pid()
    os.kill(hung, signal.SIGSTOP)
    assert testbed.a.engine.fault() == DEAD
    testbed.a.start_engine()
    assert testbed.a.engine_pid() != hung


def test_an_engine_whose_device_goes_away_ends_and_says_so(testbed):
    site = testbed.a
    site.start_engine()
    site.run("ip", "link", "delete", "ipsec0")
    until(lambda: site.engine.fault() == DEAD, "the engine gives up")
    assert "a packet thread has failed" in (site.rundir / "engine.log").read_text()


def test_restart_adopts_the_device_and_never_lets_the_route_go(testbed):
    site = testbed.a
    site.start_engine()
    site.kill_engine()
    assert "NO-CARRIER" in links(site)
    assert "ipsec0" in site.run("ip", "route", "get", site.peer).stdout
    site.start_engine()
    assert "LOWER_UP" in links(site).split("ipsec0", 1)[1]
    assert "ipsec0" in site.run("ip", "route", "get", site.peer).stdout


def test_tcp_through_the_device_has_the_congestion_control_of_the_way_without_it(testbed):
    site = testbed.a
    site.start_engine()
    assert "congctl" not in site.run("ip", "route").stdout
    default = site.run("ip", "route", "show", "default").stdout.split()
    site.run("ip", "route", "replace", *default, "congctl", "reno")
    site.kill_engine()
    site.start_engine()
    assert f"{site.peer} dev ipsec0 scope link src {site.address} congctl reno" in site.run("ip", "route").stdout


def test_ip_xfrm_shows_the_engine_and_nothing_of_the_kernel(testbed):
    site = testbed.a
    site.start_engine()
    site.run("ip", "xfrm", "policy", "add", "dir", "out", "src", "10.1.1.1", "dst", "10.1.1.2", "action", "block")
    assert site.xfrm("policy") == ""
    assert "10.1.1.1" in site.run("ip", "xfrm", "policy").stdout
    assert "XfrmInError" not in site.xfrm("state", "count")
    refused = site.xfrm("policy", "add", "dir", "out", "src", "10.1.1.1", "dst", "10.1.1.2", check=False)
    assert refused == ""
    log = site.rundir / "engine.log"
    until(lambda: "a policy protects with one SA or blocks" in log.read_text(), "the log says why")


def test_the_preloaded_library_leaves_other_sockets_and_children_alone(testbed):
    site = testbed.a
    site.start_engine()
    environment = {**os.environ, **site.engine.charon_environment()}
    program = """
import os, socket, subprocess
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
plain.setsockopt(socket.IPPROTO_UDP, 100, 2)                     # UDP_ENCAP: swallowed
assert plain.getsockopt(socket.IPPROTO_UDP, 100) == 0
route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)     # NETLINK_ROUTE: real
route.bind((0, 0))
assert route.getsockname()[0] != 0
before = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
assert "LD_PRELOAD" in before
xfrm = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6)
assert os.readlink(f"/proc/self/fd/{xfrm.fileno()}").startswith("socket:")
after = subprocess.run(["cat", "/proc/self/environ"], capture_output=True, text=True, check=True, env=None).stdout
import ctypes
ctypes.CDLL(None).system(b"env | grep -c -E 'LD_PRELOAD|PHALANX' >&2 && exit 1 || exit 0") == 0 or exit(3)
number = xfrm.fileno()
xfrm.close()
again = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert again.fileno() == number
again.bind(("127.0.0.1", 0))
assert again.getsockname()[0] == "127.0.0.1"
"""
    run("python3", "-c", program, netns=site.netns, env=environment)


def test_without_engine_a_client_gets_no_socket_at_all(testbed):
    environment = {**os.environ, **testbed.a.engine.charon_environment()}
    program = "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6)"
    done = run("python3", "-c", program, env=environment, check=False)
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr


def test_a_client_that_talks_nonsense_is_disconnected(testbed):
    testbed.a.start_engine()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(testbed.a.engine.xfrm_socket))
        client.settimeout(5)
        client.send(b"hello, engine, this is no netlink")
        assert client.recv(100) == b""
    assert testbed.a.engine.fault() is None
