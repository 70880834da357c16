"""The platform itself, as it reaches the embedded S3: with a key of its own, which no change of anybody's keys takes away."""

from __future__ import annotations

from sqlalchemy import select

from phalanx.identity import access_keys, names
from phalanx.identity.seal import Seal
from phalanx.store.database import Database
from phalanx.store.identity import AccessKey


def ensure(database: Database, seal: Seal) -> tuple[str, str]:
    """The platform's access key, id and secret: made once. Raises seal.Broken.

    It never expires, because an instance is told it once, and may outlive the service that told it.
    """
    with database.write() as transaction:
        key = transaction.scalar(select(AccessKey).filter_by(user_name=names.PLATFORM))
        if key is not None:
            return key.id, seal.open(key.secret, key.id)
        made, secret = access_keys.make(transaction, seal, names.PLATFORM)
        return made.id, secret
