"""The control groups of containers: version 2, or version 1 with or without a hybrid version 2 mount.

Below the service's parent every container has two: `<id>/container`, which the OCI runtime fills and limits, and
`<id>/monitor`, where the launcher puts itself and so everything it starts. What is in them is what is there: membership
survives any crash of ours, and a process cannot leave.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from phalanx.runtime.model import ContainerUsage

ROOT = Path("/sys/fs/cgroup")

Part = Literal["container", "monitor"]
_KILL_SECONDS = 10.0


class CgroupError(Exception):
    """A control group that does not obey; says which and why."""


class Cgroups:
    """The control groups of one service's containers, below `parent`: a path from the root of the hierarchy.

    All containers together get no more than `memory` bytes (None: what the host has).
    """

    def __init__(self, parent: str, memory: int | None = None) -> None:
        if not parent.strip("/") or ".." in parent.split("/"):
            raise ValueError(f"cgroup parent {parent!r} is no path below the root of the hierarchy")
        self._parent = parent.strip("/")
        self._memory = memory
        self._unified = (ROOT / "cgroup.controllers").exists()

    def path(self, id: str, part: Part) -> str:
        """The path inside the hierarchy, as the OCI runtime's `cgroupsPath` wants it."""
        return f"/{self._parent}/{id}/{part}"

    def make_monitor(self, id: str) -> Path:
        """Makes the monitor's group; returns the file that a process writes its pid to in order to enter it.

        Raises CgroupError where the host has none, OSError.
        """
        # What is there else is a plain directory, which limits nothing, or sysfs, which answers as if one had just vanished.
        mount = self._group("pids", "/")
        if not (mount / "cgroup.procs").exists():
            raise CgroupError(f"no control groups are mounted at {mount}")
        directory = self._members(id, "monitor")
        _make(directory)
        # In every hierarchy, because the parent goes with the last container and comes with the next one: from here on a
        # container that is removed meanwhile finds it empty in none, not even before the OCI runtime has made its groups.
        for hierarchy in self._hierarchies():
            _make(hierarchy / self._parent / id)
        if self._memory is not None:
            if self._unified:
                (ROOT / "cgroup.subtree_control").write_text("+memory")
            limit = "memory.max" if self._unified else "memory.limit_in_bytes"
            (self._group("memory", self._parent) / limit).write_text(str(self._memory))
        return directory / "cgroup.procs"

    def processes(self, id: str, part: Part) -> list[int]:
        """Process ids in a group; none where there is no such group."""
        try:
            return [int(line) for line in _text(self._members(id, part) / "cgroup.procs").split()]
        except FileNotFoundError:
            return []

    def oom_kills(self, id: str) -> int:
        """How many processes of the container the kernel has killed for want of memory.

        Kernel: Documentation/admin-guide/cgroup-v2.rst (memory.events), cgroup-v1/memory.rst (memory.oom_control).
        """
        file = "memory.events" if self._unified else "memory.oom_control"
        try:
            return _fields(self._group("memory", self.path(id, "container")) / file).get("oom_kill", 0)
        except FileNotFoundError:
            return 0

    def usage(self, id: str) -> ContainerUsage | None:
        """What the container uses; None where it has no group (yet, or any more).

        Kernel: Documentation/admin-guide/cgroup-v2.rst (cpu.stat, memory.current), cgroup-v1/cpuacct.rst, cgroup-v1/memory.rst.
        """
        counted, held = (self._group(controller, self.path(id, "container")) for controller in ("cpuacct", "memory"))
        try:
            if self._unified:
                cpu = _fields(counted / "cpu.stat")["usage_usec"] / 1e6
                memory = int(_text(held / "memory.current"))
                cache = _fields(held / "memory.stat")["inactive_file"]
            else:
                cpu = int(_text(counted / "cpuacct.usage")) / 1e9
                memory = int(_text(held / "memory.usage_in_bytes"))
                cache = _fields(held / "memory.stat")["total_inactive_file"]
        except FileNotFoundError:
            return None
        return ContainerUsage(cpu, max(0, memory - cache))

    def signal(self, id: str, pid: int, signum: int) -> None:
        """Sends a signal to `pid` if, and only if, it is a process of the container: a pid may have been given away again."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if pid in self.processes(id, "container"):
                signal.pidfd_send_signal(pidfd, signum)
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)

    def kill(self, id: str, *parts: Part) -> None:
        """Kills every process of the groups and returns when they are gone. Raises CgroupError where they do not go in time."""
        deadline = time.monotonic() + _KILL_SECONDS
        while pids := [pid for part in parts for pid in self.processes(id, part)]:
            if time.monotonic() > deadline:
                raise CgroupError(f"processes {pids} of container {id} do not die; see /proc/PID/stack for what holds them")
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.005)

    def remove(self, id: str) -> None:
        """Removes a container's groups, and the parent with the last of them. Raises CgroupError where one stays busy."""
        for hierarchy in self._hierarchies():
            service = hierarchy / self._parent
            for directory in (service / id / "container", service / id / "monitor", service / id):
                _remove(directory)
            try:
                service.rmdir()
            except OSError as fault:
                if fault.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
                    raise

    def _members(self, id: str, part: Part) -> Path:
        return self._group("pids", self.path(id, part))

    def _group(self, controller: str, path: str) -> Path:
        """A group where a controller of version 1 has it; version 2 has one hierarchy for all."""
        return (ROOT if self._unified else ROOT / controller) / path.lstrip("/")

    def _hierarchies(self) -> Iterator[Path]:
        if self._unified:
            yield ROOT
            return
        for hierarchy in ROOT.iterdir():
            if hierarchy.is_dir() and not hierarchy.is_symlink():
                yield hierarchy


def _text(file: Path) -> str:
    """What a group's file says. Raises FileNotFoundError where there is no such group."""
    try:
        return file.read_text()
    except OSError as fault:
        if fault.errno in (errno.ENODEV, errno.ENOTDIR):  # removed between open and read; no group has that name
            raise FileNotFoundError(errno.ENOENT, f"there is no control group {file.parent}") from fault
        raise


def _fields(file: Path) -> dict[str, int]:
    """A group's file of lines `name number`. Raises FileNotFoundError where there is no such group."""
    return {name: int(value) for name, value in (line.split() for line in _text(file).splitlines())}


def _make(directory: Path) -> None:
    """Makes a group and those above it, as often as it takes: any of them may be removed in between as empty.

    Kernel: kernel/cgroup/cgroup.c, cgroup_mkdir (ENODEV below a group that is being removed).
    """
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return
        except OSError as fault:
            vanished = fault.errno == errno.EEXIST and not Path(fault.filename).is_file()
            if not vanished and fault.errno not in (errno.ENOENT, errno.ENODEV):
                raise


def _remove(directory: Path) -> None:
    """rmdir that waits for the kernel: a group stays busy for a moment after its last process was reaped."""
    for _ in range(200):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as fault:
            if fault.errno != errno.EBUSY:
                raise
            time.sleep(0.01)
        else:
            return
    raise CgroupError(f"control group {directory} stays busy; see its cgroup.procs and child groups")
