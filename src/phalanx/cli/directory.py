"""The data directory of a service, or of a fleet's host: its owner's alone, and one process's at a time."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from pathlib import Path
from typing import NoReturn

import structlog

from phalanx.cli.settings import fail

_FILES = re.compile(
    r"lock(\.\d)?|starting\.lock|(agent|ray|s3)\.log(\.\d+(\.gz)?)?|s3(\.tls)?\.port|s3-authority\.pem|zone"
    r"|(term|credentials|database|(evidence|identity|root)\.key|metrics\.token|endpoints\.json)(\.new)?"
    r"|(evidence|identity|root|metrics|endpoints)\.new|phalanx\.db(-wal|-shm|-journal)?|sagemaker-sdk(-[0-9a-f]+)?\.yaml"
)
_DIRECTORIES = re.compile(r"audit(\.\d)?|certificates|images|incoming|instances|ray|s3|tls")
"""What a data directory holds, the one of a host or of an earlier version too."""

log = structlog.get_logger()


def prepare(data_dir: Path) -> None:
    """Make a data directory that nobody else on this host may look into, as far as it can be: the log says where others may.

    Ends the command with a word where nothing can be kept there.
    """
    try:
        private = make_private(data_dir)
    except OSError as error:
        _cannot_be_used(data_dir, error)
    if not private:
        log.warning("others on this host may look into the data directory: chmod 0700 it", data_dir=str(data_dir))


def lock(data_dir: Path, name: str) -> int | None:
    """A descriptor that has the lock of that name until it is closed; None where another process has it.

    Ends the command with a word where nothing can be kept there.
    """
    try:
        file = os.open(data_dir / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _cannot_be_used(data_dir, error)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def make_private(data_dir: Path) -> bool:
    """Make a data directory into which nobody else on this host may look, or make the one that is there so. Raises OSError.

    False where others may look into it still: it is another user's, is one for all (sticky), or holds what is not the
    service's, to which they may need the way.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = data_dir.stat().st_mode
    if not mode & 0o077:
        return True
    if mode & stat.S_ISVTX or foreign(data_dir):
        return False
    try:
        data_dir.chmod(0o700)
    except PermissionError:
        return False
    return True


def foreign(data_dir: Path) -> list[str]:
    """The names of what is in a data directory and, by name and kind, not of the service. Raises OSError.

    That some of it is the service's tells nothing: so it is after a first start in anybody's directory.
    """
    return [
        path.name
        for path in data_dir.iterdir()
        if path.name != "lost+found" and not (_DIRECTORIES if path.is_dir() else _FILES).fullmatch(path.name)
    ]


def _cannot_be_used(data_dir: Path, error: OSError) -> NoReturn:
    fail(f"Cannot keep data in {data_dir}: {error.strerror}. Choose another: --data-dir DIR")
