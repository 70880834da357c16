"""What jobs with a KmsKeyId write and read, through the real S3: never in the clear there, never half of it out."""

import gzip
import io
import os
import tarfile

import pytest

from phalanx.data import artifacts, channels, checkpoints, envelope
from phalanx.data.fastfile import FastFile
from phalanx.data.model import Channel, Checkpoints, DataKey, ObjectStore, Output
from phalanx.data.objects import DataError, client
from phalanx.data.stream import Stream
from phalanx.node.messages import decode, encode

OWNER = (100_123, 100_456)
KEY = DataKey("arn:aws:kms:us-west-2:123456789012:key/one", os.urandom(93), os.urandom(32))
OTHER = DataKey("arn:aws:kms:us-west-2:123456789012:key/two", os.urandom(93), os.urandom(32))


def never():
    return False


@pytest.fixture
def keyed(store):
    return ObjectStore(store.endpoint, store.region, store.access_key, store.secret_key, (OTHER, KEY))


def seal(content, key=KEY):
    stream = envelope.sealed(io.BytesIO(content), key)
    return b"".join(iter(lambda: stream.read(1 << 20), b""))


def unseal(message, *keys, size=1000):
    chunks = (message[at : at + size] for at in range(0, len(message), size))
    sealed, content = envelope.unsealed(chunks, envelope.among(keys))
    return sealed, content


@pytest.mark.parametrize("size", [0, 1, envelope.FRAME - 1, envelope.FRAME, 3 * envelope.FRAME + 7])
@pytest.mark.parametrize("piece", [7, 1 << 16])
def test_any_size_in_any_pieces(size, piece):
    content = os.urandom(size)
    if piece < 100:
        content = content[:5000]
    message = seal(content)
    assert len(content) < 64 or content[:64] not in message
    sealed, back = unseal(message, OTHER, KEY, size=piece)
    assert sealed
    assert b"".join(back) == content


def test_two_messages_share_nothing():
    assert seal(b"the same")[200:] != seal(b"the same")[200:]


def test_what_is_not_sealed_comes_as_it_is():
    for content in (b"", b"\2", b"plain" * 100, seal(b"x")[: envelope.HEAD - 1]):
        sealed, back = unseal(content, KEY, size=3)
        assert (sealed, b"".join(back)) == (False, content)


def test_a_frame_that_was_touched_moved_or_cut_off_never_comes_out():
    content = os.urandom(2 * envelope.FRAME + 100)
    message = seal(content)
    touched = bytearray(message)
    touched[-50] ^= 1
    for broken in (bytes(touched), message[:-20], message[: envelope.FRAME * 2]):
        _, back = unseal(broken, KEY)
        out = b""
        with pytest.raises(envelope.EnvelopeError, match="damaged"):
            for chunk in back:
                out += chunk
        assert content.startswith(out)
        assert len(out) <= 2 * envelope.FRAME


def test_a_message_that_was_touched_or_cut_anywhere_says_so():
    message = seal(b"content")
    for place in range(envelope.HEAD, len(message)):
        for damaged in (message[:place], message[:place] + bytes([message[place] ^ 0x80]) + message[place + 1 :]):
            with pytest.raises(envelope.EnvelopeError):
                b"".join(unseal(damaged, KEY)[1])


def test_without_the_key_the_error_names_it():
    _, back = unseal(seal(b"x"), OTHER)
    with pytest.raises(envelope.EnvelopeError, match=r"under arn:aws:kms:us-west-2:123456789012:key/one, which is disabled"):
        next(back)


def test_keys_cross_to_the_node_and_stay_out_of_what_is_printed():
    store = ObjectStore(None, "us-west-2", "key", "secret", (KEY,))
    assert decode(ObjectStore, encode(ObjectStore, store)) == store
    assert KEY.plaintext.hex() not in repr(store)
    assert repr(KEY.plaintext) not in repr(store)


