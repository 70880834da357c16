"""What S3's door fills in where the server behind leaves something out, as clients read it."""

import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

import embedded_s3
from embedded_s3 import REGION
from phalanx.services.s3 import answers, conditions

BUCKET = "answers-bucket"
ELSEWHERE = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}


@pytest.fixture(scope="module")
def admin(tmp_path_factory):
    with embedded_s3.running(tmp_path_factory.mktemp("s3")) as s3:
        admin = s3.client()
        admin.create_bucket(Bucket=BUCKET, **ELSEWHERE)
        admin.put_object(Bucket=BUCKET, Key="a/1", Body=b"one")
        admin.put_object(Bucket=BUCKET, Key="b", Body=b"two")
        yield admin


def test_listings_have_what_clients_read_in_them(admin):
    etag = admin.head_object(Bucket=BUCKET, Key="a/1")["ETag"]
    listed = admin.list_objects_v2(Bucket=BUCKET, Prefix="a/")
    assert (listed["KeyCount"], listed["Contents"][0]["ETag"]) == (1, etag)
    assert admin.list_objects(Bucket=BUCKET, Prefix="a/")["Contents"][0]["ETag"] == etag
    none = admin.list_objects_v2(Bucket=BUCKET, Prefix="nothing/")
    assert (none["KeyCount"], none["IsTruncated"], "Contents" in none) == (0, False, False)


def test_a_listing_of_no_more_than_nothing_has_nothing(admin):
    for listing in (admin.list_objects_v2, admin.list_objects):
        for delimiter in ("", "/"):
            none = listing(Bucket=BUCKET, MaxKeys=0, Delimiter=delimiter)
            assert (none["MaxKeys"], none["IsTruncated"], none.get("KeyCount", 0)) == (0, False, 0)
            assert none.keys().isdisjoint({"Contents", "CommonPrefixes", "NextContinuationToken", "NextMarker"})


def test_a_bucket_is_in_the_services_region(admin):
    assert admin.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == REGION
    assert admin.head_bucket(Bucket=BUCKET)["BucketRegion"] == REGION
    assert b"LocationConstraint></LocationConstraint" not in answers.location("eu-west-1")
    assert b"></LocationConstraint" in answers.location("us-east-1")


