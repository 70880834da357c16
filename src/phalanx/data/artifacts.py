"""Artifacts of a job: what its containers left in /opt/ml/model and /opt/ml/output/data, merged, streamed to S3."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from phalanx.data import parcel, tree
from phalanx.data.model import DataKey, ObjectStore, Output
from phalanx.data.objects import client, parse_uri, put

_GZIP_LEVEL = 1
"""Models hardly compress: what higher levels save is small, the time they cost is not."""
_BLOCK = 512
"""Bytes of a block of stat(2)."""
_RATIO = 200
"""To what part of their length gzip brings zeros at that level at least."""
_HEADERS = 8192
"""Bytes that tar adds to an entry, and at its end, at most: headers, those of PAX among them, and what fills up blocks."""
_WHAT = "Artifact upload failed"


def upload(store: ObjectStore, output: Output, workspaces: Sequence[Path]) -> str:
    """Upload the artifacts of all hosts' workspaces, in the order of the hosts; the S3 URI of the model.

    GZIP: `<uri>/<job>/output/model.tar.gz` (always) and `output.tar.gz` (unless empty). NONE: the files as objects under
    `output/model/` and `output/data/`. Where two hosts wrote the same path the first host's stands: AWS forbids the
    clash without saying what happens. Kept in an archive: files, directories, and links that stay within it, with `..` at their
    beginning only; not kept: other links, sockets, devices, FIFOs, owners, set-uid bits. Repeating an upload overwrites it.

    Raises DataError.
    """
    bucket, prefix = parse_uri(output.uri)
    base = "/".join(part for part in (prefix.rstrip("/"), output.job, "output") if part)
    s3 = client(store)
    if output.compression == "NONE":
        for part, folder in (("model", "model"), ("data", "output/data")):
            _upload_files(s3, bucket, f"{base}/{part}", workspaces, folder, output.key)
        return f"s3://{bucket}/{base}/model"
    _upload_archive(s3, bucket, f"{base}/model.tar.gz", workspaces, "model", output.key)
    with closing(tree.entries(workspaces, "output/data")) as entries:
        empty = next(entries, None) is None
    if not empty:
        _upload_archive(s3, bucket, f"{base}/output.tar.gz", workspaces, "output/data", output.key)
    return f"s3://{bucket}/{base}/model.tar.gz"


def _upload_files(s3: Any, bucket: str, base: str, workspaces: Sequence[Path], folder: str, seal: DataKey | None) -> None:
    for entry in tree.entries(workspaces, folder):
        if stat.S_ISREG(entry.status.st_mode):
            with tree.open_file(entry) as file:
                put(s3, bucket, f"{base}/{tree.text(entry.path)}", file, _WHAT, seal, file.size)


def _upload_archive(s3: Any, bucket: str, key: str, workspaces: Sequence[Path], folder: str, seal: DataKey | None) -> None:
    most = _longest(workspaces, folder)
    reader, writer = os.pipe()
    with _Archive(workspaces, folder, writer, os.fdopen(reader, "rb")) as archive:
        put(s3, bucket, key, archive, _WHAT, seal, most)


def _longest(workspaces: Sequence[Path], folder: str) -> int:
    """Bytes that the archive of the entries has at most: S3 takes 10,000 parts, all as long as the first.

    Parts wait in memory, so that holes of files, as long as a container likes them, count for what gzip makes of them.
    """
    with closing(tree.entries(workspaces, folder)) as entries:
        sizes = [_packed(entry.status) if stat.S_ISREG(entry.status.st_mode) else 0 for entry in entries]
    # gzip adds a little to what it cannot compress.
    return (sum(sizes) + _HEADERS * (len(sizes) + 1)) * 1001 // 1000


def _packed(status: os.stat_result) -> int:
    return min(status.st_size, _BLOCK * status.st_blocks) + status.st_size // _RATIO


class _Archive(io.RawIOBase):
    """A tar.gz of the entries, made by a thread while it is read. Reading raises what making it raised, so that an archive
    that was cut short is never taken for a complete one."""

    def __init__(self, workspaces: Sequence[Path], folder: str, writer: int, reader: BinaryIO) -> None:
        super().__init__()
        self._reader = reader
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._make, args=(workspaces, folder, writer), name="archive", daemon=True)
        self._thread.start()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._reader.read(size)
        if size < 0 or len(content) < size:
            self._thread.join()
            if self._error is not None:
                raise self._error
        return content

    def close(self) -> None:
        if not self.closed:
            # Where the upload failed, the thread now fails to write, and ends.
            self._reader.close()
            self._thread.join()
        super().close()

    def _make(self, workspaces: Sequence[Path], folder: str, writer: int) -> None:
        try:
            with (
                os.fdopen(writer, "wb") as pipe,
                gzip.GzipFile(filename="", fileobj=pipe, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
                closing(tree.entries(workspaces, folder)) as entries,
            ):
                for entry in entries:
                    parcel.add(tar, entry, entry.path)
        except BaseException as error:
            self._error = error
