"""What containers left in their directories.

They are hostile. Their directories are walked by descriptors, no link is ever followed, and only regular files are read:
nothing of the host can get into what is uploaded.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phalanx.data.objects import DataError

_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a workspace. `folder` is its directory's descriptor, open until the next entry is asked for."""

    path: str
    name: str
    folder: int
    status: os.stat_result


def entries(workspaces: Sequence[Path], folder: str) -> Generator[Entry, None, None]:
    """Files, directories and links below `folder` of all workspaces, parents first; of clashing paths the first host's.

    Raises DataError where the files claim more bytes than their disk has: with holes in them, a container could make us
    read zeros for years.
    """
    taken: dict[str, bool] = {}
    claimed = 0
    for root in workspaces:
        with ExitStack() as stack:
            directory = descend(root, folder, stack)
            if directory is None:
                continue
            disk = os.fstatvfs(directory)
            for entry in _walk(directory, "", 0):
                claimed += entry.status.st_size if stat.S_ISREG(entry.status.st_mode) else 0
                if claimed > disk.f_blocks * disk.f_frsize:
                    raise DataError(
                        f"ClientError: Data upload failed:files up to {entry.path[:200]} claim more than the disk has"
                    )
                is_folder = stat.S_ISDIR(entry.status.st_mode)
                # What lies under a path that an earlier host has as a link must not appear: unpacking would write through it.
                if any(not taken.get(parent, True) for parent in _parents(entry.path)):
                    continue
                if entry.path not in taken:
                    taken[entry.path] = is_folder
                    yield entry


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def descend(root: Path, folder: str, stack: ExitStack) -> int | None:
    """A descriptor of a directory below `root`, reached through no link; None where it is not there."""
    directory = _open_folder(str(root), None)
    stack.callback(os.close, directory)
    for name in folder.split("/"):
        try:
            directory = _open_folder(name, directory)
        except OSError:
            # The container removed it, or put a link or a file in its place.
            return None
        stack.callback(os.close, directory)
    return directory


def _open_folder(name: str, parent: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _walk(directory: int, path: str, depth: int) -> Iterator[Entry]:
    if depth > _DEPTH:
        raise DataError(f"ClientError: Data upload failed:directories are nested more than {_DEPTH} deep at {path[:200]}")
    for name in sorted(os.listdir(directory)):
        inner = posixpath.join(path, name)
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield Entry(inner, name, directory, status)
            try:
                child = _open_folder(name, directory)
            except OSError:
                # A container that still runs has removed or replaced it.
                continue
            try:
                yield from _walk(child, inner, depth + 1)
            finally:
                os.close(child)
        elif stat.S_ISREG(status.st_mode) or (stat.S_ISLNK(status.st_mode) and _stays_within(inner, name, directory)):
            yield Entry(inner, name, directory, status)


def _stays_within(path: str, name: str, directory: int) -> bool:
    target = os.readlink(name, dir_fd=directory)
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return not target.startswith("/") and resolved != ".." and not resolved.startswith("../")


def open_file(entry: Entry) -> BinaryIO:
    """Open a regular file. Raises DataError where it has become something else since it was listed."""
    file = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=entry.folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise DataError(f"ClientError: Data upload failed:{entry.path} changed during the upload")
    return os.fdopen(file, "rb")
