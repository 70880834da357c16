"""The process that fills an instance's pipes: `python -m phalanx.data.feeder FEED`, with a file that holds a `Feed`.

A reader takes the end of the last writer for the end of the epoch. So this process never ends by itself: what goes wrong it
writes down, and holds the pipe open until the job is taken down for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import stat
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter

from phalanx.data import tree
from phalanx.data.model import Channel, Feed
from phalanx.data.objects import DataError
from phalanx.data.stream import Stream

_BUFFER = 1 << 18
"""Bytes that are written at a time, where there are as many."""
_PIPE = 1 << 20
"""Bytes that the kernel holds for a reader."""
_FOLDER = "input/data"


class _Replaced(DataError):
    """The container put something else in the place of a pipe."""


def main(path: Path) -> None:
    """Fill the pipes of all channels, each in a thread of its own, for ever."""
    feed: Feed = TypeAdapter(Feed).validate_json(path.read_bytes())
    with contextlib.ExitStack() as stack:
        folder = tree.descend(Path(feed.opt_ml), _FOLDER, stack)
        if folder is None:
            sys.exit(f"/opt/ml/{_FOLDER} is no directory any more")
        for channel in feed.channels:
            threading.Thread(target=_guarded, args=(feed, channel, folder), name=channel.name, daemon=True).start()
        # Its end would end the threads' own ones.
        threading.Event().wait()


def _guarded(feed: Feed, channel: Channel, folder: int) -> None:
    held: list[int] = []
    try:
        _fill(feed, channel, folder, held)
    except DataError as error:
        reason = str(error)
    except Exception as error:
        reason = f"InternalServerError: Data download failed:{type(error).__name__}: {error}"
    try:
        draft = Path(f"{feed.error}.{channel.name}")
        draft.write_text(reason)
        # The first reason stands.
        with contextlib.suppress(FileExistsError):
            os.link(draft, feed.error)
    except OSError:
        # Its end is an error that is seen too.
        os._exit(1)
    threading.Event().wait()


def _fill(feed: Feed, channel: Channel, folder: int, held: list[int]) -> None:
    """One epoch after another. What is in `held` stays open when this raises."""
    stream = Stream(feed.store, channel)
    following = make(folder, f"{channel.name}_0", feed.owner)
    for epoch in itertools.count():
        name, fifo = f"{channel.name}_{epoch}", following
        # Blocks until the container opens it. By the descriptor: whatever the container makes of the name, it is this FIFO.
        writer = os.open(f"/proc/self/fd/{fifo}", os.O_WRONLY | os.O_CLOEXEC)
        held.append(writer)
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
        following = make(folder, f"{channel.name}_{epoch + 1}", feed.owner)
        # A reader may end an epoch early.
        with contextlib.suppress(BrokenPipeError):
            _send(writer, stream.epoch(epoch))
        # An epoch is read once: who looks for it again finds nothing, instead of waiting for ever.
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        held.clear()
        os.close(writer)
        os.close(fifo)


def make(folder: int, name: str, owner: tuple[int, int]) -> int:
    """A descriptor (O_PATH) of the FIFO of that name, which is made where it is missing and belongs to `owner`."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(name, 0o600, dir_fd=folder)
    fifo = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
        os.close(fifo)
        raise _Replaced(f"ClientError: Data download failed:/opt/ml/{_FOLDER}/{name} is no pipe any more")
    os.chown(f"/proc/self/fd/{fifo}", *owner)
    return fifo


def _send(writer: int, pieces: Iterable[bytes]) -> None:
    pending = bytearray()
    for piece in pieces:
        pending += piece
        if len(pending) >= _BUFFER:
            _write(writer, pending)
            pending.clear()
    _write(writer, pending)


def _write(writer: int, content: bytearray) -> None:
    with memoryview(content) as view:
        sent = 0
        while sent < len(view):
            sent += os.write(writer, view[sent:])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
