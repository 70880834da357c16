"""What keys are for: small secrets, and data keys for everything else."""

from __future__ import annotations

import secrets

from phalanx.jobs import keyring
from phalanx.services.kms.errors import answered, refuse
from phalanx.store.database import Database
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_SPECS = {"AES_128": 16, "AES_256": 32}


@answered
def encrypt(keys: keyring.Keyring, _caller: Caller, members: Members) -> Members:
    """A ciphertext that names its key."""
    _check(members)
    key = keys.encrypting(members["KeyId"])
    _dry(members)
    blob = keys.encrypt(key, members["Plaintext"], members.get("EncryptionContext", {}))
    return {"CiphertextBlob": blob, "KeyId": key.arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}


@answered
def decrypt(database: Database, keys: keyring.Keyring, _caller: Caller, members: Members) -> Members:
    """What was encrypted, given the same encryption context. A KeyId, where there is one, must be the right one."""
    _check(members)
    if "CiphertextBlob" not in members:
        raise AwsError("ValidationException", "CiphertextBlob is required.")
    with database.read() as session:
        wanted = keyring.usable(session, members["KeyId"]) if "KeyId" in members else None
        key, plaintext = keys.decrypt(session, members["CiphertextBlob"], members.get("EncryptionContext", {}))
    if wanted is not None and wanted.id != key.id:
        raise AwsError(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.",
        )
    _dry(members)
    return {"KeyId": key.arn, "Plaintext": plaintext, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}


@answered
def generate_data_key(keys: keyring.Keyring, _caller: Caller, members: Members) -> Members:
    """A new data key, in the clear and under the key."""
    _check(members)
    if ("KeySpec" in members) == ("NumberOfBytes" in members):
        raise AwsError("ValidationException", "Please specify either number of bytes or key spec.")
    size = members["NumberOfBytes"] if "NumberOfBytes" in members else _SPECS[members["KeySpec"]]
    key = keys.encrypting(members["KeyId"])
    _dry(members)
    plaintext = secrets.token_bytes(size)
    blob = keys.encrypt(key, plaintext, members.get("EncryptionContext", {}))
    return {"CiphertextBlob": blob, "Plaintext": plaintext, "KeyId": key.arn}


def generate_without_plaintext(keys: keyring.Keyring, caller: Caller, members: Members) -> Members:
    """A new data key under the key alone."""
    answer = generate_data_key(keys, caller, members)
    return {name: value for name, value in answer.items() if name != "Plaintext"}


def _check(members: Members) -> None:
    refuse(members, EncryptionAlgorithm=("SYMMETRIC_DEFAULT",), GrantTokens=([],), Recipient=(), DryRunModifiers=([],))


def _dry(members: Members) -> None:
    if members.get("DryRun"):
        raise AwsError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
