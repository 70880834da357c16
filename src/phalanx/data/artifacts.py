"""Artifacts of a job: what its containers left in /opt/ml/model and /opt/ml/output/data, merged, streamed to S3.

The directories were written by hostile containers. They are walked by directory descriptors, no link is ever followed, and
only regular files are read: nothing of the host can get into an artifact.
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import stat
import tarfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from phalanx.data.model import ObjectStore, Output
from phalanx.data.objects import DataError, client, failure, parse_uri

_DEPTH = 64
_PART = 16 << 20
_GZIP_LEVEL = 1
"""Models hardly compress: what higher levels save is small, the time they cost is not."""
_WHAT = "Artifact upload failed"


def upload(store: ObjectStore, output: Output, workspaces: Sequence[Path]) -> str:
    """Upload the artifacts of all hosts' workspaces, in the order of the hosts; the S3 URI of the model.

    GZIP: `<uri>/<job>/output/model.tar.gz` (always) and `output.tar.gz` (unless empty). NONE: the files as objects under
    `output/model/` and `output/data/`. Where two hosts wrote the same path the first host's stands: AWS forbids the
    clash without saying what happens. Kept in an archive: files, directories, and links that stay within it; not
    kept: other links, sockets, devices, FIFOs, owners, set-uid bits. Repeating an upload overwrites it.

    Raises DataError.
    """
    bucket, prefix = parse_uri(output.uri)
    base = "/".join(part for part in (prefix.rstrip("/"), output.job, "output") if part)
    s3 = client(store)
    if output.compression == "NONE":
        for part, folder in (("model", "model"), ("data", "output/data")):
            _upload_files(s3, bucket, f"{base}/{part}", workspaces, folder)
        return f"s3://{bucket}/{base}/model"
    _upload_archive(s3, bucket, f"{base}/model.tar.gz", workspaces, "model")
    with closing(_entries(workspaces, "output/data")) as entries:
        empty = next(entries, None) is None
    if not empty:
        _upload_archive(s3, bucket, f"{base}/output.tar.gz", workspaces, "output/data")
    return f"s3://{bucket}/{base}/model.tar.gz"


@dataclass(frozen=True, slots=True)
class _Entry:
    """Something in a workspace. `folder` is its directory's descriptor, open until the next entry is asked for."""

    path: str
    name: str
    folder: int
    status: os.stat_result


def _entries(workspaces: Sequence[Path], folder: str) -> Generator[_Entry, None, None]:
    """Files, directories and links below `folder` of all workspaces, parents first; of clashing paths the first host's."""
    taken: dict[str, bool] = {}
    for root in workspaces:
        with ExitStack() as stack:
            directory = _descend(root, folder, stack)
            if directory is None:
                continue
            for entry in _walk(directory, "", 0):
                is_folder = stat.S_ISDIR(entry.status.st_mode)
                # What lies under a path that an earlier host has as a link must not appear: unpacking would write through it.
                if any(not taken.get(parent, True) for parent in _parents(entry.path)):
                    continue
                if entry.path not in taken:
                    taken[entry.path] = is_folder
                    yield entry


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _descend(root: Path, folder: str, stack: ExitStack) -> int | None:
    """A descriptor of a directory below `root`, reached through no link; None where it is not there."""
    directory = _open_folder(str(root), None)
    stack.callback(os.close, directory)
    for name in folder.split("/"):
        try:
            directory = _open_folder(name, directory)
        except OSError:
            # The container removed it, or put a link or a file in its place.
            return None
        stack.callback(os.close, directory)
    return directory


def _open_folder(name: str, parent: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _walk(directory: int, path: str, depth: int) -> Iterator[_Entry]:
    if depth > _DEPTH:
        raise DataError(f"ClientError: {_WHAT}:directories are nested more than {_DEPTH} deep at {path[:200]}")
    for name in sorted(os.listdir(directory)):
        inner = posixpath.join(path, name)
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield _Entry(inner, name, directory, status)
            child = _open_folder(name, directory)
            try:
                yield from _walk(child, inner, depth + 1)
            finally:
                os.close(child)
        elif stat.S_ISREG(status.st_mode) or (stat.S_ISLNK(status.st_mode) and _stays_within(inner, name, directory)):
            yield _Entry(inner, name, directory, status)


def _stays_within(path: str, name: str, directory: int) -> bool:
    target = os.readlink(name, dir_fd=directory)
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return not target.startswith("/") and resolved != ".." and not resolved.startswith("../")


def _open_file(entry: _Entry) -> BinaryIO:
    """Open a regular file. Raises DataError where it has become something else since it was listed."""
    file = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=entry.folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise DataError(f"ClientError: {_WHAT}:{entry.path} changed during the upload")
    return os.fdopen(file, "rb")


def _upload_files(s3: Any, bucket: str, base: str, workspaces: Sequence[Path], folder: str) -> None:
    for entry in _entries(workspaces, folder):
        if stat.S_ISREG(entry.status.st_mode):
            with _open_file(entry) as file:
                # Names that are not UTF-8 cannot be keys.
                name = os.fsencode(entry.path).decode(errors="replace")
                _put(s3, bucket, f"{base}/{name}", file)


def _upload_archive(s3: Any, bucket: str, key: str, workspaces: Sequence[Path], folder: str) -> None:
    reader, writer = os.pipe()
    with _Archive(workspaces, folder, writer, os.fdopen(reader, "rb")) as archive:
        _put(s3, bucket, key, archive)


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
                closing(_entries(workspaces, folder)) as entries,
            ):
                for entry in entries:
                    _add(tar, entry)
        except BaseException as error:
            self._error = error


def _add(tar: tarfile.TarFile, entry: _Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode = stat.S_IMODE(entry.status.st_mode) & 0o777
    info.mtime = int(entry.status.st_mtime)
    if stat.S_ISDIR(entry.status.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(entry.status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.name, dir_fd=entry.folder)
        tar.addfile(info)
    else:
        with _open_file(entry) as file:
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)


def _put(s3: Any, bucket: str, key: str, content: Any) -> None:
    # Parts of 16 MiB: S3 takes 10,000 of them, and an archive's length is not known before its end.
    config = TransferConfig(multipart_chunksize=_PART, multipart_threshold=_PART, max_concurrency=2)
    # Parts that wait in memory; boto3 takes ten unless told otherwise, and has no argument for it.
    config.max_in_memory_upload_chunks = 2
    try:
        s3.upload_fileobj(content, bucket, key, Config=config)
    except S3UploadFailedError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ClientError | BotoCoreError):
            raise failure(_WHAT, f"s3://{bucket}/{key}", cause) from error
        raise DataError(f"InternalServerError: {_WHAT}:{error}") from error
    except (ClientError, BotoCoreError) as error:
        raise failure(_WHAT, f"s3://{bucket}/{key}", error) from error
    except OSError as error:
        raise DataError(f"InternalServerError: {_WHAT}:{error}") from error
