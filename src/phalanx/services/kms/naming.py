"""Keys by the names that most operations take: id or ARN, and no alias."""

from __future__ import annotations

from sqlalchemy.orm import Session

from phalanx.jobs import keyring
from phalanx.store.keys import Key


def named(session: Session, identifier: str) -> Key:
    """The key of that id or ARN. Raises KeyFault NotFoundException, also for an alias."""
    key = keyring.find(session, identifier)
    if identifier not in (key.id, key.arn):
        raise keyring.KeyFault("NotFoundException", f"Invalid keyId {identifier[:256]}")
    return key


def changeable(session: Session, identifier: str) -> Key:
    """A key that is not to be deleted. Raises KeyFault as `named` does, and KMSInvalidStateException."""
    key = named(session, identifier)
    if key.deletion is not None:
        raise keyring.KeyFault("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    return key


def enabled(session: Session, identifier: str) -> Key:
    """A key that may be used. Raises KeyFault as `named` and `keyring.usable` do."""
    return keyring.usable(session, named(session, identifier).id)
