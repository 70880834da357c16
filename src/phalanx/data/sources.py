"""What a channel is made of: the S3 objects under a prefix or in a manifest, or the lines of an augmented manifest."""

from __future__ import annotations

import json
import random
import re
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from phalanx.data.model import Channel, ObjectStore
from phalanx.data.objects import Cancelled, DataError, S3Object, client, failure, get, list_objects, parse_uri
from phalanx.data.several import for_each

WHAT = "Data download failed"
"""What begins the text of every DataError about a channel."""
_PARALLEL = 8
_MANIFEST = 64 << 20
_AUGMENTED = 512 << 20
_LINE = re.compile(rb"[^\r\n]+")

T = TypeVar("T")


def objects(
    store: ObjectStore, channel: Channel, cancelled: Callable[[], bool] = lambda: False
) -> tuple[str, str, list[S3Object]]:
    """Bucket, prefix and objects of a channel, in the order of the manifest, or of the keys' UTF-8 bytes.

    Raises DataError, also where there are none, and Cancelled once `cancelled()` is true: each object of a manifest is looked
    at, and there may be a million.
    """
    if channel.data_type == "ManifestFile":
        bucket, prefix, found = _manifest(store, channel.uri, cancelled)
    else:
        bucket, prefix = parse_uri(channel.uri)
        found = list_objects(store, channel.uri)
    if not found:
        raise DataError(
            f'ClientError: {WHAT}:No S3 objects found under S3 URL "{channel.uri}" given in input data source of channel'
            f' "{channel.name}". Please ensure that the bucket exists and that objects lie under the prefix.'
        )
    return bucket, prefix, found


def lines(store: ObjectStore, uri: str) -> Lines:
    """The lines of an augmented manifest (JSON Lines), without those that are empty. Raises DataError."""
    found = Lines(_read(store, uri, _AUGMENTED))
    if not len(found):
        raise DataError(f"ClientError: {WHAT}:The augmented manifest {uri} has no lines")
    return found


class Lines:
    """The lines of a text, without those that are empty.

    What is kept of each is where it begins: a manifest may be of two hundred million, and each by itself takes forty bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._starts = array("I", (line.start() for line in _LINE.finditer(content) if not line[0].isspace()))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> bytes:
        line = _LINE.match(self._content, self._starts[number])
        return line[0] if line else b""


def share(items: Sequence[T], channel: Channel, epoch: int) -> Sequence[T]:
    """An instance's part of a channel in an epoch, in order; see `order`."""
    return [items[number] for number in order(len(items), channel, epoch)]


def order(count: int, channel: Channel, epoch: int) -> Sequence[int]:
    """Which of so many items are an instance's in an epoch, in order.

    ShuffleConfig: all instances shuffle the whole alike, in each epoch anew, before ShardedByS3Key gives an instance every
    n-th item, maybe none: what went to one node may go to another in the next epoch, as in SageMaker.
    """
    numbers: Sequence[int] = range(count)
    if channel.shuffle_seed is not None:
        shuffled = array("I", numbers)
        # No secret: the order must be the same on every host.
        random.Random(f"{channel.shuffle_seed}/{epoch}").shuffle(shuffled)  # noqa: S311
        numbers = shuffled
    return numbers[channel.shard :: channel.shards] if channel.distribution == "ShardedByS3Key" else numbers


def _manifest(store: ObjectStore, uri: str, cancelled: Callable[[], bool]) -> tuple[str, str, list[S3Object]]:
    """Bucket, prefix and objects that a manifest names (S3DataSource.S3DataType ManifestFile).

    Raises DataError, Cancelled.

    It is `[{"prefix": "s3://bucket/some/"}, "path", ...]`; each object's key is the prefix with a path behind it.
    """
    content = _read(store, uri, _MANIFEST)
    try:
        first, *paths = json.loads(content)
        place, prefix = parse_uri(first["prefix"])
        # No half of a character, which JSON may hold, is in a key.
        named = all(path.encode() for path in (prefix or "/", *paths))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_manifest(uri) from error
    if not named:
        raise _no_manifest(uri)

    s3 = client(store, connections=_PARALLEL)
    sizes: dict[str, int] = {}

    def look(path: str) -> None:
        if cancelled():
            raise Cancelled(f"looking for what {uri} names was ended")
        try:
            sizes[path] = s3.head_object(Bucket=place, Key=prefix + path)["ContentLength"]
        except (ClientError, BotoCoreError) as error:
            raise failure(WHAT, f"s3://{place}/{prefix}{path}", error) from error

    once = dict.fromkeys(paths)
    for_each(look, once, _PARALLEL, "manifest", threading.Event())
    return place, prefix, [S3Object(prefix + path, sizes[path]) for path in once]


def _no_manifest(uri: str) -> DataError:
    return DataError(
        f"ClientError: {WHAT}:{uri} is no manifest: it must hold a JSON list, first an object whose member `prefix` is an S3"
        " URI, then the paths of the objects behind that prefix"
    )


def _read(store: ObjectStore, uri: str, most: int) -> bytes:
    """The content of an object of at most so many bytes."""
    stored = get(client(store), *parse_uri(uri), store.keys, WHAT)
    if stored.size > most:
        raise DataError(f"ClientError: {WHAT}:The manifest {uri} is larger than {most} bytes")
    return b"".join(stored.content)
