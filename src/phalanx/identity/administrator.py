"""The administrator, whose key is there from the first start."""

from __future__ import annotations

from sqlalchemy import select

from phalanx.identity import access_keys, names
from phalanx.identity.seal import Seal
from phalanx.store.database import Database
from phalanx.store.identity import AccessKey, User


def ensure(database: Database, seal: Seal) -> tuple[str, str]:
    """The administrator's oldest active access key, id and secret; both, and the user, are made where they are missing.

    Raises seal.Broken.
    """
    with database.write() as transaction:
        if transaction.get(User, names.ADMINISTRATOR) is None:
            transaction.add(User(name=names.ADMINISTRATOR, id=names.unique_id("AIDA"), tags={}))
        keys = select(AccessKey).filter_by(user_name=names.ADMINISTRATOR, active=True).order_by(AccessKey.created, AccessKey.id)
        key = transaction.scalars(keys).first()
        if key is not None:
            return key.id, seal.open(key.secret, key.id)
        made, secret = access_keys.make(transaction, seal, names.ADMINISTRATOR)
        return made.id, secret
