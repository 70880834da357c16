"""Keys that are looked at whatever failed from their address: those with which the platform signs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sqlalchemy import select

from phalanx.identity import names
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.identity import AccessKey, Role, Session

EVERY_SECONDS = 1.0
"""How often the database is asked at most, and after how long a new key is known: the platform tries again for longer."""


class Exempt:
    """The ids of the platform's own key and of SageMaker's sessions of roles, kept in memory.

    All are read at once: what a flood of made-up keys costs the database does not grow with it, nor can it crowd out the
    look-up of a key that is the platform's. Safe from any thread.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._reading = threading.Lock()
        self._read_at = float("-inf")
        self._keys: frozenset[str] = frozenset()

    def has(self, access_key: str) -> bool:
        """Whether the platform signs with this key. Raises what the database does while it is away."""
        if (
            access_key not in self._keys
            and self._clock() - self._read_at >= EVERY_SECONDS
            and self._reading.acquire(blocking=False)
        ):
            try:
                self._read_at = self._clock()
                self._keys = self._read()
            finally:
                self._reading.release()
        return access_key in self._keys

    def _read(self) -> frozenset[str]:
        keys = select(AccessKey.id).filter_by(user_name=names.PLATFORM)
        sessions = (
            select(Session.id)
            .join(Role, (Role.name == Session.owner) & (Role.id == Session.owner_id))
            .where(Session.kind == "role", Session.name == names.SESSION, Session.expires > now_ms())
        )
        with self._database.read() as transaction:
            return frozenset([*transaction.scalars(keys), *transaction.scalars(sessions)])
