"""Keys that would be an object's and a folder's at once, on the real server behind the door."""

import itertools
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

import embedded_s3
from embedded_s3 import REGION

_numbers = itertools.count()


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with embedded_s3.running(tmp_path_factory.mktemp("s3")) as s3:
        yield s3


@pytest.fixture
def bucket(s3):
    """The name of a new bucket with the objects `above` and `under/d/e`."""
    name = f"folders-{next(_numbers)}"
    client = s3.client()
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_object(Bucket=name, Key="above", Body=b"above")
    client.put_object(Bucket=name, Key="under/d/e", Body=b"under")
    return name


def contents(s3, bucket):
    client = s3.client()
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


BOTH = {"above": b"above", "under/d/e": b"under"}


def attempt(call, **arguments):
    """The answer's status, and of an error its code and message."""
    try:
        return call(**arguments)["ResponseMetadata"]["HTTPStatusCode"], "", ""
    except ClientError as error:
        answer = error.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


@pytest.mark.parametrize("key", ["above/a", "above/a/b", "under", "under/d"])
@pytest.mark.parametrize("operation", ["put_object", "copy_object", "create_multipart_upload"])
def test_what_would_be_both_is_refused_and_harms_nothing(s3, bucket, operation, key):
    arguments = {"copy_object": {"CopySource": f"{bucket}/above"}}.get(operation, {})
    status, code, message = attempt(getattr(s3.client(), operation), Bucket=bucket, Key=key, **arguments)
    assert (status, code) == (501, "NotImplemented")
    assert "Choose another key, or delete what is in its way." in message
    assert contents(s3, bucket) == BOTH


def test_what_is_refused_may_be_once_nothing_is_in_its_way(s3, bucket):
    client = s3.client()
    client.delete_object(Bucket=bucket, Key="above")
    client.delete_object(Bucket=bucket, Key="under/d/e")
    client.put_object(Bucket=bucket, Key="above/a", Body=b"1")
    client.put_object(Bucket=bucket, Key="under", Body=b"2")
    assert contents(s3, bucket) == {"above/a": b"1", "under": b"2"}


@pytest.mark.parametrize("key", ["above/a", "above/a/b", "under", "under/d"])
def test_deleting_what_cannot_be_there_deletes_nothing(s3, bucket, key):
    client = s3.client()
    assert client.delete_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert contents(s3, bucket) == BOTH
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "none"}]})
    assert sorted(each["Key"] for each in answer["Deleted"]) == sorted([key, "none"])
    assert contents(s3, bucket) == BOTH


def test_the_first_objects_of_a_folder_may_be_written_at_once(s3, bucket):
    client = s3.client()

    def write(key):
        return attempt(client.put_object, Bucket=bucket, Key=key, Body=b"x")

    with ThreadPoolExecutor(10) as pool:
        for number in range(20):
            answers = list(pool.map(write, [f"first-{number}/of/{each}" for each in range(10)]))
            assert answers == [(200, "", "")] * 10


def test_folders_that_uploads_left_behind_are_in_nobodys_way(s3, bucket):
    client = s3.client()
    for key in ("left/behind/x", "left/twice/x", "kept/x"):
        begun = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=begun, PartNumber=1, Body=b"x")
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=begun)
    wrong = "1B2M2Y8AsgTpgAmY7PhCfg=="  # of nothing
    assert attempt(client.put_object, Bucket=bucket, Key="bad/x", Body=b"x", ContentMD5=wrong)[1] == "BadDigest"
    for key in ("left", "bad"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert contents(s3, bucket) == BOTH | {"left": b"left", "bad": b"bad"}
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ("above", "under/d/e", "left", "bad")]})
    client.delete_bucket(Bucket=bucket)  # but for the folder `kept` it is empty
    assert attempt(client.head_bucket, Bucket=bucket)[0] == 404


def folders(s3, bucket, prefix=""):
    listed = s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return [each["Prefix"] for each in listed.get("CommonPrefixes", [])]


