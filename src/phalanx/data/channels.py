"""Input channels in File mode: from S3 into the instance's /opt/ml/input/data/<channel>."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from phalanx.data.model import Channel, ObjectStore
from phalanx.data.objects import DataError, S3Object, client, failure, list_objects, parse_uri

_PARALLEL = 8
_CHUNK = 1 << 20
_ATTEMPTS = 4
_MANIFEST = 64 << 20
_WHAT = "Data download failed"


class Cancelled(Exception):
    """The caller asked to end the download; what has arrived so far is no complete channel."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a download brought: the number of objects, and their bytes in S3."""

    objects: int
    bytes: int


def download(
    store: ObjectStore,
    channel: Channel,
    index: int,
    count: int,
    into: Path,
    owner: tuple[int, int],
    cancelled: Callable[[], bool],
) -> Downloaded:
    """Download instance `index`'s share (of `count` instances) of a channel; the files belong to `owner` (uid, gid).

    A file appears in `into` only when it is complete, so that a download that was killed can be repeated. Names are what
    follows the prefix; where the prefix ends within a name (`data/part-`), what follows its last `/`. ShardedByS3Key gives an
    instance every count-th key in sorted order, maybe none. CompressionType Gzip stores the content unpacked, without a
    `.gz` at the end of the name.

    Raises DataError (a FailureReason), and Cancelled once `cancelled()` is true.
    """
    if channel.data_type == "ManifestFile":
        bucket, prefix, objects = manifest(store, channel.uri)
    else:
        bucket, prefix = parse_uri(channel.uri)
        objects = list_objects(store, channel.uri)
    if not objects:
        raise DataError(
            f'ClientError: {_WHAT}:No S3 objects found under S3 URL "{channel.uri}" given in input data source of channel'
            f' "{channel.name}". Please ensure that the bucket exists and that objects lie under the prefix.'
        )
    if channel.distribution == "ShardedByS3Key":
        objects = objects[index::count]
    files = _names(objects, prefix, channel)
    size = sum(o.size for o in objects)
    into.mkdir(exist_ok=True)
    os.chown(into, *owner)
    free = shutil.disk_usage(into).free
    if size > free:
        raise _no_space(channel, f"it has {size} bytes, and {free} bytes are free")
    # Beside `into`, on the same file system: a rename puts a complete file in its place.
    partial = into.with_name(f".{into.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        _fetch_all(_Job(client(store, connections=_PARALLEL), bucket, channel, into, partial, owner, cancelled), files)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Downloaded(len(objects), size)


def manifest(store: ObjectStore, uri: str) -> tuple[str, str, list[S3Object]]:
    """Bucket, prefix and objects that a manifest names (S3DataSource.S3DataType ManifestFile). Raises DataError.

    It is `[{"prefix": "s3://bucket/some/"}, "path", ...]`; each object's key is the prefix with a path behind it.
    """
    bucket, key = parse_uri(uri)
    s3 = client(store, connections=_PARALLEL)
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        content = body.read(_MANIFEST + 1)
    except (ClientError, BotoCoreError) as error:
        raise failure(_WHAT, uri, error) from error
    if len(content) > _MANIFEST:
        raise DataError(f"ClientError: {_WHAT}:The manifest {uri} is larger than {_MANIFEST} bytes")
    try:
        first, *paths = json.loads(content)
        place, prefix = parse_uri(first["prefix"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _no_manifest(uri) from error
    if not all(isinstance(path, str) and path for path in paths):
        raise _no_manifest(uri)

    def look(path: str) -> S3Object:
        try:
            return S3Object(prefix + path, s3.head_object(Bucket=place, Key=prefix + path)["ContentLength"])
        except (ClientError, BotoCoreError) as error:
            raise failure(_WHAT, f"s3://{place}/{prefix}{path}", error) from error

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="manifest") as pool:
        return place, prefix, sorted(pool.map(look, dict.fromkeys(paths)), key=lambda entry: entry.key.encode())


def _no_manifest(uri: str) -> DataError:
    return DataError(
        f"ClientError: {_WHAT}:{uri} is no manifest: it must hold a JSON list, first an object whose member `prefix` is an S3"
        " URI, then the paths of the objects behind that prefix"
    )


def _names(objects: list[S3Object], prefix: str, channel: Channel) -> dict[PurePosixPath, S3Object]:
    """Where each object goes below the channel's directory. Raises DataError where a key cannot be a path there."""
    files: dict[PurePosixPath, S3Object] = {}
    for entry in objects:
        if prefix.endswith("/") or entry.key.startswith(prefix + "/"):
            rest = entry.key[len(prefix) :]
        else:
            rest = entry.key[prefix.rfind("/") + 1 :]
        if channel.compression == "Gzip":
            rest = rest.removesuffix(".gz")
        # Empty parts (`a//b`) cannot be on a file system and vanish; a clash that this makes is found below.
        parts = [part for part in rest.split("/") if part]
        if not parts or any(part in (".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts):
            raise DataError(f'ClientError: {_WHAT}:The key "{entry.key}" cannot be the path of a file')
        path = PurePosixPath(*parts)
        if path in files:
            raise DataError(f'ClientError: {_WHAT}:The keys "{files[path].key}" and "{entry.key}" are the same file "{path}"')
        files[path] = entry
    for path, entry in files.items():
        for parent in path.parents:
            if parent in files:
                raise DataError(
                    f'ClientError: {_WHAT}:The key "{files[parent].key}" is a file and, for "{entry.key}", would be a directory'
                )
    return files


@dataclass(frozen=True, slots=True)
class _Job:
    s3: Any
    bucket: str
    channel: Channel
    into: Path
    partial: Path
    owner: tuple[int, int]
    cancelled: Callable[[], bool]


def _fetch_all(job: _Job, files: dict[PurePosixPath, S3Object]) -> None:
    for folder in sorted({parent for path in files for parent in path.parents}):
        (job.into / folder).mkdir(exist_ok=True)
        os.chown(job.into / folder, *job.owner)
    failed = threading.Event()

    def fetch(number: int, path: PurePosixPath, entry: S3Object) -> None:
        try:
            _fetch(job, job.partial / str(number), path, entry, failed)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="download") as pool:
        futures = [pool.submit(fetch, number, path, entry) for number, (path, entry) in enumerate(files.items())]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
    errors = [error for future in done if (error := future.exception()) is not None]
    if errors:
        raise errors[0]


def _fetch(job: _Job, draft: Path, path: PurePosixPath, entry: S3Object, failed: threading.Event) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            _write(job, draft, entry, failed)
            break
        except ClientError as error:
            raise failure(_WHAT, f"s3://{job.bucket}/{entry.key}", error) from error
        except (BotoCoreError, HTTPClientError) as error:
            # botocore repeats requests, but not the reading of a body that broke off.
            if attempt == _ATTEMPTS - 1:
                raise failure(_WHAT, f"s3://{job.bucket}/{entry.key}", error) from error
            time.sleep(0.2 * 2**attempt)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise _no_space(job.channel, str(error.strerror)) from error
            raise DataError(f"InternalServerError: {_WHAT}:{error}") from error
    os.chown(draft, *job.owner)
    draft.rename(job.into / path)


def _write(job: _Job, draft: Path, entry: S3Object, failed: threading.Event) -> None:
    body = job.s3.get_object(Bucket=job.bucket, Key=entry.key)["Body"]
    received = 0

    def chunks() -> Iterator[bytes]:
        nonlocal received
        while True:
            if failed.is_set() or job.cancelled():
                raise Cancelled(f"the download of channel {job.channel.name} was ended")
            chunk: bytes = body.read(_CHUNK)
            if not chunk:
                return
            received += len(chunk)
            yield chunk

    try:
        with draft.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)
            for chunk in chunks() if job.channel.compression == "None" else _unpacked(chunks(), entry.key):
                file.write(chunk)
    finally:
        body.close()
    if received != entry.size:
        raise DataError(
            f"ClientError: {_WHAT}:s3://{job.bucket}/{entry.key} changed during the download:"
            f" {entry.size} bytes were listed, {received} arrived"
        )


def _unpacked(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The content of gzip data (RFC 1952, any number of members), in pieces of bounded size."""
    unpack, started = _gzip(), False
    try:
        for chunk in chunks:
            while chunk:
                if unpack.eof:
                    unpack, started = _gzip(), False
                started = True
                yield unpack.decompress(chunk, _CHUNK)
                chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    except zlib.error as error:
        raise DataError(f'ClientError: {_WHAT}:"{key}" is not gzip data, but its channel has CompressionType Gzip') from error
    if started and not unpack.eof:
        raise DataError(f'ClientError: {_WHAT}:"{key}" is not complete gzip data')


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _no_space(channel: Channel, why: str) -> DataError:
    return DataError(
        f'ClientError: {_WHAT}:Not enough disk space for channel "{channel.name}": {why}. Please free space, or use'
        " ShardedByS3Key over more instances."
    )
