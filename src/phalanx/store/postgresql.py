"""Connections to PostgreSQL, as `database` wants them."""

from __future__ import annotations

from typing import Any

from psycopg import Connection as PostgresConnection
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

_DEAD_MS = 15_000
"""A server's host that does not answer for so long is gone."""
_WRITERS = 0x7068616C616E78
"""The advisory lock of the transaction that writes."""
_STALLED_SECONDS = 8
"""A writer that leaves its transaction alone for so long loses it, so that others get their turn: its process is stopped."""


def engine(url: URL, session_name: str, lock_seconds: int) -> Engine:
    """An engine whose sessions the server knows by that name, and whose writers wait so long for each other at most."""
    made = create_engine(
        url.set(drivername="postgresql+psycopg"),
        # Each statement of a writer sees what was committed before it: of all writers, since it is the only one.
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": session_name,
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "tcp_user_timeout": _DEAD_MS,
            "options": f"-c lock_timeout={lock_seconds}s -c timezone=UTC",
        },
        pool_size=8,
        max_overflow=32,
        # Connections that a restart of the server has cut are seen before they are used.
        pool_pre_ping=True,
    )
    event.listen(made, "connect", _prepare)
    event.listen(made, "begin", _begin)
    return made


class _Text(StrDumperUnknown):
    """Texts as PostgreSQL takes them: it has no NUL, which programs may write to their logs."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def _prepare(connection: PostgresConnection, _: ConnectionPoolEntry) -> None:
    """What SQLAlchemy calls with a new connection."""
    connection.adapters.register_dumper(str, _Text)


def _begin(connection: Connection) -> None:
    """What SQLAlchemy calls when a transaction begins: one that writes waits for its turn."""
    if connection.get_execution_options().get("phalanx_write"):
        connection.exec_driver_sql(
            f"SELECT set_config('idle_in_transaction_session_timeout', '{_STALLED_SECONDS}s', true),"
            f" pg_advisory_xact_lock({_WRITERS})"
        )
