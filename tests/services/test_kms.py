"""KMS as boto3, the AWS CLI and AWS's Encryption SDK use it."""

import base64
import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from aws_encryption_sdk import DiscoveryAwsKmsMasterKeyProvider, EncryptionSDKClient, StrictAwsKmsMasterKeyProvider
from botocore.exceptions import ClientError
from sqlalchemy import select

from phalanx.data import envelope
from phalanx.jobs.keyring import Keyring
from phalanx.services.kms.service import service
from phalanx.store.base import now_ms
from phalanx.store.jobs import Tag
from phalanx.store.keys import Key, KeyAlias, KeyRotation


@pytest.fixture
def keyring(live_database, tmp_path):
    return Keyring(live_database, tmp_path / "root.key")


@pytest.fixture
def services(live_database, keyring):
    return [service(live_database, keyring)]


@pytest.fixture
def kms(settings):
    client = boto3.client("kms", **settings)
    yield client
    client.close()


@pytest.fixture
def key(kms):
    return kms.create_key(Description="models")["KeyMetadata"]["Arn"]


def refused(code, call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    assert caught.value.response["Error"]["Code"] == code
    return caught.value.response["Error"]["Message"]


@pytest.mark.shows("CreateKey", "DescribeKey", "ListKeys", "CreateAlias", "ListAliases", "DeleteAlias")
def test_keys_are_found_by_id_arn_and_alias(kms, key):
    kms.create_alias(AliasName="alias/models", TargetKeyId=key)
    told = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (told["KeyState"], told["Enabled"], told["KeyManager"], told["Description"]) == (
        "Enabled",
        True,
        "CUSTOMER",
        "models",
    )
    alias_arn = key.rpartition(":")[0] + ":alias/models"
    for name in (told["KeyId"], "alias/models", alias_arn):
        assert kms.describe_key(KeyId=name)["KeyMetadata"]["Arn"] == key
    others = [kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(3)]
    pages = list(kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["Keys"]) for page in pages] == [2, 2]
    assert {each["KeyId"] for page in pages for each in page["Keys"]} == {told["KeyId"], *others}
    kms.create_alias(AliasName="alias/other", TargetKeyId=others[0])
    pages = list(kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 1}))
    assert [each["AliasName"] for page in pages for each in page["Aliases"]] == ["alias/models", "alias/other"]
    assert [each["AliasArn"] for each in kms.list_aliases(KeyId=key)["Aliases"]] == [alias_arn]
    kms.delete_alias(AliasName="alias/models")
    assert "alias/models is not found" in refused("NotFoundException", kms.describe_key, KeyId="alias/models")
    refused("NotFoundException", kms.describe_key, KeyId="11111111-2222-3333-4444-555555555555")


def test_what_is_not_served_is_refused(kms, key):
    for members in (
        {"KeySpec": "RSA_2048"},
        {"MultiRegion": True},
    ):
        refused("UnsupportedOperationException", kms.create_key, **members)
    refused("ValidationException", kms.create_alias, AliasName="models", TargetKeyId=key)
    refused("NotAuthorizedException", kms.create_alias, AliasName="alias/aws/s3", TargetKeyId=key)
    kms.create_alias(AliasName="alias/models", TargetKeyId=key)
    refused("AlreadyExistsException", kms.create_alias, AliasName="alias/models", TargetKeyId=key)
    for operation in (kms.create_alias, kms.update_alias):
        refused("NotFoundException", operation, AliasName="alias/models", TargetKeyId="alias/models")
        refused("NotFoundException", operation, AliasName="alias/more", TargetKeyId="alias/models")
    refused("NotFoundException", kms.disable_key, KeyId="alias/models")
    refused("InvalidMarkerException", kms.list_keys, Marker="nonsense")
    assert len(kms.list_keys()["Keys"]) == 1


