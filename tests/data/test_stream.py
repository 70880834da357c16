import gzip
import itertools
import json
import os
import struct
import tracemalloc

import pytest

from phalanx.data import sources, stream
from phalanx.data.model import Channel
from phalanx.data.objects import DataError
from phalanx.data.stream import Stream


def fill(bucket, files):
    name, s3 = bucket
    for key, content in files.items():
        s3.put_object(Bucket=name, Key=key, Body=content)


def epoch(store, bucket, prefix, number=0, **options):
    return b"".join(Stream(store, Channel("train", f"s3://{bucket[0]}/{prefix}", mode="Pipe", **options)).epoch(number))


def records(content):
    """What a RecordIO reader (sagemaker.amazon.common) finds."""
    found = []
    while content:
        magic, length = struct.unpack("<II", content[:8])
        assert magic == 0xCED7230A
        found.append(content[8 : 8 + length])
        padded = (length + 3) // 4 * 4
        assert content[8 + length : 8 + padded] == bytes(padded - length)
        content = content[8 + padded :]
    return found


def test_objects_follow_each_other_in_the_order_of_their_keys(store, bucket):
    big = os.urandom(3 << 20)
    fill(bucket, {"d/b": big, "d/a": b"first", "d/c": b"", "d/d/e": b"last", "x": b"no"})
    assert epoch(store, bucket, "d/") == b"first" + big + b"last"


def test_recordio_wraps_each_object(store, bucket):
    files = {f"d/{number}": os.urandom(number) for number in (0, 1, 2, 3, 4, 5, 2 << 20)}
    fill(bucket, files)
    expected = [files[key] for key in sorted(files)]
    assert records(epoch(store, bucket, "d/", record_wrapper="RecordIO")) == expected


def test_gzip_is_unpacked_before_it_is_wrapped(store, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"d/a": b"one", "d/b": bytes(3 << 20)}
    fill(bucket, {key: gzip.compress(content) for key, content in files.items()})
    assert epoch(store, bucket, "d/", compression="Gzip") == b"one" + bytes(3 << 20)
    assert records(epoch(store, bucket, "d/", compression="Gzip", record_wrapper="RecordIO")) == list(files.values())


@pytest.mark.shows("InputDataConfig[].ShuffleConfig.Seed")
def test_every_epoch_is_shuffled_anew_by_the_seed_and_shards_change_hands(store, bucket):
    names = [f"{number:02d}" for number in range(20)]
    fill(bucket, {f"d/{name}": name.encode() for name in names})

    def order(number, **options):
        content = epoch(store, bucket, "d/", number, **options).decode()
        return [content[at : at + 2] for at in range(0, len(content), 2)]

    first, second = order(0, shuffle_seed=7), order(1, shuffle_seed=7)
    assert sorted(first) == sorted(second) == names
    assert len({tuple(each) for each in (names, first, second, order(0, shuffle_seed=8))}) == 4
    assert order(0, shuffle_seed=7) == first
    shards = [
        [order(number, shuffle_seed=7, distribution="ShardedByS3Key", shard=shard, shards=3) for shard in range(3)]
        for number in range(2)
    ]
    for each in shards:
        assert sorted(itertools.chain(*each)) == names
    assert set(shards[0][0]) != set(shards[1][0])
    assert order(0) == order(1) == names


def test_a_manifest_gives_its_own_order(store, bucket):
    fill(bucket, {"d/a": b"1", "d/b": b"2", "m": json.dumps([{"prefix": f"s3://{bucket[0]}/d/"}, "b", "a"]).encode()})
    assert epoch(store, bucket, "m", data_type="ManifestFile") == b"21"


AUGMENTED = {"data_type": "AugmentedManifestFile", "attributes": ("image-ref", "is-a-cat")}


