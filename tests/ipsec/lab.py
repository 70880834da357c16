"""Instances in real namespaces, joined by a router as the platform joins them, and what crosses it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phalanx.ipsec import netns, pki
from phalanx.ipsec.charon import Charon
from phalanx.ipsec.member import Member
from phalanx.ipsec.model import MeshSpec, PlaneName
from phalanx.network.model import HOST_MTU

SO_BINDTODEVICE, SO_RCVBUFFORCE = 25, 33
ETH_P_ALL, ETH_P_IP, ETH_P_ARP = 0x0003, 0x0800, 0x0806
PORT = 9999

_numbers = itertools.count()


@dataclass
class Host:
    """An instance's namespace, its address, its directory in memory, and a UDP socket in it."""

    name: str
    space: str
    address: str
    rundir: Path
    socket: socket.socket
    member: Member | None = None

    def send(self, to: Host, payload: bytes = b"hello") -> None:
        self.socket.sendto(payload, (to.address, PORT))

    def receive(self, seconds: float = 2.0) -> bytes:
        self.socket.settimeout(seconds)
        return self.socket.recv(65535)

    def reaches(self, to: Host, payload: bytes = b"hello", seconds: float = 2.0) -> bool:
        """Whether a datagram goes there and back; nothing else may be waiting."""
        try:
            self.send(to, payload)
            if to.receive(seconds) != payload:
                return False
            to.send(self, payload)
            return self.receive(seconds) == payload
        except OSError:
            return False

    def open(self, device: str | None = None) -> socket.socket:
        def make() -> socket.socket:
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            if device:
                opened.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
            return opened

        return netns.inside(self.space, make)

    def rekey(self, peer: str) -> None:
        """Have charon rekey the CHILD_SA with a peer now, make before break."""
        with Charon(self.space, self.rundir)._session() as session:
            session.rekey({"child": peer})

    def processes(self) -> list[int]:
        """Everything that runs in the namespace."""
        here = os.stat(netns.path(self.space)).st_ino
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.stat(entry / "ns/net").st_ino == here:
                    found.append(int(entry.name))
        return found

    def mounts(self) -> list[str]:
        """Mounts of this host; those of other tests come and go meanwhile."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if self.space in line or str(self.rundir) in line]


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet as it crossed the router."""

    source: str
    destination: str
    protocol: int
    ports: tuple[int, int] | None
    data: bytes


class Capture:
    """Everything that crosses the router's interfaces, from now on."""

    def __init__(self, space: str) -> None:
        def make() -> socket.socket:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
            opened.setblocking(False)
            return opened

        self._socket = netns.inside(space, make)

    def close(self) -> None:
        self._socket.close()

    def packets(self) -> list[Packet]:
        """The IP packets since the last call; anything that is neither IPv4 nor ARP fails the test."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, (_, kind, *_) = self._socket.recvfrom(1 << 17)
                if kind == ETH_P_ARP:
                    continue
                assert kind == ETH_P_IP, f"ethertype {kind:#x} on the wire"
                header = (data[0] & 15) * 4
                ports = None
                if data[9] in (6, 17):
                    ports = (
                        int.from_bytes(data[header : header + 2], "big"),
                        int.from_bytes(data[header + 2 : header + 4], "big"),
                    )
                found.append(Packet(socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), data[9], ports, data))
        return found

    def plaintext(self) -> list[Packet]:
        """Packets that are neither IKE on UDP 500 nor ESP; ESP and IKE must have been there at all."""
        packets = self.packets()
        assert packets
        return [packet for packet in packets if packet.protocol != 50 and packet.ports != (500, 500)]


@dataclass
class Wire:
    """A router namespace and the hosts on it."""

    space: str
    hosts: list[Host] = field(default_factory=list)

    def capture(self) -> Capture:
        return Capture(self.space)

    def specs(self) -> dict[str, MeshSpec]:
        """A job's credentials for all hosts."""
        return pki.issue_mesh("job", [(host.name, host.address) for host in self.hosts])

    def mesh(
        self,
        hosts: list[Host] | None = None,
        specs: dict[str, MeshSpec] | None = None,
        connect: bool = True,
        planes: Sequence[PlaneName] = (),
    ) -> dict[str, MeshSpec]:
        """Guard, start and connect these hosts, as the node does it; on engines, unless `planes` says what each has."""
        hosts = self.hosts if hosts is None else hosts
        specs = specs or pki.issue_mesh("job", [(host.name, host.address) for host in hosts])
        for host, plane in zip(hosts, planes or ["engine"] * len(hosts), strict=True):
            host.member = Member(specs[host.name], host.space, host.rundir, plane)
            host.member.guard()
        for host in hosts:
            host.member.start()
        if connect:
            for host in hosts:
                host.member.connect(timeout=10)
        return specs


