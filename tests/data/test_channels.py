import gzip
import json
import os
import re
import subprocess
import threading

import pytest

from phalanx.data import channels, objects, sources
from phalanx.data.model import Channel
from phalanx.data.objects import Cancelled, DataError

OWNER = (100_123, 100_456)


def never():
    return False


def fill(bucket, files):
    name, s3 = bucket
    for key, content in files.items():
        s3.put_object(Bucket=name, Key=key, Body=content)


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def get(store, bucket, into, prefix="", index=0, count=1, cancelled=never, **options):
    channel = Channel("train", f"s3://{bucket[0]}/{prefix}", shard=index, shards=count, **options)
    channels.download(store, channel, into, OWNER, cancelled)


def test_files_keep_their_path_below_the_prefix_and_belong_to_the_owner(store, bucket, tmp_path):
    fill(bucket, {"d/train/a.csv": b"1", "d/train/sub/deep/b.csv": b"22", "d/other": b"x", "d/train/empty": b""})
    into = tmp_path / "train"
    get(store, bucket, into, "d/train")
    assert tree(into) == {"a.csv": b"1", "sub/deep/b.csv": b"22", "empty": b""}
    for path in (into, *into.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == OWNER
        assert path.stat().st_mode & 0o444 == 0o444
    assert [p.name for p in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("d/part-", {"part-0", "part-1/x"}),
        ("d/", {"part-0", "part-1/x", "z"}),
        ("d", {"part-0", "part-1/x", "z"}),
        ("", {"d/part-0", "d/part-1/x", "d/z"}),
        ("d/z", {"z"}),
    ],
)
def test_names_follow_the_prefix(store, bucket, tmp_path, prefix, expected):
    fill(bucket, {"d/part-0": b"0", "d/part-1/x": b"1", "d/z": b"2"})
    get(store, bucket, tmp_path / "c", prefix)
    assert set(tree(tmp_path / "c")) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_disjoint_and_together_everything(store, bucket, tmp_path, count):
    files = {f"s/{i:02d}": bytes([i]) for i in range(5)}
    fill(bucket, files)
    shards = []
    for index in range(count):
        into = tmp_path / str(index)
        get(store, bucket, into, "s/", index, count, distribution="ShardedByS3Key")
        shards.append(tree(into))
    names = [name for shard in shards for name in shard]
    assert sorted(names) == sorted(name[2:] for name in files)
    assert max(len(s) for s in shards) - min(len(s) for s in shards) <= 1


def test_every_instance_gets_all_of_a_replicated_channel(store, bucket, tmp_path):
    fill(bucket, {"a": b"1", "b": b"2"})
    for index in range(2):
        get(store, bucket, tmp_path / str(index), "", index, 2)
        assert tree(tmp_path / str(index)) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("count", [1, 2])
def test_a_manifest_names_the_objects(store, bucket, tmp_path, count):
    fill(bucket, {"some/where/a": b"1", "some/where/b/c": b"2", "some/where/not": b"3"})
    manifest = json.dumps([{"prefix": f"s3://{bucket[0]}/some/wh"}, "ere/b/c", "ere/a"])
    fill(bucket, {"lists/m.json": manifest.encode()})
    found = {}
    for index in range(count):
        get(
            store,
            bucket,
            tmp_path / str(index),
            "lists/m.json",
            index,
            count,
            data_type="ManifestFile",
            distribution="ShardedByS3Key",
        )
        found |= tree(tmp_path / str(index))
    assert found == {"where/a": b"1", "where/b/c": b"2"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"not json", "is no manifest"),
        (b"[]", "is no manifest"),
        (b'["a"]', "is no manifest"),
        (b'[{"prefix": 1}, "a"]', "is no manifest"),
        (b'[{"prefix": "s3://b/"}, 1]', "is no manifest"),
        (b'[{"prefix": "s3://b/"}, ""]', "is no manifest"),
        (b'[{"prefix": "s3://b/"}, "\\ud800"]', "is no manifest"),
        (b"[" * 100_000, "is no manifest"),
        (b'[{"prefix": "s3://no-such-bucket-here/"}, "a"]', "404"),
    ],
)
def test_what_is_no_manifest_is_the_users_error(store, bucket, tmp_path, content, text):
    fill(bucket, {"m.json": content})
    with pytest.raises(DataError, match=text) as caught:
        get(store, bucket, tmp_path / "c", "m.json", data_type="ManifestFile")
    assert str(caught.value).startswith("ClientError: Data download failed:")


