"""Containers of one service: conmon watches each one and outlives the agent, crun makes it, the kernel says what is there."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phalanx.runtime import launch, oci, processes
from phalanx.runtime.cgroup import Cgroups
from phalanx.runtime.images import ImageRoot, Images
from phalanx.runtime.model import ContainerSpec, ContainerStatus, ContainerUsage, IdRange

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_POLL = 0.02
"""Seconds between two looks at a container that is being waited for."""


class ContainerError(Exception):
    """A container that cannot be started or ended; says why."""


class ProgramError(ContainerError):
    """The image does not have the program that is to run in it: a fault of the job or its image, not of the host."""


class Containers:
    """The containers of one service on this host.

    `rundir` is a directory of the service's own on a tmpfs: ours is `containers` in it, which holds the jobs' environment.
    `logs` is a directory on a disk, `cgroup` the parent of the control groups: a path in the hierarchy such as
    `phalanx-3f2a`; all of them together get `memory` bytes at most. What is known of a container is read from these and the
    kernel, never remembered, so any number of processes, before and after a crash, see the same.
    """

    def __init__(
        self, images: Images, rundir: Path, logs: Path, cgroup: str, ids: IdRange | None = None, memory: int | None = None
    ) -> None:
        self._images = images
        self._rundir = rundir / "containers"
        self._logs = logs
        self._cgroups = Cgroups(cgroup, memory)
        self._ids = ids or IdRange()

    def owner(self) -> tuple[int, int]:
        """The host's uid and gid of the containers' root: /opt/ml must belong to it."""
        return self._ids.first, self._ids.first

    def start(self, spec: ContainerSpec) -> None:
        """Starts a container; returns when its first process runs. Does nothing where it runs, or has run, already.

        Leaves nothing behind where it fails. Raises ProgramError where the image has no such program, ImageError where the
        store has no such image, ContainerError for anything else that the host does not do, and
        ValueError for an id that is not letters, digits, `-` and `_`.
        """
        with self._locked(spec.id, make=True) as lock:
            if self.status(spec.id).state in ("running", "exited"):
                return
            self._clear(spec.id)  # what an interrupted start has left
            try:
                self._launch(spec, lock)
            except BaseException:
                self._discard(spec.id)
                raise

    def status(self, id: str) -> ContainerStatus:
        """What has become of a container, from what is really there.

        It has exited once its monitor has written its exit code. `exit_code` is None if the monitor was killed: the container
        counts as exited then, even if a process of it is left, since nobody will see its end. `out_of_memory` says that the
        kernel killed one of its processes for want of memory and it failed.
        """
        bundle = self._bundle(id)
        if not bundle.is_dir():
            return ContainerStatus("absent")
        watched = bool(self._cgroups.processes(id, "monitor"))
        exit_file = bundle / "exit" / id
        if exit_file.exists():
            code = int(exit_file.read_text())
            return ContainerStatus("exited", code, out_of_memory=code != 0 and self._cgroups.oom_kills(id) > 0)
        state = bundle / "crun" / id
        if not (state / "status").exists() or (state / "exec.fifo").exists():
            return ContainerStatus("created")
        if watched:
            return ContainerStatus("running")
        return ContainerStatus("exited", out_of_memory=self._cgroups.oom_kills(id) > 0)

    def signal(self, id: str, signum: int, *, program: bool = False) -> list[int]:
        """Sends a signal to a container's program or, unless `program`, where that does not handle it, to those of its
        descendants that do; SIGKILL to all processes. Nothing where it does not run.

        Answers with the host's pids of those that it was sent to.
        """
        try:
            first = int((self._bundle(id) / "pid").read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return []
        if program or signum == signal.SIGKILL:
            # Process 1 passes it on to the program; with process 1 itself the kernel kills all of its pid namespace.
            asked = [first]
        else:
            asked = processes.handling(first, self._cgroups.processes(id, "container"), signum)
        for pid in asked:
            self._cgroups.signal(id, pid, signum)
        return asked

    def has(self, id: str, pids: Collection[int]) -> bool:
        """Whether any of these, pids of the host, is a process of a container."""
        return not set(pids).isdisjoint(self._cgroups.processes(_checked(id), "container"))

    def stop(self, id: str, grace: float = 120) -> None:
        """Ends a container as SageMaker does: SIGTERM, and SIGKILL after `grace` seconds. Returns when it has exited.

        One whose start was interrupted is removed. Raises ContainerError if the kernel cannot end it.
        """
        if self.status(id).state == "created":
            with self._locked(id, make=False):  # until whoever is starting it is done, or dead
                if self.status(id).state == "created":
                    self._discard(id)
        self.signal(id, signal.SIGTERM)
        if not self._ends_within(id, grace):
            self.signal(id, signal.SIGKILL)
            if not self._ends_within(id, 30):
                raise ContainerError(f"container {id} does not end by SIGKILL")

    def usage(self, id: str) -> ContainerUsage | None:
        """What a container uses; None where none runs."""
        return self._cgroups.usage(_checked(id))

    def remove(self, id: str) -> None:
        """Removes a container and its log, and ends what is left of it: no process, mount, control group or directory stays.

        Raises CgroupError if a process does not die.
        """
        with self._locked(id, make=False):
            self._discard(id)

    def log_path(self, id: str) -> Path:
        """The log, while the container is there, in CRI form: `<RFC 3339 time, nanoseconds> stdout|stderr F|P <text>` lines."""
        return self._logs / f"{_checked(id)}.log"

    def listing(self) -> list[str]:
        """Ids of the containers that are there, in whatever state."""
        try:
            return sorted(entry.name for entry in self._rundir.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []

    def _bundle(self, id: str) -> Path:
        return self._rundir / _checked(id)

    def _ends_within(self, id: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.status(id).state in ("created", "running"):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    @contextmanager
    def _locked(self, id: str, *, make: bool) -> Iterator[int]:
        """Holds a container's lock, which a launcher holds on when its agent has died. Unless `make`, none is made for it.

        The lock lies in the container's directory and goes with it, so after waiting it may be a deleted one: then again.
        """
        bundle = self._bundle(id)
        while True:
            if make:
                bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                lock = os.open(bundle / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                if make:
                    continue
                yield -1
                return
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.fstat(lock).st_nlink == 0:
                    continue
                yield lock
                return
            finally:
                os.close(lock)

    def _clear(self, id: str) -> None:
        """Ends every process of a container and removes all but its lock."""
        self._cgroups.kill(id, "container", "monitor")
        self._cgroups.remove(id)
        self.log_path(id).unlink(missing_ok=True)
        bundle = self._bundle(id)
        for entry in bundle.iterdir() if bundle.is_dir() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()

    def _discard(self, id: str) -> None:
        """Removes a container altogether. The caller holds its lock."""
        self._clear(id)
        bundle = self._bundle(id)
        (bundle / "lock").unlink(missing_ok=True)
        if bundle.is_dir():
            bundle.rmdir()

    def _launch(self, spec: ContainerSpec, lock: int) -> None:
        bundle = self._bundle(spec.id).resolve()
        image = self._images.layers(spec.image)
        if not oci.command(spec, image):
            raise ProgramError(f"image {spec.image} has no entrypoint and the job gives no command")
        self._logs.mkdir(parents=True, exist_ok=True)
        for part in ("crun", "exit"):
            (bundle / part).mkdir()
        self._skeleton(bundle / "skeleton", spec)
        config = oci.config(
            spec,
            image,
            init=_program("catatonit"),
            stage=launch.STAGE,
            cgroup=self._cgroups.path(spec.id, "container"),
            ids=self._ids,
        )
        (bundle / "config.json").write_text(json.dumps(config))
        (bundle / "plan.json").write_text(json.dumps(self._plan(spec, image, bundle)))
        with open(bundle / "launch.log", "w+") as said:
            launcher = subprocess.run(
                [sys.executable, "-I", "-S", launch.__file__, str(bundle / "plan.json"), str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={"PATH": oci.PATH},
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )
            if launcher.returncode != 0:
                said.seek(0)
                kind = ProgramError if launcher.returncode == launch.NO_PROGRAM else ContainerError
                reason = said.read().strip() or f"the launcher ended with code {launcher.returncode}"
                raise kind(f"container {spec.id} does not start: {reason}")

    def _plan(self, spec: ContainerSpec, image: ImageRoot, bundle: Path) -> dict[str, Any]:
        """What the launcher is told (launch.main); makes the monitor's control group."""
        id, log = spec.id, self.log_path(spec.id).resolve()
        crun = [_program("crun"), "--root", str(bundle / "crun"), "--cgroup-manager", "cgroupfs"]
        return {
            "id": id,
            "bundle": str(bundle),
            "monitor": str(self._cgroups.make_monitor(id)),
            "netns": spec.netns,
            "ids": {"first": self._ids.first, "count": self._ids.count},
            "layers": {str(number): str(layer) for number, layer in enumerate(image.layers)},
            "skeleton": str(bundle / "skeleton"),
            "opt_ml": spec.opt_ml,
            "memory": spec.limits.memory,
            "mounts": {f"mount{number}": source for number, source in enumerate(spec.mounts.values())},
            "needs": [
                str(bundle),
                str(log.parent),
                str(Path(spec.opt_ml).resolve()),
                crun[0],
                _program("catatonit"),
                "/usr/lib",
                *(source for _, source, _ in spec.edits.mounts),
            ],
            "program": oci.command(spec, image)[0],
            "path": oci.environment(spec, image)["PATH"],
            "workdir": image.workdir,
            "crun": crun,
            "conmon": [
                *(_program("conmon"), "--api-version", "1", "--cid", id, "--cuuid", id, "--name", id),
                *("--bundle", str(bundle), "--exit-dir", str(bundle / "exit"), "--full-attach"),
                *("--container-pidfile", str(bundle / "pid"), "--log-path", f"k8s-file:{log}", "--log-level", "error"),
                *("--runtime", crun[0], *(f"--runtime-arg={argument}" for argument in crun[1:])),
            ],
        }

    def _skeleton(self, top: Path, spec: ContainerSpec) -> None:
        """What lies over the image: mount points, and the files that name the instance and its peers."""
        for part in ("dev", "etc", "opt/ml", "proc", "root", "sys", "tmp"):
            (top / part).mkdir(parents=True)
        (top / "etc/hostname").write_text(f"{spec.hostname}\n")
        (top / "etc/hosts").write_text(oci.hosts(spec.hosts))
        # Without a name server, names other than its peers' fail at once, not after a time-out.
        server = "# names come from /etc/hosts" if spec.name_server is None else f"nameserver {spec.name_server}"
        (top / "etc/resolv.conf").write_text(f"{server}\n")
        for parent, directories, files in os.walk(top):
            for name in (".", *directories, *files):
                os.chown(os.path.join(parent, name), *self.owner())


def _program(name: str) -> str:
    """Where a program is. Raises ContainerError where it is not installed."""
    path = shutil.which(name, path=oci.PATH)
    if path is None:
        raise ContainerError(f"containers need {name}, which is not installed: install the Debian package {name}")
    return path


def _checked(id: str) -> str:
    if not _ID.fullmatch(id):
        raise ValueError(f"container id {id!r} is not letters, digits, '-' and '_', up to 128")
    return id
