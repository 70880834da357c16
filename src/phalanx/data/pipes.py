"""An instance's pipes (Pipe mode): the process that fills them, from outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import TypeAdapter

from phalanx.data.model import Channel, Feed, ObjectStore
from phalanx.data.process import Process, ProcessError, last_words

LOCK = "feeder.lock"


class Pipes:
    """The channels in Pipe mode of one instance. `directory` is the instance's on the disk, `secrets` one on a tmpfs."""

    def __init__(self, directory: Path, secrets: Path) -> None:
        self._directory = directory
        self._secrets = secrets
        self._process = Process(directory / LOCK)

    def start(self, store: ObjectStore, channels: tuple[Channel, ...], opt_ml: Path, owner: tuple[int, int]) -> None:
        """Begin to fill the pipes, unless that has begun. Raises ProcessError."""
        if self._process.alive():
            return
        feed = Feed(store, channels, str(opt_ml), owner, str(self._error))
        # It holds the store's key.
        file = self._secrets / "feed.json"
        file.touch(mode=0o600)
        file.write_bytes(TypeAdapter(Feed).dump_json(feed))
        command = [sys.executable, "-m", "phalanx.data.feeder", str(file)]
        self._process.start(command, os.environ, self._directory, self._log)

    def fault(self) -> str | None:
        """A FailureReason where the container does not get, or has not got, all its data; None while all is well."""
        if self._error.exists():
            return self._error.read_text()
        try:
            alive = self._process.alive()
        except ProcessError as error:
            return f"InternalServerError: {error}"
        if alive:
            return None
        return (
            "InternalServerError: The process that fills the pipes of the job's channels ended; the container may have taken"
            f" that for the end of its data. It said: {last_words(self._log)}"
        )

    @property
    def _error(self) -> Path:
        return self._directory / "feeder.error"

    @property
    def _log(self) -> Path:
        return self._directory / "feeder.log"
