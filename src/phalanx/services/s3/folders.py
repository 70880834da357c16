"""The folders behind the keys: the server's objects are files, so no object's key can be a folder of another's.

rclone does not see to that. Asked to write `a/b` where `a` is an object, or `a` where `a/b` is one, it fails and no longer
finds what is there; asked to delete `a/b`, it takes `a` for a folder that has become empty, and deletes it. An upload that
fails leaves its folders behind, and one that has begun loses them when the last object in them is deleted. So the server is
only asked for what can be, and one thing at a time.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from phalanx.services.s3.backend import Backend
from phalanx.services.s3.request import target
from phalanx.wire.errors import AwsError

_NOBODY = "-"
"""A key in a folder without objects, which so is none's."""


class Folders:
    """The folders of the server `backend`, whose buckets are the directories in `buckets`."""

    def __init__(self, backend: Backend, buckets: Path) -> None:
        self._backend = backend
        self._buckets = buckets
        self._held: dict[str, Counter[str]] = {}
        self._alone: set[tuple[str, str]] = set()
        self._making = asyncio.Lock()

    @contextmanager
    def held(self, bucket: str, keys: Iterable[str], alone: bool = False) -> Iterator[None]:
        """While this lasts, nobody else changes objects above or below these keys, and where it is `alone`, nor these objects.

        Raises AwsError where somebody does.
        """
        mine = frozenset(keys)
        held = self._held.setdefault(bucket, Counter())
        if any(above in held for key in mine for above in _above(key)) or any(
            above in mine for other in held for above in _above(other)
        ):
            raise AwsError(
                "OperationAborted",
                "A conflicting operation is currently in progress against this resource. Please try again.",
                409,
            )
        if any((bucket, key) in self._alone or (alone and key in held) for key in mine):
            raise AwsError(
                "ConditionalRequestConflict",
                "The conditional request cannot succeed due to a conflicting operation against this resource.",
                409,
            )
        held.update(mine)
        own = {(bucket, key) for key in mine} if alone else set()
        self._alone |= own
        try:
            yield
        finally:
            self._alone -= own
            held -= Counter(mine)  # what comes to nothing is left out
            if not held:
                del self._held[bucket]

    def has_bucket(self, bucket: str) -> bool:
        """Whether there is this bucket."""
        return self._is_folder(bucket, "")

    def may_exist(self, bucket: str, key: str) -> bool:
        """Whether there can be an object of this key beside those that there are."""
        return self._object_above(bucket, key) is None and not self._is_folder(bucket, key)

    async def make_room(self, bucket: str, key: str) -> None:
        """See to it that the key can be an object's, in a folder that is there.

        Raises AwsError where others are in its way, and BackendError.
        """
        if (above := self._object_above(bucket, key)) is not None:
            raise _in_the_way(above, key)
        if self._is_folder(bucket, key):
            await self.clear(bucket, key)
            if self._is_folder(bucket, key):
                raise _in_the_way(key, f"{key}/…")
        folder = key.rpartition("/")[0]
        if not folder or self._is_folder(bucket, folder):
            return
        # Of two who write the first object of a folder at once, the server fails one.
        async with self._making:
            if not self._is_folder(bucket, folder):
                begun = await self._ask("POST", target(bucket, key, {"uploads": ""}))
                if found := re.search(rb"<UploadId>([^<]+)</UploadId>", begun):
                    await self._ask("DELETE", target(bucket, key, {"uploadId": found[1].decode()}))

    async def make(self, bucket: str, key: str) -> None:
        """Have the folder `key`, with objects or without. Raises AwsError where an object is in its way, and BackendError."""
        await self.make_room(bucket, f"{key}/{_NOBODY}")

    async def remove(self, bucket: str, key: str) -> None:
        """Remove the folder `key`, if it is empty. Raises AwsError where somebody begins to write in it, and BackendError."""
        if self._bare(bucket, key) == [key]:
            with self.held(bucket, [key]):
                await self.clear(bucket, key)

    async def clear(self, bucket: str, key: str = "") -> None:
        """Remove the folder `key`, or all in the bucket, where no object lies in it. Raises BackendError."""
        for folder in self._bare(bucket, key):
            await self._ask("DELETE", target(bucket, f"{folder}/{_NOBODY}", {}))

    def _object_above(self, bucket: str, key: str) -> str | None:
        """The object that one of the key's folders is."""
        for above in _above(key):
            mode = self._mode(bucket, above)
            if not stat.S_ISDIR(mode):
                return above if mode else None
        return None

    def _is_folder(self, bucket: str, key: str) -> bool:
        return stat.S_ISDIR(self._mode(bucket, key))

    def _mode(self, bucket: str, key: str) -> int:
        try:
            return os.lstat(self._buckets / bucket / key).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def _bare(self, bucket: str, key: str) -> list[str]:
        """The innermost folders in the folder `key`; none where a file lies in any of them."""
        innermost = []
        root = self._buckets / bucket
        for path, folders, files in os.walk(root / key):
            if files:
                return []
            if not folders and path != str(root):
                innermost.append(str(Path(path).relative_to(root)))
        return innermost

    async def _ask(self, method: str, where: bytes) -> bytes:
        async with self._backend.ask(method, where) as exchange:
            return await exchange.whole()


def _above(key: str) -> Iterator[str]:
    """The folders that a key's object lies in, the outermost first."""
    at = key.find("/")
    while at >= 0:
        yield key[:at]
        at = key.find("/", at + 1)


def _in_the_way(key: str, other: str) -> AwsError:
    return AwsError(
        "NotImplemented",
        f"Objects are files here, so the key {key} cannot be an object's and a folder's of {other} at once."
        " Choose another key, or delete what is in its way.",
        501,
    )
