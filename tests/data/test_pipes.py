import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from phalanx.data import workspace
from phalanx.data.fastfile import release
from phalanx.data.model import Channel, Group, Workspace
from phalanx.data.pipes import LOCK, Pipes

OWNER = (100_123, 100_456)
SECONDS = 30


@pytest.fixture
def instance(store, bucket, tmp_path):
    """Starts the feeder of an instance with channels; whatever happens, it is gone afterwards."""
    directory, secrets = tmp_path / "i-1", tmp_path / "secrets"
    secrets.mkdir()

    def start(*channels):
        pipes = Pipes(directory, secrets)
        workspace.create(
            directory / "ml", Workspace("j", "algo-1", (Group("g", "ml.m5.large", ("algo-1",)),), (), channels), OWNER
        )
        pipes.start(store, channels, directory / "ml", OWNER)
        return pipes, directory / "ml/input/data"

    directory.mkdir()
    yield start
    release(directory)
    assert not feeders(directory)


def feeders(directory):
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(entry / "cwd") == str(directory):
                found.append(int(entry.name))
    return found


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read(path):
    until(path.exists)
    return path.read_bytes()


def channel(bucket, name="train", **options):
    return Channel(name, f"s3://{bucket[0]}/{name}/", mode="Pipe", **options)


def test_epochs_follow_each_other_and_channels_run_side_by_side(bucket, instance):
    name, s3 = bucket
    content = os.urandom(5 << 20)
    s3.put_object(Bucket=name, Key="train/a", Body=content)
    s3.put_object(Bucket=name, Key="test/a", Body=b"small")
    pipes, data = instance(channel(bucket), channel(bucket, "test"))
    with (data / "train_0").open("rb") as first:
        assert first.read(10) == content[:10]
        # The other channel needs not wait for this one's end.
        assert [read(data / f"test_{epoch}") for epoch in range(3)] == [b"small"] * 3
        assert first.read() == content[10:]
    assert read(data / "train_1") == content
    until(lambda: sorted(os.listdir(data)) == ["test_3", "train_2"])
    for path in data.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid, path.is_fifo()) == (*OWNER, True)
    assert pipes.fault() is None


def test_a_reader_may_end_an_epoch_early(bucket, instance):
    name, s3 = bucket
    content = os.urandom(5 << 20)
    s3.put_object(Bucket=name, Key="train/a", Body=content)
    pipes, data = instance(channel(bucket))
    for epoch in range(2):
        path = data / f"train_{epoch}"
        until(path.exists)
        with path.open("rb") as file:
            assert file.read(100) == content[:100]
    assert read(data / "train_2") == content
    assert pipes.fault() is None


def test_a_killed_feeder_is_a_fault_though_its_reader_saw_an_end(bucket, instance):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="train/a", Body=os.urandom(5 << 20))
    pipes, data = instance(channel(bucket))
    with (data / "train_0").open("rb") as file:
        file.read(10)
        [feeder] = feeders(data.parents[2])
        os.kill(feeder, signal.SIGKILL)
        assert len(file.read()) < 5 << 20
    until(pipes.fault)
    assert pipes.fault().startswith("InternalServerError: The process that fills the pipes")


def test_an_error_is_told_and_no_end_is_shown(bucket, instance):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="train/a", Body=b"1234")
    s3.put_object(Bucket=name, Key="train/b", Body=b"1234")
    pipes, data = instance(channel(bucket, compression="Gzip"))
    ended = threading.Event()

    def consume():
        (data / "train_0").read_bytes()
        ended.set()

    threading.Thread(target=consume, daemon=True).start()
    until(pipes.fault)
    assert pipes.fault().startswith("ClientError: Data download failed:")
    assert "is not gzip data" in pipes.fault()
    assert not ended.wait(0.3)


def test_another_agent_finds_the_feeder_and_starts_no_second(bucket, instance, store):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="train/a", Body=b"1234")
    _, data = instance(channel(bucket))
    directory = data.parents[2]
    until(lambda: (directory / LOCK).read_text())
    before = feeders(directory)
    later, _ = instance(channel(bucket))
    assert feeders(directory) == before
    assert later.fault() is None


def test_a_container_cannot_lead_the_feeder_astray(bucket, instance, tmp_path):
    """It may replace its pipes by links to the host's files, or their folder: nothing is written there."""
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="train/a", Body=b"1234")
    victim = tmp_path / "victim"
    victim.write_text("host")
    _, data = instance(channel(bucket))
    with (data / "train_0").open("rb") as file:
        # Its owner is the last that the feeder gives it: what is replaced before is found out, as in the test below.
        until(lambda: (data / "train_1").exists() and (data / "train_1").stat().st_uid == OWNER[0])
        (data / "train_1").unlink()
        (data / "train_1").symlink_to(victim)
        (data / "train_2").symlink_to(victim)
        moved = data.rename(data.with_name("moved"))
        data.symlink_to(tmp_path)
        assert file.read() == b"1234"
    # Its own pipe is gone, so that nobody can be fed from it; a new one in its place is not what the feeder has open.
    until(lambda: "train_0" not in os.listdir(moved))
    assert victim.read_text() == "host"
    assert not list(tmp_path.glob("train_*"))


def test_a_pipe_that_became_something_else_is_the_containers_fault(bucket, instance, tmp_path):
    name, s3 = bucket
    s3.put_object(Bucket=name, Key="train/a", Body=b"1234")
    pipes, data = instance(channel(bucket))
    victim = tmp_path / "victim"
    victim.write_text("host")
    (data / "train_1").symlink_to(victim)
    with (data / "train_0").open("rb"):
        until(pipes.fault)
    assert pipes.fault() == "ClientError: Data download failed:/opt/ml/input/data/train_1 is no pipe any more"
    assert victim.read_text() == "host"
