import os
import signal
import time

import pytest

from phalanx.data.fastfile import FastFile, release
from phalanx.data.model import Channel
from phalanx.data.objects import DataError

OWNER = (100_123, 100_456)


@pytest.fixture
def mount(store, tmp_path):
    directory = tmp_path / "i 1"

    def make(uri, name="train", **options):
        fast = FastFile(directory, Channel(name, uri, mode="FastFile", **options))
        fast.mount(store, OWNER)
        return fast

    directory.mkdir()
    yield make
    release(directory)
    with open("/proc/mounts") as file:
        assert str(tmp_path).replace(" ", "\\040") not in file.read()


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_objects_appear_as_files_that_nobody_can_change(bucket, mount):
    name, s3 = bucket
    big = os.urandom(20 << 20)
    files = {"a": b"1", "sub/deep/b": b"22", "empty": b"", "big": big}
    for key, content in files.items():
        s3.put_object(Bucket=name, Key=f"d/train/{key}", Body=content)
    s3.put_object(Bucket=name, Key="d/other", Body=b"x")
    fast = mount(f"s3://{name}/d/train/")
    assert tree(fast.path) == files
    status = (fast.path / "a").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (*OWNER, 0o444)
    with (fast.path / "big").open("rb") as file:
        file.seek(15 << 20)
        assert file.read(1000) == big[15 << 20 :][:1000]
    for attempt in (lambda: (fast.path / "new").write_text("x"), lambda: (fast.path / "a").unlink()):
        with pytest.raises(OSError, match="Read-only file system"):
            attempt()
    assert fast.fault() is None
    assert tree(mount(f"s3://{name}/d/train", name="without-slash").path) == files


def test_shards_are_disjoint_and_together_everything(bucket, mount):
    name, s3 = bucket
    for number in range(5):
        s3.put_object(Bucket=name, Key=f"d/{number % 2}/{number}", Body=b"x")
    found = [
        set(tree(mount(f"s3://{name}/d/", f"c{shard}", distribution="ShardedByS3Key", shard=shard, shards=2).path))
        for shard in range(2)
    ]
    assert found[0] & found[1] == set()
    assert found[0] | found[1] == {f"{number % 2}/{number}" for number in range(5)}


def test_a_part_of_a_name_is_refused(bucket, mount):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="train-01/data.csv", Body=b"x")
    for prefix in ("train", "train-01/data"):
        with pytest.raises(DataError, match="is a part of a name"):
            mount(f"s3://{name}/{prefix}")
    with pytest.raises(DataError, match="No S3 objects found"):
        mount(f"s3://{name}/nothing/")


def test_a_killed_server_is_a_fault_and_can_be_cleared_away(bucket, mount, tmp_path):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="d/a", Body=b"x")
    fast = mount(f"s3://{name}/d/")
    os.kill(int((tmp_path / "i 1/fast/train.lock").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while fast.fault() is None:
        assert time.monotonic() < deadline
    assert fast.fault().startswith("InternalServerError: The file system of the FastFile channel train ended")
    with pytest.raises(OSError, match="not connected"):
        (fast.path / "a").read_bytes()
    # Before a container has seen it, it is simply mounted again.
    assert tree(mount(f"s3://{name}/d/").path) == {"a": b"x"}
