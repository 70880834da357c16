"""Signatures that were used, where several replicas answer: what one has taken, no other takes again."""

from __future__ import annotations

import threading
import time

from sqlalchemy import text

from phalanx.store.database import Database
from phalanx.wire.replay import GRACE, KEPT, REUSED
from phalanx.wire.sigv4 import Claim, Reason, Refused

FORGET_SECONDS = 60.0
"""How often those are forgotten that are no longer valid."""
_NOW = "floor(1000 * extract(epoch FROM clock_timestamp()))::bigint"
_TAKE = text(
    f"INSERT INTO used_signatures (signature, used) VALUES (:signature, {_NOW})"  # noqa: S608
    f" ON CONFLICT (signature) DO UPDATE SET used = used_signatures.used RETURNING {_NOW} - used"
)
_FORGET = text(f"DELETE FROM used_signatures WHERE used < {_NOW} - {round(1000 * KEPT)}")  # noqa: S608


class SharedReplays:
    """As `wire.replay.Replays`, kept in PostgreSQL, by whose clock it goes."""

    def __init__(self, database: Database) -> None:
        # No writer's turn is waited for: the statement is a transaction of its own, and nothing depends on it but itself.
        self._engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = threading.Lock()
        self._forgotten = time.monotonic()

    def take(self, claim: Claim) -> None:
        """See Replays. Raises Refused."""
        if claim.expires is not None:
            return
        with self._engine.connect() as connection:
            age = connection.execute(_TAKE, {"signature": claim.signature}).scalar_one()
            if self._due():
                connection.execute(_FORGET)
        if age > 1000 * GRACE:
            raise Refused(Reason.BAD_SIGNATURE, REUSED)

    def _due(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._forgotten < FORGET_SECONDS:
                return False
            self._forgotten = now
            return True
