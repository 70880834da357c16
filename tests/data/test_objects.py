import pytest

from phalanx.data import objects
from phalanx.data.model import ObjectStore
from phalanx.data.objects import DataError


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://b", ("b", "")),
        ("s3://b/", ("b", "")),
        ("s3://b/a/c", ("b", "a/c")),
        ("s3://b/a?x#y", ("b", "a?x#y")),
        ("s3://b//a", ("b", "/a")),
    ],
)
def test_parse_uri(uri, expected):
    assert objects.parse_uri(uri) == expected


@pytest.mark.parametrize("uri", ["", "b/a", "http://b/a", "s3:///a", "s3:b"])
def test_what_is_no_s3_uri_is_refused(uri):
    with pytest.raises(DataError, match=r"ClientError: .*is not an S3 URI"):
        objects.parse_uri(uri)


def test_listing_is_sorted_by_bytes_over_pages_and_without_folder_markers(store, bucket):
    name, s3 = bucket
    keys = ["p/a-b", "p/a/b", "p/a.b", "p/Z", "p/ü", *(f"p/many/{i:04d}" for i in range(1010))]
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=b"12")
    s3.put_object(Bucket=name, Key="other", Body=b"x")
    found = objects.list_objects(store, f"s3://{name}/p")
    assert [o.key for o in found] == sorted(keys, key=str.encode)
    assert {o.size for o in found} == {2}


def test_has_objects(store, bucket):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="a/b", Body=b"")
    assert objects.has_objects(store, f"s3://{name}/a")
    assert objects.has_objects(store, f"s3://{name}")
    assert not objects.has_objects(store, f"s3://{name}/x")
    assert not objects.has_objects(store, "s3://no-such-bucket/a")


def test_an_unreachable_store_is_ours_and_a_refused_key_the_users(store, free_port):
    nobody = ObjectStore(f"http://127.0.0.1:{free_port()}", "us-east-1", "a", "b")
    with pytest.raises(DataError, match=r"^InternalServerError: .*cannot be reached"):
        objects.list_objects(nobody, "s3://bkt/a")
    wrong = ObjectStore(store.endpoint, "us-east-1", store.access_key, "wrong")
    with pytest.raises(DataError, match=r"^ClientError: Data download failed:SignatureDoesNotMatch"):
        objects.has_objects(wrong, "s3://bkt/a")


def test_ensure_bucket_twice(store):
    for _ in range(2):
        objects.ensure_bucket(store, "ensured")
    with pytest.raises(DataError, match=r"^ClientError: Bucket creation failed"):
        objects.ensure_bucket(store, "no/good")
