from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsec.lab import PORT, Host, Wire, run
from phalanx.ipsec import netns

_numbers = itertools.count()


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Two instances (or as many as the test's parameter says) that reach each other by way of a router, in the clear."""
    count = getattr(request, "param", 2)
    prefix = f"phxt{os.getpid()}-{next(_numbers)}"
    made = Wire(f"{prefix}-r")
    spaces = [made.space, *(f"{prefix}-{index}" for index in range(1, count + 1))]
    try:
        for space in spaces:
            run("ip", "netns", "add", space)
        router = ["link set lo up"]
        for index, space in enumerate(spaces[1:], 1):
            address = f"10.99.0.{index}"
            run(
                *("ip", "-batch", "-"),
                text=f"link add veth{index} netns {made.space} mtu 9001 type veth peer name eth0 netns {space} mtu 9001\n",
            )
            lines = ["link set lo up", f"addr add {address}/32 dev eth0", "link set eth0 up"]
            lines += ["route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1 dev eth0"]
            for name in (made.space, space):
                run("nsenter", f"--net={netns.path(name)}", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            run("ip", "-n", space, "-batch", "-", text="\n".join(lines) + "\n")
            router += [f"addr add 169.254.1.1/32 dev veth{index}", f"link set veth{index} up"]
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
