"""Checkpoints of a training job: from S3 into an instance before its container starts, and back to S3 while it trains.

All instances of a job share one prefix, as in SageMaker: names must differ between hosts. What an instance has not changed
itself it neither uploads nor deletes.
"""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from phalanx.data import channels, tree
from phalanx.data.model import Channel, Checkpoints, ObjectStore
from phalanx.data.objects import Cancelled, Readable, client, failure, list_objects, parse_uri, put
from phalanx.linux import files

FOLDER = "checkpoints"
"""Where they lie below /opt/ml."""
_WHAT = "Checkpoint upload failed"
_NAMES = "surrogateescape"
"""How names that are not UTF-8 are kept, at their own length."""

_Known = dict[str, list[int] | None]
"""Size in bytes and mtime in ns of each file as S3 has it, by its path; None where an upload began and may not have ended."""


class Withheld(Exception):
    """The job may have begun again elsewhere, and write its checkpoints from there."""


class Sync:
    """The checkpoints of one instance. `memory` is a file of the platform's, with which a later agent goes on.

    `mine` says whether they are this instance's to write, still.
    """

    def __init__(
        self, store: ObjectStore, checkpoints: Checkpoints, opt_ml: Path, memory: Path, mine: Callable[[], bool] = lambda: True
    ) -> None:
        self._store = store
        self._uri = checkpoints.uri.rstrip("/") + "/"
        self._key = checkpoints.key
        self._opt_ml = opt_ml
        self._memory = memory
        self._mine = mine

    def restore(self, owner: tuple[int, int], cancelled: Callable[[], bool]) -> None:
        """Download what lies under the prefix; the files belong to `owner` (uid, gid). Raises DataError, Cancelled."""
        folder = self._opt_ml / FOLDER
        if list_objects(self._store, self._uri):
            channels.download(self._store, Channel(FOLDER, self._uri), folder, owner, cancelled)
        self._remember(self._found())

    def push(self, cancelled: Callable[[], bool]) -> None:
        """Upload what is new or changed since the last time, and delete from S3 what is gone.

        Raises DataError, Withheld, and Cancelled once `cancelled()` is true: the next time does it all.
        """

        def go_on() -> None:
            if cancelled():
                raise Cancelled("the upload of checkpoints was ended")
            if not self._mine():
                raise Withheld

        known, found = self._recall(), self._found()
        changed = {path for path in found if known.get(path) != found[path]}
        gone = [path for path in known if path not in found]
        if not changed and not gone:
            return
        # Written before the first upload: after a crash in between, what was uploaded is still known to be ours.
        self._remember({**known, **dict.fromkeys(changed)})
        s3 = client(self._store)
        bucket, prefix = parse_uri(self._uri)
        uploaded = set()

        def delete(paths: Iterable[str]) -> None:
            try:
                for path in paths:
                    go_on()
                    s3.delete_object(Bucket=bucket, Key=prefix + tree.text(path))
            except (ClientError, BotoCoreError) as error:
                raise failure(_WHAT, self._uri, error) from error

        # Before anything is uploaded: an S3 whose objects are files cannot have a file where a directory is to be.
        folders = {folder for path in found for folder in tree.parents(path)}
        first = {path for path in gone if path in folders or any(folder in found for folder in tree.parents(path))}
        delete(path for path in gone if path in first)
        for entry in self._files():
            if entry.path in changed:
                # One that is gone by now is deleted next time.
                with contextlib.suppress(FileNotFoundError), tree.open_file(entry) as file:
                    put(s3, bucket, prefix + tree.text(entry.path), _Until(go_on, file), _WHAT, self._key, file.size)
                    uploaded.add(entry.path)
        delete(path for path in gone if path not in first)
        kept = {path: value for path, value in known.items() if path in found}
        # The state from before the upload: a file that was written to meanwhile differs from it next time.
        self._remember({**kept, **{path: found[path] for path in uploaded}})

    def _found(self) -> _Known:
        return {entry.path: [entry.status.st_size, entry.status.st_mtime_ns] for entry in self._files()}

    def _files(self) -> Iterator[tree.Entry]:
        return (entry for entry in tree.entries([self._opt_ml], FOLDER) if stat.S_ISREG(entry.status.st_mode))

    def _recall(self) -> _Known:
        known: _Known = json.loads(self._memory.read_text("utf-8", _NAMES)) if self._memory.exists() else {}
        return known

    def _remember(self, known: _Known) -> None:
        # The instance does not outlive the host's restart, so nothing waits for the disk.
        files.replace(self._memory, json.dumps(known, ensure_ascii=False).encode("utf-8", _NAMES), durable=False)


class _Until:
    """What a file holds, for as long as `go_on` raises nothing."""

    def __init__(self, go_on: Callable[[], None], content: Readable) -> None:
        self._go_on = go_on
        self._content = content

    def read(self, size: int = -1) -> bytes:
        self._go_on()
        return self._content.read(size)
