"""Checkpoints: restored, kept in step with what the container does, by an agent that may be killed at any time."""

import os

import pytest

from phalanx.data import checkpoints, objects, tree
from phalanx.data.model import Checkpoints, DataKey
from phalanx.data.objects import Cancelled, DataError, list_objects, parse_uri

OWNER = (100_123, 100_456)


def never():
    return False


@pytest.fixture
def uri(bucket):
    return f"s3://{bucket[0]}/run"


@pytest.fixture
def sync(store, uri, tmp_path):
    return instance(store, uri, tmp_path, "algo-1")


def instance(store, uri, tmp_path, host, key=None):
    (tmp_path / host / "ml/checkpoints").mkdir(parents=True, exist_ok=True)
    return checkpoints.Sync(store, Checkpoints(uri, key), tmp_path / host / "ml", tmp_path / host / "checkpoints.json")


def keys(store, uri):
    prefix = parse_uri(uri)[1] + "/"
    return {entry.key.removeprefix(prefix): entry.size for entry in list_objects(store, uri + "/")}


def folder(tmp_path, host="algo-1"):
    return tmp_path / host / "ml/checkpoints"


def test_nothing_to_restore_is_a_fresh_start(sync, tmp_path):
    sync.restore(OWNER, never)
    assert list(folder(tmp_path).iterdir()) == []


def test_what_is_restored_belongs_to_the_container_and_is_not_uploaded_again(store, bucket, uri, sync, tmp_path):
    bucket[1].put_object(Bucket=bucket[0], Key="run/epoch-1/weights", Body=b"12345")
    bucket[1].put_object(Bucket=bucket[0], Key="run2/other", Body=b"not ours")
    sync.restore(OWNER, never)
    file = folder(tmp_path) / "epoch-1/weights"
    assert file.read_bytes() == b"12345"
    assert (file.stat().st_uid, file.stat().st_gid) == OWNER
    assert not (folder(tmp_path) / "other").exists()
    before = bucket[1].head_object(Bucket=bucket[0], Key="run/epoch-1/weights")["LastModified"]
    sync.push(never)
    assert bucket[1].head_object(Bucket=bucket[0], Key="run/epoch-1/weights")["LastModified"] == before


def test_new_changed_and_deleted_files_follow(store, uri, sync, tmp_path):
    sync.restore(OWNER, never)
    (folder(tmp_path) / "deep").mkdir()
    (folder(tmp_path) / "deep/a").write_text("1")
    (folder(tmp_path) / "b").write_text("22")
    sync.push(never)
    assert keys(store, uri) == {"deep/a": 1, "b": 2}
    (folder(tmp_path) / "b").write_text("333")
    (folder(tmp_path) / "deep/a").unlink()
    sync.push(never)
    assert keys(store, uri) == {"b": 3}


def test_a_file_may_become_a_directory_and_a_directory_a_file(store, uri, sync, tmp_path):
    (folder(tmp_path) / "last").write_bytes(b"1")
    (folder(tmp_path) / "best").mkdir()
    (folder(tmp_path) / "best/weights").write_bytes(b"22")
    sync.push(never)
    (folder(tmp_path) / "last").unlink()
    (folder(tmp_path) / "last").mkdir()
    (folder(tmp_path) / "last/weights").write_bytes(b"333")
    (folder(tmp_path) / "best/weights").unlink()
    (folder(tmp_path) / "best").rmdir()
    (folder(tmp_path) / "best").write_bytes(b"4444")
    sync.push(never)
    assert keys(store, uri) == {"last/weights": 3, "best": 4}


def test_hosts_share_a_prefix_without_undoing_each_other(store, uri, tmp_path):
    one, two = (instance(store, uri, tmp_path, host) for host in ("algo-1", "algo-2"))
    one.restore(OWNER, never)
    two.restore(OWNER, never)
    (folder(tmp_path) / "of-1").write_text("1")
    (folder(tmp_path, "algo-2") / "of-2").write_text("2")
    for _ in range(2):
        one.push(never)
        two.push(never)
    assert keys(store, uri) == {"of-1": 1, "of-2": 1}


