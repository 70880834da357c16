"""Objects that are read while others take their place.

To put an object where another is, the server deletes that one and then renames a file. Who reads meanwhile would be told of the
one and given the other, or nothing; and where the server is killed in between, neither is left. So nobody begins to read
meanwhile, and what is to be replaced has a second name until it is.

The server opens an object that it reads at every 128 MiB anew, and goes on with whatever is there by then. So the door reads
objects itself, each from the file that was opened once: what is written in an object's place is another file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from phalanx.services.s3.backend import BackendError

_PIECE = 1 << 18
"""Bytes that are read at a time."""
_OF = ".of"
"""How the name of the link ends that says whose a spare is."""

_log = structlog.get_logger(__name__)


class _Place:
    """One object's: several may begin to read at once, or one may write or delete it, in the order in which they come."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        self._readers = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        async with self._gate:
            self._readers += 1
            self._nobody.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._nobody.set()

    @asynccontextmanager
    async def changed(self) -> AsyncIterator[None]:
        async with self._gate:
            await self._nobody.wait()
            yield


@dataclass(frozen=True, slots=True)
class Opened:
    """An object that was opened: its ETag and Last-Modified as the server told them, and the headers that describe it."""

    file: int
    etag: bytes
    modified: bytes
    described: list[tuple[bytes, bytes]]

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self.file).st_size

    async def pieces(self, first: int, length: int) -> AsyncGenerator[bytes, None]:
        """So many bytes of it, from byte `first` on. Raises BackendError."""
        loop = asyncio.get_running_loop()
        while length:
            try:
                # The disk may take its time.
                piece = await loop.run_in_executor(None, os.pread, self.file, min(length, _PIECE), first)
            except OSError as error:
                raise BackendError(f"an object cannot be read: {error}") from error
            if not piece:
                raise BackendError("an object became shorter")
            first += len(piece)
            length -= len(piece)
            yield piece


class Places:
    """Those of the objects whose files are in `buckets`; what is being replaced has its second name in `spares`."""

    def __init__(self, buckets: Path, spares: Path) -> None:
        self._buckets = buckets
        self._spares = spares
        self._places: WeakValueDictionary[tuple[str, str], _Place] = WeakValueDictionary()
        self._told = False

    @asynccontextmanager
    async def read(self, bucket: str, key: str) -> AsyncIterator[None]:
        """Held by who reads this object until the server has opened it: from then on it is read as it was."""
        async with self._places.setdefault((bucket, key), _Place()).read():
            yield

    def open(self, bucket: str, key: str, closing: ExitStack) -> int:
        """A descriptor of an object's file, which `closing` closes. Raises BackendError."""
        try:
            file = os.open(self._buckets / bucket / key, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BackendError(f"an object cannot be read: {error}") from error
        closing.callback(os.close, file)
        return file

    @asynccontextmanager
    async def replaced(self, bucket: str, key: str) -> AsyncIterator[None]:
        """Held by who writes this object from before the server is sent the last of it until it has answered.

        Of several who are that far at once the server fails some, and may then delete what another has written. Where this
        ends with an error the object is what it was, unless the server has replaced it all the same.
        """
        async with self.deleted(bucket, [key]):
            with self._spared(f"{bucket}/{key}"):
                yield

    @asynccontextmanager
    async def deleted(self, bucket: str, keys: Iterable[str]) -> AsyncIterator[None]:
        """Held by who deletes these objects until the server has answered.

        The server may fail who writes an object that is deleted meanwhile. What the write was to replace would then be given
        back, after others were told that it is gone.
        """
        async with AsyncExitStack() as held:
            # In one order, so that of two who delete many none waits for the other.
            for key in sorted(keys):
                await held.enter_async_context(self._places.setdefault((bucket, key), _Place()).changed())
            yield

    def restore(self) -> None:
        """Put back what was being replaced when server and door were killed; before the door is asked for anything."""
        self._spares.mkdir(mode=0o700, exist_ok=True)
        for link in self._spares.glob(f"*{_OF}"):
            self._give_back(link.with_suffix(""))
        for left in self._spares.iterdir():
            if not left.with_suffix(_OF).is_symlink():
                left.unlink()

    @contextmanager
    def _spared(self, name: str) -> Iterator[None]:
        spare = self._spares / hashlib.sha256(name.encode()).hexdigest()
        try:
            os.link(self._buckets / name, spare)
            os.symlink(name, spare.with_suffix(_OF))
        except FileNotFoundError:
            pass  # nothing is replaced
        except OSError as error:
            if not self._told:
                self._told = True
                _log.warning("an object may be lost where S3 is killed while it is replaced", reason=str(error))
        try:
            yield
        except BaseException:
            self._give_back(spare)
            raise
        self._drop(spare)

    def _give_back(self, spare: Path) -> None:
        """Have the object be what it was, if there is none."""
        try:
            with contextlib.suppress(FileExistsError, FileNotFoundError, NotADirectoryError):
                os.link(spare, self._buckets / os.readlink(spare.with_suffix(_OF)))
        except OSError as error:
            # It stays for the next start.
            _log.error("an object that was being replaced cannot be put back", spare=spare.name, reason=str(error))
        else:
            self._drop(spare)

    def _drop(self, spare: Path) -> None:
        for path in (spare.with_suffix(_OF), spare):
            path.unlink(missing_ok=True)
