"""Objects that are read, and killed servers, while they are replaced."""

import asyncio
import hashlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import embedded_s3
from embedded_s3 import REGION
from phalanx.services.s3.backend import BackendError
from phalanx.services.s3.places import Places

BUCKET = "shared-bucket"
SIZES = (100, 5_000, 200_000, 3_000_000)


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with embedded_s3.running(tmp_path_factory.mktemp("s3")) as s3:
        s3.client().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield s3


def version(number):
    return bytes([number]) * SIZES[number]


def test_who_reads_what_is_being_replaced_has_one_version_of_it(s3):
    ended, client = threading.Event(), s3.client()

    def write():
        number = 0
        while not ended.is_set():
            number = (number + 1) % len(SIZES)
            client.put_object(Bucket=BUCKET, Key="latest", Body=version(number), Metadata={"version": str(number)})

    def read(turn):
        told = client.head_object(Bucket=BUCKET, Key="latest")
        assert told["ContentLength"] == SIZES[int(told["Metadata"]["version"])]
        assert told["ETag"] == f'"{hashlib.md5(version(int(told["Metadata"]["version"]))).hexdigest()}"'
        got = client.get_object(Bucket=BUCKET, Key="latest")
        content = got["Body"].read()
        assert content == version(content[0])
        assert got["Metadata"] == {"version": str(content[0])}
        assert got["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
        copied = client.copy_object(Bucket=BUCKET, Key=f"copy-{turn}", CopySource=f"{BUCKET}/latest")
        content = client.get_object(Bucket=BUCKET, Key=f"copy-{turn}")["Body"].read()
        assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(version(content[0])).hexdigest()}"'

    client.put_object(Bucket=BUCKET, Key="latest", Body=version(0), Metadata={"version": "0"})
    with ThreadPoolExecutor(4) as pool:
        writer = pool.submit(write)
        try:
            list(pool.map(read, range(60)))
        finally:
            ended.set()
        writer.result()


def test_who_writes_what_others_delete_is_not_failed(s3):
    """Each in turn: one write at a time, while a single deletion and one of many go on and on."""
    ended, client = threading.Event(), s3.client()

    def delete(many):
        while not ended.is_set():
            if many:
                keys = [{"Key": key} for key in ("torn", "other")]
                assert "Errors" not in client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
            else:
                client.delete_object(Bucket=BUCKET, Key="torn")

    def write(number):
        client.put_object(Bucket=BUCKET, Key="torn", Body=version(number % len(SIZES)))
        return number

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(delete, many) for many in (False, True)]
        try:
            assert list(pool.map(write, range(300))) == list(range(300))
        finally:
            ended.set()
        for other in others:
            other.result()
    client.put_object(Bucket=BUCKET, Key="torn", Body=b"last")
    assert client.get_object(Bucket=BUCKET, Key="torn")["Body"].read() == b"last"


@pytest.mark.parametrize("then", ["replaced", "deleted"])
def test_a_long_download_is_of_what_was_there_when_it_began(s3, then):
    size, client = 200_000_000, s3.client()
    client.put_object(Bucket=BUCKET, Key="checkpoint", Body=b"a" * size)
    body = client.get_object(Bucket=BUCKET, Key="checkpoint")["Body"]
    first = body.read(1000)
    if then == "replaced":
        client.put_object(Bucket=BUCKET, Key="checkpoint", Body=b"b" * size)
    else:
        client.delete_object(Bucket=BUCKET, Key="checkpoint")
    assert hashlib.md5(first + body.read()).digest() == hashlib.md5(b"a" * size).digest()


@pytest.mark.parametrize("killed", [["server.lock"], ["server.lock", "gateway.lock"]])
def test_what_was_acknowledged_is_there_after_a_kill_while_it_is_replaced(s3, killed):
    acknowledged, client = [], s3.client()
    file = s3.directory / "s3/buckets" / BUCKET / "state"

    def write():
        with pytest.raises((ClientError, BotoCoreError)):
            for number in range(10_000):
                client.put_object(Bucket=BUCKET, Key="state", Body=str(number).encode())
                acknowledged.append(number)

    pids = [int((s3.directory / "s3" / lock).read_text()) for lock in killed]
    writer = threading.Thread(target=write)
    writer.start()
    deadline = time.monotonic() + 60
    while len(acknowledged) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    while file.exists() and time.monotonic() < deadline:
        pass
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    writer.join()
    s3.server.start()
    assert time.monotonic() < deadline
    assert int(client.get_object(Bucket=BUCKET, Key="state")["Body"].read()) >= acknowledged[-1]
    assert list((s3.directory / "s3/spares").iterdir()) == []


@pytest.fixture
def places(tmp_path):
    (tmp_path / "buckets/b").mkdir(parents=True)
    places = Places(tmp_path / "buckets", tmp_path / "spares")
    places.restore()
    return places


def test_what_is_deleted_after_it_was_replaced_stays_deleted(places, tmp_path):
    file = tmp_path / "buckets/b/key"
    file.write_text("old")

    async def replace():
        async with places.replaced("b", "key"):
            file.unlink()

    asyncio.run(replace())
    assert not file.exists()
    assert list((tmp_path / "spares").iterdir()) == []


def test_what_is_deleted_while_its_replacement_fails_stays_deleted(places, tmp_path):
    file = tmp_path / "buckets/b/key"
    file.write_text("old")

    async def replace(begun):
        async with places.replaced("b", "key"):
            begun.set()
            await asyncio.sleep(0.05)
            file.unlink()
            raise BackendError("the server fails")

    async def delete(begun):
        await begun.wait()
        async with places.deleted("b", ["other", "key"]):
            file.unlink()

    async def both():
        begun = asyncio.Event()
        return await asyncio.gather(replace(begun), delete(begun), return_exceptions=True)

    failed, deleted = asyncio.run(both())
    assert isinstance(failed, BackendError)
    assert deleted is None
    assert not file.exists()


def test_what_replaced_an_object_stays_though_nobody_was_told(places, tmp_path):
    file = tmp_path / "buckets/b/key"
    file.write_text("old")

    async def replace():
        async with places.replaced("b", "key"):
            file.unlink()
            file.write_text("new")
            raise BackendError

    with pytest.raises(BackendError):
        asyncio.run(replace())
    assert file.read_text() == "new"


def test_what_a_crash_left_halfway_is_in_nobodys_way(places, tmp_path):
    file = tmp_path / "buckets/b/key"
    file.write_text("old")
    os.link(file, tmp_path / "spares/0")
    os.symlink("b/gone/key", tmp_path / "spares/1.of")
    (tmp_path / "spares/1").write_text("whose folder is gone")
    places.restore()
    assert list((tmp_path / "spares").iterdir()) == []
    assert file.read_text() == "old"


def test_two_keys_are_two_objects_whatever_characters_they_are_of(s3):
    client, keys = (
        s3.client(),
        ["\u201ba", "\u201b\u201ba", "\uff0f", "\u201b\uff0f", "\uff0e", "\u201b\uff0e", "\u2400", "\x01\x7f"],
    )
    for key in keys:
        client.put_object(Bucket=BUCKET, Key=f"odd/{key}", Body=key.encode(), Metadata={"n": str(keys.index(key))})
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix="odd/")["Contents"]
    assert sorted(each["Key"] for each in listed) == sorted(f"odd/{key}" for key in keys)
    for key in keys:
        got = client.get_object(Bucket=BUCKET, Key=f"odd/{key}")
        assert (got["Body"].read(), got["Metadata"]) == (key.encode(), {"n": str(keys.index(key))})
