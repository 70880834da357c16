"""Keys: how they come to be, and when they may be used."""

from __future__ import annotations

from sqlalchemy import select, tuple_

from phalanx.jobs import keyring
from phalanx.services.kms import paging, policies, tags
from phalanx.services.kms.errors import answered, refuse
from phalanx.services.kms.naming import changeable, named
from phalanx.services.times import moment
from phalanx.store.base import DAY_MS, now_ms
from phalanx.store.database import Database
from phalanx.store.keys import Key
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

KEYS_PER_PAGE = 100
WINDOW = (7, 30)
"""Fewest and most days from ScheduleKeyDeletion to the end of a key; the most is also the default."""


def create(database: Database, keys: keyring.Keyring, caller: Caller, members: Members) -> Members:
    """A new symmetric key, which everybody in the account may use who may use KMS."""
    if "KeySpec" in members and "CustomerMasterKeySpec" in members:
        raise AwsError("ValidationException", "You cannot specify KeySpec and CustomerMasterKeySpec in the same request.")
    refuse(
        members,
        KeyUsage=("ENCRYPT_DECRYPT",),
        KeySpec=("SYMMETRIC_DEFAULT",),
        CustomerMasterKeySpec=("SYMMETRIC_DEFAULT",),
        Origin=("AWS_KMS",),
        MultiRegion=(False,),
        CustomKeyStoreId=(),
        XksKeyId=(),
    )
    policy = policies.checked(members["Policy"], caller) if "Policy" in members else None
    asked = tags.checked(members.get("Tags", []))
    with database.write() as session:
        keyring.purge(session)
        key = keys.create(session, caller.arn_of("kms", "key/"), members.get("Description", ""), policy)
        tags.attach(session, key.arn, asked)
    return {"KeyMetadata": metadata(key)}


@answered
def describe(database: Database, _caller: Caller, members: Members) -> Members:
    """A key by its id, ARN or alias."""
    with database.read() as session:
        return {"KeyMetadata": metadata(keyring.find(session, members["KeyId"]))}


def listing(database: Database, _caller: Caller, members: Members) -> Members:
    """The keys, in the order in which they were made."""
    limit = members.get("Limit", KEYS_PER_PAGE)
    after = paging.after(members, int, str)
    with database.read() as session:
        query = select(Key).where((Key.deletion.is_(None)) | (Key.deletion > now_ms()))
        if after is not None:
            query = query.where(tuple_(Key.created, Key.id) > tuple_(*after))
        found = session.scalars(query.order_by(Key.created, Key.id).limit(limit + 1)).all()
    return paging.page(
        "Keys", found, limit, lambda key: {"KeyId": key.id, "KeyArn": key.arn}, lambda key: [key.created, key.id]
    )


@answered
def enable(database: Database, _caller: Caller, members: Members) -> Members:
    """Let a key be used again."""
    return _switch(database, members["KeyId"], True)


@answered
def disable(database: Database, _caller: Caller, members: Members) -> Members:
    """Let a key not be used. Jobs that run already have what they need of it."""
    return _switch(database, members["KeyId"], False)


@answered
def schedule_deletion(database: Database, _caller: Caller, members: Members) -> Members:
    """Let a key end after a number of days; until then it cannot be used, and its deletion can be cancelled."""
    days = members.get("PendingWindowInDays", WINDOW[1])
    if not WINDOW[0] <= days <= WINDOW[1]:
        raise AwsError("ValidationException", f"PendingWindowInDays must be between {WINDOW[0]} and {WINDOW[1]}, inclusive.")
    with database.write() as session:
        keyring.purge(session)
        key = changeable(session, members["KeyId"])
        key.deletion = now_ms() + days * DAY_MS
        key.enabled = False
        return {
            "KeyId": key.arn,
            "DeletionDate": moment(key.deletion),
            "KeyState": "PendingDeletion",
            "PendingWindowInDays": days,
        }


@answered
def cancel_deletion(database: Database, _caller: Caller, members: Members) -> Members:
    """Keep a key that was to be deleted: it is disabled then."""
    with database.write() as session:
        key = named(session, members["KeyId"])
        if key.deletion is None:
            raise AwsError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
        key.deletion = None
        return {"KeyId": key.arn}


@answered
def update_description(database: Database, _caller: Caller, members: Members) -> Members:
    """Describe a key anew."""
    with database.write() as session:
        changeable(session, members["KeyId"]).description = members["Description"]
    return {}


def metadata(key: Key) -> Members:
    """KeyMetadata of a key."""
    return {
        "AWSAccountId": key.arn.split(":")[4],
        "KeyId": key.id,
        "Arn": key.arn,
        "CreationDate": moment(key.created),
        "Enabled": key.enabled,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "PendingDeletion" if key.deletion is not None else "Enabled" if key.enabled else "Disabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": False,
        **({} if key.deletion is None else {"DeletionDate": moment(key.deletion)}),
    }


def _switch(database: Database, identifier: str, enabled: bool) -> Members:
    with database.write() as session:
        changeable(session, identifier).enabled = enabled
    return {}
