"""The store of a service, as commands find and open it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError
from sqlalchemy.orm import Session

from phalanx.cli.settings import fail
from phalanx.linux import files
from phalanx.store.database import UNAVAILABLE, Database, sqlite_url
from phalanx.store.jobs import TrainingJob

DATABASE = "phalanx.db"
"""The file of the data directory that is the database, where that is SQLite."""


def database_url(data_dir: Path, given: str | None = None) -> URL:
    """Where a service keeps what it has acknowledged: `given`, which is remembered; what was given to an earlier start; else
    DIR/phalanx.db. Raises typer.Exit with a word to the user for a URL that cannot be taken."""
    known = data_dir / "database"
    if given is None:
        return _checked(known.read_text()) if known.exists() else make_url(sqlite_url(data_dir / DATABASE))
    url = _checked(given)
    if (data_dir / DATABASE).exists():
        fail(f"{data_dir} holds a service's jobs in {DATABASE}, which do not move. Give --database with a new --data-dir.")
    if not known.exists() or known.read_text() != given:
        files.replace(known, given, mode=0o644)
    return url


def _checked(text: str) -> URL:
    """A URL of PostgreSQL without a secret, and over TLS that knows the server where it leaves this host."""
    try:
        url = make_url(text)
    except ArgumentError:
        fail("--database is no URL. Give postgresql://USER@HOST/DATABASE")
    if url.get_backend_name() not in ("postgresql", "postgres"):
        fail("--database takes a URL of PostgreSQL: postgresql://USER@HOST/DATABASE. Without it jobs are kept in SQLite.")
    if url.password is not None or "password" in url.query:
        fail("A password in --database would be seen by all who list processes. Give it in PGPASSWORD, or in ~/.pgpass.")
    url = url.set(drivername="postgresql")
    hosts = [url.host or "", *(host for name in ("host", "hostaddr") for host in str(url.query.get(name, "")).split(","))]
    if not any(hosts):
        hosts = [os.environ.get("PGHOST", ""), os.environ.get("PGHOSTADDR", "")]
    if "service" not in url.query and "PGSERVICE" not in os.environ and all(map(_is_here, hosts)):
        return url
    if url.query.get("sslmode", "verify-full") != "verify-full":
        fail("A database on another host is spoken to over TLS with sslmode=verify-full alone: leave sslmode out.")
    return url.update_query_dict({"sslmode": "verify-full"})


def _is_here(host: str) -> bool:
    """Whether that is a Unix socket's directory (libpq's default where there is none), or a loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def stored(data_dir: Path) -> Iterator[Database]:
    """The store of the service with that data directory. Raises typer.Exit with a word to the user where none has run, or the
    database cannot be used."""
    url, kept = database_url(data_dir), data_dir / DATABASE
    if url.get_backend_name() == "sqlite":
        if not kept.exists():
            fail(f"No service has run with the data directory {data_dir}.")
        if os.statvfs(data_dir).f_flag & os.ST_RDONLY and not kept.with_name(f"{DATABASE}-wal").exists():
            # A snapshot, mounted for an auditor. SQLite would want to make files beside it to share it with writers.
            query = {"mode": "ro", "immutable": "1", "uri": "true"}
            url = URL.create("sqlite", database=f"file:{quote(str(kept.absolute()))}", query=query)
    database = Database(url)
    try:
        yield database
    except UNAVAILABLE as error:
        fail(f"The database cannot be reached: {error.orig if isinstance(error, DBAPIError) else error}")
    except DatabaseError as error:
        fail(f"The database cannot be used: {error.orig}")
    finally:
        database.close()


def stored_job(session: Session, job: str, data_dir: Path) -> TrainingJob:
    """A training job by its name. Raises typer.Exit with a word to the user where there is none."""
    found = session.get(TrainingJob, job)
    if found is None:
        fail(f"There is no training job {job} in {data_dir}.")
    return found
