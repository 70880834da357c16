"""A container's log file in the CRI format that conmon writes: `<RFC 3339 time> <stdout|stderr> <P|F> <text>` a line.

P marks a piece whose line goes on in the next piece of the same stream, F the end of a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

LINE_BYTES = 262_144 - 26
"""Longest line in bytes of UTF-8; what CloudWatch Logs takes as one event (PutLogEvents)."""
_WINDOW = 1 << 20
"""Bytes read of the file at a time; also the longest stretch over which a line may wait for its end."""
_WAIT_MS = 2000
"""Where the container wrote something that much later, a line that has not ended counts as ended (progress bars)."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line; `timestamp` in milliseconds since the epoch."""

    timestamp: int
    text: str


@dataclass(slots=True)
class _Pending:
    """A line that has not ended yet, and when it began."""

    timestamp: int
    content: bytearray = field(default_factory=bytearray)


def read(path: Path, offset: int, limit: int, final: bool = False) -> tuple[list[LogLine], int]:
    """Lines from byte `offset` on, and the offset to go on from: every line comes exactly once.

    About `limit` lines at most (a few more where the two streams are interleaved). An incomplete last line is left for
    the next call, unless `final`. No lines means that there are none yet: an offset that moved comes with lines, or at the end.
    Empty lines are left out, invalid UTF-8 and NUL replaced, lines over LINE_BYTES split.
    """
    while True:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                window = file.read(_WINDOW)
                status = os.fstat(file.fileno())
        except FileNotFoundError:
            return [], offset
        at_end = offset + len(window) >= status.st_size
        lines, used = _parse(window, limit, final and at_end, int(status.st_mtime * 1000))
        offset += used
        if lines or used == 0 or at_end:
            return lines, offset


def _parse(window: bytes, limit: int, final: bool, now: int) -> tuple[list[LogLine], int]:
    """Lines of a stretch of the file, and the bytes they took: up to a point where no line is half read."""
    lines: list[LogLine] = []
    pending: dict[bytes, _Pending] = {}
    complete, used, position = 0, 0, 0
    for record, start, position in _records(window, final):
        now, stream, ends, text = _fields(record, now)
        for other in [name for name, line in pending.items() if now - line.timestamp >= _WAIT_MS]:
            _close(pending.pop(other), lines)
        if not pending:
            complete, used = len(lines), start
        line = pending.setdefault(stream, _Pending(now))
        line.content += text
        if ends or len(line.content) >= LINE_BYTES:
            _close(pending.pop(stream), lines)
        if not pending:
            complete, used = len(lines), position
            if complete >= limit:
                break
    if pending and (final or (used == 0 and len(window) == _WINDOW)):
        for line in pending.values():
            _close(line, lines)
        complete, used = len(lines), position
    return lines[:complete], used


def _records(window: bytes, final: bool) -> Iterator[tuple[bytes, int, int]]:
    """Records of a stretch, each with its start and end. A rest without newline is one only if it cannot grow."""
    position = 0
    while (end := window.find(b"\n", position)) >= 0:
        yield window[position:end], position, end + 1
        position = end + 1
    if position < len(window) and (final or (position == 0 and len(window) == _WINDOW)):
        yield window[position:], position, len(window)


def _fields(record: bytes, before: int) -> tuple[int, bytes, bool, bytes]:
    """Time, stream, whether the line ends, and text. A record that is none (torn by a crash) is text of the time before it."""
    parts = record.split(b" ", 3)
    if len(parts) == 4 and parts[1] in (b"stdout", b"stderr"):
        try:
            # Python keeps microseconds and drops the digits after them.
            when = datetime.fromisoformat(parts[0].decode("ascii"))
        except ValueError:
            pass
        else:
            # Tags after the first, set off by colons, are for later versions of the format.
            return int(when.timestamp() * 1000), parts[1], parts[2].split(b":")[0] != b"P", parts[3]
    return before, b"", True, record


def _close(line: _Pending, lines: list[LogLine]) -> None:
    content = bytes(line.content).removesuffix(b"\r")
    while content:
        end = len(content)
        if end > LINE_BYTES:
            # Back to the first byte of a character, so that none is cut in two.
            end = LINE_BYTES
            while end > LINE_BYTES - 4 and content[end] & 0xC0 == 0x80:
                end -= 1
        lines.append(LogLine(line.timestamp, content[:end].decode(errors="replace").replace("\0", "\ufffd")))
        content = content[end:]
