"""What containers left in their directories.

They are hostile. Their directories are walked by descriptors, no link is ever followed, and only regular files are read:
nothing of the host can get into what is uploaded.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from phalanx.data.objects import DataError

_DEPTH = 64
_LONGEST = 1024
"""Bytes of a path: S3 has no longer keys."""
NAMES_BYTES = 64 << 20
"""What all paths of an upload may take together, each with _ENTRY_BYTES more: they are held in memory, and a volume has room
for far more, of files that are empty."""
_ENTRY_BYTES = 128


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
    read zeros for years; and where paths are too long, or too many.
    """
    taken: dict[str, bool] = {}
    names = _Names()
    for root in workspaces:
        claimed = 0
        with ExitStack() as stack:
            directory = descend(root, folder, stack)
            if directory is None:
                continue
            disk = os.fstatvfs(directory)
            for entry in _walk(directory, "", 0, names):
                claimed += entry.status.st_size if stat.S_ISREG(entry.status.st_mode) else 0
                if claimed > disk.f_blocks * disk.f_frsize:
                    raise DataError(
                        f"ClientError: Data upload failed:files up to {text(entry.path)[:200]} claim more than the disk has"
                    )
                is_folder = stat.S_ISDIR(entry.status.st_mode)
                # What lies under a path that an earlier host has as a link must not appear: unpacking would write through it.
                if any(not taken.get(parent, True) for parent in parents(entry.path)):
                    continue
                if entry.path not in taken:
                    taken[entry.path] = is_folder
                    yield entry


def parents(path: str) -> Iterator[str]:
    """The directories that a path lies in, the innermost first."""
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


class _Names:
    """Counts the paths of an upload."""

    def __init__(self) -> None:
        self._left = NAMES_BYTES

    def take(self, path: str) -> None:
        """Raises DataError where a path is too long, or one too many."""
        size = len(os.fsencode(path))
        self._left -= size + _ENTRY_BYTES
        if size > _LONGEST:
            raise DataError(f"ClientError: Data upload failed:a path is longer than {_LONGEST} bytes: {text(path)[:200]}…")
        if self._left < 0:
            raise DataError(f"ClientError: Data upload failed:there are too many files, up to {text(path)[:200]}")


def _walk(directory: int, path: str, depth: int, names: _Names) -> Iterator[Entry]:
    if depth > _DEPTH:
        raise DataError(f"ClientError: Data upload failed:directories are nested more than {_DEPTH} deep at {text(path)[:200]}")
    for name in _listed(directory, path, names):
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
                yield from _walk(child, inner, depth + 1, names)
            finally:
                os.close(child)
        elif stat.S_ISREG(status.st_mode) or (stat.S_ISLNK(status.st_mode) and _stays_within(name, directory, depth)):
            yield Entry(inner, name, directory, status)


def _listed(directory: int, path: str, names: _Names) -> list[str]:
    found = []
    with os.scandir(directory) as listing:
        for each in listing:
            names.take(posixpath.join(path, each.name))
            found.append(each.name)
    return sorted(found)


def _stays_within(name: str, directory: int, depth: int) -> bool:
    """Whether a link leads nowhere outside, though other links that are kept lie on its way.

    It climbs at its beginning only, where it is in real directories, and not beyond the first. A `..` after a name, which may
    be another link's, climbs from wherever that leads.
    """
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        # A container that still runs has removed it, or put something else in its place.
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = parts.count("..")
    return not target.startswith("/") and climbs <= depth and ".." not in parts[climbs:]


class Content:
    """What a regular file holds, up to the size that it had when it was listed: it may grow for as long as it is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        """Bytes that reading gives at most: a file may also become shorter."""
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all where `size` is negative."""
        content = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def open_file(entry: Entry) -> Content:
    """Open a regular file. Raises DataError where it has become something else since it was listed."""
    file = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=entry.folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise DataError(f"ClientError: Data upload failed:{text(entry.path)} changed during the upload")
    return Content(os.fdopen(file, "rb"), entry.status.st_size)


def text(path: str) -> str:
    """A path as a key, or in a message: those that are not UTF-8 cannot be either."""
    return os.fsencode(path).decode(errors="replace")