@pytest.mark.shows("TagResource", "UntagResource", "ListResourceTags")
def test_keys_have_tags(kms, live_database):
    tags = [{"TagKey": "env", "TagValue": "test"}, {"TagKey": "team", "TagValue": "vision"}]
    key = kms.create_key(Tags=tags)["KeyMetadata"]["Arn"]

    def told():
        pages = kms.get_paginator("list_resource_tags").paginate(KeyId=key, PaginationConfig={"PageSize": 1})
        return [tag for page in pages for tag in page["Tags"]]

    assert told() == tags
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "env", "TagValue": "prod"}])
    kms.untag_resource(KeyId=key, TagKeys=["team", "absent"])
    assert told() == [{"TagKey": "env", "TagValue": "prod"}]
    refused("TagException", kms.tag_resource, KeyId=key, Tags=[{"TagKey": "aws:a", "TagValue": ""}])
    refused("TagException", kms.create_key, Tags=[tags[0], tags[0]])
    many = [{"TagKey": str(number), "TagValue": ""} for number in range(50)]
    refused("LimitExceededException", kms.tag_resource, KeyId=key, Tags=many)
    kms.create_alias(AliasName="alias/tagged", TargetKeyId=key)
    refused("NotFoundException", kms.list_resource_tags, KeyId="alias/tagged")
    kms.schedule_key_deletion(KeyId=key)
    refused("KMSInvalidStateException", kms.tag_resource, KeyId=key, Tags=tags)
    assert told() == [{"TagKey": "env", "TagValue": "prod"}]
    with live_database.write() as session:
        session.scalar(select(Key)).deletion = now_ms() - 1
    assert kms.create_key()["KeyMetadata"]["Arn"] != key
    with live_database.read() as session:
        assert session.scalars(select(Tag)).all() == []


OF_THE_ACCOUNT = {"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": ["kms:*"], "Resource": "*"}


@pytest.mark.shows("GetKeyPolicy", "PutKeyPolicy", "UpdateKeyDescription", "UpdateAlias")
def test_what_infrastructure_code_reads_and_changes_of_a_key(kms, key):
    """The calls of Terraform's provider for aws_kms_key and aws_kms_alias."""
    default = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    assert default["Statement"][0]["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    for policy in (default, {"Version": "2012-10-17", "Statement": OF_THE_ACCOUNT}):
        kms.put_key_policy(KeyId=key, Policy=json.dumps(policy))
        assert json.loads(kms.get_key_policy(KeyId=key)["Policy"]) == policy
        made = kms.create_key(Policy=json.dumps(policy))["KeyMetadata"]["KeyId"]
        assert json.loads(kms.get_key_policy(KeyId=made)["Policy"]) == policy
    for statement in (
        {**OF_THE_ACCOUNT, "Effect": "Deny"},
        {**OF_THE_ACCOUNT, "Principal": {"AWS": "arn:aws:iam::123456789012:user/ann"}},
        {**OF_THE_ACCOUNT, "Action": "kms:Decrypt"},
        {**OF_THE_ACCOUNT, "Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        [OF_THE_ACCOUNT, OF_THE_ACCOUNT],
        [],
    ):
        text = json.dumps({"Version": "2012-10-17", "Statement": statement})
        assert "leave it out" in refused("UnsupportedOperationException", kms.create_key, Policy=text).lower()
        refused("UnsupportedOperationException", kms.put_key_policy, KeyId=key, Policy=text)
    for text in ("{", "{}", "[]", '{"Statement": [], "Statement": []}', '{"Statement": [], "More": 1}'):
        refused("MalformedPolicyDocumentException", kms.put_key_policy, KeyId=key, Policy=text)
    refused("NotFoundException", kms.get_key_policy, KeyId=key, PolicyName="other")
    kms.update_key_description(KeyId=key, Description="other")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["Description"] == "other"
    kms.create_alias(AliasName="alias/models", TargetKeyId=key)
    kms.update_alias(AliasName="alias/models", TargetKeyId=made)
    assert kms.describe_key(KeyId="alias/models")["KeyMetadata"]["KeyId"] == made
    refused("NotFoundException", kms.update_alias, AliasName="alias/absent", TargetKeyId=made)
    kms.schedule_key_deletion(KeyId=key)
    refused("KMSInvalidStateException", kms.update_alias, AliasName="alias/models", TargetKeyId=key)
    refused("KMSInvalidStateException", kms.update_key_description, KeyId=key, Description="late")
    assert json.loads(kms.get_key_policy(KeyId=key)["Policy"]) == {"Version": "2012-10-17", "Statement": OF_THE_ACCOUNT}


@pytest.mark.shows("Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext")
def test_what_is_encrypted_opens_with_its_key_and_context_alone(kms, key):
    context = {"job": "one"}
    blob = kms.encrypt(KeyId=key, Plaintext=b"secret", EncryptionContext=context)["CiphertextBlob"]
    assert b"secret" not in blob
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"secret", key)
    refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob, EncryptionContext={"job": "two"})
    for wrong in (b"x", blob[:20], bytes([*blob[:-1], blob[-1] ^ 1]), b"\2" + blob[1:]):
        refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=wrong, EncryptionContext=context)
    other = kms.create_key()["KeyMetadata"]["Arn"]
    refused("IncorrectKeyException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, KeyId=other)
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert len(made["Plaintext"]) == 32
    assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    refused("ValidationException", kms.generate_data_key, KeyId=key)
    made = kms.generate_data_key_without_plaintext(KeyId=key, NumberOfBytes=7)
    assert "Plaintext" not in made
    assert len(kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"]) == 7
    refused("DryRunOperationException", kms.generate_data_key, KeyId=key, KeySpec="AES_128", DryRun=True)


@pytest.mark.shows("EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion")
def test_a_key_that_is_disabled_or_ends_opens_nothing(kms, key, live_database, keyring):
    kms.create_alias(AliasName="alias/models", TargetKeyId=key)
    blob = kms.encrypt(KeyId="alias/models", Plaintext=b"secret")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    refused("DisabledException", kms.decrypt, CiphertextBlob=blob)
    assert keyring.data_keys() == ()
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"secret"
    refused("ValidationException", kms.schedule_key_deletion, KeyId=key, PendingWindowInDays=6)
    assert kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)["KeyState"] == "PendingDeletion"
    refused("KMSInvalidStateException", kms.decrypt, CiphertextBlob=blob)
    refused("KMSInvalidStateException", kms.enable_key, KeyId=key)
    kms.cancel_key_deletion(KeyId=key)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"
    kms.schedule_key_deletion(KeyId=key)
    with live_database.write() as session:
        session.scalar(select(Key)).deletion = now_ms() - 1
    refused("NotFoundException", kms.describe_key, KeyId=key)
    refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob)
    assert kms.list_keys()["Keys"] == kms.list_aliases()["Aliases"] == []
    kms.create_key()
    with live_database.read() as session:
        assert session.get(KeyAlias, "alias/models") is None
        assert key not in session.scalars(select(Key.arn)).all()


