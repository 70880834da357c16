"""Two instances and the router between them, real namespaces; real charons; a lossless count of what crosses the router."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import vici
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from phalanx.ipsec.engine.process import Engine
from phalanx.ipsec.plane import PlaneReport

ADDRESSES = {"a": "10.77.1.2", "b": "10.77.2.2"}
GATEWAYS = {"a": "10.77.1.1", "b": "10.77.2.1"}
MTU = 9001

_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str, netns: Path | None = None, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    prefix = ["nsenter", f"--net={netns}", "--"] if netns else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


@contextlib.contextmanager
def inside(netns: Path) -> Iterator[None]:
    """This thread in another network namespace."""
    with open("/proc/thread-self/ns/net") as home, open(netns) as there:
        assert _libc.setns(there.fileno(), 0) == 0
        try:
            yield
        finally:
            assert _libc.setns(home.fileno(), 0) == 0


def until(holds: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := holds():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Capture:
    """Every IPv4 frame that enters the router from instance a or b, with nothing lost: kept whole up to `keep` of them."""

    def __init__(self, router: Path, keep: int = 3000) -> None:
        self.kept: list[bytes] = []
        self.kinds: collections.Counter[str] = collections.Counter()
        self._keep = keep
        self._sockets = []
        with inside(router):
            for device in ("to-a", "to-b"):
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                tap.setsockopt(socket.SOL_SOCKET, 33, 256 * 2**20)  # SO_RCVBUFFORCE
                tap.bind((device, 3))
                self._sockets.append(tap)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(tap,)) for tap in self._sockets]
        for thread in self._threads:
            thread.start()

    def _read(self, tap: socket.socket) -> None:
        tap.settimeout(0.1)
        while True:
            try:
                frame, (_, _, kind, _, _) = tap.recvfrom(1 << 17)
            except (TimeoutError, OSError):  # OSError: the device went away with its testbed
                if self._stop.is_set():
                    return
                continue
            if kind == 4 or frame[12:14] != b"\x08\x00":  # PACKET_OUTGOING: seen already where it came in
                continue
            protocol = frame[23]
            if protocol == 17 and 500 in struct.unpack_from("!HH", frame, 34):
                self.kinds["ike"] += 1
            else:
                self.kinds["esp" if protocol == 50 else f"plain {protocol}"] += 1
            if len(self.kept) < self._keep:
                self.kept.append(frame)

    def close(self) -> collections.Counter[str]:
        """What was seen, by kind: ike, esp, or "plain N" with the IP protocol's number."""
        if not self._stop.is_set():
            self._stop.set()
            for thread in self._threads:
                thread.join()
            for tap in self._sockets:
                _, lost = struct.unpack("=II", tap.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
                tap.close()
                assert lost == 0, f"the capture lost {lost} frames"
        return self.kinds

    def plain(self) -> int:
        self.close()
        return sum(count for kind, count in self.kinds.items() if kind.startswith("plain"))

    def esp(self, source: str) -> list[IP]:
        self.close()
        packets = [Ether(frame)[IP] for frame in self.kept if frame[23] == 50]
        return [packet for packet in packets if packet.src == source]


class Charon:
    """A real IKE daemon of one side, told to speak to the engine."""

    def __init__(self, site: Site, environment: dict[str, str]) -> None:
        self._directory = site.rundir
        (site.rundir / "strongswan.conf").write_text(f"""
charon {{
  load = random nonce kdf sha2 hmac openssl pem pkcs1 pkcs8 x509 pubkey constraints kernel-netlink socket-default vici
  install_routes = no
  plugins {{
    vici {{
      socket = unix://{site.rundir}/vici
    }}
    kernel-netlink {{
      timeout = 1000
      retries = 1
    }}
    socket-default {{
      set_source = yes
      set_sourceif = yes
    }}
  }}
  filelog {{
    stderr {{
      default = 1
    }}
  }}
}}
""")
        (site.rundir / "vici").unlink(missing_ok=True)
        self.log = site.rundir / "charon.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net={site.netns}", "--", "unshare", "--mount", "sh", "-c",
                 "mount -t tmpfs none /run && exec /usr/lib/ipsec/charon"],
                stdout=log, stderr=log, env={**os.environ, **environment, "STRONGSWAN_CONF": f"{site.rundir}/strongswan.conf"},
            )  # fmt: skip
        until(lambda: self.process.poll() is not None or self._listens(), "charon listens")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as plug:
            return plug.connect_ex(str(self._directory / "vici")) == 0

    @contextlib.contextmanager
    def session(self) -> Iterator[vici.Session]:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.connect(str(self._directory / "vici"))
            yield vici.Session(plug)

    def connect(self, local: str, remote: str, **child: str) -> None:
        """Loads the connection `mesh` with its child `mesh`."""
        with self.session() as session:
            session.load_shared({"type": "ike", "data": "a secret of this test", "owners": [local, remote]})
            settings = {"local_ts": [f"{local}/32"], "remote_ts": [f"{remote}/32"], "mode": "tunnel", "replay_window": "4096"}
            session.load_conn({"mesh": {
                "version": "2", "mobike": "no", "local_addrs": [local], "remote_addrs": [remote],
                "proposals": ["aes256gcm16-prfsha384-ecp384"],
                "local": {"auth": "psk", "id": local}, "remote": {"auth": "psk", "id": remote},
                "children": {"mesh": {**settings, "esp_proposals": ["aes256gcm16-ecp384-esn"], **child}},
            }})  # fmt: skip

    def initiate(self) -> None:
        with self.session() as session:
            for _ in session.initiate({"child": "mesh", "timeout": "10000"}):
                pass

    def rekey(self) -> None:
        with self.session() as session:
            session.rekey({"child": "mesh"})

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Site:
    """One instance: namespace, device eth0 with a default route through the router, engine, perhaps a charon."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.address = ADDRESSES[name]
        self.peer = ADDRESSES["b" if name == "a" else "a"]
        self.netns = directory / f"net-{name}"
        self.rundir = directory / name
        self.rundir.mkdir(mode=0o700)
        self.engine = Engine(str(self.netns), self.rundir)
        self.charon: Charon | None = None
        self._started: list[subprocess.Popen[Any]] = []

    def start_engine(self) -> None:
        self.engine.start(self.address, [self.peer])

    def start_charon(self, **child: str) -> Charon:
        self.charon = Charon(self, self.engine.charon_environment())
        self.charon.connect(self.address, self.peer, **child)
        return self.charon

    def report(self) -> PlaneReport:
        return self.engine.measure()[1]

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(*command, netns=self.netns, **options)

    def xfrm(self, *words: str, check: bool = True) -> str:
        """`ip xfrm …` on the engine's tables."""
        environment = {**os.environ, **self.engine.charon_environment()}
        return run("ip", "-d", "xfrm", *words, env=environment, check=check).stdout

    def ping(self, count: int = 1, size: int = 56, wait: float = 1.0) -> int:
        """How many of `count` ICMP echo requests of `size` bytes were answered."""
        with inside(self.netns):
            probe = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        answered = 0
        with probe:
            probe.settimeout(wait)
            for number in range(count):
                request = bytes(ICMP(type=8, id=os.getpid() & 0xFFFF, seq=number) / (b"plaintext! " * size)[:size])
                with contextlib.suppress(TimeoutError):
                    probe.sendto(request, (self.peer, 0))
                    while probe.recv(65536)[20:][4:] != request[4:]:
                        pass
                    answered += 1
        return answered

    def spawn(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen(["nsenter", f"--net={self.netns}", "--", *command], **options)
        self._started.append(process)
        return process

    def engine_pid(self) -> int:
        found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._is_engine(path)]
        assert len(found) == 1, found
        return found[0]

    def _is_engine(self, path: Path) -> bool:
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"phalanx.ipsec.engine" in words and str(self.rundir).encode() in words

    def kill_engine(self) -> None:
        pid = self.engine_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the engine is gone")

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.charon:
            self.charon.end()
        self.engine.stop()