@contextlib.contextmanager
def wired(count: int = 2) -> Iterator[Wire]:
    """So many instances that reach each other by way of a router, in the clear."""
    prefix = f"phxt{os.getpid()}-{next(_numbers)}"
    made = Wire(f"{prefix}-r")
    spaces = [made.space, *(f"{prefix}-{index}" for index in range(1, count + 1))]
    try:
        for space in spaces:
            run("ip", "netns", "add", space)
        router = ["link set lo up"]
        for index, space in enumerate(spaces[1:], 1):
            address = f"10.99.0.{index}"
            ends = f"link add veth{index} netns {made.space} type veth peer name eth0 netns {space}\n"
            run("ip", "-batch", "-", text=ends)
            lines = ["link set lo up", f"addr add {address}/32 dev eth0", f"link set eth0 mtu {HOST_MTU} up"]
            lines += ["route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1 dev eth0"]
            for name in (made.space, space):
                run("nsenter", f"--net={netns.path(name)}", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            run("ip", "-n", space, "-batch", "-", text="\n".join(lines) + "\n")
            router += [f"addr add 169.254.1.1/32 dev veth{index}", f"link set veth{index} mtu {HOST_MTU} up"]
            router += [f"route add {address}/32 dev veth{index}"]
            opened = netns.inside(space, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            opened.bind(("0.0.0.0", PORT))
            rundir = Path(tempfile.mkdtemp(prefix="phxt-", dir="/dev/shm"))
            made.hosts.append(Host(f"algo-{index}", space, address, rundir, opened))
        run("ip", "-n", made.space, "-batch", "-", text="\n".join(router) + "\n")
        run("nsenter", f"--net={netns.path(made.space)}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield made
    finally:
        for host in made.hosts:
            host.socket.close()
            for pid in host.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(host.rundir)
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether the condition comes true within a time that is far beyond what it needs."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def run(*command: str, text: str = "") -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def begin_of_ike(spi: bytes) -> bytes:
    """An IKE_SA_INIT that a charon of ours answers: AES-GCM-16-256, PRF-HMAC-SHA2-384, P-384 (RFC 7296 section 3)."""
    transforms = struct.pack(">BBHBBHHH", 3, 0, 12, 1, 0, 20, 0x800E, 256)
    transforms += struct.pack(">BBHBBH", 3, 0, 8, 2, 0, 6) + struct.pack(">BBHBBH", 0, 0, 8, 4, 0, 20)
    proposal = struct.pack(">BBHBBBB", 0, 0, 8 + len(transforms), 1, 1, 0, 3) + transforms
    association = struct.pack(">BBH", 34, 0, 4 + len(proposal)) + proposal
    exchange = struct.pack(">BBHHH", 40, 0, 8 + 96, 20, 0) + os.urandom(96)
    body = association + exchange + struct.pack(">BBH", 0, 0, 4 + 32) + os.urandom(32)
    return spi + bytes(8) + struct.pack(">BBBBII", 33, 0x20, 34, 8, 0, 28 + len(body)) + body
