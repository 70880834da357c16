"""Channels in Pipe mode: what goes through a channel's pipe in each epoch."""

from __future__ import annotations

import collections
import json
import struct
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from phalanx.data import sources
from phalanx.data.gunzip import unpacked
from phalanx.data.model import Channel, ObjectStore
from phalanx.data.objects import DataError, client, get, parse_uri
from phalanx.data.sources import WHAT

_MAGIC = 0xCED7230A
_RECORD = (1 << 29) - 1
"""Bytes of the longest RecordIO record: the upper three bits of its length say how it is continued."""
_CHUNK = 1 << 20
_SMALL = 1 << 20
"""Objects up to so many bytes are read ahead whole."""
_AHEAD = 8
"""How many items are fetched before it is their turn."""


@dataclass(frozen=True, slots=True)
class _Object:
    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class _Open:
    """An item whose first bytes are there: `size` in bytes, None where it is not known before the end."""

    size: int | None
    content: Iterator[bytes]


class Stream:
    """The content of one channel. Raises DataError where the channel has none."""

    def __init__(self, store: ObjectStore, channel: Channel) -> None:
        self._store = store
        self._channel = channel
        self._s3 = client(store, connections=_AHEAD)
        self._objects: list[_Object] = []
        self._lines: sources.Lines | None = None
        if channel.data_type == "AugmentedManifestFile":
            self._lines = sources.lines(store, channel.uri)
        else:
            bucket, _, found = sources.objects(store, channel)
            self._objects = [_Object(bucket, entry.key) for entry in found]

    def epoch(self, number: int) -> Iterator[bytes]:
        """What an epoch consists of, in pieces of bounded size.

        The objects one after another or, of an augmented manifest, for each line the values of the attributes in their
        order: of `…-ref` the object that it names, of others the value as text. RecordIO wraps each of these in a record.
        Raises DataError.
        """
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="ahead") as pool:
            waiting: collections.deque[Future[_Open]] = collections.deque()
            for item in self._items(number):
                waiting.append(pool.submit(self._open, item))
                if len(waiting) == _AHEAD:
                    yield from self._wrapped(waiting.popleft().result())
            while waiting:
                yield from self._wrapped(waiting.popleft().result())

    def _items(self, epoch: int) -> Iterator[_Object | bytes]:
        yield from sources.share(self._objects, self._channel, epoch)
        if self._lines is not None:
            for number in sources.order(len(self._lines), self._channel, epoch):
                yield from self._attributes(self._lines[number])

    def _attributes(self, line: bytes) -> Iterator[_Object | bytes]:
        try:
            entry = json.loads(line)
            texts = [_text(entry[name]) for name in self._channel.attributes]
            values = [text.encode() for text in texts]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            wanted = ", ".join(self._channel.attributes)
            raise DataError(
                f"ClientError: {WHAT}:A line of the augmented manifest {self._channel.uri} is no JSON object with the"
                f" attributes {wanted}: {line[:200].decode(errors='replace')}"
            ) from error
        for name, text, value in zip(self._channel.attributes, texts, values, strict=True):
            yield _Object(*parse_uri(text)) if name.endswith("-ref") else value

    def _open(self, item: _Object | bytes) -> _Open:
        if isinstance(item, bytes):
            return _Open(len(item), iter([item]))
        stored = get(self._s3, item.bucket, item.key, self._store.keys, WHAT)
        content = iter([b"".join(stored.content)]) if stored.size <= _SMALL else stored.content
        if self._channel.compression == "Gzip":
            return _Open(None, unpacked(content, item.key))
        return _Open(None if stored.sealed else stored.size, content)

    def _wrapped(self, item: _Open) -> Iterator[bytes]:
        if self._channel.record_wrapper == "None":
            yield from item.content
            return
        if item.size is not None:
            yield from _record(item.size, item.content)
            return
        # A record begins with its length.
        with tempfile.TemporaryFile(dir=".") as file:
            for chunk in item.content:
                # Before it is on the disk: a megabyte may become a thousand.
                _check_record(file.tell() + len(chunk))
                file.write(chunk)
            size = file.tell()
            file.seek(0)
            yield from _record(size, iter(lambda: file.read(_CHUNK), b""))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _record(size: int, content: Iterator[bytes]) -> Iterator[bytes]:
    """A RecordIO record (apache/mxnet, dmlc-core recordio.h): magic, length, content, padding to four bytes."""
    _check_record(size)
    yield struct.pack("<II", _MAGIC, size)
    yield from content
    if size % 4:
        yield bytes(4 - size % 4)


def _check_record(size: int) -> None:
    if size > _RECORD:
        raise DataError(f"ClientError: {WHAT}:An object of {size} bytes is longer than a RecordIO record, {_RECORD} bytes")
