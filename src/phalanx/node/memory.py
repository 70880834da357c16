"""The service's directory in memory, where keys lie: none of it may get to a disk by way of the host's swap."""

from __future__ import annotations

import subprocess
from pathlib import Path

from phalanx.ipsec.probe import Capability

_MOUNT = ("mount", "-t", "tmpfs", "-o")
_OPTIONS = "mode=0700,nosuid,nodev,noexec,size=512m"
_SWAPS = Path("/proc/swaps")
_UNITS = Path("/sys/fs/cgroup/system.slice")


def mount(directory: Path) -> None:
    """Make the directory a tmpfs of its own, without swap where the kernel can do that (`noswap`, Linux 6.4).

    One that is mounted stays as it is. Raises CalledProcessError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.is_mount():
        return
    target = ("phalanx", str(directory))
    if subprocess.run([*_MOUNT, f"{_OPTIONS},noswap", *target], capture_output=True, check=False).returncode != 0:
        subprocess.run([*_MOUNT, _OPTIONS, *target], check=True)


def unmount(directory: Path) -> None:
    """Remove the directory and all in it. Raises CalledProcessError, OSError."""
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
    directory.rmdir()


def probe() -> Capability:
    """Whether what holds keys, files and processes, stays out of a swap of this host's.

    The tmpfs alone does not tell: IKE daemons and engines have keys too. They are their unit's, where a unit runs the service.
    """
    name, remedy = "keys in memory", "swapoff --all, or run the service by its systemd unit, which has MemorySwapMax=0"
    # A kernel without CONFIG_SWAP has no such file.
    swaps = [line.split()[0] for line in _SWAPS.read_text().splitlines()[1:]] if _SWAPS.exists() else []
    if not swaps:
        return Capability(name, "keys", True, "this host has no swap", remedy)
    for unit in ("phalanx.service", "phalanx-host.service"):
        limit = _UNITS / unit / "memory.swap.max"
        if limit.exists() and limit.read_text() == "0\n":
            return Capability(name, "keys", True, f"{unit} has no swap", remedy)
    return Capability(name, "keys", False, f"what has keys may get to {', '.join(swaps)}", remedy)