@pytest.mark.shows("InputDataConfig[].DataSource.S3DataSource.AttributeNames")
def test_an_augmented_manifest_gives_the_attributes_in_their_order(store, bucket):
    lines = [
        {"is-a-cat": 1, "other": "x", "image-ref": f"s3://{bucket[0]}/i/1"},
        {"image-ref": f"s3://{bucket[0]}/i/2", "is-a-cat": {"yes": [True, "ü"]}},
        {"image-ref": f"s3://{bucket[0]}/i/1", "is-a-cat": "no"},
    ]
    manifest = "\n".join(map(json.dumps, lines)) + "\n\n"
    fill(bucket, {"i/1": b"cat", "i/2": b"dog", "m": manifest.encode()})
    content = records(epoch(store, bucket, "m", record_wrapper="RecordIO", **AUGMENTED))
    assert content == [b"cat", b"1", b"dog", b'{"yes":[true,"\\u00fc"]}', b"cat", b"no"]
    assert epoch(store, bucket, "m", **AUGMENTED).startswith(b"cat1dog{")
    one = records(
        epoch(store, bucket, "m", record_wrapper="RecordIO", distribution="ShardedByS3Key", shard=1, shards=2, **AUGMENTED)
    )
    assert one == content[2:4]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"image-ref": "s3://b/k"}', "no JSON object with the attributes image-ref, is-a-cat"),
        ("[1]", "no JSON object"),
        ("{", "no JSON object"),
        ('{"image-ref": "s3://b/k", "is-a-cat": "\\ud800"}', "no JSON object"),
        ('{"image-ref": ' + "[" * 100_000, "no JSON object"),
        ('{"image-ref": 3, "is-a-cat": 1}', "not an S3 URI"),
        ('{"image-ref": "s3://no-such-bucket-here/k", "is-a-cat": 1}', "NoSuchBucket"),
    ],
)
def test_what_is_no_augmented_manifest_is_the_users_error(store, bucket, line, text):
    fill(bucket, {"m": line.encode()})
    with pytest.raises(DataError, match=text) as caught:
        epoch(store, bucket, "m", **AUGMENTED)
    assert str(caught.value).startswith("ClientError:")


@pytest.mark.parametrize("more", [{}, {"shuffle_seed": 1}])
def test_a_manifest_of_many_short_lines_takes_little_memory(store, bucket, more):
    """The process that reads it is on the host, beyond the limits of its container."""
    count = 1 << 20
    fill(bucket, {"m": b"[]\n" * count})
    tracemalloc.start()
    try:
        read = Stream(store, Channel("train", f"s3://{bucket[0]}/m", mode="Pipe", **AUGMENTED, **more))
        with pytest.raises(DataError, match="no JSON object"):
            next(read.epoch(0))
        assert tracemalloc.get_traced_memory()[1] < 20 * count
    finally:
        tracemalloc.stop()


def test_lines_may_end_in_any_way_and_be_empty(store, bucket):
    fill(bucket, {"m": b'\r\n \t\n{"a": 1}\r\n\n{"a": 2}\r{"a": 3}'})
    assert epoch(store, bucket, "m", data_type="AugmentedManifestFile", attributes=("a",)) == b"123"


def test_too_long_a_record_is_refused(store, bucket, monkeypatch):
    monkeypatch.setattr(stream, "_RECORD", 3)
    fill(bucket, {"d/a": b"1234"})
    with pytest.raises(DataError, match="longer than a RecordIO record"):
        epoch(store, bucket, "d/", record_wrapper="RecordIO")


def test_what_unpacks_to_more_than_a_record_is_not_written_first(store, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stream, "_RECORD", 1 << 20)
    fill(bucket, {"d/a": gzip.compress(bytes(64 << 20))})
    most, opened = 0, stream.tempfile.TemporaryFile

    def watched(**options):
        file = opened(**options)
        write = file.write

        class Watched:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def tell(self):
                return file.tell()

            def write(self, data):
                nonlocal most
                most = max(most, file.tell() + len(data))
                return write(data)

        return Watched()

    monkeypatch.setattr(stream.tempfile, "TemporaryFile", watched)
    with pytest.raises(DataError, match="longer than a RecordIO record"):
        epoch(store, bucket, "d/", compression="Gzip", record_wrapper="RecordIO")
    assert most <= 1 << 20


def test_shares_are_disjoint_and_together_everything():
    items = list(range(11))
    for seed in (None, 3):
        shares = [
            sources.share(items, Channel("c", "s3://b/", "ShardedByS3Key", shuffle_seed=seed, shard=n, shards=4), 5)
            for n in range(4)
        ]
        assert sorted(itertools.chain(*shares)) == items
