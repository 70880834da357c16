"""An instance's volume: a file system of its own, as large as the job's VolumeSizeInGB, in a sparse file on the host's disk.

What a container writes to /opt/ml, bytes and files, ends at the volume's size; other instances and the host lose nothing by it.
See docs/decisions/0022-a-volume-is-a-file.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from phalanx.ipsec.probe import Capability

_OPTIONS = "loop,nosuid,nodev,noatime,barrier=0,errors=remount-ro"
"""Barriers are for what must outlive the host's fall, and a volume does not."""
_FORMAT = (
    *("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode"),
    # The file reads as zeros where nothing was written: no table needs to be written out.
    *("-E", "nodiscard,lazy_itable_init=1,assume_storage_prezeroed=1"),
)
_libc = ctypes.CDLL(None, use_errno=True)


class VolumeError(Exception):
    """The volume cannot be made, or has lost what was written to it; the text says why."""


class Volume:
    """The volume of `size` bytes in an instance's directory. What is there is found by what is mounted, never by memory."""

    def __init__(self, directory: Path, size: int) -> None:
        self._image = directory / "volume.ext4"
        self._directory = directory
        self._size = size
        self.path = directory / "volume"
        """Where it is mounted."""

    def mount(self) -> None:
        """Make the volume and mount it, unless it is. Raises VolumeError."""
        with self._locked() as lock:
            if self.path.is_mount():
                return
            if not self._image.exists():
                draft = self._image.with_suffix(".new")
                draft.unlink(missing_ok=True)
                _run(lock, *_FORMAT, str(draft), f"{self._size >> 10}k")
                draft.rename(self._image)
            self.path.mkdir(exist_ok=True)
            # The loop device goes with its mount (autoclear): nothing else is left to be taken down.
            _run(lock, "mount", "-t", "ext4", "-o", _OPTIONS, str(self._image), str(self.path))

    def settle(self) -> None:
        """Have all that was written lie in the volume's file. Raises VolumeError where the host's disk could not take it.

        Writing succeeds into memory first. Whether it came further shows here: syncfs(2) tells of every write that failed.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc.syncfs(descriptor) != 0:
                reason = os.strerror(ctypes.get_errno())
                raise VolumeError(f"the host's disk has not taken all that was written to /opt/ml ({reason}): is it full?")
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """One maker at a time, also after its agent died: the programs that it started hold the lock as well."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._directory / "volume.held", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)


def probe() -> Capability:
    """Whether this host makes volumes, found out by making one."""
    with tempfile.TemporaryDirectory(prefix="phalanx-") as directory:
        volume = Volume(Path(directory), 8 << 20)
        try:
            volume.mount()
        except (VolumeError, OSError) as error:
            return Capability(
                "volumes", "volume", False, str(error), "install e2fsprogs; the kernel needs loop devices and ext4"
            )
        subprocess.run(["umount", str(volume.path)], check=True)
    return Capability("volumes", "volume", True, "made one, an ext4 file system in a file", "")


def _run(lock: int, *command: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=(lock,), env=environment)
    except FileNotFoundError as error:
        raise VolumeError(f"{command[0]} is missing: install e2fsprogs and mount") from error
    if done.returncode != 0:
        raise VolumeError(
            f"an instance's volume cannot be made: {done.stderr.strip() or command[0]}; it takes loop devices and ext4 in the"
            " kernel, and room on the host's disk (`phalanx doctor` tries)"
        )
