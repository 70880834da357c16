"""The database: one engine, transactions, and migrations to the newest schema."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry


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


class Database:
    """Everything that Phalanx has acknowledged. SQLite (WAL) or, by URL, another database that SQLAlchemy speaks."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        path = self._engine.url.database if self._engine.dialect.name == "sqlite" else None
        self._wal = _Wal(path) if path else None
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._turn = threading.Lock() if self._wal is not None else contextlib.nullcontext()
        """Writers queue here: SQLite's own wait for the write lock sleeps and polls, up to 100 ms at a time."""

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine."""
        return self._engine

    def migrate(self) -> None:
        """Bring the schema to the newest migration; nothing happens when it is there already."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may change rows; committed at the end, rolled back on an exception.

        On SQLite it takes the write lock at its start (BEGIN IMMEDIATE), so what it reads is still true when it writes.
        """
        with self._turn, self._sessions() as session:
            session.connection(execution_options={"phalanx_write": True})
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise
        if self._wal is not None:
            self._wal.sync()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view that changes nothing. What it loaded stays readable afterwards."""
        with self._sessions() as session:
            try:
                yield session
            finally:
                # Rolling back expires what the session still holds.
                session.expunge_all()
                session.rollback()

    @contextlib.contextmanager
    def rows(self) -> Iterator[Connection]:
        """A consistent view that gives plain rows: for what is asked with every request, where a session costs more than the
        database does."""
        with self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # pysqlite must not open transactions on its own: `_begin_sqlite` does, with the right kind of lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: object) -> None:
    options = connection.get_execution_options()  # type: ignore[attr-defined]
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("phalanx_write") else "BEGIN")  # type: ignore[attr-defined]
