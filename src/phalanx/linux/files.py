"""Files that are replaced whole, and the ends of those that grow."""

from __future__ import annotations

import os
from pathlib import Path

_END = 64 << 10
"""Bytes at the end of a log in which its last lines are looked for: logs grow for as long as a service runs."""


def replace(path: Path, content: str | bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put a new file in the place of `path`: whoever is killed meanwhile, what is there is all of the old or all of the new.

    A text is written in UTF-8. The file has `mode`, less the umask, before it holds anything. Where it is `durable`, a loss of
    power changes nothing of this, and when the call returns the new one is there to stay; that costs a wait for the disk, and
    is nothing for what is in memory (tmpfs) or has no use after the host's restart. Of one path there is one writer at a time:
    what is half written lies beside it as NAME.new. Raises OSError.
    """
    partial = path.with_name(f"{path.name}.new")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    partial.replace(path)
    if durable:
        _sync(path.parent)


def tail(log: Path, size: int = _END) -> bytes:
    """The last `size` bytes of a log, or what there is of it. Raises OSError, but not where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()
    except FileNotFoundError:
        return b""


def last_lines(log: Path, count: int = 1) -> list[str]:
    """The last lines of a log, `count` at most, without empty ones at its end. Raises OSError, but not where there is none."""
    return tail(log).decode(errors="replace").rstrip().splitlines()[-count:]


def _sync(directory: Path) -> None:
    """Have the names in a directory lie on the disk, which is not a matter of their files (fsync(2))."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