class Testbed:
    """a — router — b."""

    __test__ = False  # no test class, whatever its name says

    def __init__(self, mtu: int = MTU) -> None:
        self._mtu = str(mtu)
        self._directory = Path(tempfile.mkdtemp(prefix="phx-", dir="/dev/shm"))
        self.router = self._directory / "net-router"
        self._namespaces: list[Path] = []
        self.sites: list[Site] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self._add_namespace(self.router)
        for name in ADDRESSES:
            site = Site(name, self._directory)
            self._add_namespace(site.netns)
            self.sites.append(site)
            run("ip", "link", "add", f"to-{name}", "mtu", self._mtu, "type", "veth", "peer", "name", "eth0", "mtu", self._mtu,
                "netns", str(site.netns), netns=self.router)  # fmt: skip
            run("ip", "address", "add", f"{GATEWAYS[name]}/24", "dev", f"to-{name}", netns=self.router)
            run("ip", "link", "set", f"to-{name}", "up", netns=self.router)
            for words in (
                "link set lo up",
                f"address add {site.address}/32 dev eth0",
                "link set eth0 up",
                f"route add {GATEWAYS[name]} dev eth0",
                f"route add default via {GATEWAYS[name]} dev eth0 src {site.address}",
            ):
                run("ip", *words.split(), netns=site.netns)
        run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", netns=self.router)

    def _add_namespace(self, path: Path) -> None:
        path.touch()
        run("unshare", f"--net={path}", "true")
        self._namespaces.append(path)

    @property
    def a(self) -> Site:
        return self.sites[0]

    @property
    def b(self) -> Site:
        return self.sites[1]

    def establish(self, **child: str) -> None:
        """Engines and charons on both sides, and a CHILD_SA between them."""
        for site in self.sites:
            site.start_engine()
            site.start_charon(**child)
        self.a.charon.initiate()
        until(lambda: all(len(site.report().associations) == 2 for site in self.sites), "a CHILD_SA on both sides")

    def capture(self) -> Capture:
        return Capture(self.router)

    def close(self) -> None:
        try:
            for site in self.sites:
                site.close()
        finally:
            for path in self._namespaces:
                run("umount", str(path), check=False)
            shutil.rmtree(self._directory)
