"""What describes objects: headers that are kept with them and told with them.

The server behind keeps them in memory, and of the latest 100,000 objects alone. So they are kept here as well, as an extended
attribute of the object's own file, which goes where the file goes: what is written in an object's place is another file.

Of two who write an object at once, the first may be answered when the second's file is there already, and would describe that.
So the attribute is named by the ETag of what was written. The server takes up to 2,000 bytes of descriptions, and ext4 has room
for two of those in the attributes of a file: that of the late one, and the object's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from phalanx.services.s3.backend import BackendError

HEADERS = ("content-type", "content-disposition", "content-language", "cache-control", "expires", "content-encoding")
_OWN = b"x-amz-meta-"
_ATTRIBUTE = "user.phalanx."
"""How an attribute's name begins, which the ETag ends: briefly, since names take of the room too."""
_MADE = f"{_ATTRIBUTE}made"
"""A bucket's."""

_log = structlog.get_logger(__name__)


def describes(name: bytes) -> bool:
    """Whether a header (its name in lower case) is one of those."""
    return name.startswith(_OWN) or name.decode("latin-1") in HEADERS


class Descriptions:
    """Those of the objects whose files are in `buckets`."""

    def __init__(self, buckets: Path) -> None:
        self._buckets = buckets
        self._told = False

    def keep(self, bucket: str, key: str, etag: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep what describes an object that has been written, with this ETag. Raises BackendError where that fails.

        Where the file system has no such attributes the server's memory has to do, which the log then says.
        """
        content = _encoded(headers)
        if not content:
            return
        try:
            os.setxattr(self._buckets / bucket / key, _attribute(etag), content)
        except FileNotFoundError:
            return  # somebody has deleted it
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise BackendError(f"what describes an object cannot be kept: {error}") from error
            if not self._told:
                self._told = True
                _log.warning("the file system keeps no metadata of objects: it is lost when S3 stops", reason=str(error))

    def made(self, bucket: str) -> datetime:
        """When a bucket was made: of its directory the server knows only when something was last written into that. So it is
        kept when it is first asked for, which whoever makes the bucket does. Now, of one that somebody has deleted."""
        directory = self._buckets / bucket
        with contextlib.suppress(OSError, ValueError):
            return datetime.fromisoformat(os.getxattr(directory, _MADE).decode())
        made = datetime.now(UTC)
        with contextlib.suppress(OSError):
            made = datetime.fromtimestamp(int(directory.stat().st_mtime), UTC)
            os.setxattr(directory, _MADE, made.isoformat().encode())
        return made

    def of(self, bucket: str, key: str, etag: bytes) -> list[tuple[bytes, bytes]] | None:
        """The headers that describe the object of this ETag; None where none are kept."""
        try:
            content = os.getxattr(self._buckets / bucket / key, _attribute(etag))
        except OSError:
            return None
        pairs = (line.partition(b":") for line in content.split(b"\n"))
        return [(_OWN + name[1:] if name.startswith(b"+") else name, value) for name, _, value in pairs]


def _attribute(etag: bytes) -> str:
    return _ATTRIBUTE + etag.decode("latin-1").strip('"')


def _encoded(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A line for each that describes; neither names nor values hold ends of lines."""
    lines = []
    for name, value in headers:
        if describes(name):
            lines.append((b"+" + name.removeprefix(_OWN) if name.startswith(_OWN) else name) + b":" + value)
    return b"\n".join(lines)