def rotations(kms, key):
    pages = kms.get_paginator("list_key_rotations").paginate(KeyId=key, PaginationConfig={"PageSize": 2})
    return [each["RotationType"] for page in pages for each in page["Rotations"]]


def lapse(live_database):
    """A key's rotation is due."""
    with live_database.write() as session:
        session.scalar(select(Key).where(Key.rotates.is_not(None))).rotates = now_ms() - 1


@pytest.mark.shows("EnableKeyRotation", "DisableKeyRotation", "GetKeyRotationStatus")
def test_a_key_is_rotated_every_so_many_days(kms, key, live_database, keyring):
    """The calls of Terraform's provider for `enable_key_rotation`, and what they do."""
    id = key.rpartition("/")[2]
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False
    kms.enable_key_rotation(KeyId=key)
    told = kms.get_key_rotation_status(KeyId=id)
    days = (told["NextRotationDate"] - datetime.now(UTC)) / timedelta(days=1)
    assert (told["KeyRotationEnabled"], told["KeyId"], told["RotationPeriodInDays"], round(days)) == (True, id, 365, 365)
    kms.enable_key_rotation(KeyId=key)
    assert kms.get_key_rotation_status(KeyId=key)["NextRotationDate"] == told["NextRotationDate"]
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    assert kms.get_key_rotation_status(KeyId=key)["RotationPeriodInDays"] == 90
    refused("ValidationException", kms.enable_key_rotation, KeyId=key, RotationPeriodInDays=2561)

    blob = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    before = keyring.data_keys()
    lapse(live_database)
    kms.disable_key(KeyId=key)
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    assert rotations(kms, key) == []
    refused("DisabledException", kms.enable_key_rotation, KeyId=key)
    kms.enable_key(KeyId=key)
    assert rotations(kms, key) == ["AUTOMATIC"]
    assert kms.get_key_rotation_status(KeyId=key)["NextRotationDate"] > datetime.now(UTC) + timedelta(days=89)
    assert keyring.data_keys()[1:] == before
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"secret"

    kms.schedule_key_deletion(KeyId=key)
    assert not kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    refused("KMSInvalidStateException", kms.enable_key_rotation, KeyId=key)
    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    assert kms.get_key_rotation_status(KeyId=key)["RotationPeriodInDays"] == 90
    kms.disable_key_rotation(KeyId=key)
    assert not kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    kms.create_alias(AliasName="alias/models", TargetKeyId=key)
    refused("NotFoundException", kms.enable_key_rotation, KeyId="alias/models")


