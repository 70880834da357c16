"""KMS: symmetric keys for what training jobs write, as boto3, AWS's CLI and AWS's Encryption SDKs use them."""

from __future__ import annotations

from functools import partial

from phalanx.jobs.keyring import Keyring
from phalanx.services.kms import aliases, envelopes, keys, policies, rotation, tags
from phalanx.store.database import Database
from phalanx.wire.service import Service


def service(database: Database, keyring: Keyring) -> Service:
    """The service over a database and what opens its keys."""
    return Service(
        "kms",
        {
            "CreateKey": partial(keys.create, database, keyring),
            "DescribeKey": partial(keys.describe, database),
            "ListKeys": partial(keys.listing, database),
            "EnableKey": partial(keys.enable, database),
            "DisableKey": partial(keys.disable, database),
            "ScheduleKeyDeletion": partial(keys.schedule_deletion, database),
            "CancelKeyDeletion": partial(keys.cancel_deletion, database),
            "UpdateKeyDescription": partial(keys.update_description, database),
            "EnableKeyRotation": partial(rotation.enable, database),
            "DisableKeyRotation": partial(rotation.disable, database),
            "GetKeyRotationStatus": partial(rotation.status, database, keyring),
            "RotateKeyOnDemand": partial(rotation.on_demand, database, keyring),
            "ListKeyRotations": partial(rotation.listing, database, keyring),
            "GetKeyPolicy": partial(policies.get, database),
            "PutKeyPolicy": partial(policies.put, database),
            "TagResource": partial(tags.tag, database),
            "UntagResource": partial(tags.untag, database),
            "ListResourceTags": partial(tags.listing, database),
            "CreateAlias": partial(aliases.create, database),
            "UpdateAlias": partial(aliases.update, database),
            "DeleteAlias": partial(aliases.delete, database),
            "ListAliases": partial(aliases.listing, database),
            "Encrypt": partial(envelopes.encrypt, keyring),
            "Decrypt": partial(envelopes.decrypt, database, keyring),
            "GenerateDataKey": partial(envelopes.generate_data_key, keyring),
            "GenerateDataKeyWithoutPlaintext": partial(envelopes.generate_without_plaintext, keyring),
        },
    )
