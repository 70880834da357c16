"""Connections to PostgreSQL, as `database` wants them."""

from __future__ import annotations

from typing import Any

from psycopg import Connection as PostgresConnection
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection
from sqlalchemy.pool import ConnectionPoolEntry

_WRITERS = 0x7068616C616E78
"""The advisory lock of the transaction that writes."""
_STALLED_SECONDS = 8
"""A writer that leaves its transaction alone for so long loses it, so that others get their turn: its process is stopped."""


class _Text(StrDumperUnknown):
    """Texts as PostgreSQL takes them: it has no NUL, which programs may write to their logs."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def prepare(connection: PostgresConnection, _: ConnectionPoolEntry) -> None:
    """What SQLAlchemy calls with a new connection."""
    connection.adapters.register_dumper(str, _Text)


def begin(connection: Connection) -> None:
    """What SQLAlchemy calls when a transaction begins: one that writes waits for its turn."""
    if connection.get_execution_options().get("phalanx_write"):
        connection.exec_driver_sql(
            f"SELECT set_config('idle_in_transaction_session_timeout', '{_STALLED_SECONDS}s', true),"
            f" pg_advisory_xact_lock({_WRITERS})"
        )
