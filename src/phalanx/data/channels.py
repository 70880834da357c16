"""Input channels in File mode: from S3 into the instance's /opt/ml/input/data/<channel>."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from phalanx.data import sources
from phalanx.data.gunzip import unpacked
from phalanx.data.model import Channel, DataKey, ObjectStore
from phalanx.data.objects import Cancelled, DataError, S3Object, client, get
from phalanx.data.several import for_each
from phalanx.data.sources import WHAT

_PARALLEL = 8


def download(
    store: ObjectStore,
    channel: Channel,
    into: Path,
    owner: tuple[int, int],
    cancelled: Callable[[], bool],
) -> None:
    """Download an instance's share of a channel; the files belong to `owner` (uid, gid).

    A file appears in `into` only when it is complete, so that a download that was killed can be repeated. Names are what
    follows the prefix; where the prefix ends within a name (`data/part-`), what follows its last `/`. CompressionType Gzip
    stores the content unpacked, without a `.gz` at the end of the name.

    Raises DataError (a FailureReason), and Cancelled once `cancelled()` is true.
    """
    bucket, prefix, found = sources.objects(store, channel, cancelled)
    objects = sources.share(found, channel, 0)
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
        _fetch_all(
            _Job(client(store, connections=_PARALLEL), store.keys, bucket, channel, into, partial, owner, cancelled), files
        )
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _names(objects: Sequence[S3Object], prefix: str, channel: Channel) -> dict[PurePosixPath, S3Object]:
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
            raise DataError(f'ClientError: {WHAT}:The key "{entry.key}" cannot be the path of a file')
        path = PurePosixPath(*parts)
        if path in files:
            raise DataError(f'ClientError: {WHAT}:The keys "{files[path].key}" and "{entry.key}" are the same file "{path}"')
        files[path] = entry
    for path, entry in files.items():
        for parent in path.parents:
            if parent in files:
                raise DataError(
                    f'ClientError: {WHAT}:The key "{files[parent].key}" is a file and, for "{entry.key}", would be a directory'
                )
    return files


@dataclass(frozen=True, slots=True)
class _Job:
    s3: Any
    keys: tuple[DataKey, ...]
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

    def fetch(item: tuple[int, tuple[PurePosixPath, S3Object]]) -> None:
        number, (path, entry) = item
        _fetch(job, job.partial / str(number), path, entry, failed)

    for_each(fetch, enumerate(files.items()), _PARALLEL, "download", failed)


def _fetch(job: _Job, draft: Path, path: PurePosixPath, entry: S3Object, failed: threading.Event) -> None:
    try:
        _write(job, draft, entry, failed)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_space(job.channel, str(error.strerror)) from error
        raise DataError(f"InternalServerError: {WHAT}:{error}") from error
    os.chown(draft, *job.owner)
    draft.rename(job.into / path)


def _write(job: _Job, draft: Path, entry: S3Object, failed: threading.Event) -> None:
    stored = get(job.s3, job.bucket, entry.key, job.keys, WHAT)
    if stored.size != entry.size:
        raise DataError(
            f"ClientError: {WHAT}:s3://{job.bucket}/{entry.key} changed during the download:"
            f" {entry.size} bytes were listed, {stored.size} arrived"
        )
    with draft.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        for chunk in stored.content if job.channel.compression == "None" else unpacked(stored.content, entry.key):
            if failed.is_set() or job.cancelled():
                raise Cancelled(f"the download of channel {job.channel.name} was ended")
            file.write(chunk)


def _no_space(channel: Channel, why: str) -> DataError:
    return DataError(
        f'ClientError: {WHAT}:Not enough disk space for channel "{channel.name}": {why}. Please free space, or use'
        " ShardedByS3Key over more instances."
    )
