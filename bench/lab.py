"""Two hosts as network namespaces, joined by a veth pair or by a router between two of them, and programs inside."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLAIN = ("10.98.1.2", "10.98.2.2")
"""Addresses for plain traffic: the same devices, past the TUN."""
SECURE = ("10.99.1.2", "10.99.2.2")
"""Addresses whose traffic an engine or a rival carries."""
GATEWAYS = ("10.97.1.1", "10.97.2.1")


def run(*command: str, netns: Path | None = None, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a network namespace; its output is in the exception when it fails."""
    prefix = ["nsenter", f"--net={netns}", "--"] if netns else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False, **options)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done


class Host:
    """One namespace with a private directory."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self.plain, self.secure = PLAIN[number], SECURE[number]
        self.netns = directory / f"net-{number}"
        self.rundir = directory / f"host-{number}"
        self.rundir.mkdir(mode=0o700)
        self._running: list[subprocess.Popen[Any]] = []

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(*command, netns=self.netns, **options)

    def start(self, *command: str, log: str | None = None, **options: Any) -> subprocess.Popen[Any]:
        """A program that runs until the host is closed; it leads a process group of its own."""
        with open(self.rundir / log if log else os.devnull, "ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **options}
            process = subprocess.Popen(["nsenter", f"--net={self.netns}", "--", *command], start_new_session=True, **options)
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Pair:
    """Two hosts. `routed`: through a namespace that forwards, as in Phalanx; otherwise the two ends of one veth."""

    def __init__(self, mtu: int, *, routed: bool = False, offloads: bool = True) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="phx-bench-", dir="/dev/shm"))
        self._namespaces: list[Path] = []
        self.hosts: list[Host] = []
        try:
            for number in (0, 1):
                host = Host(self.directory, number)
                self.hosts.append(host)
                self._namespace(host.netns)
            if routed:
                self._join_by_router(mtu)
            else:
                self._join(mtu)
            if not offloads:
                for host in self.hosts:
                    host.run("ethtool", "-K", "eth0", "tso", "off", "gso", "off", "tx-udp-segmentation", "off")
        except BaseException:
            self.close()
            raise

    def _namespace(self, path: Path) -> None:
        path.touch()
        run("unshare", f"--net={path}", "true")
        self._namespaces.append(path)
        run("ip", "link", "set", "lo", "up", netns=path)

    def _join(self, mtu: int) -> None:
        a, b = self.hosts
        a.run(*f"ip link add eth0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns".split(), str(b.netns))
        for host in self.hosts:
            self._address(host)
            host.run(*f"ip address add {GATEWAYS[host.number]}/32 dev eth0".split())
        self._route(a, GATEWAYS[b.number])
        self._route(b, GATEWAYS[a.number])

    def _join_by_router(self, mtu: int) -> None:
        router = self.directory / "net-router"
        self._namespace(router)
        for host in self.hosts:
            gateway = GATEWAYS[host.number]
            link = f"to-{host.number}"
            run(
                *f"ip link add {link} mtu {mtu} type veth peer name eth0 mtu {mtu} netns".split(), str(host.netns), netns=router
            )
            run("ip", "address", "add", f"{gateway}/32", "dev", link, netns=router)
            run("ip", "link", "set", link, "up", netns=router)
            self._address(host)
            for address in (host.plain, host.secure):
                run(*f"ip route add {address}/32 dev {link}".split(), netns=router)
            self._route(host, gateway)
        run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward", netns=router)

    @staticmethod
    def _route(host: Host, gateway: str) -> None:
        """Everything goes by a gateway on the link, as in an instance."""
        host.run(*f"ip route add default via {gateway} dev eth0 onlink src {host.plain}".split())

    def _address(self, host: Host) -> None:
        for address in (host.plain, host.secure):
            host.run(*f"ip address add {address}/32 dev eth0".split())
        host.run("ip", "link", "set", "eth0", "up")

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        for path in self._namespaces:
            run("umount", str(path), check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


def ensure_packages(names: Sequence[str]) -> None:
    """Installs Debian packages that only a benchmark needs, where they are missing."""
    missing = [
        name
        for name in names
        if "installed" not in run("dpkg-query", "-W", "-f", "${db:Status-Status}", name, check=False).stdout
    ]
    if not missing:
        return
    print(f"installing {' '.join(missing)} for the benchmark", flush=True)
    run("apt-get", "update", "-qq")
    run(
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        *missing,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
