"""S3's door with the real server behind it: boto3 unmodified, and requests that no SDK would make."""

import asyncio
import base64
import hashlib
import hmac
import http.client
import io
import json
import os
import re
import socket
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup
from awscrt.s3 import (
    S3ChecksumAlgorithm,
    S3ChecksumConfig,
    S3ChecksumLocation,
    S3Client,
    S3RequestTlsMode,
    S3RequestType,
    create_default_s3_signing_config,
)
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from sqlalchemy import delete

import embedded_s3
from clients import AwsCli
from embedded_s3 import REGION, allow
from phalanx.data.server import BUCKETS, SOCKET
from phalanx.identity import names
from phalanx.identity.authority import Authority
from phalanx.identity.directory import Directory
from phalanx.identity.trail import Trail, verify
from phalanx.services.s3.access import Access
from phalanx.services.s3.backend import Backend, BackendError
from phalanx.services.s3.description import Descriptions
from phalanx.services.s3.folders import Folders
from phalanx.services.s3.gateway import Gateway
from phalanx.services.s3.places import Places
from phalanx.services.s3.turn import Server
from phalanx.services.sts.service import service as sts
from phalanx.store.identity import AccessKey, InlinePolicy, Role
from phalanx.wire.service import Caller

BUCKET = "shared-bucket"
ARN = f"arn:aws:s3:::{BUCKET}"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with embedded_s3.running(tmp_path_factory.mktemp("s3")) as s3:
        admin = s3.client()
        admin.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        admin.create_bucket(Bucket="other-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
        admin.put_object(Bucket=BUCKET, Key="secret/plan", Body=b"secret")
        admin.put_object(Bucket=BUCKET, Key="home/ann/a", Body=b"hers")
        admin.put_object(Bucket="other-bucket", Key="x", Body=b"x")
        yield s3


@pytest.fixture(scope="module")
def key(s3):
    """The key of a user who has a folder, and may list it."""
    return s3.user(
        allow("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", on=f"{ARN}/home/ann/*"),
        allow("s3:ListBucket", on=ARN, StringLike={"s3:prefix": ["home/ann/*", "home/ann/"]}),
    )


@pytest.fixture(scope="module")
def ann(s3, key):
    return s3.client(key)


def code(call, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response["Error"]["Code"]


def content(s3, name):
    return s3.client().get_object(Bucket=BUCKET, Key=name)["Body"].read()


def there(s3, name):
    return any(each["Key"] == name for each in s3.client().list_objects_v2(Bucket=BUCKET, Prefix=name).get("Contents", []))


def send(s3, method, target, headers, body=b"", read=True):
    connection = http.client.HTTPConnection(urlsplit(s3.url).netloc, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        found = re.search("<Code>(.*?)</Code>", text)
        return answer.status, found[1] if found else text
    finally:
        connection.close()


class _Stated(S3SigV4Auth):
    """S3's signatures over whatever x-amz-content-sha256 says, at any time."""

    def payload(self, request):
        return request.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")

    def _modify_request_before_signing(self, request):
        stated = request.headers.get("x-amz-content-sha256")
        super()._modify_request_before_signing(request)
        del request.headers["x-amz-content-sha256"]
        if stated is not None:
            request.headers["x-amz-content-sha256"] = stated


def signed(s3, key, method, target, stated="UNSIGNED-PAYLOAD", headers=None, service="s3", region=REGION):
    given = {**({"x-amz-content-sha256": stated} if stated is not None else {}), **(headers or {})}
    request = AWSRequest(method=method, url=s3.url + target, headers=given)
    _Stated(Credentials(*key), service, region).add_auth(request)
    return dict(request.headers.items())


# What a user may do, she can, by unmodified clients.


def test_a_user_keeps_her_data_and_nobody_elses(s3, ann):
    ann.put_object(Bucket=BUCKET, Key="home/ann/é +=&?%20", Body=b"hello", Metadata={"a": "b"}, ContentType="text/x")
    found = ann.get_object(Bucket=BUCKET, Key="home/ann/é +=&?%20")
    assert (found["Body"].read(), found["Metadata"], found["ContentType"]) == (b"hello", {"a": "b"}, "text/x")
    listed = ann.list_objects_v2(Bucket=BUCKET, Prefix="home/ann/")
    assert "home/ann/é +=&?%20" in [each["Key"] for each in listed["Contents"]]
    assert ann.head_object(Bucket=BUCKET, Key="home/ann/a")["ContentLength"] == 4
    ann.delete_object(Bucket=BUCKET, Key="home/ann/é +=&?%20")
    assert code(ann.get_object, Bucket=BUCKET, Key="home/ann/é +=&?%20") == "NoSuchKey"


@pytest.mark.parametrize("checksum", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_multipart_uploads_with_every_checksum(s3, ann, checksum):
    body = bytes(range(256)) * (12 << 12)
    small = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    extra = {"ChecksumAlgorithm": checksum}
    if checksum.startswith("CRC") and checksum != "CRC32":
        # boto3 computes those with awscrt alone, which clients need not have: once by hand.
        from awscrt import checksums

        value = {"CRC32C": checksums.crc32c(body).to_bytes(4, "big"), "CRC64NVME": checksums.crc64nvme(body).to_bytes(8, "big")}
        extra = {f"Checksum{checksum}": base64.b64encode(value[checksum]).decode()}
        put = ann.put_object(Bucket=BUCKET, Key="home/ann/big", Body=body, **extra)
        assert put[f"Checksum{checksum}"] == extra[f"Checksum{checksum}"]
    else:
        ann.upload_fileobj(io.BytesIO(body), BUCKET, "home/ann/big", ExtraArgs=extra, Config=small)
    back = io.BytesIO()
    ann.download_fileobj(BUCKET, "home/ann/big", back, Config=small)
    assert back.getvalue() == body


def test_buckets_are_listed_in_pages(s3):
    admin = s3.client()
    all_of_them = admin.list_buckets()["Buckets"]
    names = [each["Name"] for each in all_of_them]
    assert {BUCKET, "other-bucket"} <= set(names)
    pages = list(admin.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 1}))
    assert [each for page in pages for each in page["Buckets"]] == all_of_them
    assert len(pages) == len(names)
    found = admin.list_buckets(Prefix="other-", MaxBuckets=1)
    assert ([each["Name"] for each in found["Buckets"]], found["Prefix"]) == (["other-bucket"], "other-")
    assert "ContinuationToken" not in found
    assert code(admin.list_buckets, MaxBuckets=10_001) == "InvalidArgument"


def test_a_buckets_date_is_that_of_its_creation(s3):
    admin = s3.client()
    admin.create_bucket(Bucket="dated", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    made = {each["Name"]: each["CreationDate"] for each in admin.list_buckets()["Buckets"]}
    # As if something were written into it later.
    os.utime(s3.directory / "s3/buckets/dated", (0, 0))
    listed = admin.list_buckets()
    assert {each["Name"]: each["CreationDate"] for each in listed["Buckets"]} == made
    assert abs(made["dated"].timestamp() - time.time()) < 60
    assert set(listed["Owner"]) == {"ID"}
    admin.delete_bucket(Bucket="dated")


def test_awss_common_runtime_uploads_and_downloads_in_parts(s3, tmp_path):
    """What Mountpoint, the S3 connector for PyTorch and the CLI's `crt` transfers are made of."""
    loops = EventLoopGroup(1)
    provider = AwsCredentialsProvider.new_static(*s3.key)
    client = S3Client(
        bootstrap=ClientBootstrap(loops, DefaultHostResolver(loops)),
        region=REGION,
        signing_config=create_default_s3_signing_config(region=REGION, credential_provider=provider),
        tls_mode=S3RequestTlsMode.DISABLED,
        part_size=5 << 20,
    )
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * (12 << 12))
    headers = [("host", urlsplit(s3.url).netloc)]

    def ask(kind, method, **arguments):
        length = [("content-length", str(data.stat().st_size))] if method == "PUT" else []
        request = HttpRequest(method, f"/{BUCKET}/runtime", HttpHeaders([*headers, *length]))
        client.make_request(type=kind, request=request, **arguments).finished_future.result(60)

    checksum = S3ChecksumConfig(algorithm=S3ChecksumAlgorithm.CRC32, location=S3ChecksumLocation.TRAILER)
    ask(S3RequestType.PUT_OBJECT, "PUT", send_filepath=str(data), checksum_config=checksum)
    ask(S3RequestType.GET_OBJECT, "GET", recv_filepath=str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data.read_bytes()


def test_presigned_urls_carry_the_signers_permissions(s3, ann):
    url = ann.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "home/ann/by-url"})
    parts = urlsplit(url)
    assert send(s3, "PUT", f"{parts.path}?{parts.query}", {}, b"by url")[0] == 200
    parts = urlsplit(ann.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "home/ann/by-url"}))
    assert send(s3, "GET", f"{parts.path}?{parts.query}", {}) == (200, "by url")
    parts = urlsplit(ann.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "secret/plan"}))
    assert send(s3, "GET", f"{parts.path}?{parts.query}", {}) == (403, "AccessDenied")


