"""Whether this host runs containers, found out by doing what the runtime and FastFile channels do, without an image."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from phalanx.ipsec import netns
from phalanx.ipsec.probe import Capability, Purpose
from phalanx.runtime import launch, oci
from phalanx.runtime.cgroup import CgroupError, Cgroups
from phalanx.runtime.model import IdRange

_PROGRAMS = ("crun", "conmon", "catatonit", "podman")
_FUSE = "/dev/fuse"
_TIMEOUT = 10.0


def probe(images: Path) -> tuple[Capability, ...]:
    """Try everything, in some tens of milliseconds; needs root. `images` is the image store, which need not be there yet."""
    return (
        _try("container programs", "containers", _programs, f"install {', '.join(_PROGRAMS)}"),
        _try(
            "container roots",
            "containers",
            lambda: _root(images),
            "run as root; the kernel (5.19 or newer) needs CONFIG_USER_NS and CONFIG_OVERLAY_FS, and the image store a file"
            " system with ID-mapped mounts: ext4, xfs or btrfs",
        ),
        _try("control groups", "containers", _cgroup, "mount them at /sys/fs/cgroup, to be written: memory, pids, cpu"),
        _try("FUSE", "FastFile", _fuse, f"install fuse3; {_FUSE} must be there; the kernel needs CONFIG_FUSE_FS"),
    )


def _try(name: str, purpose: Purpose, action: Callable[[], str], remedy: str) -> Capability:
    try:
        return Capability(name, purpose, True, action(), remedy)
    except (OSError, RuntimeError, CgroupError, subprocess.SubprocessError) as error:
        return Capability(name, purpose, False, str(error), remedy)


def _programs() -> str:
    faults, found = [], []
    for name in _PROGRAMS:
        try:
            found.append(_version(name))
        except (OSError, subprocess.SubprocessError) as error:
            faults.append(str(error))
    if faults:
        raise OSError("; ".join(faults))
    return ", ".join(found)


def _version(program: str) -> str:
    """The first line of what a program says of its version. Raises OSError, SubprocessError."""
    command = [program, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": oci.PATH}, timeout=_TIMEOUT, check=False)
    if done.returncode != 0:
        raise OSError(f"{program}: {done.stderr.strip() or f'ended with code {done.returncode}'}")
    return done.stdout.partition("\n")[0]


def _root(images: Path) -> str:
    layer = next(path for path in (images, *images.absolute().parents) if path.is_dir())
    ids = IdRange()
    netns.throwaway(lambda _: launch.rehearse(str(layer), ids.first, ids.count))
    return f"mounted one, of {layer}, with its owners mapped into a user namespace"


def _cgroup() -> str:
    name, groups = str(os.getpid()), Cgroups("phalanx-doctor", 1 << 30)
    try:
        file = groups.make_monitor(name)
        subprocess.run(["sh", "-c", 'echo $$ >"$0"', str(file)], capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    finally:
        groups.remove(name)
    return "made one, with a process in it, and removed it"


def _fuse() -> str:
    version = _version("fusermount3")
    os.close(os.open(_FUSE, os.O_RDWR | os.O_CLOEXEC))
    return version
