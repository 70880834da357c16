"""The database: one engine, transactions, and migrations to the newest schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry


def sqlite_url(path: Path) -> str:
    """URL of a SQLite database file."""
    return f"sqlite:///{path}"


class Database:
    """Everything that Phalanx has acknowledged. SQLite (WAL) or, by URL, another database that SQLAlchemy speaks."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

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

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may change rows; committed at the end, rolled back on an exception.

        On SQLite it takes the write lock at its start (BEGIN IMMEDIATE), so what it reads is still true when it writes.
        """
        with self._sessions() as session:
            session.connection(execution_options={"phalanx_write": True})
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view that changes nothing. What it loaded stays readable afterwards."""
        with self._sessions() as session:
            try:
                yield session
            finally:
                # Rolling back expires what the session still holds.
                session.expunge_all()
                session.rollback()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # pysqlite must not open transactions on its own: `_begin_sqlite` does, with the right kind of lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: object) -> None:
    options = connection.get_execution_options()  # type: ignore[attr-defined]
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("phalanx_write") else "BEGIN")  # type: ignore[attr-defined]