def test_the_overrides_of_a_download_are_obeyed(s3, ann):
    found = ann.get_object(Bucket=BUCKET, Key="home/ann/a", ResponseContentType="text/plain", Range="bytes=1-2")
    assert (found["ContentType"], found["Body"].read(), found["ResponseMetadata"]["HTTPStatusCode"]) == (
        "text/plain",
        b"er",
        206,
    )


def test_a_session_of_a_role_may_what_the_role_may_until_it_ends(s3):
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    policy = {"Version": "2012-10-17", "Statement": [allow("s3:GetObject", on=f"{ARN}/home/*")]}
    with s3.database.write() as session:
        session.add(Role(name="reader", id=names.unique_id("AROA"), path="/", trust=json.dumps(trust), tags={}, longest=3600))
        session.add(InlinePolicy(kind="role", owner="reader", name="policy", document=json.dumps(policy)))
    directory = Directory(s3.database, s3.seal, embedded_s3.ACCOUNT)
    admin = directory.find(s3.key[0]).principal
    caller = Caller(embedded_s3.ACCOUNT, REGION, s3.key[0], admin.arn, admin.user_id, "r")
    arn = f"arn:aws:iam::{embedded_s3.ACCOUNT}:role/reader"
    members = {"RoleArn": arn, "RoleSessionName": "s", "DurationSeconds": 900}
    given = sts(directory).handlers["AssumeRole"](caller, members)["Credentials"]
    pair = given["AccessKeyId"], given["SecretAccessKey"]
    reader = s3.client(pair, given["SessionToken"])
    assert reader.get_object(Bucket=BUCKET, Key="home/ann/a")["Body"].read() == b"hers"
    assert code(reader.get_object, Bucket=BUCKET, Key="secret/plan") == "AccessDenied"
    assert code(s3.client(pair).get_object, Bucket=BUCKET, Key="home/ann/a") == "InvalidAccessKeyId"
    assert code(s3.client(pair, "another").get_object, Bucket=BUCKET, Key="home/ann/a") == "InvalidAccessKeyId"


def test_what_changes_in_the_store_is_in_force_with_the_next_request(s3):
    pair = s3.user(allow("s3:GetObject"))
    client = s3.client(pair)
    assert client.get_object(Bucket=BUCKET, Key="home/ann/a")["Body"].read() == b"hers"
    with s3.database.write() as session:
        denial = {"Version": "2012-10-17", "Statement": [allow("s3:*", effect="Deny")]}
        owner = session.get(AccessKey, pair[0]).user_name
        session.add(InlinePolicy(kind="user", owner=owner, name="no", document=json.dumps(denial)))
    assert code(client.get_object, Bucket=BUCKET, Key="home/ann/a") == "AccessDenied"
    with s3.database.write() as session:
        session.execute(delete(AccessKey).where(AccessKey.id == pair[0]))
    assert code(client.get_object, Bucket=BUCKET, Key="home/ann/a") == "InvalidAccessKeyId"