@pytest.mark.parametrize("use", ["Encrypt", "GenerateDataKey", "jobs"])
def test_whoever_uses_a_key_first_finds_it_rotated(kms, key, live_database, keyring, use):
    kms.enable_key_rotation(KeyId=key)
    (before,) = keyring.data_keys()
    lapse(live_database)
    match use:
        case "Encrypt":
            kms.encrypt(KeyId=key, Plaintext=b"secret")
        case "GenerateDataKey":
            kms.generate_data_key(KeyId=key, KeySpec="AES_256")
        case "jobs":
            now, then = keyring.data_keys()
            assert then == before != now
    with live_database.read() as session:
        assert session.scalar(select(KeyRotation)).data_key == before.wrapped


@pytest.mark.shows("RotateKeyOnDemand", "ListKeyRotations")
def test_a_key_that_is_rotated_opens_what_it_ever_encrypted(kms, key, live_database, keyring):
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    blobs = []
    for number in range(4):
        blobs.append(kms.encrypt(KeyId=key, Plaintext=b"%d" % number, EncryptionContext={"n": str(number)})["CiphertextBlob"])
        assert kms.rotate_key_on_demand(KeyId=key)["KeyId"] == key.rpartition("/")[2]
    assert rotations(kms, key) == ["ON_DEMAND"] * 4
    assert rotations(kms, other) == []
    for number, blob in enumerate(blobs):
        assert kms.decrypt(CiphertextBlob=blob, EncryptionContext={"n": str(number)})["Plaintext"] == b"%d" % number
        refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob, EncryptionContext={"n": "other"})
    mine = [each for each in keyring.data_keys() if each.arn == key]
    assert len({each.plaintext for each in mine}) == len(mine) == 5
    with live_database.read() as session:
        assert session.scalar(select(Key).where(Key.arn == key)).data_key == mine[0].wrapped
    with live_database.write() as session:
        for _ in range(21):
            keyring.rotate(session, session.get(Key, key.rpartition("/")[2]), on_demand=True)
    assert "25 times" in refused("LimitExceededException", kms.rotate_key_on_demand, KeyId=key)
    refused("UnsupportedOperationException", kms.list_key_rotations, KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")
    kms.disable_key(KeyId=other)
    refused("DisabledException", kms.rotate_key_on_demand, KeyId=other)
    kms.schedule_key_deletion(KeyId=key)
    refused("KMSInvalidStateException", kms.list_key_rotations, KeyId=key)
    with live_database.write() as session:
        session.scalar(select(Key).where(Key.arn == key)).deletion = now_ms() - 1
    kms.create_key()
    with live_database.read() as session:
        assert session.scalars(select(KeyRotation)).all() == []


def test_the_encryption_sdk_reads_what_jobs_write_and_jobs_read_nothing_else(kms, key, keyring, settings, monkeypatch):
    """Interoperability both ways, with AWS's own provider of keys: through this KMS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", settings["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings["aws_secret_access_key"])
    (data_key,) = keyring.data_keys()
    message = b"".join(iter(lambda s=envelope.sealed(_Once(b"a model" * 99), data_key): s.read(1000), b""))
    content, header = EncryptionSDKClient().decrypt(source=message, key_provider=DiscoveryAwsKmsMasterKeyProvider())
    assert content == b"a model" * 99
    assert header.encryption_context == envelope.CONTEXT
    theirs, _ = EncryptionSDKClient().encrypt(source=b"theirs", key_provider=StrictAwsKmsMasterKeyProvider(key_ids=[key]))
    sealed, content = envelope.unsealed(iter([theirs]), envelope.among([data_key]))
    assert not sealed
    assert b"".join(content) == theirs


class _Once:
    """A stream that cannot be sought in, as an archive's."""

    def __init__(self, content):
        self._content = content

    def read(self, size=-1):
        size = len(self._content) if size < 0 else size
        part, self._content = self._content[:size], self._content[size:]
        return part


def test_the_aws_cli_makes_a_key_and_encrypts(aws, tmp_path):
    key = aws("aws kms create-key --description cli")["KeyMetadata"]["KeyId"]
    (tmp_path / "plain").write_bytes(b"secret")
    blob = aws(f"aws kms encrypt --key-id {key} --plaintext fileb://{tmp_path}/plain")["CiphertextBlob"]
    (tmp_path / "blob").write_bytes(base64.b64decode(blob))
    assert aws(f"aws kms decrypt --ciphertext-blob fileb://{tmp_path}/blob")["Plaintext"] == "c2VjcmV0"
