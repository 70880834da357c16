"""Several hosts on one machine: namespaces with own mounts, host names and /dev/shm, on a wire that can be listened to."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from phalanx.network import namespace
from phalanx.node.names import Names
from stores import discard

PHALANX = str(Path(sys.executable).parent / "phalanx")
MTU = 1500

# What a host has of its own; the rest of the file system it shares with the others.
OWN = """
set -e
for own in /dev/shm /run/netns /run/phalanx; do mkdir -p $own; mount -t tmpfs -o mode=0700 own $own; done
"""


def _free() -> int:
    """A number that no other test's wire has."""
    begun = os.getpid()
    return next(number % 200 for number in itertools.count(begun) if not namespace.exists(f"phxw{number % 200}"))


@dataclass
class Machine:
    """A simulated host. Its processes are those in its mount namespace."""

    name: str
    address: str
    data_dir: Path
    invitation: Path
    images: Path | None = None
    """Its own store of images; else it shares that of the machine that the test runs on."""
    zone: str | None = None
    process: subprocess.Popen | None = None
    _mounts: int | None = None
    """A handle of its mounts, which are there while it is, whatever runs on it."""

    def join(self) -> None:
        """Run `phalanx host join` on it."""
        with (self.data_dir.parent / f"{self.name}.log").open("ab") as log:
            environment = {**os.environ, **({"PHALANX_IMAGES": str(self.images)} if self.images else {})}
            command = [PHALANX, "host", "join", str(self.invitation), "--data-dir", str(self.data_dir)]
            command += ["--zone", self.zone] if self.zone else []
            self.process = self.start(*command, stdout=log, stderr=log, env=environment)

    def start(self, *command: str, **options) -> subprocess.Popen:
        """Run a command on it; it is powered on where it was not."""
        enter = [*self._enter(), "unshare", "--uts", "sh", "-c", f'hostname {self.name} && exec "$@"', "sh"]
        return subprocess.Popen([*enter, *command], **options)

    def run(self, *arguments: str) -> int:
        """Run `phalanx` on it, beside what runs there; its exit code."""
        command = [*self._enter(), PHALANX, *arguments, "--data-dir", str(self.data_dir)]
        return subprocess.run(command, check=False).returncode

    def listeners(self) -> list[tuple[str, int]]:
        """Where something on it answers over TCP: addresses and ports."""
        shown = subprocess.run([*self._enter(), "ss", "-ltnH"], check=True, capture_output=True, text=True).stdout
        found = [line.split()[3].rpartition(":") for line in shown.splitlines()]
        return [(address, int(port)) for address, _, port in found]

    def _enter(self) -> list[str]:
        if self._mounts is None:
            self._power_on()
        mounts = f"/proc/{os.getpid()}/fd/{self._mounts}"
        return ["nsenter", f"--net={namespace.path(self.name)}", f"--mount={mounts}"]

    def _power_on(self) -> None:
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", f"{OWN}echo; read _"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holding:
            assert holding.stdout.readline()
            self._mounts = os.open(f"/proc/{holding.pid}/ns/mnt", os.O_RDONLY)
            self._device = Path(f"/proc/{holding.pid}/root/run/phalanx").stat().st_dev
            holding.stdin.close()

    def leave(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to leave; its exit code once it has. With SIGHUP its instances stay."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        return self.process.wait(120)

    def processes(self) -> list[int]:
        """All that runs on it, in whatever network namespace."""
        if self._mounts is None:
            return []
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (path / "root/run/phalanx").stat().st_dev == self._device and int(path.name) != os.getpid():
                    found.append(int(path.name))
        return found

    def path(self, path: Path) -> Path:
        """Where to find a file of the host's."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def power_off(self) -> None:
        """End everything on it at once, as when its power fails. Idempotent."""
        while left := {*self.processes(), *self._contained()}:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process is not None:
                self.process.poll()
            time.sleep(0.05)
        # The kernel's memory goes as well; here it is one kernel for all, and nobody else knows of these.
        while left := sorted(self.cgroups(), key=lambda path: len(path.parts), reverse=True):
            for path in left:
                with contextlib.suppress(OSError):  # what was killed is still going
                    path.rmdir()
            time.sleep(0.05)
        if self._mounts is not None:
            os.close(self._mounts)
            self._mounts = None

    def _contained(self) -> list[int]:
        """What runs in its containers, whose root is another."""
        found = []
        for path in self.cgroups():
            with contextlib.suppress(OSError):
                found += map(int, (path / "cgroup.procs").read_text().split())
        return found

    def cgroups(self) -> list[Path]:
        """The control groups that its containers have, in every hierarchy, and all within them."""
        top = Names(self.data_dir).cgroup
        found = [path for kind in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{kind}{top}*")]
        return [*found, *(path for above in found for path in above.rglob("*") if path.is_dir())]


@dataclass
class Lan:
    """A wire, and what is plugged in: the control plane's machine, which is the one that the test runs on, and hosts."""

    directory: Path
    number: int = field(default_factory=_free)
    machines: list[Machine] = field(default_factory=list)

    @property
    def wire(self) -> str:
        """The namespace of the switch."""
        return f"phxw{self.number}"

    def address(self, host: int) -> str:
        """The control plane's is host 1."""
        return f"10.77.{self.number}.{host}"

    def __enter__(self) -> Lan:
        namespace.create(self.wire)
        try:
            _in(self.wire, "ip", "link", "add", "switch", "type", "bridge")
            _in(self.wire, "ip", "link", "set", "switch", "mtu", str(MTU), "up")
            self._plug("1", f"phxu{self.number}", 1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as undo:
            # Each of it, whatever becomes of the rest.
            undo.callback(namespace.delete, self.wire)
            undo.callback(subprocess.run, ["ip", "link", "del", f"phxu{self.number}"], check=False)
            for machine in self.machines:
                if machine.images is not None:
                    undo.callback(discard, machine.images)
                undo.callback(namespace.delete, machine.name)
                undo.callback(machine.power_off)

    def machine(self) -> Machine:
        """A new host on the wire."""
        number = len(self.machines) + 2
        name = f"phxh{self.number}-{number}"
        namespace.create(name)
        made = Machine(name, self.address(number), self.directory / name, self.directory / f"{name}.invitation")
        self.machines.append(made)
        self._plug(namespace.path(name), "wire", number)
        return made

    def _plug(self, where: str, link: str, host: int) -> None:
        port = f"port{host}"
        _in(self.wire, "ip", "link", "add", port, "mtu", str(MTU), "type", "veth", "peer", "name", link, "netns", where)
        _in(self.wire, "ip", "link", "set", port, "master", "switch", "up")
        enter = [] if where == "1" else ["nsenter", f"--net={where}"]
        subprocess.run([*enter, "ip", "addr", "add", f"{self.address(host)}/24", "dev", link], check=True)
        subprocess.run([*enter, "ip", "link", "set", link, "mtu", str(MTU), "up"], check=True)


def _in(name: str, *command: str) -> None:
    subprocess.run(["nsenter", f"--net={namespace.path(name)}", *command], check=True)