def test_the_aws_cli_copies_lists_syncs_and_removes(s3, key, tmp_path):
    aws = AwsCli(tmp_path, endpoint=s3.url, region=REGION, access_key=key[0], secret=key[1])
    (tmp_path / "data").mkdir()
    for name, size in (("small", 10), ("large", 20 << 20)):
        (tmp_path / "data" / name).write_bytes(bytes(range(250)) * (size // 250) + b"end")
    for command in (
        f"s3 sync {tmp_path}/data s3://{BUCKET}/home/ann/cli",
        f"s3 sync s3://{BUCKET}/home/ann/cli {tmp_path}/back",
    ):
        done = aws.run(f"aws {command}")
        assert done.returncode == 0, done.stderr
    for name in ("small", "large"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "data" / name).read_bytes()
    assert "large" in aws.run(f"aws s3 ls s3://{BUCKET}/home/ann/cli/").stdout
    assert "AccessDenied" in aws.run(f"aws s3 ls s3://{BUCKET}/").stderr
    assert "AccessDenied" in aws.run(f"aws s3 cp {tmp_path}/data/small s3://{BUCKET}/secret/plan").stderr
    assert aws.run(f"aws s3 rm --recursive s3://{BUCKET}/home/ann/cli/").returncode == 0
    assert not there(s3, "home/ann/cli/small")


def test_multi_object_deletes_ask_for_each_key(s3, ann):
    s3.client().put_object(Bucket=BUCKET, Key="home/ann/gone", Body=b"1")
    wanted = ["home/ann/gone", "secret/plan", "home/ann/never/was", "home/ann/x//y", "home/ann/<&>"]
    answer = ann.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": name} for name in wanted]})
    assert {each["Key"] for each in answer["Deleted"]} == {"home/ann/gone", *wanted[2:]}
    assert [(each["Key"], each["Code"]) for each in answer["Errors"]] == [("secret/plan", "AccessDenied")]
    assert there(s3, "secret/plan")
    assert not there(s3, "home/ann/gone")


def test_who_may_only_write_does_not_learn_what_is_there(s3):
    drop = s3.client(s3.user(allow("s3:PutObject", on=f"{ARN}/home/ann/*")))
    for name in ("a", "none"):
        assert code(drop.put_object, Bucket=BUCKET, Key=f"home/ann/{name}", Body=b"x", IfMatch='"x"') == "AccessDenied"
    assert content(s3, "home/ann/a") == b"hers"


def test_who_may_only_delete_does_not_learn_what_is_in_it(s3):
    clerk = s3.client(s3.user(allow("s3:DeleteObject", on=f"{ARN}/home/ann/*")))
    s3.client().put_object(Bucket=BUCKET, Key="home/ann/old", Body=b"x")
    assert code(clerk.delete_object, Bucket=BUCKET, Key="home/ann/old", IfMatch='"x"') == "AccessDenied"
    assert there(s3, "home/ann/old")
    clerk.delete_object(Bucket=BUCKET, Key="home/ann/old", IfMatch="*")
    assert not there(s3, "home/ann/old")


def test_a_policy_may_ask_for_conditions(s3):
    careful = s3.client(
        s3.user(
            allow("s3:GetObject", on=f"{ARN}/home/ann/*"),
            allow("s3:DeleteObject", on=f"{ARN}/home/ann/*", Null={"s3:if-match": "false"}),
            allow("s3:PutObject", on=f"{ARN}/home/ann/*", StringEquals={"s3:if-none-match": "*"}),
        )
    )
    thing = {"Bucket": BUCKET, "Key": "home/ann/careful"}
    assert code(careful.put_object, **thing, Body=b"x") == "AccessDenied"
    tag = careful.put_object(**thing, Body=b"x", IfNoneMatch="*")["ETag"]
    assert code(careful.delete_object, **thing) == "AccessDenied"
    assert there(s3, "home/ann/careful")
    careful.delete_object(**thing, IfMatch=tag)
    assert not there(s3, "home/ann/careful")


@pytest.mark.parametrize(("member", "given"), [("s3:prefix", {"Prefix": "home/"}), ("s3:delimiter", {"Delimiter": "/"})])
def test_what_a_listing_does_not_say_it_has_not(s3, member, given):
    lister = s3.client(
        s3.user(allow("s3:ListBucket", on=ARN), {**allow("s3:ListBucket", on=ARN, Null={member: "true"}), "Effect": "Deny"})
    )
    assert code(lister.list_objects_v2, Bucket=BUCKET) == "AccessDenied"
    assert lister.list_objects_v2(Bucket=BUCKET, **given)["KeyCount"] > 0


def test_an_upload_of_no_parts_does_not_replace_an_object(s3, ann):
    thing = {"Bucket": BUCKET, "Key": "home/ann/parts"}
    ann.put_object(**thing, Body=b"precious")
    upload = ann.create_multipart_upload(**thing)["UploadId"]
    assert code(ann.complete_multipart_upload, **thing, UploadId=upload, MultipartUpload={"Parts": []}) == "MalformedXML"
    assert content(s3, "home/ann/parts") == b"precious"
    ann.abort_multipart_upload(**thing, UploadId=upload)
    ann.delete_object(**thing)


@pytest.mark.parametrize("span", ["bytes=0-1,3-3", "bytes=a-b", "bytes=3-1", "bytes=-", "lines=1-2"])
def test_a_range_that_is_not_one_span_of_bytes_is_not_heeded(ann, span):
    answer = ann.get_object(Bucket=BUCKET, Key="home/ann/a", Range=span)
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read()) == (200, b"hers")
    for suffix, expected in (
        ("-2", (b"rs", "bytes 2-3/4")),
        ("-4", (b"hers", "bytes 0-3/4")),
        ("-99", (b"hers", "bytes 0-3/4")),
    ):
        part = ann.get_object(Bucket=BUCKET, Key="home/ann/a", Range=f"bytes={suffix}")
        assert (part["Body"].read(), part["ContentRange"], part["ContentLength"]) == (*expected, len(expected[0]))
    for beyond in ("bytes=-0", "bytes=9-"):
        assert code(ann.get_object, Bucket=BUCKET, Key="home/ann/a", Range=beyond) == "InvalidRange"
    part = ann.get_object(Bucket=BUCKET, Key="home/ann/a", Range="bytes=1-2")
    assert (part["ContentRange"], part["Body"].read()) == ("bytes 1-2/4", b"er")


def test_copies_ask_for_the_source_too(s3, ann):
    ann.copy_object(Bucket=BUCKET, Key="home/ann/copy", CopySource={"Bucket": BUCKET, "Key": "home/ann/a"})
    assert content(s3, "home/ann/copy") == b"hers"
    copied = {"Bucket": BUCKET, "Key": "home/ann/stolen"}
    assert code(ann.copy_object, **copied, CopySource={"Bucket": BUCKET, "Key": "secret/plan"}) == "AccessDenied"
    assert code(ann.copy_object, **copied, CopySource={"Bucket": "other-bucket", "Key": "x"}) == "AccessDenied"
    part = {"UploadId": ann.create_multipart_upload(**copied)["UploadId"], "PartNumber": 1}
    assert code(ann.upload_part_copy, **copied, **part, CopySource={"Bucket": BUCKET, "Key": "secret/plan"}) == "AccessDenied"
    assert s3.client().list_parts(**copied, UploadId=part["UploadId"]).get("Parts", []) == []
    assert not there(s3, "home/ann/stolen")


def test_an_upload_is_its_keys_alone(s3, ann):
    begun = s3.client().create_multipart_upload(Bucket=BUCKET, Key="secret/upload")["UploadId"]
    mine = {"Bucket": BUCKET, "Key": "home/ann/mine", "UploadId": begun}
    assert code(ann.upload_part, **mine, PartNumber=1, Body=b"x") == "NoSuchUpload"
    assert code(ann.abort_multipart_upload, **mine) == "NoSuchUpload"
    assert code(ann.list_multipart_uploads, Bucket=BUCKET) == "AccessDenied"
    assert code(ann.list_parts, **mine) == "AccessDenied"
    s3.client().abort_multipart_upload(Bucket=BUCKET, Key="secret/upload", UploadId=begun)


def test_conditions_on_where_a_request_comes_from_hold(s3):
    here = s3.client(s3.user(allow("s3:GetObject", IpAddress={"aws:SourceIp": "127.0.0.0/8"})))
    elsewhere = s3.client(s3.user(allow("s3:GetObject", IpAddress={"aws:SourceIp": "10.0.0.0/8"})))
    assert here.get_object(Bucket=BUCKET, Key="home/ann/a")["Body"].read() == b"hers"
    assert code(elsewhere.get_object, Bucket=BUCKET, Key="home/ann/a") == "AccessDenied"


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("list_buckets", {}),
        ("list_objects_v2", {"Bucket": BUCKET}),
        ("list_objects_v2", {"Bucket": BUCKET, "Prefix": "home/"}),
        ("list_objects", {"Bucket": BUCKET, "Prefix": "secret/"}),
        ("list_objects_v2", {"Bucket": "other-bucket", "Prefix": "home/ann/"}),
        ("get_bucket_location", {"Bucket": BUCKET}),
        ("create_bucket", {"Bucket": "her-bucket", "CreateBucketConfiguration": {"LocationConstraint": REGION}}),
        ("delete_bucket", {"Bucket": BUCKET}),
        ("get_object", {"Bucket": BUCKET, "Key": "secret/plan"}),
        ("get_object", {"Bucket": BUCKET, "Key": "secret/no-such-key"}),
        ("get_object", {"Bucket": "no-such-bucket", "Key": "x"}),
        ("put_object", {"Bucket": BUCKET, "Key": "secret/plan", "Body": b"overwritten"}),
        ("put_object", {"Bucket": BUCKET, "Key": "home/anna", "Body": b"x"}),
        ("delete_object", {"Bucket": BUCKET, "Key": "secret/plan"}),
        ("create_multipart_upload", {"Bucket": BUCKET, "Key": "secret/plan"}),
        ("get_object", {"Bucket": BUCKET, "Key": "home/ann/a", "ExpectedBucketOwner": "999999999999"}),
    ],
)
def test_what_no_policy_allows_is_denied(s3, ann, operation, arguments):
    assert code(getattr(ann, operation), **arguments) == "AccessDenied"
    assert content(s3, "secret/plan") == b"secret"
    assert not there(s3, "home/anna")


