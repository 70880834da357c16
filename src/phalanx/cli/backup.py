"""`phalanx backup` and `phalanx restore`: what a service knows, in one file, taken while it runs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sqlite3
import sys
import tarfile
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import DatabaseError

from phalanx.cli.settings import DEFAULT_DATA_DIR, S3_TRAIL, DataDir, fail
from phalanx.cli.stored import DATABASE, database_url, stored
from phalanx.identity import trail
from phalanx.store.database import Database, Unsuitable, sqlite_url

_AUDIT = "audit"
_LEFT_OUT = frozenset(
    {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "images", "instances", "s3", "lock", "endpoints.json", _AUDIT}
)
"""What is not copied as it lies there: database and trail have ways of their own; the rest is made anew, or is the users'."""


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it holds keys, and is readable by its owner alone.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Copy what a service knows into one file while it runs: jobs, networks, identities, keys, evidence and the audit trail.

    Not in it: the buckets (DIR/s3, to be copied with any S3 client), a root key that lies elsewhere, what runs now.
    """
    if database_url(data_dir).get_backend_name() != "sqlite":
        fail(f"Jobs are in PostgreSQL: back them up with pg_dump, and {data_dir} but for s3 and instances with any program.")
    if file.resolve().is_relative_to(data_dir.resolve()):
        fail(f"{file} is in {data_dir}, and would be in the next backup, and be lost with it. Choose another place.")
    partial, copy = file.with_name(f"{file.name}.partial"), file.with_name(f"{file.name}.db")
    # What is half written holds keys, and is not left behind.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        # Each is new, and nobody else's from its first moment.
        for path in (partial, copy):
            path.unlink(missing_ok=True)
            path.touch(mode=0o600, exist_ok=False)
        with stored(data_dir) as database:
            database.copy(copy)
        with tarfile.open(partial, "w:gz") as archive:
            archive.add(copy, DATABASE)
            for path in sorted(data_dir.iterdir()):
                if path.name not in _LEFT_OUT:
                    _add(archive, path, path.name)
            # After the database: of all that is in it, the trail tells.
            for path in sorted((data_dir / _AUDIT).rglob("*.jsonl")):
                _add_whole_lines(archive, path, str(path.relative_to(data_dir)))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")
    except sqlite3.Error as error:
        fail(f"{file} cannot be written: {error}")
    finally:
        for path in (partial, copy):
            # Where there cannot be one, there is none.
            with contextlib.suppress(OSError):
                path.unlink()
        signal.signal(signal.SIGTERM, before)
    typer.echo(f"{file} holds what the service in {data_dir} knew just now. Keep it as you keep keys.")


def restore(
    file: Annotated[Path, typer.Argument(help="What `phalanx backup` has written.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a data directory from a backup; `phalanx serve` then goes on from there, with the newest schema.

    Jobs that had instances when the backup was taken end as if their host had been lost, or begin again by their RetryStrategy.
    """
    data_dir = data_dir.resolve()
    if data_dir.exists() and not data_dir.is_dir():
        fail(f"{data_dir} is a file. Choose a directory: --data-dir DIR")
    if data_dir.is_mount():
        fail(
            f"{data_dir} is a file system of its own, and is not replaced. Choose a directory in it: --data-dir {data_dir}/NAME"
        )
    if data_dir.exists() and any(data_dir.iterdir()):
        fail(f"{data_dir} is not empty: nothing in it is overwritten. Choose another: --data-dir DIR")
    partial = data_dir.with_name(f"{data_dir.name}.restoring")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(mode=0o700, parents=True)
        with tarfile.open(file, "r:gz") as archive:
            archive.extractall(partial, filter="data")
        with contextlib.closing(Database(sqlite_url(partial / DATABASE))) as database:
            database.check()
        for directory in (partial / _AUDIT, partial / _AUDIT / S3_TRAIL):
            if directory.is_dir() and (fault := trail.verify(directory).fault) is not None:
                fail(f"{file} cannot be restored: the audit trail in it is not whole: {fault}.")
        if data_dir.exists():
            data_dir.rmdir()
        partial.replace(data_dir)
    except (OSError, EOFError, tarfile.TarError, DatabaseError, Unsuitable) as error:
        fail(f"{file} cannot be restored: {error}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    typer.echo(f"{data_dir} is as it was. Copy the buckets back once the service runs: phalanx serve --data-dir {data_dir}")


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add what lies there, but for what goes meanwhile: files are replaced by others while they are being copied."""
    with contextlib.suppress(FileNotFoundError):
        archive.add(path, name, recursive=False, filter=_lasting)
        if path.is_dir() and not path.is_symlink():
            for each in sorted(path.iterdir()):
                _add(archive, each, f"{name}/{each.name}")


def _lasting(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What of the data directory is copied as it lies there: neither logs, rotated ones either, nor what is half written."""
    return None if {".log", ".new"} & set(Path(info.name).suffixes) else info


def _add_whole_lines(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file that is being appended to, up to its last whole line."""
    content = path.read_bytes()
    content = content[: content.rfind(b"\n") + 1]
    info = archive.gettarinfo(path, name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
