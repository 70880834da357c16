import json
import os
import socket
import stat

import pytest

from phalanx.data import workspace
from phalanx.data.model import Channel, Group, Workspace

OWNER = (100_123, 100_456)
SPEC = Workspace(
    job="j",
    host="algo-2",
    groups=(Group("homogeneousCluster", "ml.m5.large", ("algo-1", "algo-2", "algo-10")),),
    hyperparameters=(("num_round", "10"), ("eta", "0.1")),
    channels=(Channel("train", "s3://b/t", "ShardedByS3Key", "text/csv"), Channel("validation", "s3://b/v")),
)


@pytest.fixture
def root(tmp_path):
    workspace.create(tmp_path / "ml", SPEC, OWNER)
    return tmp_path / "ml"


def config(root, name):
    return json.loads((root / "input/config" / f"{name}.json").read_text())


def test_config_is_what_sagemaker_writes(root):
    hosts = ["algo-1", "algo-10", "algo-2"]
    assert config(root, "hyperparameters") == {"num_round": "10", "eta": "0.1"}
    assert config(root, "inputdataconfig") == {
        "train": {
            "TrainingInputMode": "File",
            "S3DistributionType": "ShardedByS3Key",
            "RecordWrapperType": "None",
            "ContentType": "text/csv",
        },
        "validation": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"},
    }
    assert config(root, "resourceconfig") == {
        "current_group_name": "homogeneousCluster",
        "current_host": "algo-2",
        "current_instance_type": "ml.m5.large",
        "hosts": hosts,
        "instance_groups": [{"hosts": hosts, "instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large"}],
        "network_interface_name": "eth0",
        "topology": None,
    }


def test_everything_belongs_to_the_container_and_nothing_else_is_left(root, tmp_path):
    for folder in ("input/config", "input/data/train", "input/data/validation", "model", "output/data"):
        assert (root / folder).is_dir()
    for path in (root, *root.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == OWNER
        assert path.stat().st_mode & 0o700 >= 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["ml"]


def test_only_who_keeps_checkpoints_has_a_folder_for_them(root, tmp_path):
    assert not (root / "checkpoints").exists()
    workspace.create(tmp_path / "other", SPEC, OWNER, checkpoints=True)
    assert (tmp_path / "other/checkpoints").is_dir()


def test_create_does_not_touch_a_tree_that_a_container_may_have_had(root, tmp_path):
    (tmp_path / "host").mkdir()
    os.rename(root / "input/config", root / "input/was")
    (root / "input/config").symlink_to(tmp_path / "host")
    workspace.create(root, SPEC, OWNER)
    assert list((tmp_path / "host").iterdir()) == []


def test_a_draft_that_a_kill_left_is_replaced(tmp_path):
    (tmp_path / ".ml.new/model").mkdir(parents=True)
    (tmp_path / ".ml.new/model/stale").touch()
    workspace.create(tmp_path / "ml", SPEC, OWNER)
    assert list((tmp_path / "ml/model").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"bad label\n", "bad label"),
        (b"x" * 5000, "x" * 1024),
        ("ü€😀".encode() * 1000, "ü€😀" * 341 + "ü"),
        (b"a\xff\xfeb\0c\x1b[31m", "a\ufffd\ufffdb\ufffdc\ufffd[31m"),
        (b"", None),
        (b" \n", None),
    ],
)
def test_failure_is_the_first_1024_characters(root, content, expected):
    (root / "output/failure").write_bytes(content)
    assert workspace.failure(root) == expected


def test_failure_of_a_gigabyte_is_read_only_at_its_start(root):
    with (root / "output/failure").open("wb") as file:
        file.write(b"start")
        file.truncate(1 << 40)
    assert workspace.failure(root).startswith("start")


def hostile(root, secret, kind):
    place = root / "output/failure"
    match kind:
        case "nothing":
            return
        case "link":
            place.symlink_to(secret)
        case "folder":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(place))
        case "device":
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        case "link above":
            os.rename(root / "output", root / "was")
            (root / "output").symlink_to(secret.parent)
        case "no folder":
            os.rename(root / "output", root / "was")


@pytest.mark.parametrize("kind", ["nothing", "link", "folder", "fifo", "socket", "device", "link above", "no folder"])
def test_failure_reads_nothing_but_a_regular_file_of_the_workspace(root, tmp_path, kind):
    (tmp_path / "outside").mkdir()
    secret = tmp_path / "outside/failure"
    secret.write_text("root's secret")
    hostile(root, secret, kind)
    assert workspace.failure(root) is None


def test_destroy_removes_whatever_a_container_made_and_nothing_outside(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (root / "model/link").symlink_to(outside)
    os.mkfifo(root / "model/fifo")
    (root / "model/-rf").touch()
    deep = os.open(root / "model", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    workspace.destroy(root)
    workspace.destroy(root)
    assert not root.exists()
    assert (outside / "kept").exists()
