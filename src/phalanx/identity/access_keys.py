"""Access keys that do not expire, as they are made: the secret is told once, and stored sealed."""

from __future__ import annotations

from sqlalchemy.orm import Session

from phalanx.identity import names
from phalanx.identity.seal import Seal
from phalanx.store.base import now_ms
from phalanx.store.identity import AccessKey


def make(transaction: Session, seal: Seal, user: str) -> tuple[AccessKey, str]:
    """A new, active access key of a user, and its secret."""
    id, secret = names.access_key_id("AKIA"), names.secret_key()
    key = AccessKey(id=id, secret=seal.close(secret, id), user_name=user, active=True, created=now_ms())
    transaction.add(key)
    return key, secret