def test_a_later_agent_goes_on_where_one_was_killed(store, uri, sync, tmp_path, monkeypatch):
    sync.restore(OWNER, never)
    (folder(tmp_path) / "a").write_text("1")
    with monkeypatch.context() as patch:
        real = checkpoints.put

        def killed(*arguments):
            real(*arguments)
            raise KeyboardInterrupt

        patch.setattr(checkpoints, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            sync.push(never)
    assert keys(store, uri) == {"a": 1}
    (folder(tmp_path) / "a").unlink()
    instance(store, uri, tmp_path, "algo-1").push(never)
    assert keys(store, uri) == {}


def test_nothing_is_written_or_deleted_while_the_job_may_have_begun_again_elsewhere(store, uri, tmp_path):
    most = 0
    folder(tmp_path).mkdir(parents=True)
    memory = tmp_path / "algo-1/checkpoints.json"
    sync = checkpoints.Sync(store, Checkpoints(uri), tmp_path / "algo-1/ml", memory, lambda: len(keys(store, uri)) < most)
    sync.restore(OWNER, never)
    sync.push(never)
    for name in "abc":
        (folder(tmp_path) / name).write_text(name)
    most = 2
    with pytest.raises(checkpoints.Withheld):
        sync.push(never)
    assert len(keys(store, uri)) == 2
    most = 9
    sync.push(never)
    assert keys(store, uri) == {"a": 1, "b": 1, "c": 1}
    (folder(tmp_path) / "a").unlink()
    most = 0
    with pytest.raises(checkpoints.Withheld):
        sync.push(never)
    assert keys(store, uri) == {"a": 1, "b": 1, "c": 1}
    most = 9
    sync.push(never)
    assert keys(store, uri) == {"b": 1, "c": 1}


def test_links_out_of_the_directory_are_not_followed(store, uri, sync, tmp_path):
    (tmp_path / "secret").write_text("of the host")
    sync.restore(OWNER, never)
    (folder(tmp_path) / "a").symlink_to(tmp_path / "secret")
    os.mkfifo(folder(tmp_path) / "b")
    sync.push(never)
    assert keys(store, uri) == {}


@pytest.mark.parametrize("instead", [None, "a file"])
def test_a_link_that_is_replaced_while_it_is_looked_at_keeps_nothing_back(store, uri, sync, tmp_path, monkeypatch, instead):
    """As `latest` is, with each checkpoint, by the container that still runs."""
    sync.restore(OWNER, never)
    (folder(tmp_path) / "epoch-1").write_text("1")
    latest, real = folder(tmp_path) / "latest", os.readlink
    latest.symlink_to("epoch-1")

    def replaced(*arguments, **options):
        latest.unlink(missing_ok=True)
        if instead is not None:
            latest.write_text(instead)
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tree.os, "readlink", replaced)
        sync.push(never)
    assert keys(store, uri) == {"epoch-1": 1}


def test_a_bucket_that_is_gone_is_told(store, tmp_path):
    with pytest.raises(DataError, match=r"^ClientError: .*NoSuchBucket"):
        instance(store, "s3://no-such-bucket-here/run", tmp_path, "algo-1").restore(OWNER, never)
    sync = instance(store, "s3://no-such-bucket-here/run", tmp_path, "algo-1")
    (folder(tmp_path) / "a").write_text("1")
    with pytest.raises(DataError, match=r"^ClientError: Checkpoint upload failed"):
        sync.push(never)


@pytest.mark.parametrize("key", [None, DataKey("arn:aws:kms:us-west-2:123456789012:key/k", b"wrapped", b"k" * 32)])
@pytest.mark.parametrize("size", [0, 1, 5 << 20])
def test_a_file_that_changes_while_it_is_uploaded_is_read_to_the_size_it_had_at_most(store, bucket, uri, tmp_path, key, size):
    sync = instance(store, uri, tmp_path, "algo-1", key)
    file = folder(tmp_path) / "weights"
    file.write_bytes(b"x" * (3 << 20))

    def content():
        stored = objects.get(bucket[1], bucket[0], "run/weights", [key] if key else [], "read")
        assert stored.sealed == (key is not None)
        return b"".join(stored.content)

    with pytest.MonkeyPatch.context() as patch:
        real = tree.open_file

        def change(entry):
            opened = real(entry)
            os.truncate(file, size)
            return opened

        patch.setattr(tree, "open_file", change)
        sync.push(never)
    assert content() == (b"x" * (3 << 20))[:size]
    sync.push(never)
    assert len(content()) == size


def test_an_upload_ends_when_its_instance_goes_and_a_later_agent_does_it(store, uri, sync, tmp_path):
    sync.restore(OWNER, never)
    (folder(tmp_path) / "a").write_bytes(b"x" * (20 << 20))
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        sync.push(lambda: next(answers))
    assert keys(store, uri) == {}
    instance(store, uri, tmp_path, "algo-1").push(never)
    assert keys(store, uri) == {"a": 20 << 20}


def test_names_that_are_not_utf8_are_kept_and_their_files_deleted_too(store, uri, sync, tmp_path):
    sync.restore(OWNER, never)
    name = os.fsdecode(b"n\xff")
    (folder(tmp_path) / name).write_text("1")
    sync.push(never)
    assert keys(store, uri) == {"n\ufffd": 1}
    assert (tmp_path / "algo-1/checkpoints.json").read_bytes().count(b"n\xff") == 1
    (folder(tmp_path) / name).unlink()
    instance(store, uri, tmp_path, "algo-1").push(never)
    assert keys(store, uri) == {}