def test_an_empty_object_with_a_slash_at_its_end_is_a_folder(s3, bucket):
    """As the console, Arrow, s3fs and Hadoop mark them."""
    client = s3.client()
    for _ in range(2):
        put = client.put_object(Bucket=bucket, Key="made/of/", Body=b"", ChecksumAlgorithm="CRC32")
        assert (put["ETag"], put["ChecksumCRC32"]) == ('"d41d8cd98f00b204e9800998ecf8427e"', "AAAAAA==")
    assert (folders(s3, bucket), folders(s3, bucket, "made/")) == (["made/", "under/"], ["made/of/"])
    assert attempt(client.head_object, Bucket=bucket, Key="made/of/")[0] == 404
    client.put_object(Bucket=bucket, Key="made/of/x", Body=b"x")
    client.put_object(Bucket=bucket, Key="under/d/", Body=b"")
    for key in ("made/of/", "made/", "under/d/", "under/", "above/", "none/"):
        assert client.delete_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert contents(s3, bucket) == BOTH | {"made/of/x": b"x"}
    client.put_object(Bucket=bucket, Key="bare/", Body=b"")
    client.delete_object(Bucket=bucket, Key="bare/")
    assert folders(s3, bucket) == ["made/", "under/"]


def test_a_folder_is_not_made_where_it_cannot_be(s3, bucket):
    client = s3.client()
    for key in ("above/", "above/a/"):
        status, code, message = attempt(client.put_object, Bucket=bucket, Key=key, Body=b"")
        assert (status, code) == (501, "NotImplemented")
        assert "what is in its way" in message
    assert attempt(client.put_object, Bucket=bucket, Key="new/", Body=b"x")[:2] == (501, "NotImplemented")
    assert attempt(client.put_object, Bucket="no-such-bucket", Key="new/", Body=b"")[:2] == (404, "NoSuchBucket")
    assert (folders(s3, bucket), contents(s3, bucket)) == (["under/"], BOTH)


def test_an_upload_outlives_the_objects_beside_it(s3, bucket):
    client = s3.client()
    one, two = (client.create_multipart_upload(Bucket=bucket, Key="under/d/f")["UploadId"] for _ in range(2))
    client.delete_object(Bucket=bucket, Key="under/d/e")
    part = client.upload_part(Bucket=bucket, Key="under/d/f", UploadId=one, PartNumber=1, Body=b"late")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(Bucket=bucket, Key="under/d/f", UploadId=one, MultipartUpload=parts)
    assert contents(s3, bucket) == {"above": b"above", "under/d/f": b"late"}
    again = client.upload_part(Bucket=bucket, Key="under/d/f", UploadId=two, PartNumber=1, Body=b"later")
    client.delete_object(Bucket=bucket, Key="under/d/f")
    parts = {"Parts": [{"PartNumber": 1, "ETag": again["ETag"]}]}
    client.complete_multipart_upload(Bucket=bucket, Key="under/d/f", UploadId=two, MultipartUpload=parts)
    assert contents(s3, bucket) == {"above": b"above", "under/d/f": b"later"}


def test_while_an_object_is_written_nobody_writes_or_deletes_above_and_below_it(s3, bucket):
    client = s3.client()
    url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "slow/a"})
    with socket.create_connection(("127.0.0.1", s3.port), 30) as slow:
        target = url.removeprefix(s3.url)
        slow.sendall(f"PUT {target} HTTP/1.1\r\nhost: 127.0.0.1:{s3.port}\r\ncontent-length: 4\r\n\r\nsl".encode())
        while (aborted := attempt(client.delete_object, Bucket=bucket, Key="slow/a/b"))[0] == 204:
            pass  # the other one has not begun
        assert aborted[:2] == (409, "OperationAborted")
        assert attempt(client.delete_object, Bucket=bucket, Key="slow")[:2] == (409, "OperationAborted")
        for key in ("slow/a/b", "slow"):
            assert attempt(client.put_object, Bucket=bucket, Key=key, Body=b"b")[:2] == (409, "OperationAborted")
        assert attempt(client.put_object, Bucket=bucket, Key="slow/b", Body=b"b")[0] == 200
        slow.sendall(b"ow")
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert contents(s3, bucket) == BOTH | {"slow/a": b"slow", "slow/b": b"b"}
    assert attempt(client.delete_object, Bucket=bucket, Key="slow/a")[0] == 204
