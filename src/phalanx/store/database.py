"""The database: one engine, transactions, and migrations to the newest schema.

What only a new schema needs, or PostgreSQL, is imported then: each start, each command and S3's door open a database, and
Alembic and psycopg take half a second.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from prometheus_client import Histogram
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, inspect, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry


class Deposed(Exception):
    """Another replica leads: nothing that this one decided while it did is written any more."""


UNAVAILABLE = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError, Deposed)
"""What a transaction raises where the database cannot be reached, is locked for too long, or has no room: nobody was told that
it is done, and it may be repeated."""
_LOCK_SECONDS = 30
"""How long a writer waits for another one."""
WRITE_SECONDS = Histogram(
    "phalanx_store_write_seconds",
    "From when a transaction that writes asked for its turn until it was on the disk.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
_OLDEST = 14
"""PostgreSQL's oldest version that knows all that is asked of it."""
REVISION = "0008"
"""The schema of this version: the last of `migrations`."""
CHANNEL = "phalanx"
"""On which replicas hear of each other's commits (PostgreSQL's NOTIFY)."""
WRITTEN = "written"
"""What is told there of every transaction of a replica that does not lead."""


def _revision(connection: Connection) -> str | None:
    """The schema that a database has, where Alembic keeps it; None where it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()


def sqlite_url(path: Path) -> str:
    """URL of a SQLite database file."""
    return f"sqlite:///{path}"


class _Wal:
    """Brings commits to the disk, those that wait at the same time together.

    SQLite commits without it (`synchronous=NORMAL`), while the write lock is held only for microseconds; nobody is told of
    a commit before the log that holds it is on the disk. What a crash may leave is the same as with `synchronous=FULL`.
    """

    def __init__(self, database: str) -> None:
        self._path = database + "-wal"
        self._condition = threading.Condition()
        self._asked = 0
        self._done = 0
        self._busy = False

    def sync(self) -> None:
        """Return when all that was committed before is on the disk. Raises OSError."""
        with self._condition:
            self._asked += 1
            mine = self._asked
            while self._done < mine:
                if self._busy:
                    self._condition.wait()
                    continue
                self._busy, covered = True, self._asked
                self._condition.release()
                try:
                    self._write()
                finally:
                    self._condition.acquire()
                    self._busy = False
                    self._condition.notify_all()
                self._done = covered

    def _write(self) -> None:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # The last connection that closed has moved everything into the database.
            return
        try:
            os.fdatasync(file)
        finally:
            os.close(file)


class Unsuitable(Exception):
    """A database that cannot hold what Phalanx keeps; says why."""


class Database:
    """Everything that Phalanx has acknowledged: in SQLite (WAL), or in PostgreSQL.

    Both give the same: one writer at a time, who sees what all before it have written; readers who see one moment and wait for
    nobody; texts that sort by their code points. `url` is SQLAlchemy's. Raises ValueError for another database.
    """

    def __init__(self, url: str | URL) -> None:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        self.url = url
        self.session_name = f"phalanx {secrets.token_hex(8)}"
        """What PostgreSQL calls this object's sessions."""
        self.shared = kind == "postgresql"
        """Whether other replicas may write too."""
        self._term: int | None = None
        self._deposed: Callable[[], None] = lambda: None
        if kind == "sqlite":
            self._engine = create_engine(parsed)
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
            self._readers = self._engine
        elif kind == "postgresql":
            from phalanx.store import postgresql

            self._engine = postgresql.engine(parsed, self.session_name, _LOCK_SECONDS)
            self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        else:
            raise ValueError(f"{kind} is neither sqlite nor postgresql")
        path = None if self.shared else parsed.database
        self._wal = _Wal(path) if path else None
        # SQLite makes its log with the mode of the database.
        self._files = [f"{path}{suffix}" for suffix in ("", "-wal", "-shm")] if path else []
        self._writers = self._engine.execution_options(phalanx_write=True)
        self._postponing = threading.local()
        """`owed`: what the thread has postponed, while it is in `postponing`."""
        self._turn = threading.Lock()
        """Writers queue here: SQLite's own wait for the write lock sleeps and polls, up to 100 ms at a time, and PostgreSQL's
        takes a connection for each that waits."""

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine."""
        return self._engine

    def migrate(self) -> None:
        """Bring the schema to the newest migration; nothing happens when it is there already. A file is its owner's alone.

        Raises Unsuitable where the database does not keep texts in UTF-8, the server is too old, or a newer version of Phalanx
        has written it.
        """
        if self._files:
            Path(self._files[0]).touch(mode=0o600)
        for path in self._files:
            # What is another user's is theirs to keep.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.chmod(path, 0o600)
        with self._engine.connect().execution_options(phalanx_write=True) as connection, connection.begin():
            if self.shared:
                encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
                if int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) < 10_000 * _OLDEST:
                    raise Unsuitable(f"PostgreSQL {_OLDEST} or newer is needed")
                if encoding != "UTF8":
                    raise Unsuitable(f"the database's encoding is {encoding}: make it with ENCODING 'UTF8' TEMPLATE template0")
            found = _revision(connection)
            if found != REVISION:
                from phalanx.store import schema

                if found is not None and found not in schema.known():
                    raise Unsuitable(
                        f"it is of a newer Phalanx (its schema is {found}): install that, or restore the backup from before"
                    )
                schema.upgrade(connection)

    def current(self) -> bool:
        """Whether the schema is this version's own."""
        with self._engine.connect() as connection:
            return _revision(connection) == REVISION

    def fence(self, term: int, deposed: Callable[[], None]) -> None:
        """From now on write only while the leader's term is `term`; where a transaction begins later, `deposed` is called."""
        self._term, self._deposed = term, deposed

    def copy(self, path: Path) -> None:
        """Write a copy of a SQLite database into the file `path`, as it is at one moment, while others write on.

        Raises sqlite3.Error, as where the disk is full.
        """
        with self._engine.connect() as connection, contextlib.closing(sqlite3.connect(path)) as target:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)  # noqa: S101
            driver.backup(target)

    def check(self) -> None:
        """Raises Unsuitable for a SQLite database that is damaged, or that a newer version of Phalanx has written."""
        from phalanx.store import schema

        with self._engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
            if found != "ok":
                raise Unsuitable(f"the database is damaged: {found}")
            revision = _revision(connection)
        if revision not in schema.known():
            raise Unsuitable(f"the database has the schema {revision}, which this version of Phalanx does not know")

    @contextlib.contextmanager
    def write(self, tell: str | None = None) -> Iterator[Session]:
        """A transaction that may change rows; committed at the end, rolled back on an exception, and then on the disk.

        With its commit other replicas are told `tell` (store.news); those that follow tell the leader of each.

        There is one at a time: what it reads is still true when it writes. SQLite has a lock for that (BEGIN IMMEDIATE); in
        PostgreSQL it is an advisory one, so that other processes of Phalanx wait for it too.
        """
        with self.changes(tell=tell) as connection, session_on(connection) as session:
            yield session

    @contextlib.contextmanager
    def changes(self, *, may_wait: bool = False, tell: str | None = None) -> Iterator[Connection]:
        """Like `write`, for statements: with every request a session would cost more than the database does. It need not be on
        the disk at the end where it `may_wait` and the thread is `postponing`."""
        begun = time.perf_counter()
        with self._turn, self._writers.connect() as connection, connection.begin():
            # Nobody takes the lead before this transaction has ended: that is a writer's work, too.
            if self._term is not None and connection.exec_driver_sql("SELECT term FROM leader").scalar_one() != self._term:
                self._deposed()
                raise Deposed
            yield connection
            if self.shared:
                for what in (tell, WRITTEN if self._term is None else None):
                    if what is not None:
                        connection.exec_driver_sql(f"NOTIFY {CHANNEL}, '{what}'")
        owed: list[Callable[[], None]] | None = getattr(self._postponing, "owed", None)
        if may_wait and owed is not None and self._wal is not None:
            owed.append(partial(_written, begun))
        else:
            self.sync()
            _written(begun)

    @contextlib.contextmanager
    def postponing(self) -> Iterator[list[Callable[[], None]]]:
        """What this thread writes meanwhile, and may wait, need not be on the disk at the end.

        Gives what is to be called once `sync` has returned: whoever postpones tells nobody before that anything is done.
        """
        owed: list[Callable[[], None]] = []
        self._postponing.owed = owed
        try:
            yield owed
        finally:
            self._postponing.owed = None

    def sync(self) -> None:
        """Return when all that was committed before is on the disk. Raises OSError."""
        if self._wal is not None:
            self._wal.sync()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view that changes nothing. What it loaded stays readable afterwards."""
        with self.rows() as connection, session_on(connection) as session:
            try:
                yield session
            finally:
                # Nothing is flushed, nor expired.
                session.expunge_all()

    @contextlib.contextmanager
    def rows(self) -> Iterator[Connection]:
        """A consistent view that gives plain rows: for what is asked with every request, where a session costs more than the
        database does."""
        with self._readers.connect() as connection:
            connection.begin()
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


@contextlib.contextmanager
def session_on(connection: Connection) -> Iterator[Session]:
    """A session that is part of a connection's transaction: what it has to write is written at its end, and committed with the
    rest."""
    with Session(connection, expire_on_commit=False, join_transaction_mode="rollback_only") as session:
        yield session
        session.flush()


def _written(begun: float) -> None:
    WRITE_SECONDS.observe(time.perf_counter() - begun)


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # pysqlite must not open transactions on its own: `_begin_sqlite` does, with the right kind of lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={1000 * _LOCK_SECONDS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # By the driver: SQLAlchemy's way takes half of what an empty transaction costs.
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101
    words = "BEGIN IMMEDIATE" if connection.get_execution_options().get("phalanx_write") else "BEGIN"
    try:
        driver.execute(words)
    except sqlite3.Error as error:
        raise exc.DBAPIError.instance(words, None, error, sqlite3.Error) from error
