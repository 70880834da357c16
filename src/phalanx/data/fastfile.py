"""Channels in FastFile mode: an S3 prefix as a read-only directory whose files are read from S3 when they are read.

rclone mounts it through FUSE in the host's mount namespace; the launcher binds it into the container. See
docs/decisions/0013-fastfile-by-rclone.md.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from phalanx.data import sources
from phalanx.data.model import Channel, ObjectStore
from phalanx.data.objects import DataError, client, get
from phalanx.data.process import Process, ProcessError, last_words
from phalanx.data.server import rclone
from phalanx.data.sources import WHAT

_FOLDER = "fast"
_READY_SECONDS = 30.0


class FastFile:
    """One channel of one instance, mounted below the instance's `directory`."""

    def __init__(self, directory: Path, channel: Channel) -> None:
        self.channel = channel
        self._base = directory / _FOLDER
        self._process = Process(self._base / f"{channel.name}.lock")

    @property
    def path(self) -> Path:
        """Where it is mounted on the host."""
        return self._base / channel_folder(self.channel)

    def mount(self, store: ObjectStore, owner: tuple[int, int]) -> None:
        """Mount the channel with files of `owner` (uid, gid), unless it is. Raises DataError, ProcessError."""
        if self._process.alive() and self.path.is_mount():
            return
        self._process.stop()
        _unmount(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        bucket, prefix, found = sources.objects(store, self.channel)
        folder = prefix if prefix.endswith("/") or not prefix else prefix + "/"
        if any(not entry.key.startswith(folder) for entry in found):
            raise DataError(
                f'ClientError: {WHAT}:The S3Uri "{self.channel.uri}" of the FastFile channel "{self.channel.name}" is a part'
                " of a name. Give a whole folder, with a / at its end."
            )
        # Before the job reads ciphertext: looked at where there are keys at all, and at one object for all.
        if store.keys and get(client(store), bucket, found[0].key, store.keys, WHAT).sealed:
            raise DataError(
                f"ClientError: {WHAT}:s3://{bucket}/{found[0].key} is encrypted under a KMS key, and FastFile shows objects as"
                " they lie in S3. Use File or Pipe mode."
            )
        files: list[str] = []
        if self.channel.distribution == "ShardedByS3Key":
            mine = sources.share(found, self.channel, 0)
            listing = self._base / f"{self.channel.name}.files"
            listing.write_bytes(b"".join(entry.key[len(folder) :].encode() + b"\0" for entry in mine))
            files = ["--files-from0", str(listing)]
        log = self._base / f"{self.channel.name}.log"
        self._process.start(
            [*_command(f":s3:{bucket}/{folder}", self.path, owner), *files], _environment(store), self._base, log
        )
        deadline = time.monotonic() + _READY_SECONDS
        while not self.path.is_mount():
            if not self._process.alive() or time.monotonic() > deadline:
                self._process.stop()
                raise ProcessError(f"the channel {self.channel.name} cannot be mounted; rclone says: {last_words(log)}")
            time.sleep(0.005)

    def fault(self) -> str | None:
        """A FailureReason where the directory is gone; None while it stands."""
        try:
            alive = self._process.alive()
        except ProcessError as error:
            return f"InternalServerError: {error}"
        if alive:
            return None
        return f"InternalServerError: The file system of the FastFile channel {self.channel.name} ended while the job ran."


def channel_folder(channel: Channel) -> str:
    """The name of a channel's mount point."""
    return f"{channel.name}.mount"


def release(directory: Path) -> None:
    """End every helper process of an instance, and unmount what is mounted below its directory. Raises ProcessError.

    Nothing needs to be remembered for that: locks and mounts say what there is.
    """
    for lock in (*directory.glob("*.lock"), *directory.glob(f"{_FOLDER}/*.lock")):
        Process(lock).stop()
    for path in _mounts(directory):
        _unmount(path)


def _command(remote: str, at: Path, owner: tuple[int, int]) -> list[str]:
    command = [str(rclone()), "mount", remote, str(at), "--config=", "--read-only", "--allow-other"]
    command += [f"--uid={owner[0]}", f"--gid={owner[1]}", "--file-perms=0444", "--dir-perms=0555", "--umask=0"]
    # The listing stands for the job's life; the times of objects are those of the listing, without a request for each.
    command += ["--use-server-modtime", "--dir-cache-time=8760h", "--poll-interval=0", "--attr-timeout=1h"]
    command += ["--vfs-cache-mode=off", "--vfs-read-chunk-size=8M", "--buffer-size=4M", "--log-level=NOTICE"]
    if os.environ.get("AWS_CA_BUNDLE"):
        command += [f"--ca-cert={os.environ['AWS_CA_BUNDLE']}"]
    return command


def _environment(store: ObjectStore) -> dict[str, str]:
    """The store's key is passed where only root can read it."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/nonexistent",
        "RCLONE_S3_PROVIDER": "AWS" if store.endpoint is None else "Other",
        "RCLONE_S3_REGION": store.region,
        "RCLONE_S3_ACCESS_KEY_ID": store.access_key,
        "RCLONE_S3_SECRET_ACCESS_KEY": store.secret_key,
        **({"RCLONE_S3_SESSION_TOKEN": store.token} if store.token else {}),
        **({"RCLONE_S3_ENDPOINT": store.endpoint} if store.endpoint else {}),
    }


def _mounts(directory: Path) -> Iterator[Path]:
    """What is mounted below a directory, innermost first (proc_pid_mountinfo(5))."""
    points = []
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            points.append(Path(os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1"))))
    below = os.path.realpath(directory)
    yield from (point for point in reversed(points) if str(point).startswith(f"{below}/"))


def _unmount(path: Path) -> None:
    # Lazily: it may be that its server is dead, and that somebody still stands in it.
    subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)
