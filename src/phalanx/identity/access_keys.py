"""Access keys that do not expire, as they are made: the secret is told once, and stored sealed."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.identity import names
from phalanx.identity.seal import Seal
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.identity import AccessKey, User


def make(transaction: Session, seal: Seal, user: str) -> tuple[AccessKey, str]:
    """A new, active access key of a user, and its secret."""
    id, secret = names.access_key_id("AKIA"), names.secret_key()
    key = AccessKey(id=id, secret=seal.close(secret, id), user_name=user, active=True, created=now_ms())
    transaction.add(key)
    return key, secret


def administrators(database: Database, seal: Seal) -> tuple[str, str]:
    """The administrator's oldest active access key, id and secret; both, and the user, are made where they are missing.

    Raises seal.Broken.
    """
    with database.write() as transaction:
        if transaction.get(User, names.ADMINISTRATOR) is None:
            transaction.add(User(name=names.ADMINISTRATOR, id=names.unique_id("AIDA"), tags={}))
        return _oldest(transaction, seal, names.ADMINISTRATOR)


def platforms(database: Database, seal: Seal) -> tuple[str, str]:
    """The platform's own access key, id and secret, with which it reaches the embedded S3 and which no change of anybody's keys
    takes away: made once. Raises seal.Broken.

    It never expires, because an instance is told it once, and may outlive the service that told it.
    """
    with database.write() as transaction:
        return _oldest(transaction, seal, names.PLATFORM)


def _oldest(transaction: Session, seal: Seal, user: str) -> tuple[str, str]:
    """The oldest active access key of a user, made where there is none."""
    keys = select(AccessKey).filter_by(user_name=user, active=True).order_by(AccessKey.created, AccessKey.id)
    key = transaction.scalars(keys).first()
    if key is not None:
        return key.id, seal.open(key.secret, key.id)
    made, secret = make(transaction, seal, user)
    return made.id, secret