COPIED = {"CopySource": f"{BUCKET}/home/ann/a"}


@pytest.mark.parametrize(
    ("operation", "arguments", "expected"),
    [
        ("put_object_tagging", {"Key": "home/ann/a", "Tagging": {"TagSet": [{"Key": "k", "Value": "v"}]}}, "NotImplemented"),
        ("get_object_tagging", {"Key": "home/ann/a"}, "AccessDenied"),
        ("get_object_acl", {"Key": "home/ann/a"}, "NotImplemented"),
        ("get_bucket_policy", {}, "NotImplemented"),
        ("put_object", {"Key": "home/ann/a", "Body": b"x", "IfNoneMatch": '"x"'}, "NotImplemented"),
        ("put_object", {"Key": "home/ann/a", "Body": b"x", "IfNoneMatch": "*"}, "PreconditionFailed"),
        ("put_object", {"Key": "home/ann/none", "Body": b"x", "IfMatch": '"x"'}, "NoSuchKey"),
        ("copy_object", {"Key": "home/ann/a", **COPIED}, "InvalidRequest"),
        ("copy_object", {"Key": "home/ann/a", **COPIED, "MetadataDirective": "x"}, "InvalidArgument"),
        (
            "copy_object",
            {"Key": "home/ann/a", **COPIED, "MetadataDirective": "REPLACE", "IfNoneMatch": "*"},
            "PreconditionFailed",
        ),
        ("copy_object", {"Key": "home/ann/b", **COPIED, "IfMatch": "*"}, "NoSuchKey"),
        ("put_object", {"Key": "home/ann/a", "Body": b"x", "Tagging": "a=b"}, "NotImplemented"),
        ("put_object", {"Key": "home/ann/a", "Body": b"x", "ACL": "public-read"}, "AccessControlListNotSupported"),
        ("put_object", {"Key": "home/ann/", "Body": b"x"}, "NotImplemented"),
        ("put_object", {"Key": "home/ann//", "Body": b""}, "NotImplemented"),
        ("put_object", {"Key": "home/ann/a/", "Body": b""}, "NotImplemented"),
        ("put_object", {"Key": "home/ann//x", "Body": b"x"}, "NotImplemented"),
        ("put_object", {"Key": "home/ann/../../secret/plan", "Body": b"x"}, "NotImplemented"),
        ("put_object", {"Key": "home/ann/.rclone_temp_x", "Body": b"x"}, "NotImplemented"),
        ("put_object", {"Key": "home/ann/" + "x" * 256, "Body": b"x"}, "KeyTooLongError"),
        ("get_object", {"Key": "home/ann/../../secret/plan"}, "NoSuchKey"),
        ("get_object", {"Key": "home/ann/a", "VersionId": "1"}, "NoSuchVersion"),
        ("list_objects_v2", {"Prefix": "home/ann/../../secret/"}, "NotImplemented"),
        ("list_objects_v2", {"Prefix": "home/ann/", "Delimiter": "n"}, "NotImplemented"),
        ("list_objects_v2", {"Prefix": "/"}, "NotImplemented"),
        ("list_objects_v2", {"Prefix": "/home/ann/"}, "NotImplemented"),
    ],
)
def test_what_the_server_behind_would_get_wrong_is_refused(s3, ann, operation, arguments, expected):
    assert code(getattr(ann, operation), Bucket=BUCKET, **arguments) == expected
    assert content(s3, "home/ann/a") == b"hers"
    assert content(s3, "secret/plan") == b"secret"