@pytest.mark.parametrize("compression", ["GZIP", "NONE"])
def test_artifacts_are_ciphertext_in_s3_and_a_channel_brings_them_back(keyed, bucket, tmp_path, compression):
    name, s3 = bucket
    (tmp_path / "ml/model").mkdir(parents=True)
    (tmp_path / "ml/output/data").mkdir(parents=True)
    (tmp_path / "ml/model/weights").write_bytes(b"patient 7 " * 3_000_000)
    uri = artifacts.upload(keyed, Output("job", f"s3://{name}/out", compression, KEY), [tmp_path / "ml"])
    for item in s3.list_objects_v2(Bucket=name)["Contents"]:
        stored = s3.get_object(Bucket=name, Key=item["Key"])["Body"].read()
        assert envelope.is_sealed(stored[: envelope.HEAD])
        assert b"patient 7" not in stored
        assert len(stored) == item["Size"]
    channels.download(keyed, Channel("model", uri), tmp_path / "model", OWNER, never)
    if compression == "GZIP":
        with tarfile.open(tmp_path / "model/model.tar.gz") as tar:
            content = tar.extractfile("weights").read()
    else:
        content = (tmp_path / "model/weights").read_bytes()
    assert content == b"patient 7 " * 3_000_000


def test_checkpoints_are_ciphertext_and_are_restored(keyed, bucket, tmp_path):
    name, s3 = bucket

    def instance(host):
        (tmp_path / host / "ml/checkpoints").mkdir(parents=True)
        where = Checkpoints(f"s3://{name}/run", KEY)
        return checkpoints.Sync(keyed, where, tmp_path / host / "ml", tmp_path / host / "known.json")

    first = instance("a")
    (tmp_path / "a/ml/checkpoints/epoch-1").write_bytes(b"weights")
    first.push(lambda: False)
    assert envelope.is_sealed(s3.get_object(Bucket=name, Key="run/epoch-1")["Body"].read())
    second = instance("b")
    second.restore(OWNER, never)
    assert (tmp_path / "b/ml/checkpoints/epoch-1").read_bytes() == b"weights"


def test_pipes_and_packed_channels_read_through_and_fastfile_says_that_it_cannot(keyed, bucket, tmp_path, monkeypatch):
    name, s3 = bucket
    big = os.urandom(3 << 20)
    for key, content in {
        "d/a": seal(b"first"),
        "d/b": seal(big),
        "d/c": b"plain",
        "z/a.gz": seal(gzip.compress(b"z" * 99)),
    }.items():
        s3.put_object(Bucket=name, Key=key, Body=content)

    def pipe(prefix, **options):
        return b"".join(Stream(keyed, Channel("train", f"s3://{name}/{prefix}", mode="Pipe", **options)).epoch(0))

    assert pipe("d/") == b"first" + big + b"plain"
    assert pipe("z/", compression="Gzip") == b"z" * 99
    monkeypatch.chdir(tmp_path)
    assert pipe("d/a", record_wrapper="RecordIO")[4:13] == (5).to_bytes(4, "little") + b"first"
    with pytest.raises(DataError, match=r"ClientError: .*d/a is encrypted under a KMS key.*Use File or Pipe mode"):
        FastFile(tmp_path, Channel("train", f"s3://{name}/d/", mode="FastFile")).mount(keyed, OWNER)


def test_a_channel_whose_key_is_gone_fails_the_job_with_its_name(store, bucket, tmp_path):
    name, _ = bucket
    client(store).put_object(Bucket=name, Key="d/a", Body=seal(b"x"))
    with pytest.raises(DataError, match=r"ClientError: .*d/a cannot be decrypted: it is encrypted under arn:aws:kms:.*key/one"):
        channels.download(store, Channel("train", f"s3://{name}/d/"), tmp_path / "c", OWNER, never)
    assert list((tmp_path / "c").iterdir()) == []
