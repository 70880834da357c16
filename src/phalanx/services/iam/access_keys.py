"""Access keys of users."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.identity import access_keys, names
from phalanx.identity.directory import Directory
from phalanx.services.iam.entities import conflict, no_such, over, page, user_of
from phalanx.services.times import whole_second
from phalanx.store.identity import AccessKey
from phalanx.wire.service import Caller, Members

KEYS_PER_USER = 2


def create_access_key(directory: Directory, session: Session, caller: Caller, members: Members) -> Members:
    """A new key; its secret is shown once, here."""
    user = user_of(session, caller, members)
    if (session.scalar(select(func.count()).select_from(AccessKey).filter_by(user_name=user.name)) or 0) >= KEYS_PER_USER:
        raise over("AccessKeysPerUser", KEYS_PER_USER)
    made, secret = access_keys.make(session, directory.seal, user.name)
    key = {
        "UserName": user.name,
        "AccessKeyId": made.id,
        "Status": "Active",
        "SecretAccessKey": secret,
        "CreateDate": whole_second(made.created),
    }
    return {"AccessKey": key}


def list_access_keys(session: Session, caller: Caller, members: Members) -> Members:
    """The keys of a user, or of the caller, without their secrets."""
    user = user_of(session, caller, members)
    keys = session.scalars(select(AccessKey).filter_by(user_name=user.name)).all()
    shown = [
        (
            key.id,
            {
                "UserName": user.name,
                "AccessKeyId": key.id,
                "Status": "Active" if key.active else "Inactive",
                "CreateDate": whole_second(key.created),
            },
        )
        for key in keys
    ]
    return page("AccessKeyMetadata", shown, members)


def update_access_key(session: Session, caller: Caller, members: Members) -> Members:
    """Switch a key on or off."""
    key = _find(session, caller, members)
    active = members["Status"] == "Active"
    if not active:
        _spare_the_last(session, key)
    key.active = active
    return {}


def delete_access_key(session: Session, caller: Caller, members: Members) -> Members:
    """Delete a key: requests that it signs are refused from now on."""
    key = _find(session, caller, members)
    _spare_the_last(session, key)
    session.delete(key)
    return {}


def _find(session: Session, caller: Caller, members: Members) -> AccessKey:
    user = user_of(session, caller, members)
    key = session.get(AccessKey, members["AccessKeyId"])
    if key is None or key.user_name != user.name:
        raise no_such(f"The Access Key with id {members['AccessKeyId']}")
    return key


def _spare_the_last(session: Session, key: AccessKey) -> None:
    """Raise DeleteConflict where the administrator would be left without a key, and the service without an administrator."""
    if key.user_name != names.ADMINISTRATOR or not key.active:
        return
    others = select(AccessKey.id).where(AccessKey.user_name == names.ADMINISTRATOR, AccessKey.active, AccessKey.id != key.id)
    if session.scalar(others.limit(1)) is None:
        raise conflict("The administrator keeps one active access key. Create another one first.")