# Who asks.


def _tampered(headers):
    signature = headers["Authorization"][-64:]
    return {**headers, "Authorization": headers["Authorization"][:-64] + ("1" if signature[0] == "0" else "0") + signature[1:]}


UNSIGNED = [
    ("GET", "/", {}, 403, "AccessDenied"),
    ("GET", f"/{BUCKET}?list-type=2", {}, 403, "AccessDenied"),
    ("GET", f"/{BUCKET}/secret/plan", {}, 403, "AccessDenied"),
    ("GET", "/no-such-bucket", {}, 403, "AccessDenied"),
    ("PUT", f"/{BUCKET}/secret/plan", {}, 403, "AccessDenied"),
    ("POST", f"/{BUCKET}", {}, 403, "AccessDenied"),
    ("OPTIONS", f"/{BUCKET}", {"origin": "http://x"}, 403, "AccessDenied"),
    ("DELETE", f"/{BUCKET}", {}, 403, "AccessDenied"),
    ("GET", "/", {"authorization": "AWS AKIA:x"}, 400, "InvalidRequest"),
    ("POST", f"/{BUCKET}", {"content-type": "multipart/form-data; boundary=x"}, 501, "NotImplemented"),
    ("GET", f"/{BUCKET}/secret/plan?AWSAccessKeyId=AKIA&Signature=x&Expires=9999999999", {}, 400, "InvalidRequest"),
    ("GET", "/", {"authorization": "AWS4-HMAC-SHA256 Credential=x"}, 400, "AuthorizationHeaderMalformed"),
    ("GET", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00", {}, 400, "AuthorizationQueryParametersError"),
    ("GET", "/%ff/%00?%ff", {}, 403, "AccessDenied"),
]


@pytest.mark.parametrize(("method", "target", "headers", "status", "expected"), UNSIGNED)
def test_the_unauthenticated_learn_nothing_but_the_error(s3, method, target, headers, status, expected):
    assert send(s3, method, target, headers) == (status, "" if method == "HEAD" else expected)


def change(**changed):
    return lambda headers: {**headers, **{name.replace("_", "-"): value for name, value in changed.items()}}


@pytest.mark.parametrize(
    ("make", "mend", "expected"),
    [
        ({}, _tampered, (403, "SignatureDoesNotMatch")),
        ({}, change(X_Amz_Date="20200101T000000Z"), (403, "SignatureDoesNotMatch")),
        ({}, change(x_amz_acl="private"), (403, "SignatureDoesNotMatch")),
        ({}, change(x_amz_meta_a="b"), (403, "SignatureDoesNotMatch")),
        ({}, change(x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER"), (403, "SignatureDoesNotMatch")),
        (
            {"headers": {"x-amz-copy-source": f"/{BUCKET}/home/ann/a"}},
            change(x_amz_copy_source="/x/y"),
            (403, "SignatureDoesNotMatch"),
        ),
        ({"service": "sagemaker"}, dict, (403, "SignatureDoesNotMatch")),
        ({"region": "nowhere"}, dict, (403, "SignatureDoesNotMatch")),
        ({"key": ("AKIANOBODYKNOWSTHIS0", "x")}, dict, (403, "InvalidAccessKeyId")),
        ({"key": ("../../etc", "x")}, dict, (403, "InvalidAccessKeyId")),
        ({"headers": {"x-amz-security-token": "x"}}, dict, (403, "InvalidAccessKeyId")),
        ({"stated": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"}, dict, (400, "InvalidArgument")),
        ({"stated": "e3b0"}, dict, (400, "InvalidArgument")),
        ({"stated": None}, dict, (400, "InvalidRequest")),
    ],
)
def test_what_was_not_signed_so_is_refused(s3, make, mend, expected):
    arguments = {"key": s3.key, "stated": "UNSIGNED-PAYLOAD", **make}
    headers = mend(signed(s3, method="PUT", target=f"/{BUCKET}/home/ann/new", **arguments))
    assert send(s3, "PUT", f"/{BUCKET}/home/ann/new", headers, b"x") == expected
    assert not there(s3, "home/ann/new")


@pytest.mark.parametrize(
    "target", [f"/{BUCKET}/home/ann/%61x", f"/{BUCKET}//home/ann/a", f"/{BUCKET}/home/./ann/a", f"/{BUCKET}/home/ann/a?uploads"]
)
def test_a_signature_is_for_one_target(s3, target):
    headers = signed(s3, s3.key, "GET", f"/{BUCKET}/home/ann/a")
    assert send(s3, "GET", target, headers) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-20, (403, "RequestTimeTooSkewed")), (20, (403, "RequestTimeTooSkewed")), (-10, (200, "hers"))]
)
def test_a_clock_may_be_wrong_by_a_quarter_of_an_hour(s3, monkeypatch, minutes, expected):
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: datetime.now(UTC) + timedelta(minutes=minutes))
    assert send(s3, "GET", f"/{BUCKET}/home/ann/a", signed(s3, s3.key, "GET", f"/{BUCKET}/home/ann/a")) == expected


def test_a_presigned_url_ends_and_cannot_be_changed(s3, monkeypatch):
    def url(minutes):
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: datetime.now(UTC) + timedelta(minutes=minutes))
        request = AWSRequest(method="GET", url=f"{s3.url}/{BUCKET}/home/ann/a")
        S3SigV4QueryAuth(Credentials(*s3.key), "s3", REGION, expires=60).add_auth(request)
        parts = urlsplit(request.url)
        return f"{parts.path}?{parts.query}"

    assert send(s3, "GET", url(0), {}) == (200, "hers")
    assert send(s3, "GET", url(-2), {}) == (403, "AccessDenied")
    assert send(s3, "GET", url(0).replace("Expires=60", "Expires=3600"), {}) == (403, "SignatureDoesNotMatch")
    assert send(s3, "GET", url(0) + "&response-content-type=text/html", {}) == (403, "SignatureDoesNotMatch")
    assert send(s3, "PUT", url(0), {}, b"x") == (403, "SignatureDoesNotMatch")


# What was signed of the body.

