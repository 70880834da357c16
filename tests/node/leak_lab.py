"""Two instances that shout at each other in the clear, in every way they can, while everything that should keep them from it
is torn down around them; and a count of every packet on every device of their VPC.

`Rig(encrypted=True)` has what the node gives an encrypted job: both guards, charon, data plane. `Rig(encrypted=False)` is its
twin: the same instances, traffic, faults and capture without any of it, to show that each scenario would be seen to leak.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import queue
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from network.lab import ALL_IN, ALL_OUT, icmp, ipv4
from phalanx.data.credentials import ADDRESS
from phalanx.ipsec import guard, pki
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.member import Member
from phalanx.ipsec.model import Lifetimes
from phalanx.network import namespace
from phalanx.network.frames import classify
from phalanx.network.model import Eni, Guard, SecurityGroup, VpcState
from phalanx.network.router import Router

MARK = b"phalanx in the clear! "
"""What all shouted payloads are made of: found in a frame, whatever the frame looks like, it is plaintext."""
CIPHERTEXT = frozenset({"ESP", "fragment of ESP", "UDP 500", "ARP"})
LIFETIMES = Lifetimes(packets=3000)
"""So few packets that SAs are rekeyed all the time, and expire where nobody rekeys them."""

_PACKET_OUTGOING = 4
_libc = ctypes.CDLL(None, use_errno=True)

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) {
    long seconds = 0;
    FILE *file = fopen("/run/clock", "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (clock == CLOCK_REALTIME) at->tv_sec += offset();
    return result;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec; at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
"""Preloaded into charon: a wall clock that jumps by as many seconds as a file says."""


class Capture(threading.Thread):
    """Every frame on every device of the router, as it comes in (`sent`) and as it goes out to an instance (`crossed`)."""

    def __init__(self, router: str) -> None:
        super().__init__(name=f"capture {router}", daemon=True)
        with namespace.entered(router):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
        self._socket.settimeout(0.1)
        self._arrived = self._seen = self._lost = 0
        self._closing = False
        self._lock = threading.Lock()
        self._clear()
        self.start()

    def run(self) -> None:
        while not self._closing:
            try:
                frame, (name, _, kind, _, _) = self._socket.recvfrom(1 << 17)
            except TimeoutError:
                continue
            except OSError:
                if self._closing:
                    return
                # A device went away.
                continue
            with self._lock:
                self._seen += 1
                if name == "lo":
                    continue
                where = self.crossed if kind == _PACKET_OUTGOING else self.sent
                label = classify(frame[:96])[2]
                where["cipher" if label in CIPHERTEXT and MARK not in frame else f"plain {label}"] += 1

    def window(self) -> tuple[collections.Counter[str], collections.Counter[str]]:
        """What was sent and what crossed since the last call, once all of it is counted."""
        deadline = time.monotonic() + 20
        while True:
            with self._lock:
                arrived, lost = struct.unpack("=II", self._socket.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
                self._arrived += arrived - lost
                self._lost += lost
                if self._seen >= self._arrived:
                    found = self.sent, self.crossed
                    self._clear()
                    break
            assert time.monotonic() < deadline, "the capture does not come to an end"
            time.sleep(0.005)
        assert self._lost == 0, f"the capture lost {self._lost} frames"
        return found

    def _clear(self) -> None:
        self.sent: collections.Counter[str] = collections.Counter()
        self.crossed: collections.Counter[str] = collections.Counter()

    def close(self) -> None:
        self._closing = True
        self.join()
        self._socket.close()


KINDS: dict[str, Callable[[Shouter], None]] = {}
"""Ways to send something to the peer, by name."""


def kind(name: str) -> Callable[[Callable[[Shouter], None]], None]:
    def register(function: Callable[[Shouter], None]) -> None:
        KINDS[name] = function

    return register


class Shouter(threading.Thread):
    """Lives in an instance's namespace and shouts: every kind in turn, in rounds that it is asked for, or all the time."""

    def __init__(self, space: str, own: str, peer: str) -> None:
        super().__init__(name=f"shouts in {space}", daemon=True)
        self.space, self.own, self.peer = space, own, peer
        self.restless = False
        self.tried: collections.Counter[str] = collections.Counter()
        self.stream: socket.socket | None = None
        self._asked: queue.Queue[tuple[tuple[str, ...], threading.Event] | None] = queue.Queue()
        with namespace.entered(space):
            self.start()

    def run(self) -> None:
        while True:
            try:
                asked = self._asked.get(timeout=0.03)
            except queue.Empty:
                if self.restless:
                    self._round(tuple(KINDS))
                continue
            if asked is None:
                return
            self._round(asked[0])
            asked[1].set()

    def ask(self, kinds: tuple[str, ...]) -> threading.Event:
        done = threading.Event()
        self._asked.put((kinds, done))
        return done

    def close(self) -> None:
        self._asked.put(None)
        self.join()
        if self.stream is not None:
            self.stream.close()

    def _round(self, kinds: tuple[str, ...]) -> None:
        for name in kinds:
            self.tried[name] += 1
            with contextlib.suppress(OSError):
                KINDS[name](self)

    def udp(
        self, port: int = 7777, to: str | None = None, size: int = 100, options: tuple = (), source: int = 0, at: str = ""
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
            for option in options:
                plug.setsockopt(*option)
            if source or at:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                plug.bind((at, source))
            plug.sendto((MARK * (size // len(MARK) + 1))[:size], (to or self.peer, port))

    def raw(self, protocol: int, payload: bytes = b"") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as plug:
            plug.sendto(payload + MARK * 3, (self.peer, 0))

    def whole(self, packet: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as plug:
            plug.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))


WIRE = (socket.SOL_SOCKET, 25, b"eth0")  # SO_BINDTODEVICE
BROADCAST = (socket.SOL_SOCKET, socket.SO_BROADCAST, 1)


kind("UDP")(lambda me: me.udp())
kind("UDP bound to the wire")(lambda me: me.udp(options=(WIRE,)))
kind("UDP with the wire as its unicast device")(lambda me: me.udp(options=((0, 50, struct.pack("!I", 2)),)))
kind("UDP in fragments")(lambda me: me.udp(size=60000))
kind("UDP on port 4500")(lambda me: me.udp(4500, source=4500, options=(WIRE,)))
kind("UDP to IKE's port")(lambda me: me.udp(500, options=(WIRE,)))
kind("UDP from the address of its credentials")(lambda me: me.udp(at=ADDRESS))
kind("UDP from there bound to the wire")(lambda me: me.udp(options=(WIRE,), at=ADDRESS))
kind("UDP with a type of service")(lambda me: me.udp(options=((0, 1, 0x10),)))
kind("UDP with IP options")(lambda me: me.udp(options=((0, 4, bytes([7, 7, 4, 0, 0, 0, 0, 1])), WIRE)))
kind("DNS")(lambda me: me.udp(53))
kind("ICMP echo")(lambda me: me.raw(1, icmp(8, 7, MARK)))
kind("ICMP timestamp")(lambda me: me.raw(1, icmp(13, 7, bytes(12))))
kind("GRE")(lambda me: me.raw(47))
kind("IP in IP")(lambda me: me.raw(4, ipv4(me.own, me.peer, 17, MARK)))
kind("SCTP")(lambda me: me.raw(132))
kind("AH")(lambda me: me.raw(51))
kind("ESP by hand")(lambda me: me.raw(50, b"\0\0\x10\1\0\0\0\1"))
kind("IKE by hand")(lambda me: me.whole(ipv4(me.own, me.peer, 17, struct.pack("!HHHH", 500, 500, 74, 0) + MARK * 3)))
kind("a lone fragment")(lambda me: me.whole(ipv4(me.own, me.peer, 17, MARK * 3, fragment=2)))
kind("another's source address")(lambda me: me.whole(ipv4("10.98.0.77", me.peer, 17, MARK * 3)))
kind("multicast")(lambda me: me.udp(to="239.1.2.3", options=(WIRE,)))
kind("broadcast")(lambda me: me.udp(to="255.255.255.255", options=(BROADCAST, WIRE)))


@kind("TCP handshake")
def _(me: Shouter) -> None:
    with socket.socket() as plug:
        plug.setblocking(False)
        plug.setsockopt(*WIRE)
        plug.connect((me.peer, 7777))


@kind("TCP connection")
def _(me: Shouter) -> None:
    if me.stream is not None:
        with contextlib.suppress(BlockingIOError):
            me.stream.recv(1 << 20)
        me.stream.send(MARK * 50)


@kind("joining a group")
def _(me: Shouter) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        # The kernel tells the link about it (IGMP).
        plug.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton(me.own))


@kind("IPv6")
def _(me: Shouter) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plug:
        for to in ("ff02::1%eth0", f"fd00::{me.peer.rpartition('.')[2]}"):
            with contextlib.suppress(OSError):
                plug.sendto(MARK, (to, 7777))


@dataclass
class Host:
    name: str
    space: str
    eni: Eni
    rundir: Path
    member: Member | None = None
    shouter: Shouter | None = None


class Rig:
    """Two instances of one job, `a` and `b`, on one router."""

    def __init__(self, encrypted: bool) -> None:
        self.encrypted = encrypted
        prefix = f"phxl{os.getpid()}{'e' if encrypted else 'p'}"
        self.router = Router(f"{prefix}-r")
        self.space = f"{prefix}-r"
        self.spaces = [self.space]
        self.hosts: list[Host] = []
        self.capture: Capture | None = None
        self.group = SecurityGroup("sg-1", (ALL_IN, ALL_OUT))
        self._undo = contextlib.ExitStack()
        try:
            self._build(prefix)
        except BaseException:
            self.close()
            raise

    @property
    def a(self) -> Host:
        return self.hosts[0]

    @property
    def b(self) -> Host:
        return self.hosts[1]

    def state(self, *rules) -> VpcState:
        guards = (Guard("job", tuple(host.eni.address for host in self.hosts)),) if self.encrypted else ()
        return VpcState("vpc-1", (SecurityGroup("sg-1", rules),), tuple(host.eni for host in self.hosts), guards)

    def _build(self, prefix: str) -> None:
        clock = Path(tempfile.mkdtemp(prefix="phxl-"))
        self._undo.callback(shutil.rmtree, clock)
        (clock / "clock.c").write_text(CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", clock / "clock.so", clock / "clock.c", "-ldl"], check=True)
        for number in (1, 2):
            rundir = Path(tempfile.mkdtemp(prefix="phxl-", dir="/dev/shm"))
            self._undo.callback(shutil.rmtree, rundir)
            run("mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(rundir))
            self._undo.callback(subprocess.run, ["umount", "-l", str(rundir)], check=False)
            eni = Eni(f"eni-{number}", f"10.98.0.{number}", ("sg-1",))
            self.hosts.append(Host(f"algo-{number}", f"{prefix}-{number}", eni, rundir))
        specs = pki.issue_mesh("job", [(host.name, host.eni.address) for host in self.hosts], LIFETIMES)
        for host in self.hosts:
            self.spaces.append(host.space)
            namespace.create(host.space)
            namespace.own(host.space, ADDRESS)
            if self.encrypted:
                shutil.copy(clock / "clock.so", host.rundir)
                host.member = Member(specs[host.name], host.space, host.rundir, "engine")
                preloaded(host.member, host.rundir / "clock.so")
                host.member.guard()
        self.router.ensure()
        self.capture = Capture(self.space)
        self.router.apply(self.state(ALL_IN, ALL_OUT))
        for host, peer in ((self.a, self.b), (self.b, self.a)):
            host.shouter = Shouter(host.space, host.eni.address, peer.eni.address)
            host.shouter.restless = self.encrypted
        # Who is shouting already when the wire comes must not be heard either.
        for host in self.hosts:
            self.router.attach(host.eni, host.space)
        if not self.encrypted:
            self.speak_ipv6()

    def speak_ipv6(self) -> None:
        """Switch IPv6 on in both instances and give them addresses, as somebody might who knows nothing of the guard."""
        for number, host in enumerate(self.hosts, 1):
            for key in ("all", "eth0"):
                run("sysctl", "-qw", f"net.ipv6.conf.{key}.disable_ipv6=0", space=host.space)
            run("ip", "address", "replace", f"fd00::{number}/64", "dev", "eth0", "nodad", space=host.space)

    def shout(self, *kinds: str, rounds: int = 2) -> None:
        """Have both instances send each kind (all of them by default) so many times, to the end."""
        for _ in range(rounds):
            for done in [host.shouter.ask(kinds or tuple(KINDS)) for host in self.hosts]:
                assert done.wait(30)

    def listen(self) -> None:
        """Give both sides the ends of one TCP connection, as a training keeps it all its life."""
        listener = self.inside(self.b, lambda: socket.create_server((self.b.eni.address, 7778)))
        near = self.inside(self.a, lambda: socket.create_connection((self.b.eni.address, 7778), 20))
        with listener:
            far, _ = listener.accept()
        for host, plug in ((self.a, near), (self.b, far)):
            plug.setblocking(False)
            host.shouter.stream = plug

    def inside(self, host: Host, action: Callable):
        with namespace.entered(host.space):
            return action()

    def pids(self, word: str, *hosts: Host) -> list[int]:
        """Processes of these instances (both by default) whose command has that word; none in the twin."""
        found = []
        for host in hosts or self.hosts:
            for pid in namespace.processes(host.space):
                with contextlib.suppress(OSError):
                    if word in Path(f"/proc/{pid}/cmdline").read_text():
                        found.append(pid)
        return found

    def signal(self, number: int, word: str, *hosts: Host) -> None:
        for pid in self.pids(word, *hosts):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def mend(self) -> None:
        """What the agent does: whatever is unwell is brought up again, and traffic flows."""
        if not self.encrypted:
            return
        deadline = time.monotonic() + 60
        while True:
            ill = [host.member for host in self.hosts if host.member.health() is not None]
            try:
                for member in ill:
                    member.guard()
                    member._charon.kill()
                for host in self.hosts:
                    host.member.start()  # what runs is adopted; a charon whose starter was killed is given what it lacks
                for member in ill or [self.a.member]:
                    member.connect([peer.name for peer in member._spec.peers], 10)
                if all(host.member.established() for host in self.hosts) and self.flows():
                    return
            except MeshError:
                if time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, [host.member.health() for host in self.hosts]

    def flows(self) -> bool:
        """Whether a datagram reaches the peer."""
        plug = self.inside(self.b, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender = self.inside(self.a, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with plug, sender:
            plug.bind((self.b.eni.address, 7790))
            plug.settimeout(0.3)
            for _ in range(3):
                with contextlib.suppress(OSError):
                    sender.sendto(MARK, (self.b.eni.address, 7790))
                    return plug.recv(1000) == MARK
        return False

    @contextlib.contextmanager
    def vici(self, host: Host) -> Iterator:
        with host.member._charon._session() as session:
            yield session

    def close(self) -> None:
        for host in self.hosts:
            if host.shouter is not None:
                host.shouter.close()
        for space in self.spaces:
            for pid in namespace.processes(space):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            namespace.delete(space)
        if self.capture is not None:
            self.capture.close()
        self._undo.close()


def preloaded(member: Member, library: Path) -> None:
    """Have the member's charon run under that library as well."""
    environment = member._plane.environment

    def more() -> dict[str, str]:
        given = dict(environment())
        return {**given, "LD_PRELOAD": f"{given['LD_PRELOAD']}:{library}"}

    member._plane.environment = more


def run(*command: str, space: str | None = None, check: bool = True) -> str:
    prefix = ["nsenter", f"--net={namespace.path(space)}"] if space else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Scenario:
    """`act` does it to a rig and mends it. Where `inner`, the guard inside an instance is what is torn down: the router's alone
    holds, plaintext may come as far as to it, and none may cross it."""

    name: str
    act: Callable[[Rig], None]
    inner: bool = False


SCENARIOS: list[Scenario] = []


def scenario(name: str, inner: bool = False) -> Callable[[Callable[[Rig], None]], None]:
    def register(function: Callable[[Rig], None]) -> None:
        SCENARIOS.append(Scenario(name, function, inner))

    return register


# In the order in which they run: from the first packet of a job to its last.


@scenario("the wire is there, no daemon yet")
def _(rig: Rig) -> None:
    rig.shout()


@scenario("one side of the pair comes up")
def _(rig: Rig) -> None:
    if rig.encrypted:
        rig.a.member.start()
    rig.shout()


@scenario("the mesh comes up: first packets")
def _(rig: Rig) -> None:
    if rig.encrypted:
        rig.b.member.start()
        rig.shout()
        rig.a.member.connect(timeout=20)
    rig.shout()
    rig.listen()


def shouted(name: str) -> Callable[[Rig], None]:
    def act(rig: Rig) -> None:
        rig.shout(name, rounds=5)
        if name == "joining a group":
            time.sleep(1.1)  # the kernel takes its time to tell (RFC 3376, 8.11)

    return act


for name in KINDS:
    SCENARIOS.append(Scenario(f"{name}, in the running job", shouted(name)))


def killed(word: str, *sides: int) -> Callable[[Rig], None]:
    def act(rig: Rig) -> None:
        rig.signal(signal.SIGKILL, word, *(rig.hosts[side] for side in sides))
        rig.shout()
        rig.mend()
        rig.shout(rounds=1)

    return act


def stopped(word: str) -> Callable[[Rig], None]:
    def act(rig: Rig) -> None:
        rig.signal(signal.SIGSTOP, word, rig.a)
        rig.shout()
        rig.signal(signal.SIGCONT, word, rig.a)
        rig.shout(rounds=1)
        rig.mend()

    return act


CHARON, ENGINE = "/usr/lib/ipsec/charon", "phalanx.ipsec.engine"
scenario("charon killed")(killed(CHARON, 0))
scenario("charon killed at both ends")(killed(CHARON, 0, 1))
scenario("charon stopped (SIGSTOP) and continued")(stopped(CHARON))
scenario("engine killed")(killed(ENGINE, 1))
scenario("engine killed at both ends")(killed(ENGINE, 0, 1))
scenario("engine stopped (SIGSTOP) and continued")(stopped(ENGINE))
scenario("every process of both ends killed, nobody mends for a while (agent dead)")(killed("", 0, 1))
scenario("the peer dies as a whole")(killed("", 1))


@scenario("charon ends in order (SIGTERM)")
def _(rig: Rig) -> None:
    rig.signal(signal.SIGTERM, CHARON, rig.a)
    rig.shout()
    rig.mend()


@scenario("random kills under load")
def _(rig: Rig) -> None:
    chance = random.Random(9)
    for _ in range(4):
        time.sleep(chance.random() / 10)
        rig.signal(signal.SIGKILL, chance.choice((CHARON, ENGINE)), chance.choice(rig.hosts))
        rig.shout(rounds=1)
        rig.mend()


@scenario("the agent is killed while it mends")
def _(rig: Rig) -> None:
    for delay in (0.01, 0.05, 0.2):
        rig.signal(signal.SIGKILL, "", rig.a)
        if rig.encrypted:
            agent = os.fork()
            if agent == 0:
                with contextlib.suppress(BaseException):
                    rig.a.member.recover(10)
                os._exit(0)
            time.sleep(delay)
            os.kill(agent, signal.SIGKILL)
            os.waitpid(agent, 0)
        rig.shout(rounds=1)
        rig.mend()


@scenario("IKE_SA ended by the peer")
def _(rig: Rig) -> None:
    if rig.encrypted:
        with rig.vici(rig.b) as session:
            list(session.terminate({"ike": "algo-1", "timeout": "-1"}))
    rig.shout()
    rig.mend()


@scenario("CHILD_SA ended")
def _(rig: Rig) -> None:
    if rig.encrypted:
        with rig.vici(rig.a) as session:
            list(session.terminate({"child": "algo-2", "timeout": "-1"}))
    rig.shout()
    rig.mend()


@scenario("CHILD_SAs rekeyed under load")
def _(rig: Rig) -> None:
    for host, name in ((rig.a, "algo-2"), (rig.b, "algo-1"), (rig.a, "algo-2")):
        if rig.encrypted:
            with rig.vici(host) as session:
                session.rekey({"child": name})
        rig.shout(rounds=1)
    rig.mend()


@scenario("both ends rekey at once")
def _(rig: Rig) -> None:
    if rig.encrypted:
        for host, name in ((rig.a, "algo-2"), (rig.b, "algo-1")):
            with rig.vici(host) as session:
                session.rekey({"child": name})
    rig.shout()
    rig.mend()


@scenario("IKE_SA rekeyed under load")
def _(rig: Rig) -> None:
    if rig.encrypted:
        with rig.vici(rig.a) as session:
            session.rekey({"ike": "algo-2"})
    rig.shout()
    rig.mend()


@scenario("SAs expire while charon cannot rekey them")
def _(rig: Rig) -> None:
    rig.signal(signal.SIGSTOP, CHARON)
    for _ in range(LIFETIMES.packets // 500 + 2):
        rig.shout("UDP", "DNS", rounds=250)
    rig.shout()
    rig.signal(signal.SIGCONT, CHARON)
    rig.shout(rounds=1)
    rig.mend()


def jumped(seconds: int) -> Callable[[Rig], None]:
    def act(rig: Rig) -> None:
        if rig.encrypted:
            for host in rig.hosts:
                (host.rundir / "clock").write_text(str(seconds))
            with rig.vici(rig.a) as session:
                session.rekey({"ike": "algo-2"})
        rig.shout()
        if rig.encrypted:
            for host in rig.hosts:
                (host.rundir / "clock").unlink()
        rig.shout(rounds=1)
        rig.mend()

    return act


scenario("the clock jumps ahead by ten years")(jumped(10 * 365 * 86400))
scenario("the clock jumps back by ten years")(jumped(-10 * 365 * 86400))


def starved(word: str) -> Callable[[Rig], None]:
    """No more than a few pages for a process: what it asks for next the kernel refuses, or ends it for."""

    def act(rig: Rig) -> None:
        group = Path("/sys/fs/cgroup", "" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "memory", rig.space)
        group.mkdir()
        limit = next(name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
        (group / limit).write_text(str(64 << 10))
        for pid in rig.pids(word, rig.a):
            (group / "cgroup.procs").write_text(str(pid))
        if rig.encrypted:
            with contextlib.suppress(MeshError), rig.vici(rig.a) as session:
                session.rekey({"child": "algo-2"})
        rig.shout()
        rig.signal(signal.SIGKILL, word, rig.a)
        rig.mend()
        group.rmdir()

    return act


scenario("no memory for charon")(starved(CHARON))
scenario("no memory for the engine")(starved(ENGINE))


@scenario("the disk is full while charon and engine must start again")
def _(rig: Rig) -> None:
    if rig.encrypted:
        with (rig.a.rundir / "full").open("wb") as full, contextlib.suppress(OSError):
            while full.write(bytes(1 << 16)):
                full.flush()
        rig.signal(signal.SIGKILL, "", rig.a)
        with contextlib.suppress(MeshError, OSError):
            rig.a.member.recover(1)
    rig.shout()
    if rig.encrypted:
        (rig.a.rundir / "full").unlink()
    rig.mend()


@scenario("all rules of the security group revoked and allowed again")
def _(rig: Rig) -> None:
    rig.router.apply(rig.state())
    rig.shout()
    rig.router.apply(rig.state(ALL_IN, ALL_OUT))
    rig.shout(rounds=1)
    rig.mend()


@scenario("rules changed a dozen times under load")
def _(rig: Rig) -> None:
    for number in range(12):
        rig.router.apply(rig.state(*(ALL_IN, ALL_OUT)[number % 2 :]))
        rig.shout("UDP", "TCP handshake", "UDP bound to the wire", rounds=1)
    rig.router.apply(rig.state(ALL_IN, ALL_OUT))
    rig.shout(rounds=1)
    rig.mend()


def tampered(*commands: str) -> Callable[[Rig], None]:
    """The router's rules changed by somebody else; the guard in the instance holds, then they are put back."""

    def act(rig: Rig) -> None:
        for command in commands:
            run("nft", *command.split(), space=rig.space)
        rig.shout()
        assert not rig.router.verify(rig.state(ALL_IN, ALL_OUT))
        rig.router.ensure()
        rig.router.apply(rig.state(ALL_IN, ALL_OUT))
        assert rig.router.verify(rig.state(ALL_IN, ALL_OUT))
        rig.shout(rounds=1)
        rig.mend()

    return act


TABLE = "inet phalanx"
scenario("nftables flushed by a third party")(tampered("flush ruleset"))
scenario("the router's guard emptied by a third party")(tampered(f"flush chain {TABLE} forward-guard"))
scenario("a third party's table that accepts everything first")(
    tampered(
        "add table inet other", "add chain inet other everything { type filter hook forward priority -300; policy accept; }"
    )
)


def lifted(*commands: str, dead: bool = False) -> Callable[[Rig], None]:
    """The guard inside the instances torn down, daemons alive or dead; the router's holds."""

    def act(rig: Rig) -> None:
        if dead:
            rig.signal(signal.SIGKILL, "")
        for host in rig.hosts:
            for command in commands:
                run(*command.split(), space=host.space)
        rig.shout()
        rig.mend()

    return act


scenario("the kernel's guard flushed", inner=True)(lifted("ip xfrm policy flush"))
scenario("the kernel's guard flushed, daemons dead", inner=True)(lifted("ip xfrm policy flush", dead=True))
scenario("the kernel told to pass the guard", inner=True)(
    lifted("sysctl -qw net.ipv4.conf.eth0.disable_xfrm=1", "sysctl -qw net.ipv4.conf.eth0.disable_policy=1")
)

EVERYTHING = "ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 action allow priority 1 dir"
scenario("an allow policy above the kernel's guard", inner=True)(lifted(f"{EVERYTHING} out", f"{EVERYTHING} in"))


@scenario("IPv6 switched on and given addresses by a third party")
def _(rig: Rig) -> None:
    rig.speak_ipv6()
    rig.shout()
    rig.mend()


def unwired(*commands: str) -> Callable[[Rig], None]:
    """Ways of instance `a` to its peer changed by a third party."""

    def act(rig: Rig) -> None:
        for command in commands:
            run(*command.format(peer=rig.b.eni.address).split(), space=rig.a.space, check=rig.encrypted)
        rig.shout()
        rig.mend()
        rig.shout(rounds=1)

    return act


scenario("the way to the peer deleted")(unwired("ip route delete {peer}/32 dev ipsec0"))
scenario("the way to the peer bent to the wire")(unwired("ip route replace {peer}/32 via 169.254.1.1 dev eth0 onlink"))


def led_astray(what: str) -> Callable[[Rig], None]:
    """A rule or a route that a third party adds in instance `a`, beside its own; seen, taken away, and traffic flows again."""

    def act(rig: Rig) -> None:
        way = ("via", "169.254.1.1", "dev", "eth0", "onlink")
        run("ip", "route", "replace", "default", *way, "table", "77", space=rig.a.space)
        kind, *words = what.format(peer=rig.b.eni.address).split()
        if kind == "route":
            words += way
        run("ip", kind, "add", *words, space=rig.a.space)
        rig.shout()
        if not rig.encrypted:
            run("ip", kind, "delete", *words, space=rig.a.space)
            return
        assert rig.a.member.health() is not None, what
        rig.mend()
        rig.shout(rounds=1)

    return act


scenario("a routing rule past the tunnel")(led_astray("rule to {peer} lookup 77 pref 5"))
scenario("a routing rule past the tunnel for some packets alone")(led_astray("rule ipproto udp dport 7777 lookup 77 pref 5"))
scenario("a route past the tunnel for a type of service")(led_astray("route {peer}/32 tos 0x10"))
scenario("the tunnel's device set down")(unwired("ip link set ipsec0 down"))
scenario("the tunnel's device deleted")(unwired("ip link delete ipsec0"))
scenario("a smaller MTU on the wire")(unwired("ip link set eth0 mtu 1500"))


@scenario("the wire set down and up")
def _(rig: Rig) -> None:
    run("ip", "link", "set", "eth0", "down", space=rig.a.space)
    rig.shout(rounds=1)
    run("ip", "link", "set", "eth0", "up", space=rig.a.space)
    rig.router.attach(rig.a.eni, rig.a.space)
    rig.shout()
    rig.mend()


@scenario("the network interface taken away and attached again")
def _(rig: Rig) -> None:
    rig.router.detach(rig.a.eni.id)
    rig.shout(rounds=1)
    rig.router.attach(rig.a.eni, rig.a.space)
    rig.shout()
    rig.mend()


@scenario("a stranger without encryption in the peer's place", inner=True)
def _(rig: Rig) -> None:
    stranger = f"{rig.space}-s"
    rig.spaces.append(stranger)
    rig.signal(signal.SIGKILL, "", rig.b)
    rig.router.detach(rig.b.eni.id)
    namespace.create(stranger)
    rig.router.attach(rig.b.eni, stranger)
    shouter = Shouter(stranger, rig.b.eni.address, rig.a.eni.address)
    for _ in range(2):
        # What looks like ESP or IKE passes the router, by its nature; it takes root to send it, and nobody takes it for real.
        assert shouter.ask(tuple(name for name in KINDS if "by hand" not in name)).wait(30)
        rig.shout(rounds=1)
    shouter.close()
    rig.router.detach(rig.b.eni.id)
    rig.router.attach(rig.b.eni, rig.b.space)
    rig.mend()


@scenario("the job ends: daemons stop, last packets")
def _(rig: Rig) -> None:
    for host in rig.hosts:
        if rig.encrypted:
            host.member.stop()
        rig.shout(rounds=1)
    rig.shout()


@scenario("the wire goes, and then the guards")
def _(rig: Rig) -> None:
    for host, peer in ((rig.a, rig.b), (rig.b, rig.a)):
        rig.shout(rounds=1)
        rig.router.detach(host.eni.id)
        rig.shout(rounds=1)
        if rig.encrypted:
            guard.down(host.space, [peer.eni.address])
    rig.shout(rounds=1)


@dataclass(frozen=True)
class Result:
    """What became of a scenario: packets in the clear that were sent and that crossed, encrypted ones, and the twin's catch."""

    scenario: Scenario
    shouted: int
    cipher: int
    plain_sent: int
    plain_crossed: int
    twin: int
    details: str

    @property
    def holds(self) -> bool:
        return self.plain_crossed == 0 and (self.scenario.inner or self.plain_sent == 0) and self.twin > 0 and self.shouted > 0


def plain(counter: collections.Counter[str]) -> int:
    return sum(count for name, count in counter.items() if name.startswith("plain"))


def play(rig: Rig) -> list[tuple[int, collections.Counter[str], collections.Counter[str]]]:
    """All scenarios, one after the other: how much was shouted, what was sent, what crossed."""
    found = []
    shouted = 0
    for each in SCENARIOS:
        try:
            each.act(rig)
        except BaseException as error:
            error.add_note(f"scenario: {each.name}, encrypted: {rig.encrypted}")
            raise
        total = sum(sum(host.shouter.tried.values()) for host in rig.hosts)
        found.append((total - shouted, *rig.capture.window()))
        shouted = total
    return found


def results() -> list[Result]:
    """Every scenario in both rigs."""
    played = []
    for encrypted in (True, False):
        rig = Rig(encrypted)
        try:
            played.append(play(rig))
        finally:
            rig.close()
    return [
        Result(
            scenario=each,
            shouted=shouted,
            cipher=sent["cipher"],
            plain_sent=plain(sent),
            plain_crossed=plain(crossed),
            twin=plain(twin_sent),
            details=f"sent {dict(sent)}, crossed {dict(crossed)}; twin {dict(twin_sent)}",
        )
        for each, (shouted, sent, crossed), (_, twin_sent, _) in zip(SCENARIOS, *played, strict=True)
    ]
