"""Where a fleet keeps its ledger so that every replica of the control plane finds it: in the store."""

from __future__ import annotations

from phalanx.fleet.base import Unreachable
from phalanx.store.database import UNAVAILABLE, Database
from phalanx.store.replicas import Document

_NAME = "ray ledger"
"""Of the ledger's document."""


class StoreShelf:
    """Implements fleet.ray.ledger.Shelf."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> str | None:
        """See Shelf."""
        try:
            with self._database.read() as session:
                found = session.get(Document, _NAME)
        except UNAVAILABLE as error:
            raise Unreachable(f"The fleet's ledger cannot be read: {error}") from error
        return None if found is None else found.content

    def save(self, content: str) -> None:
        """See Shelf."""
        try:
            with self._database.write() as session:
                session.merge(Document(name=_NAME, content=content))
        except UNAVAILABLE as error:
            raise Unreachable(f"The fleet's ledger cannot be written: {error}") from error