SIZE = 300_000
BODY = bytes(range(250)) * (SIZE // 250)


def chunked(key, headers, chunks, tamper=lambda number, data: data, trailer=None):
    """A body in signed chunks, as AWS's documentation says."""
    date = headers["X-Amz-Date"]
    scope = f"{date[:8]}/{REGION}/s3/aws4_request"
    secret = b"AWS4" + key[1].encode()
    for part in scope.split("/"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    previous = headers["Authorization"][-64:]

    def sign(kind, *lines):
        text = "\n".join([f"AWS4-HMAC-SHA256-{kind}", date, scope, previous, *lines])
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()

    out = []
    for number, data in enumerate([*chunks, b""]):
        previous = sign("PAYLOAD", hashlib.sha256(b"").hexdigest(), hashlib.sha256(data).hexdigest())
        out.append(f"{len(data):x};chunk-signature={previous}\r\n".encode())
        if data:
            out.append(tamper(number, data) + b"\r\n")
    if trailer:
        previous = sign("TRAILER", hashlib.sha256(f"{trailer}\n".encode()).hexdigest())
        out.append(f"{trailer}\r\nx-amz-trailer-signature:{previous}\r\n".encode())
    return b"".join([*out, b"\r\n"])


def upload(s3, key, stated, body, decoded=None, headers=None, name="home/ann/upload"):
    extra = {**({"x-amz-decoded-content-length": str(decoded)} if decoded is not None else {}), **(headers or {})}
    made = signed(s3, key, "PUT", f"/{BUCKET}/{name}", stated, extra)
    if callable(body):
        body = body(made)
    return send(s3, "PUT", f"/{BUCKET}/{name}", made, body)


CRC = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
PARTS = [BODY[:65_536], BODY[65_536:200_000], BODY[200_000:]]
UNSIGNED_TRAILER = b"%x\r\n" % SIZE + BODY + b"\r\n0\r\nx-amz-checksum-crc32:" + CRC.encode() + b"\r\n\r\n"
SIGNED, WITH_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
TRAILER = {"x-amz-trailer": "x-amz-checksum-crc32"}


def flipped(number):
    return lambda index, data: b"!" + data[1:] if index == number else data


def test_every_kind_of_payload_is_taken(s3, key):
    for stated, body, decoded, headers in [
        ("UNSIGNED-PAYLOAD", BODY, None, {}),
        (hashlib.sha256(BODY).hexdigest(), BODY, None, {"x-amz-checksum-crc32": CRC}),
        # As AWS's SDK for C++ has it, by which Arrow reads and writes.
        ("UNSIGNED-PAYLOAD", BODY, None, {"x-amz-api-version": "2006-03-01"}),
        (SIGNED, lambda made: chunked(key, made, PARTS), SIZE, {"content-encoding": "aws-chunked"}),
        (WITH_TRAILER, lambda made: chunked(key, made, PARTS, trailer=f"x-amz-checksum-crc32:{CRC}"), SIZE, TRAILER),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", UNSIGNED_TRAILER, SIZE, TRAILER),
    ]:
        assert upload(s3, key, stated, body, decoded, headers) == (200, "")
        assert content(s3, "home/ann/upload") == BODY
        s3.client().delete_object(Bucket=BUCKET, Key="home/ann/upload")


@pytest.mark.parametrize("size", [1, 9, SIZE, 3_000_000])
def test_a_wrong_hash_leaves_no_object_of_any_size_and_disturbs_none(s3, key, size):
    name = f"home/ann/wrong-{size}"
    body = b"x" * size
    assert upload(s3, key, hashlib.sha256(b"another").hexdigest(), body, name=name) == (400, "XAmzContentSHA256Mismatch")
    assert not there(s3, name)
    assert upload(s3, key, hashlib.sha256(body).hexdigest(), body, name=name) == (200, "")
    assert upload(s3, key, hashlib.sha256(b"another").hexdigest(), b"y" * size, name=name) == (400, "XAmzContentSHA256Mismatch")
    assert content(s3, name) == body
    assert not list((s3.directory / "s3/buckets" / BUCKET).rglob(".rclone_temp_put_*"))


@pytest.mark.parametrize(
    ("stated", "body", "decoded", "headers", "expected"),
    [
        (SIGNED, lambda k: lambda m: chunked(k, m, PARTS, flipped(0)), SIZE, {}, "SignatureDoesNotMatch"),
        (SIGNED, lambda k: lambda m: chunked(k, m, PARTS, flipped(2)), SIZE, {}, "SignatureDoesNotMatch"),
        (SIGNED, lambda k: lambda m: chunked((k[0], "wrong"), m, PARTS), SIZE, {}, "SignatureDoesNotMatch"),
        (SIGNED, lambda k: lambda m: chunked(k, m, PARTS[:2]), SIZE, {}, "IncompleteBody"),
        (SIGNED, lambda k: lambda m: chunked(k, m, PARTS)[:-90], SIZE, {}, "IncompleteBody"),
        (SIGNED, lambda k: lambda m: chunked(k, m, PARTS), SIZE - 1, {}, "IncompleteBody"),
        (SIGNED, lambda k: lambda m: chunked(k, m, PARTS) + b"more\r\n", SIZE, {}, "InvalidRequest"),
        (SIGNED, lambda k: UNSIGNED_TRAILER, SIZE, {}, "InvalidRequest"),
        (SIGNED, lambda k: BODY, SIZE, {}, "InvalidRequest"),
        (SIGNED, lambda k: BODY, None, {}, "MissingContentLength"),
        (WITH_TRAILER, lambda k: lambda m: chunked(k, m, PARTS), SIZE, TRAILER, "SignatureDoesNotMatch"),
        (
            WITH_TRAILER,
            lambda k: lambda m: chunked(k, m, PARTS, trailer=f"x-amz-checksum-crc32:{CRC}").replace(CRC.encode(), b"AAAAAA=="),
            SIZE,
            TRAILER,
            "SignatureDoesNotMatch",
        ),
        (
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            lambda k: UNSIGNED_TRAILER.replace(CRC.encode(), b"AAAAAA=="),
            SIZE,
            TRAILER,
            "BadDigest",
        ),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", lambda k: UNSIGNED_TRAILER, SIZE, {}, "MalformedTrailerError"),
        ("UNSIGNED-PAYLOAD", lambda k: BODY, None, {"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
        ("UNSIGNED-PAYLOAD", lambda k: BODY, None, {"x-amz-checksum-xxhash3": "AAAAAA=="}, "InvalidRequest"),
        ("UNSIGNED-PAYLOAD", lambda k: BODY, None, TRAILER, "InvalidRequest"),
    ],
)
def test_a_body_that_is_not_what_was_signed_leaves_no_object(s3, key, stated, body, decoded, headers, expected):
    status, found = upload(s3, key, stated, body(key), decoded, headers, "home/ann/bad")
    assert (found, status < 500) == (expected, True)
    assert not there(s3, "home/ann/bad")


def test_a_part_with_a_wrong_hash_can_be_sent_again(s3, ann, key):
    name = "home/ann/parts"
    begun = ann.create_multipart_upload(Bucket=BUCKET, Key=name)["UploadId"]
    target = f"/{BUCKET}/{name}?partNumber=1&uploadId={begun}"
    headers = signed(s3, key, "PUT", target, hashlib.sha256(b"x").hexdigest())
    assert send(s3, "PUT", target, headers, BODY) == (400, "XAmzContentSHA256Mismatch")
    part = ann.upload_part(Bucket=BUCKET, Key=name, UploadId=begun, PartNumber=1, Body=BODY)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    ann.complete_multipart_upload(Bucket=BUCKET, Key=name, UploadId=begun, MultipartUpload=parts)
    assert content(s3, name) == BODY


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(s3, key):
    headers = signed(s3, key, "PUT", f"/{BUCKET}/home/ann/half", "UNSIGNED-PAYLOAD")
    with socket.create_connection(("127.0.0.1", s3.port)) as client:
        lines = [f"PUT /{BUCKET}/home/ann/half HTTP/1.1", f"host: 127.0.0.1:{s3.port}", "content-length: 10000000"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        client.sendall("\r\n".join([*lines, "", ""]).encode() + b"x" * 5_000_000)
    deadline = time.monotonic() + 30
    while list((s3.directory / "s3/buckets" / BUCKET).rglob(".rclone_temp_put_*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not there(s3, "home/ann/half")
    assert not list((s3.directory / "s3/buckets" / BUCKET).rglob(".rclone_temp_put_*"))


def test_who_goes_away_with_a_little_of_an_object_does_not_have_all_of_it_read(s3, ann):
    def given():
        counted = [each for family in s3.server.metrics() for each in family.samples if each.name == "phalanx_s3_bytes_total"]
        return sum(each.value for each in counted if each.labels["direction"] == "out")

    size = 200_000_000
    ann.put_object(Bucket=BUCKET, Key="home/ann/long", Body=bytes(size))
    body = ann.get_object(Bucket=BUCKET, Key="home/ann/long")["Body"]
    assert body.read(10) == bytes(10)
    before = given()
    body.close()
    deadline = time.monotonic() + 60
    while (more := given() - before) == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 0 < more < size / 2


def ask(s3, url, method, receive):
    """The answer of a door in this process, in front of the same server, to who sends what `receive` gives."""
    directory = Directory(s3.database, s3.seal, embedded_s3.ACCOUNT)
    trail = Trail(s3.directory / "trail", embedded_s3.ACCOUNT)
    backend = Backend(str(s3.directory / "s3" / SOCKET))
    buckets = s3.directory / "s3" / BUCKETS
    folders, guard = Folders(backend, buckets), Authority(directory, trail)
    places = Places(buckets, buckets.with_name("spares"))
    server = Server(REGION, backend, folders, places, Descriptions(buckets))
    gateway = Gateway(Access(directory.principal, guard, embedded_s3.ACCOUNT), server)
    parts, sent = urlsplit(url), []
    scope = {"type": "http", "method": method, "raw_path": parts.path.encode(), "query_string": parts.query.encode()}
    scope["headers"] = [(b"host", parts.netloc.encode()), (b"content-length", b"10000000")]

    async def send(message):
        sent.append(message)

    asyncio.run(gateway(scope, receive, send))
    trail.close()
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"].decode(), folders


@pytest.mark.parametrize(("name", "expected"), [("home/ann/silent", "RequestTimeout"), ("secret/silent", "AccessDenied")])
def test_a_client_that_falls_silent_is_sent_away_and_its_key_is_free(s3, ann, monkeypatch, name, expected):
    monkeypatch.setattr("phalanx.services.s3.body._SILENT_SECONDS", 0.2)
    come = iter([{"type": "http.request", "body": bytes(3_000_000), "more_body": True}])

    async def receive():
        return next(come, None) or await asyncio.Event().wait()

    url = ann.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": name})
    status, headers, answer, folders = ask(s3, url, "PUT", receive)
    assert (status, headers[b"connection"]) == (400 if expected == "RequestTimeout" else 403, b"close")
    assert f"<Code>{expected}</Code>" in answer
    with folders.held(BUCKET, [name], alone=True):
        assert not there(s3, name)


DESCRIPTION = {
    "ContentType": "text/css",
    "CacheControl": "max-age=1",
    "ContentEncoding": "gzip",
    "ContentDisposition": 'attachment; filename="a: b"',
    "ContentLanguage": "de",
    "Metadata": {"one": "1", "two": "2: 3", "empty": ""},
}


def described(s3, name):
    told = s3.client().get_object(Bucket=BUCKET, Key=name)
    return {member: told[member] for member in DESCRIPTION if member in told}


def test_what_describes_objects_outlives_the_server(s3):
    admin = s3.client()
    whole = {"Bucket": BUCKET, "Key": "described/upload"}
    begun = {**whole, "UploadId": admin.create_multipart_upload(**whole, **DESCRIPTION)["UploadId"]}
    tag = admin.upload_part(**begun, PartNumber=1, Body=b"x")["ETag"]
    admin.complete_multipart_upload(**begun, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    for name in ("put", "replaced", "deleted", "overwritten"):
        admin.put_object(Bucket=BUCKET, Key=f"described/{name}", Body=b"x", **DESCRIPTION)
    source = f"{BUCKET}/described/put"
    admin.copy_object(Bucket=BUCKET, Key="described/copy", CopySource=source)
    anew = {"ContentType": "text/x", "Metadata": {"three": "3"}}
    itself = {"Key": "described/replaced", "CopySource": f"{BUCKET}/described/replaced"}
    admin.copy_object(Bucket=BUCKET, **itself, MetadataDirective="REPLACE", **anew)
    admin.delete_object(Bucket=BUCKET, Key="described/deleted")
    for name in ("deleted", "overwritten"):
        admin.put_object(Bucket=BUCKET, Key=f"described/{name}", Body=b"x")
    s3.server.stop()
    s3.server.start()
    admin.copy_object(Bucket=BUCKET, Key="described/later", CopySource=source)
    for name in ("upload", "put", "copy", "later"):
        assert described(s3, f"described/{name}") == DESCRIPTION
    assert described(s3, "described/replaced") == anew
    for name in ("deleted", "overwritten"):
        assert described(s3, f"described/{name}") == {"ContentType": "application/octet-stream", "Metadata": {}}


def test_of_many_who_write_an_object_at_once_none_fails_and_one_is_the_last(s3):
    admin, keys = s3.client(), [f"described/by-many-{number}" for number in range(20)]

    def write(size):
        for key in keys:
            admin.put_object(Bucket=BUCKET, Key=key, Body=bytes(size), ContentType=f"text/{size}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(1000, 9000, 1000)))
    for key in keys:
        told = admin.get_object(Bucket=BUCKET, Key=key)
        assert told["ContentType"] == f"text/{len(told['Body'].read())}"


def test_who_is_answered_late_describes_what_she_wrote_alone(s3):
    admin, thing = s3.client(), {"Bucket": BUCKET, "Key": "described/twice"}
    first = admin.put_object(**thing, Body=b"x", ContentEncoding="gzip")["ETag"]
    later = {"ContentType": "text/css", "Metadata": {"a": "x" * 1900}}
    second = admin.put_object(**thing, Body=b"y", **later)["ETag"]
    descriptions, much = Descriptions(s3.directory / "s3" / BUCKETS), [(b"content-encoding", b"gzip".ljust(1900))]
    descriptions.keep(BUCKET, thing["Key"], first.encode(), much)
    assert described(s3, thing["Key"]) == later
    own = [(b"content-type", b"text/css"), (b"x-amz-meta-a", b"x" * 1900)]
    assert sorted(descriptions.of(BUCKET, thing["Key"], second.encode())) == own


def test_what_is_described_without_a_content_type_has_s3s(s3):
    admin, thing = s3.client(), {"Bucket": BUCKET, "Key": "described/untyped"}
    admin.put_object(**thing, Body=b"x", Metadata={"a": "b"})
    admin.copy_object(Bucket=BUCKET, Key="described/untyped-too", CopySource=f"{BUCKET}/described/untyped")
    for name in ("untyped", "untyped-too"):
        told = admin.head_object(Bucket=BUCKET, Key=f"described/{name}")
        assert (told["ContentType"], told["Metadata"]) == ("binary/octet-stream", {"a": "b"})
    answer = admin.get_object(**thing, Range="bytes=0-0", ResponseContentType="text/x")
    assert (answer["ContentType"], answer["Metadata"]) == ("text/x", {"a": "b"})


def test_more_than_there_is_room_for_does_not_describe_an_object(s3):
    admin, thing = s3.client(), {"Bucket": BUCKET, "Key": "described/much"}
    most = {"ContentDisposition": "y" * 900, "Metadata": {"a": "x" * 900}}
    admin.put_object(**thing, Body=b"x", **most)
    for more in ({"Metadata": {"a": "x" * 2048}}, {"ContentDisposition": "y" * 2048}):
        assert code(admin.put_object, **thing, Body=b"y", **more) == "MetadataTooLarge"
        assert code(admin.create_multipart_upload, **thing, **more) == "MetadataTooLarge"
    told = admin.get_object(**thing)
    assert ({name: told[name] for name in most}, told["Body"].read()) == (most, b"x")


def test_a_file_system_without_attributes_keeps_none(capsys):
    descriptions, headers = Descriptions(Path("/proc/self")), [(b"content-type", b"text/x")]
    for key in ("status", "status", "none"):
        descriptions.keep("", key, b"", headers)
        assert descriptions.of("", key, b"") is None
    assert capsys.readouterr().out.count("keeps no metadata of objects") == 1


def test_what_describes_an_object_is_kept_or_the_write_fails(tmp_path):
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/key").touch()
    with pytest.raises(BackendError, match="cannot be kept"):
        Descriptions(tmp_path).keep("bucket", "key", b"", [(b"content-type", bytes(1 << 16))])


def test_a_full_disk_is_said_to_be_for_a_while_and_keeps_nothing(s3, ann):
    ann.put_object(Bucket=BUCKET, Key="home/ann/full/x", Body=b"x")
    folder = s3.directory / "s3/buckets" / BUCKET / "home/ann/full"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
    try:
        assert code(ann.put_object, Bucket=BUCKET, Key="home/ann/full/y", Body=bytes(1 << 20)) == "ServiceUnavailable"
        assert list(folder.iterdir()) == []
        ann.put_object(Bucket=BUCKET, Key="home/ann/full/y", Body=b"short")
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_refused_upload_is_not_asked_for_its_body(s3, key):
    headers = signed(s3, key, "PUT", f"/{BUCKET}/secret/plan", "UNSIGNED-PAYLOAD")
    with socket.create_connection(("127.0.0.1", s3.port)) as client:
        lines = [f"PUT /{BUCKET}/secret/plan HTTP/1.1", f"host: 127.0.0.1:{s3.port}", "content-length: 10000000"]
        lines += ["expect: 100-continue", *(f"{name}: {value}" for name, value in headers.items())]
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"<Code>AccessDenied</Code>" in answer


def test_buckets_made_and_requests_refused_are_on_record_and_objects_are_not(s3, ann):
    admin = s3.client()
    admin.create_bucket(Bucket="on-record", CreateBucketConfiguration={"LocationConstraint": REGION})
    admin.put_object(Bucket="on-record", Key="off-record", Body=b"x")
    assert code(s3.client((s3.key[0], "wrong")).list_buckets) == "SignatureDoesNotMatch"
    assert code(ann.delete_bucket, Bucket="on-record") == "AccessDenied"
    trail = s3.directory / "audit" / "s3"
    assert verify(trail).fault is None
    records = [json.loads(line) for path in sorted(trail.glob("*.jsonl")) for line in path.read_text().splitlines()]
    made = [each for each in records if each["requestParameters"] and each["requestParameters"].get("bucket") == "on-record"]
    assert [each["eventName"] for each in made] == ["CreateBucket", "DeleteBucket"]
    assert {each["eventSource"] for each in records} == {"s3.amazonaws.com"}
    denied = [each for each in records if each.get("errorCode") == "AccessDenied"]
    assert denied[-1]["eventName"] == "DeleteBucket"
    assert denied[-1]["userIdentity"]["userName"].startswith("user-")
    refused = [each for each in records if each.get("errorCode") == "SignatureDoesNotMatch"]
    assert refused[-1]["eventName"] == "ListBuckets"
    assert not any("off-record" in json.dumps(each) for each in records)
