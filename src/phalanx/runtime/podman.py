"""podman on a store of images at a place of its own: its environment, and how its and other programs' faults are told."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTAINERS_CONF = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
static_dir = "{runroot}/static"
tmp_dir = "{runroot}/libpod"
volume_path = "{runroot}/volumes"
"""
_STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{root}"
runroot = "{runroot}/storage"
"""


class ImageError(Exception):
    """An image that is not there, or cannot be built or fetched; says why and what to do."""


class Podman:
    """podman with the store at `root` (on a disk), which services may share; `runroot` is its state on a tmpfs."""

    def __init__(self, root: Path, runroot: Path) -> None:
        self.root = root.absolute()
        self._runroot = runroot.absolute()

    def run(self, *arguments: str, lock: int | None = None) -> str:
        """Runs `podman ARGUMENTS`; returns what it prints. Raises ImageError. `lock`: see `run`."""
        return run(["podman", *arguments], self.environment(), lock)

    def environment(self) -> dict[str, str]:
        """podman's environment: configuration of its own, so that the machine's and the user's play no part.

        By files, because with --root podman keeps its database in the store, where it insists on one runroot for all.
        """
        for name, template in (("containers.conf", _CONTAINERS_CONF), ("storage.conf", _STORAGE_CONF)):
            file, text = self._runroot / name, template.format(root=self.root, runroot=self._runroot)
            if not file.exists() or file.read_text() != text:
                self._runroot.mkdir(parents=True, exist_ok=True)
                new = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
                new.write_text(text)
                new.replace(file)
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self._runroot / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._runroot / "storage.conf"),
        }


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None, lock: int | None = None) -> str:
    """Runs a program to its end; returns what it prints. It inherits the descriptor `lock`, which outlives a kill of ours so.

    Raises ImageError with the end of what the program complained of.
    """
    try:
        result = subprocess.run(
            list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            pass_fds=() if lock is None else (lock,),
            check=False,
        )
    except FileNotFoundError as fault:
        raise ImageError(f"images need {arguments[0]}, which is not installed") from fault
    if result.returncode != 0:
        said = "\n".join(result.stderr.strip().splitlines()[-12:])
        raise ImageError(f"{' '.join(arguments[:3])} … ended with code {result.returncode}:\n{said}")
    return result.stdout
