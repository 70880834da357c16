"""A parcel: what an instance's container left, as one file, for the host that uploads the artifacts of the whole job.

Its content is hostile, as containers are: it is packed and unpacked by descriptors, and no link is ever followed.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
from contextlib import ExitStack, closing
from pathlib import Path

from phalanx.data import tree

FOLDERS = ("model", "output/data")
"""What of /opt/ml a job's artifacts are made of."""


def pack(workspace: Path, file: Path) -> None:
    """Write what lies in the workspace's FOLDERS to a file. Raises DataError."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder in FOLDERS:
            with closing(tree.entries([workspace], folder)) as entries:
                for entry in entries:
                    add(tar, entry, f"{folder}/{entry.path}")


def unpack(file: Path, workspace: Path) -> None:
    """Make the directory `workspace` of a parcel, in place of what was there. Raises OSError, tarfile.TarError."""
    shutil.rmtree(workspace, ignore_errors=True)
    for folder in FOLDERS:
        (workspace / folder).mkdir(mode=0o700, parents=True)
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            with ExitStack() as stack:
                folder, name = posixpath.split(member.name)
                inside = not {"", "..", "."}.intersection(member.name.split("/"))
                at = tree.descend(workspace, folder, stack) if inside else None
                if at is None:
                    raise OSError(f"a parcel holds {member.name[:200]}, which has no place in it")
                _make(tar, member, name, at)


def add(tar: tarfile.TarFile, entry: tree.Entry, path: str) -> None:
    """Add a file, directory or link to an archive, without owner or set-uid bits. Raises DataError."""
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(entry.status.st_mode) & 0o777
    info.mtime = int(entry.status.st_mtime)
    if stat.S_ISDIR(entry.status.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(entry.status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.name, dir_fd=entry.folder)
        tar.addfile(info)
    else:
        with tree.open_file(entry) as source:
            info.size = source.size
            tar.addfile(info, source)


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, at: int) -> None:
    if member.isdir():
        os.mkdir(name, 0o700, dir_fd=at)
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=at)
    elif (content := tar.extractfile(member)) is not None:
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)
        with os.fdopen(made, "wb") as target:
            shutil.copyfileobj(content, target, 1 << 20)
            os.fchmod(target.fileno(), member.mode)
    os.utime(name, (member.mtime, member.mtime), dir_fd=at, follow_symlinks=False)