@pytest.mark.parametrize(
    ("call", "arguments", "status", "code", "message"),
    [
        ("create_bucket", {"Bucket": BUCKET, **ELSEWHERE}, 409, "BucketAlreadyOwnedByYou", "and you already own it"),
        ("delete_bucket", {"Bucket": BUCKET}, 409, "BucketNotEmpty", "is not empty"),
        ("get_object", {"Bucket": BUCKET, "Key": "none"}, 404, "NoSuchKey", "key does not exist"),
        ("get_object", {"Bucket": BUCKET, "Key": "b", "Range": "bytes=9-12"}, 416, "InvalidRange", "not satisfiable"),
        ("get_object", {"Bucket": "no-such-bucket", "Key": "b"}, 404, "NoSuchBucket", "bucket does not exist"),
        ("list_objects_v2", {"Bucket": "no-such-bucket"}, 404, "NoSuchBucket", "bucket does not exist"),
        ("copy_object", {"Bucket": BUCKET, "Key": "c", "CopySource": f"{BUCKET}/none"}, 404, "NoSuchKey", "does not exist"),
        ("list_parts", {"Bucket": BUCKET, "Key": "m", "UploadId": "none"}, 404, "NoSuchUpload", "upload ID may be invalid"),
        ("head_object", {"Bucket": BUCKET, "Key": "none"}, 404, "404", "Not Found"),
    ],
)
def test_refusals_say_what_is_wrong(admin, call, arguments, status, code, message):
    with pytest.raises(ClientError) as error:
        getattr(admin, call)(**arguments)
    told = error.value.response
    assert (told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Code"]) == (status, code)
    assert message in told["Error"]["Message"]


def test_a_refusal_without_a_code_is_one_all_the_same():
    told = answers.error(400, b"bad request")
    assert (told.code, told.status) == ("InvalidRequest", 400)


@pytest.mark.parametrize("call", ["get_object", "head_object"])
def test_conditions_are_heeded(admin, call):
    known = admin.head_object(Bucket=BUCKET, Key="b")
    etag, hour = known["ETag"], timedelta(hours=1)
    before, after = known["LastModified"] - hour, known["LastModified"] + hour
    for conditions_, expected in (
        ({"IfMatch": etag}, 200),
        ({"IfMatch": etag.strip('"')}, 200),
        ({"IfMatch": "*"}, 200),
        ({"IfMatch": '"other"'}, 412),
        ({"IfMatch": '"other"', "Range": "bytes=0-1"}, 412),
        ({"IfMatch": f'"other", {etag}'}, 200),
        ({"IfNoneMatch": etag}, 304),
        ({"IfNoneMatch": "*"}, 304),
        ({"IfNoneMatch": '"other"'}, 200),
        ({"IfModifiedSince": before}, 200),
        ({"IfModifiedSince": known["LastModified"]}, 304),
        ({"IfModifiedSince": after}, 304),
        ({"IfUnmodifiedSince": before}, 412),
        ({"IfUnmodifiedSince": after}, 200),
        ({"IfMatch": etag, "IfUnmodifiedSince": before}, 200),
        ({"IfNoneMatch": '"other"', "IfModifiedSince": after}, 200),
    ):
        try:
            status = getattr(admin, call)(Bucket=BUCKET, Key="b", **conditions_)["ResponseMetadata"]["HTTPStatusCode"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status == expected, conditions_


def test_a_download_in_parts_never_mixes_two_versions(admin):
    """What clients that read ranges in parallel rely on."""
    old = admin.head_object(Bucket=BUCKET, Key="b")["ETag"]
    assert admin.get_object(Bucket=BUCKET, Key="b", IfMatch=old, Range="bytes=0-0")["ResponseMetadata"]["HTTPStatusCode"] == 206
    admin.put_object(Bucket=BUCKET, Key="b", Body=b"2")
    with pytest.raises(ClientError) as error:
        admin.get_object(Bucket=BUCKET, Key="b", IfMatch=old, Range="bytes=0-0")
    assert error.value.response["Error"]["Code"] == "PreconditionFailed"


def refused(call, **arguments):
    """Status and code of a refusal."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"], error.value.response["Error"]["Code"]


def test_a_write_may_depend_on_what_is_there(admin):
    thing = {"Bucket": BUCKET, "Key": "lock"}
    assert refused(admin.put_object, **thing, Body=b"0", IfMatch='"none"') == (404, "NoSuchKey")
    first = admin.put_object(**thing, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(admin.put_object, **thing, Body=b"2", IfNoneMatch="*") == (412, "PreconditionFailed")
    second = admin.put_object(**thing, Body=b"2", IfMatch=first)["ETag"]
    assert refused(admin.put_object, **thing, Body=b"3", IfMatch=first) == (412, "PreconditionFailed")
    begun = {**thing, "UploadId": admin.create_multipart_upload(**thing)["UploadId"]}
    part = admin.upload_part(**begun, PartNumber=1, Body=b"4")["ETag"]
    whole = {**begun, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part}]}}
    assert refused(admin.complete_multipart_upload, **whole, IfNoneMatch="*") == (412, "PreconditionFailed")
    assert admin.get_object(**thing)["Body"].read() == b"2"
    admin.complete_multipart_upload(**whole, IfMatch=second)
    assert admin.get_object(**thing)["Body"].read() == b"4"
    assert refused(admin.put_object, **thing, Body=b"5", IfNoneMatch='"other"') == (501, "NotImplemented")


def test_a_deletion_may_depend_on_what_is_there(admin):
    thing = {"Bucket": BUCKET, "Key": "held"}
    first = admin.put_object(**thing, Body=b"1")["ETag"]
    admin.put_object(**thing, Body=b"2")
    assert refused(admin.delete_object, **thing, IfMatch=first) == (412, "PreconditionFailed")
    assert admin.get_object(**thing)["Body"].read() == b"2"
    for key in ("none", "held/below", "a//b", "a/"):
        for tag in ("*", first):
            assert refused(admin.delete_object, Bucket=BUCKET, Key=key, IfMatch=tag) == (404, "NoSuchKey")
    admin.delete_object(**thing, IfMatch=admin.head_object(**thing)["ETag"])
    assert refused(admin.delete_object, **thing, IfMatch="*") == (404, "NoSuchKey")
    admin.delete_object(**thing)
    one = {"Bucket": BUCKET, "Key": "other", "Body": b"3"}
    tag = admin.put_object(**one)["ETag"]
    entry = {"Objects": [{"Key": "other", "ETag": tag}]}
    assert refused(admin.delete_objects, Bucket=BUCKET, Delete=entry) == (501, "NotImplemented")
    assert refused(admin.delete_object, Bucket=BUCKET, Key="other", IfMatchSize=1) == (501, "NotImplemented")
    admin.delete_object(Bucket=BUCKET, Key="other", IfMatch="*")
    assert refused(admin.get_object, Bucket=BUCKET, Key="other") == (404, "NoSuchKey")


def test_a_copy_may_depend_on_what_it_would_replace(admin):
    source = {"Bucket": BUCKET, "Key": "copied/from"}
    thing = {"Bucket": BUCKET, "Key": "copied/to"}
    admin.put_object(**source, Body=b"1")
    assert refused(admin.copy_object, **thing, CopySource=source, IfMatch="*") == (404, "NoSuchKey")
    tag = admin.copy_object(**thing, CopySource=source, IfNoneMatch="*")["CopyObjectResult"]["ETag"]
    admin.put_object(**source, Body=b"2")
    assert refused(admin.copy_object, **thing, CopySource=source, IfNoneMatch="*") == (412, "PreconditionFailed")
    assert refused(admin.copy_object, **thing, CopySource=source, IfMatch='"other"') == (412, "PreconditionFailed")
    assert admin.get_object(**thing)["Body"].read() == b"1"
    admin.copy_object(**thing, CopySource=source, IfMatch=tag)
    assert admin.get_object(**thing)["Body"].read() == b"2"


def test_of_many_who_write_where_nothing_is_one_does(admin):
    def write(number):
        try:
            admin.put_object(Bucket=BUCKET, Key="race", Body=str(number).encode() * (1 << 20), IfNoneMatch="*")
        except ClientError as error:
            return error.response["Error"]["Code"]
        return str(number)

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(write, range(8)))
    (won,) = (each for each in ended if each.isdigit())
    assert set(ended) - {won} <= {"PreconditionFailed", "ConditionalRequestConflict"}
    assert admin.get_object(Bucket=BUCKET, Key="race")["Body"].read(1) == won.encode()


def test_an_object_is_copied_in_parts(admin):
    """As boto3 copies what is larger than 8 MB."""
    content = os.urandom(21 << 20)
    admin.put_object(Bucket=BUCKET, Key="large", Body=content)
    settings = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    admin.copy({"Bucket": BUCKET, "Key": "large"}, BUCKET, "deep/copy", Config=settings)
    assert admin.get_object(Bucket=BUCKET, Key="deep/copy")["Body"].read() == content


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"CopySourceRange": "bytes=1-3"}, "InvalidArgument"),
        ({"CopySourceRange": "bytes=5-6"}, "InvalidRange"),
        ({"CopySourceRange": "bytes=1-0"}, "InvalidArgument"),
        ({"CopySourceRange": "bytes=1-"}, "InvalidArgument"),
        ({"CopySourceIfMatch": '"other"'}, "PreconditionFailed"),
        ({"CopySourceIfModifiedSince": datetime(2100, 1, 1, tzinfo=UTC)}, "PreconditionFailed"),
        ({"CopySource": f"{BUCKET}/none"}, "NoSuchKey"),
        ({"UploadId": "none"}, "NoSuchUpload"),
    ],
)
def test_parts_that_cannot_be_copied(admin, what, code):
    admin.put_object(Bucket=BUCKET, Key="abc", Body=b"abc")
    whole = {"Bucket": BUCKET, "Key": "parts"}
    upload = admin.create_multipart_upload(**whole)["UploadId"]
    asked = {**whole, "UploadId": upload, "PartNumber": 1, "CopySource": f"{BUCKET}/abc", **what}
    with pytest.raises(ClientError) as error:
        admin.upload_part_copy(**asked)
    assert error.value.response["Error"]["Code"] == code
    assert admin.list_parts(**whole, UploadId=upload).get("Parts", []) == []
    admin.abort_multipart_upload(**whole, UploadId=upload)


def test_a_part_may_be_a_part_of_an_object(admin):
    admin.put_object(Bucket=BUCKET, Key="abc", Body=b"abc")
    whole = {"Bucket": BUCKET, "Key": "middle"}
    upload = admin.create_multipart_upload(**whole)["UploadId"]
    etag = admin.head_object(Bucket=BUCKET, Key="abc")["ETag"]
    part = {"PartNumber": 1, "CopySource": f"{BUCKET}/abc", "CopySourceRange": "bytes=1-1", "CopySourceIfMatch": etag}
    made = admin.upload_part_copy(**whole, UploadId=upload, **part)["CopyPartResult"]["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": made}]}
    admin.complete_multipart_upload(**whole, UploadId=upload, MultipartUpload=parts)
    assert admin.get_object(**whole)["Body"].read() == b"b"


DESCRIPTION = {
    "ContentType": "text/css",
    "CacheControl": "max-age=1",
    "ContentEncoding": "gzip",
    "ContentDisposition": "attachment",
    "ContentLanguage": "de",
    "Metadata": {"one": "1", "two": "2"},
}


def described(admin, key):
    told = admin.head_object(Bucket=BUCKET, Key=key)
    return {name: told[name] for name in DESCRIPTION if name in told}


@pytest.fixture
def styled(admin):
    """The key of an object with a description."""
    admin.put_object(Bucket=BUCKET, Key="styled", Body=b"x" * 3_000_000, **DESCRIPTION)
    return "styled"


def test_a_copy_is_described_as_its_source(admin, styled):
    etag = admin.head_object(Bucket=BUCKET, Key=styled)["ETag"]
    made = admin.copy_object(Bucket=BUCKET, Key="restyled", CopySource=f"{BUCKET}/{styled}", Metadata={"not": "heeded"})
    assert made["CopyObjectResult"]["ETag"] == etag
    assert described(admin, "restyled") == DESCRIPTION
    assert len(admin.get_object(Bucket=BUCKET, Key="restyled")["Body"].read()) == 3_000_000


def test_a_copy_may_be_described_anew(admin, styled):
    anew = {"ContentType": "text/x", "Metadata": {"three": "3"}}
    asked = {"Bucket": BUCKET, "CopySource": f"{BUCKET}/{styled}", "MetadataDirective": "REPLACE", **anew}
    for key in ("anew", styled):
        assert (
            admin.copy_object(Key=key, **asked)["CopyObjectResult"]["ETag"] == admin.head_object(Bucket=BUCKET, Key=key)["ETag"]
        )
        assert described(admin, key) == anew
        assert len(admin.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == 3_000_000


def test_a_copy_onto_itself_changes_something(admin, styled):
    asked = {"Bucket": BUCKET, "Key": styled, "CopySource": f"{BUCKET}/{styled}"}
    assert refused(admin.copy_object, **asked) == (400, "InvalidRequest")
    assert refused(admin.copy_object, **asked, Metadata={"three": "3"}) == (400, "InvalidRequest")
    admin.copy_object(**asked, StorageClass="STANDARD_IA")
    assert described(admin, styled) == DESCRIPTION


def begin(admin, key, *contents):
    """An upload with these parts: how operations name it, and its parts."""
    begun = {"Bucket": BUCKET, "Key": key}
    begun["UploadId"] = admin.create_multipart_upload(**begun)["UploadId"]
    tags = [admin.upload_part(**begun, PartNumber=number, Body=body)["ETag"] for number, body in enumerate(contents, 1) if body]
    numbers = [number for number, body in enumerate(contents, 1) if body]
    return begun, [{"PartNumber": number, "ETag": tag} for number, tag in zip(numbers, tags, strict=True)]


def test_an_upload_begins_with_the_document_that_clients_look_for(admin):
    url = admin.generate_presigned_url("create_multipart_upload", Params={"Bucket": BUCKET, "Key": "named"})
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        document = ElementTree.fromstring(answer.read())
    assert document.tag == "InitiateMultipartUploadResult"
    admin.abort_multipart_upload(Bucket=BUCKET, Key="named", UploadId=document.findtext("UploadId"))


def test_an_upload_tells_the_objects_etag(admin):
    begun, parts = begin(admin, "a/<whole>", b"one", b"two")
    made = admin.complete_multipart_upload(**begun, MultipartUpload={"Parts": parts}, MpuObjectSize=6)
    thing = {"Bucket": BUCKET, "Key": "a/<whole>"}
    listed = admin.list_objects_v2(Bucket=BUCKET, Prefix=thing["Key"])["Contents"]
    assert made["ETag"] == admin.head_object(**thing)["ETag"] == listed[0]["ETag"]
    assert (made["Key"], made["Location"]) == (thing["Key"], f"{admin.meta.endpoint_url}/{BUCKET}/a/%3Cwhole%3E")
    assert admin.get_object(**thing, IfMatch=made["ETag"])["Body"].read() == b"onetwo"
    admin.put_object(**thing, Body=b"", IfMatch=made["ETag"])


def test_what_an_upload_cannot_be_completed_to_leaves_it_as_it_was(admin):
    begun, parts = begin(admin, "patient", b"one", b"two", b"3")
    other = {**parts[1], "ETag": parts[0]["ETag"]}
    for named, size, expected in (
        (parts[:2], None, (501, "NotImplemented")),
        (parts[1:], None, (501, "NotImplemented")),
        ([*parts[:2], {**parts[2], "PartNumber": 4}], None, (400, "InvalidPart")),
        ([parts[0], other, parts[2]], None, (400, "InvalidPart")),
        ([parts[1], parts[0], parts[2]], None, (400, "InvalidPartOrder")),
        (parts, 8, (400, "InvalidRequest")),
    ):
        size = {} if size is None else {"MpuObjectSize": size}
        assert refused(admin.complete_multipart_upload, **begun, MultipartUpload={"Parts": named}, **size) == expected
    assert refused(admin.upload_part, **begun, PartNumber=1, Body=b"another") == (501, "NotImplemented")
    admin.upload_part(**begun, PartNumber=1, Body=b"one")
    admin.complete_multipart_upload(**begun, MultipartUpload={"Parts": parts}, MpuObjectSize=7)
    assert admin.get_object(Bucket=BUCKET, Key="patient")["Body"].read() == b"onetwo3"
    begun, parts = begin(admin, "gap", b"one", b"", b"3")
    assert refused(admin.complete_multipart_upload, **begun, MultipartUpload={"Parts": parts}) == (501, "NotImplemented")
    admin.abort_multipart_upload(**begun)


def test_objects_have_no_tags(admin):
    assert admin.get_object_tagging(Bucket=BUCKET, Key="a/1")["TagSet"] == []
    for key in ("none", "a//1"):
        with pytest.raises(ClientError) as error:
            admin.get_object_tagging(Bucket=BUCKET, Key=key)
        assert error.value.response["Error"]["Code"] == "NoSuchKey"


def test_conditions_of_a_copy_are_heeded(admin):
    copied = {"Bucket": BUCKET, "Key": "conditional", "CopySource": f"{BUCKET}/a/1"}
    with pytest.raises(ClientError) as error:
        admin.copy_object(**copied, CopySourceIfMatch='"other"')
    assert error.value.response["Error"]["Code"] == "PreconditionFailed"
    assert "Contents" not in admin.list_objects_v2(Bucket=BUCKET, Prefix="conditional")
    admin.copy_object(**copied, CopySourceIfMatch=admin.head_object(Bucket=BUCKET, Key="a/1")["ETag"])
    assert admin.get_object(Bucket=BUCKET, Key="conditional")["Body"].read() == b"one"


def test_dates_that_are_none_are_no_conditions():
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").encode()
    for field in (b"yesterday", b"", b"\xff", b"Sun, 99 Nov 2026 00:00:00 GMT"):
        assert conditions.outcome({"if-modified-since": field, "if-unmodified-since": field}, b'"e"', now) == 200
    odd = b"Mon, 01 Jan 2024 00:00:00 +99999999999999999999"
    assert conditions.outcome({"if-modified-since": odd}, b'"e"', now) == 200
    assert conditions.outcome({"if-modified-since": now}, b'"e"', b"never") == 304
