"""Rotation: new material for a key, every so many days or when asked for. What it encrypted before it goes on opening."""

from __future__ import annotations

from sqlalchemy import func, select

from phalanx.jobs import keyring
from phalanx.services.kms import paging
from phalanx.services.kms.errors import answered, refuse
from phalanx.services.kms.naming import changeable, enabled, named
from phalanx.services.times import moment
from phalanx.store.base import DAY_MS, now_ms
from phalanx.store.database import Database
from phalanx.store.keys import KeyRotation
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

DAYS = 365
"""Days between two rotations, where EnableKeyRotation does not tell."""
ON_DEMAND = 25
"""Rotations of a key that may be asked for, as with AWS."""
ROTATIONS_PER_PAGE = 100


@answered
def enable(database: Database, _caller: Caller, members: Members) -> Members:
    """Rotate a key every RotationPeriodInDays days from now on. Given once more with the same period it changes nothing."""
    with database.write() as session:
        key = enabled(session, members["KeyId"])
        days = members.get("RotationPeriodInDays", key.rotation_days or DAYS)
        if days != key.rotation_days:
            key.rotation_days, key.rotates = days, now_ms() + days * DAY_MS
    return {}


@answered
def disable(database: Database, _caller: Caller, members: Members) -> Members:
    """Rotate a key no more by itself."""
    with database.write() as session:
        key = enabled(session, members["KeyId"])
        key.rotation_days = key.rotates = None
    return {}


@answered
def status(database: Database, keys: keyring.Keyring, _caller: Caller, members: Members) -> Members:
    """Whether a key is rotated by itself, how often, and when next. One that is to be deleted is not."""
    keys.rotate_due()
    with database.read() as session:
        key = named(session, members["KeyId"])
    if key.rotates is None or key.deletion is not None:
        return {"KeyRotationEnabled": False, "KeyId": key.id}
    return {
        "KeyRotationEnabled": True,
        "KeyId": key.id,
        "RotationPeriodInDays": key.rotation_days,
        "NextRotationDate": moment(key.rotates),
    }


@answered
def on_demand(database: Database, keys: keyring.Keyring, _caller: Caller, members: Members) -> Members:
    """Rotate a key now; when it is rotated by itself stays as it is."""
    with database.write() as session:
        key = enabled(session, members["KeyId"])
        asked = select(func.count()).where(KeyRotation.key == key.id, KeyRotation.on_demand)
        if (session.scalar(asked) or 0) >= ON_DEMAND:
            raise AwsError(
                "LimitExceededException",
                f"{key.arn} was rotated on demand {ON_DEMAND} times, which is as often as a key may be. Make another key.",
            )
        keys.rotate(session, key, on_demand=True)
        return {"KeyId": key.id}


@answered
def listing(database: Database, keys: keyring.Keyring, _caller: Caller, members: Members) -> Members:
    """The rotations of a key, the first one first."""
    refuse(members, IncludeKeyMaterial=("ROTATIONS_ONLY",))
    limit = members.get("Limit", ROTATIONS_PER_PAGE)
    after = paging.after(members, int)
    keys.rotate_due()
    with database.read() as session:
        key = changeable(session, members["KeyId"])
        query = select(KeyRotation).where(KeyRotation.key == key.id).order_by(KeyRotation.number).limit(limit + 1)
        if after is not None:
            query = query.where(KeyRotation.number > after[0])
        found = session.scalars(query).all()
    return paging.page("Rotations", found, limit, _shown, lambda rotation: [rotation.number])


def _shown(rotation: KeyRotation) -> Members:
    return {
        "KeyId": rotation.key,
        "RotationDate": moment(rotation.rotated),
        "RotationType": "ON_DEMAND" if rotation.on_demand else "AUTOMATIC",
    }
