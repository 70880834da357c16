"""How long the encrypted mesh of a job of N instances takes to stand: every pair its own IKE exchange and CHILD_SA.

All instances are on this machine, in a VPC of their own, with guard, engine and charon as in a job. What is timed is what a
job waits for once its daemons run: from the first initiation until every instance has measured a CHILD_SA with every peer.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from bench.result import Result
from phalanx.ipsec import netns, pki
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.member import Member
from phalanx.network import namespace
from phalanx.network.model import Eni, Rule, SecurityGroup, VpcState
from phalanx.network.router import Router

SIZES = (2, 4, 8, 16, 32)
GROUP = "sg-mesh"
POLL_SECONDS = 0.02
"""How often at most an instance that waits for its peers to initiate looks, as in a job (node/worker.py)."""


class Mesh:
    """Instances of one encrypted job, in namespaces behind one router."""

    def __init__(self, size: int) -> None:
        self._prefix = f"phxb{os.getpid()}-m{size}-"
        self._router = Router(f"{self._prefix}router")
        self._spaces = [f"{self._prefix}{number}" for number in range(size)]
        self._directories: list[Path] = []
        self._members: list[Member] = []
        enis = [Eni(f"eni-{number:017}", f"10.0.0.{4 + number}", (GROUP,)) for number in range(size)]
        hosts = [(f"algo-{number + 1}", eni.address) for number, eni in enumerate(enis)]
        try:
            self._router.ensure()
            for space, eni in zip(self._spaces, enis, strict=True):
                namespace.create(space)
                self._router.attach(eni, space)
            rules = tuple(
                Rule(direction, protocol, ports, ports, group=GROUP)
                for direction in ("ingress", "egress")
                for protocol, ports in (("17", 500), ("50", None))
            )
            self._router.apply(VpcState("vpc-mesh", (SecurityGroup(GROUP, rules),), tuple(enis), ()))
            for space, spec in zip(self._spaces, pki.issue_mesh(f"mesh-{size}", hosts).values(), strict=True):
                directory = Path(tempfile.mkdtemp(prefix="phxb-", dir="/dev/shm"))
                self._directories.append(directory)
                self._members.append(Member(spec, space, directory, "engine"))
            self._everywhere(Member.guard)
            self._everywhere(Member.start)
        except BaseException:
            self.close()
            raise

    def connect(self) -> float:
        """Seconds until every instance has measured a CHILD_SA with every peer."""
        began = time.perf_counter()
        self._everywhere(self._stand)
        return time.perf_counter() - began

    def _stand(self, member: Member) -> None:
        member.connect()
        while True:
            asked = time.monotonic()
            if len(member.established()) == len(self._members) - 1:
                return
            time.sleep(max(POLL_SECONDS, 2 * (time.monotonic() - asked)))

    def memory(self) -> float:
        """MB that charon and engine take in each instance, shared pages counted by their share."""
        spaces = {os.stat(netns.path(space)).st_ino for space in self._spaces}
        total = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if os.stat(process / "ns/net").st_ino in spaces:
                    found = re.search(r"^Pss:\s+(\d+) kB", (process / "smaps_rollup").read_text(), re.MULTILINE)
                    total += int(found[1]) if found else 0
        return total / 1024 / len(self._members)

    def close(self) -> None:
        with contextlib.suppress(MeshError):
            self._everywhere(Member.stop)
        for space in self._spaces:
            namespace.delete(space)
        self._router.destroy()
        for directory in self._directories:
            shutil.rmtree(directory)

    def _everywhere(self, act: Callable[[Member], object]) -> None:
        with ThreadPoolExecutor(len(self._members)) as pool:
            list(pool.map(act, self._members))


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """A mesh of each size in turns; what a size is held against is the same number of pairs one after another."""
    sizes = [size for size in SIZES if not chosen or f"mesh-{size}" in chosen]
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for number in range(2 if quick else 5):
        alone = _measure(2)[0]
        for size in sizes:
            seconds, memory = _measure(size)
            found[size].append((seconds, alone * size * (size - 1) / 2))
            print(f"round {number + 1}: {size} instances in {seconds:.3f} s, {memory:.1f} MB each", flush=True)
    return [
        Result(f"mesh-{size}", "s", f"{size} instances, {size * (size - 1) // 2} pairs", "the pairs one by one", pairs)
        for size, pairs in found.items()
    ]


def _measure(size: int) -> tuple[float, float]:
    with closing(Mesh(size)) as mesh:
        return mesh.connect(), mesh.memory()
