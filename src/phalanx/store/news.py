"""What replicas tell each other: that something was written, with the commit that wrote it (PostgreSQL's LISTEN and NOTIFY)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog
from psycopg import Connection as PostgresConnection
from psycopg import Error

from phalanx.store.database import CHANNEL, UNAVAILABLE, Database

LISTEN_SECONDS = 1.0
"""How long it is listened before it is asked whether the server is still there."""
FRESH_SECONDS = 3.0
"""For so long after the server's last word it is trusted that nothing was missed."""
RETRY_SECONDS = 0.5

log = structlog.get_logger()


class News:
    """Calls `handlers` by what was told. Each is also called when something may have been missed, and has to return soon."""

    def __init__(self, database: Database, handlers: Mapping[str, Callable[[], None]]) -> None:
        self._database = database
        self._handlers = handlers
        self._heard = -FRESH_SECONDS
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="news", daemon=True)

    def open(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def fresh(self) -> bool:
        """Whether all was heard that was told until a few seconds ago."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self._heard < FRESH_SECONDS

    def close(self) -> None:
        """Listen no more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except (*UNAVAILABLE, Error) as error:
                log.warning("other replicas are not heard now", reason=str(error).splitlines()[0])
                self._closing.wait(RETRY_SECONDS)

    def _listen(self) -> None:
        with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                driver = connection.connection.driver_connection
                assert isinstance(driver, PostgresConnection)  # noqa: S101
                driver.execute(f"LISTEN {CHANNEL}")
                # What was told before that was missed.
                for handler in self._handlers.values():
                    handler()
                while not self._closing.is_set():
                    asked = time.clock_gettime(time.CLOCK_BOOTTIME)
                    driver.execute("SELECT 1")
                    told = [each.payload for each in driver.notifies(timeout=0)]
                    told += [each.payload for each in driver.notifies(timeout=LISTEN_SECONDS, stop_after=1)]
                    for what in dict.fromkeys(told):
                        if what in self._handlers:
                            self._handlers[what]()
                    self._heard = asked
            finally:
                # Not given back to the pool, where it would go on listening.
                connection.invalidate()
