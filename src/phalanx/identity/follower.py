"""A directory in a process that writes nothing: what another process changes is known with the next request."""

from __future__ import annotations

import threading

from phalanx.identity.directory import Directory


class Follower:
    """Keeps a directory in step with its store.

    SQLite counts what other connections have committed, and tells for a microsecond's work; of PostgreSQL everything is read
    anew.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        database = directory.database
        # Its own, and never in a transaction: in one it would go on seeing what was there at the beginning.
        self._connection = None if database.shared else database.engine.raw_connection()
        self._version: int | None = None

    def look(self) -> None:
        """Forget what is out of date. Raises what the store does while it is away."""
        if self._connection is None:
            self._directory.changed()
            return
        with self._lock:
            cursor = self._connection.cursor()
            try:
                cursor.execute("PRAGMA data_version")
                (version,) = cursor.fetchone() or (None,)
            finally:
                cursor.close()
            if version != self._version:
                self._directory.changed()
                self._version = version