@pytest.mark.shows("InputDataConfig[].CompressionType")
def test_gzip_is_unpacked(store, bucket, tmp_path):
    content = os.urandom(3 << 20)
    members = gzip.compress(content[: 1 << 20]) + gzip.compress(content[1 << 20 :])
    fill(bucket, {"g/a.csv.gz": members, "g/b": gzip.compress(b""), "g/bomb": gzip.compress(bytes(50 << 20))})
    get(store, bucket, tmp_path / "c", "g/", compression="Gzip")
    assert tree(tmp_path / "c") == {"a.csv": content, "b": b"", "bomb": bytes(50 << 20)}


@pytest.mark.parametrize("content", [b"plain text", gzip.compress(b"x" * 1000, mtime=0)[:-9]])
def test_what_is_not_gzip_is_refused(store, bucket, tmp_path, content):
    fill(bucket, {"g/a": content})
    with pytest.raises(DataError, match=r"^ClientError: Data download failed:.*gzip"):
        get(store, bucket, tmp_path / "c", "g/", compression="Gzip")
    assert tree(tmp_path) == {}


def test_no_objects_and_no_bucket_are_the_users_errors(store, bucket, tmp_path):
    with pytest.raises(DataError, match=r"^ClientError: Data download failed:No S3 objects found under S3 URL"):
        get(store, bucket, tmp_path / "c", "nothing/")
    with pytest.raises(DataError, match=r"^ClientError: Data download failed:NoSuchBucket"):
        get(store, ("no-such-bucket",), tmp_path / "c")


class FakeListing:
    """What a hostile S3 may list; the embedded server refuses to store such keys."""

    def __init__(self, monkeypatch, *keys):
        monkeypatch.setattr(sources, "list_objects", lambda *_: [objects.S3Object(key, 1) for key in keys])


@pytest.mark.parametrize("key", ["../evil", "a/../../evil", "/../evil", "a/..", "./a", "a\0b", "x" * 256])
def test_a_key_cannot_leave_the_channel(store, bucket, tmp_path, monkeypatch, key):
    FakeListing(monkeypatch, key)
    with pytest.raises(DataError, match=r"cannot be the path of a file"):
        get(store, bucket, tmp_path / "in" / "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keys", [("a", "a/b"), ("a//b", "a/b"), ("/a", "a")])
def test_keys_that_clash_as_files_are_refused(store, bucket, tmp_path, monkeypatch, keys):
    FakeListing(monkeypatch, *keys)
    with pytest.raises(DataError, match=r"^ClientError: .*" + re.escape(keys[0])):
        get(store, bucket, tmp_path / "c")


def test_an_object_that_vanishes_is_named(store, bucket, tmp_path, monkeypatch):
    FakeListing(monkeypatch, "gone")
    with pytest.raises(DataError, match=r"^ClientError: Data download failed:NoSuchKey \(404\).*gone"):
        get(store, bucket, tmp_path / "c")


def test_an_object_that_changes_its_size_is_noticed(store, bucket, tmp_path, monkeypatch):
    fill(bucket, {"k": b"longer"})
    FakeListing(monkeypatch, "k")
    with pytest.raises(DataError, match=r"changed during the download: 1 bytes were listed, 6 arrived"):
        get(store, bucket, tmp_path / "c")


def test_a_full_disk_is_named(store, bucket, tmp_path):
    fill(bucket, {"big": os.urandom(3 << 20), "packed": gzip.compress(bytes(20 << 20))})
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(DataError, match=r"^ClientError: Data download failed:Not enough disk space.*bytes are free"):
            get(store, bucket, small / "c", "big")
        with pytest.raises(DataError, match=r"^ClientError: Data download failed:Not enough disk space.*No space left"):
            get(store, bucket, small / "c", "packed", compression="Gzip")
        assert tree(small) == {}
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_cancelling_ends_it_and_leaves_no_incomplete_file(store, bucket, tmp_path):
    content = os.urandom(4 << 20)
    fill(bucket, {f"f{i}": content for i in range(6)})
    calls = []
    lock = threading.Lock()

    def cancelled():
        with lock:
            calls.append(1)
            return len(calls) > 10

    with pytest.raises(Cancelled):
        get(store, bucket, tmp_path / "c", cancelled=cancelled)
    assert all(found == content for found in tree(tmp_path).values())
    assert not (tmp_path / ".c.partial").exists()
    get(store, bucket, tmp_path / "c")
    assert len(tree(tmp_path)) == 6


def test_cancelling_ends_the_look_at_what_a_manifest_names(store, bucket, tmp_path):
    """Each object is looked at before the first is fetched, which takes minutes where there are many."""
    fill(bucket, {"m.json": json.dumps([{"prefix": f"s3://{bucket[0]}/"}, "a", "b"]).encode()})
    with pytest.raises(Cancelled):
        get(store, bucket, tmp_path / "c", "m.json", data_type="ManifestFile", cancelled=lambda: True)
