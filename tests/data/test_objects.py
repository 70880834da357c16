import io
import os
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, ProxyConnectionError, ResponseStreamingError

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


@pytest.mark.parametrize("uri", ["", "b/a", "http://b/a", "s3:///a", "s3:b", "s3://[x/y"])
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


def test_an_unreachable_store_is_ours_and_a_refused_key_the_users(store, free_port, monkeypatch):
    monkeypatch.setattr(objects, "PATIENCE", 1)
    nobody = ObjectStore(f"http://127.0.0.1:{free_port()}", "us-east-1", "a", "b")
    with pytest.raises(DataError, match=r"^InternalServerError: .*cannot be reached"):
        objects.list_objects(nobody, "s3://bkt/a")
    wrong = ObjectStore(store.endpoint, "us-east-1", store.access_key, "wrong")
    with pytest.raises(DataError, match=r"^ClientError: Data download failed:SignatureDoesNotMatch"):
        objects.has_objects(wrong, "s3://bkt/a")


def test_neither_proxies_nor_aws_clients_configuration_come_between(store, bucket, free_port, tmp_path, monkeypatch):
    """A proxy would be shown the data, and what a user has configured for AWS is not for this store."""
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="a", Body=b"1")
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n    use_accelerate_endpoint = true\n")
    nobody = f"http://127.0.0.1:{free_port()}"
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, nobody)
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    objects._client.cache_clear()
    try:
        assert objects.has_objects(store, f"s3://{name}/a")
        with pytest.raises(ProxyConnectionError):
            objects.client(replace(store, proxied=True), attempts=1, patience=0).list_buckets()
    finally:
        objects._client.cache_clear()


class _Away(BaseHTTPRequestHandler):
    """A server that fails so many times, and then lists an empty bucket."""

    def do_GET(self):
        self.server.asked += 1
        fails = self.server.asked <= self.server.failures
        body = b"<Error><Code>ServiceUnavailable</Code></Error>" if fails else b"<ListBucketResult></ListBucketResult>"
        self.send_response(503 if fails else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def away(free_port):
    """Has a store begin to answer after some seconds, and fail some times then."""
    servers = []

    def begin(seconds, failures):
        port = free_port()

        def listen():
            servers.append(ThreadingHTTPServer(("127.0.0.1", port), _Away))
            servers[-1].asked, servers[-1].failures = 0, failures
            servers[-1].serve_forever()

        threading.Timer(seconds, listen).start()
        return ObjectStore(f"http://127.0.0.1:{port}", "us-east-1", "a", "b")

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_store_that_is_away_is_waited_for(away):
    """Longer than attempts and botocore's quota of them would do."""
    store = away(1, failures=4)
    assert objects.client(store, attempts=1, patience=60).list_objects_v2(Bucket="bkt").get("Contents") is None


def test_a_store_that_stays_away_is_given_up(away):
    store = away(0, failures=1000)
    with pytest.raises(ClientError) as error:
        objects.client(store, attempts=1, patience=0.5).list_objects_v2(Bucket="bkt")
    assert error.value.response["Error"]["Code"] == "ServiceUnavailable"


def test_what_s3_cannot_do_is_not_waited_for_and_is_the_users(store, bucket, monkeypatch):
    monkeypatch.setattr(objects, "PATIENCE", 3.0)
    asked = []
    client = objects.client(store)
    client.meta.events.register("before-send.s3", lambda request, **_: asked.append(request.url))
    with pytest.raises(DataError, match=r"^ClientError: .*NotImplemented \(501\)"):
        objects.list_objects(store, f"s3://{bucket[0]}//data")
    assert len(asked) == 1


def test_ensure_bucket_twice(store):
    for _ in range(2):
        objects.ensure_bucket(store, "ensured")
    with pytest.raises(DataError, match=r"^ClientError: Bucket creation failed"):
        objects.ensure_bucket(store, "no/good")


class _Breaking:
    """A client whose bodies break off: each of the first `times` after `chunks` chunks."""

    def __init__(self, s3, chunks, times):
        self._s3 = s3
        self._chunks = chunks
        self._times = times
        self.asked = []

    def get_object(self, **request):
        self.asked.append(request.get("Range"))
        answer = self._s3.get_object(**request)
        if len(self.asked) <= self._times:
            body, left = answer["Body"], iter(range(self._chunks))

            def read(size):
                if next(left, None) is None:
                    raise ResponseStreamingError(error="broken")
                return body.read(size)

            answer["Body"] = SimpleNamespace(read=read, close=body.close)
        return answer


def test_a_body_that_breaks_off_goes_on_where_it_ended(bucket, monkeypatch):
    monkeypatch.setattr(objects.time, "sleep", lambda _: None)
    name, s3 = bucket
    content = os.urandom(15 << 20)
    s3.put_object(Bucket=name, Key="k", Body=content)
    # More often than one chunk may fail: what arrives in between shows that S3 is there.
    breaking = _Breaking(s3, chunks=2, times=6)
    stored = objects.get(breaking, name, "k", (), "Reading failed")
    assert (stored.size, stored.sealed, b"".join(stored.content)) == (len(content), False, content)
    assert breaking.asked == [None, *(f"bytes={read << 20}-" for read in (2, 4, 6, 8, 10, 12))]


def test_a_body_of_which_nothing_comes_is_given_up(bucket, monkeypatch):
    monkeypatch.setattr(objects.time, "sleep", lambda _: None)
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="k", Body=b"content")
    breaking = _Breaking(s3, chunks=0, times=9)
    with pytest.raises(DataError, match=rf"^InternalServerError: Reading failed:S3 cannot be reached for s3://{name}/k"):
        objects.get(breaking, name, "k", (), "Reading failed")
    assert len(breaking.asked) == 4


def test_an_object_that_is_replaced_while_its_body_breaks_off_is_the_users_error(bucket, monkeypatch):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="k", Body=os.urandom(3 << 20))
    monkeypatch.setattr(objects.time, "sleep", lambda _: s3.put_object(Bucket=name, Key="k", Body=os.urandom(3 << 20)))
    stored = objects.get(_Breaking(s3, chunks=2, times=1), name, "k", (), "Reading failed")
    with pytest.raises(DataError, match=rf"^ClientError: Reading failed:s3://{name}/k changed while it was read"):
        b"".join(stored.content)


@pytest.mark.parametrize("size", [0, 1 << 20, 200 << 30, 5 << 40])
def test_a_file_of_any_size_is_uploaded_in_no_more_parts_than_s3_takes(size):
    used = []
    s3 = SimpleNamespace(upload_fileobj=lambda content, bucket, key, Config: used.append(Config.multipart_chunksize))
    objects.put(s3, "bucket", "key", io.BytesIO(), "Upload failed", size=size)
    assert used[0] >= 16 << 20
    assert used[0] * 10_000 > size * 1.01
