"""Whether a disk is encrypted, by what the kernel says it is made of."""

import os

import pytest

from phalanx.node import disk


@pytest.fixture
def devices(tmp_path):
    """A /sys/dev/block in which the file system of tmp_path is the device that a test makes."""
    number = os.stat(tmp_path).st_dev
    root = tmp_path / "block" / f"{os.major(number)}:{os.minor(number)}"
    root.mkdir(parents=True)
    return root


def device(path, uuid=None):
    (path / "dm").mkdir(parents=True)
    if uuid is not None:
        (path / "dm/uuid").write_text(uuid)


@pytest.mark.parametrize(
    ("uuid", "below", "answer"),
    [
        (None, [], False),
        ("CRYPT-LUKS2-a-data", [], True),
        ("LVM-abc", ["CRYPT-LUKS2-a-pv"], True),
        ("LVM-abc", ["CRYPT-LUKS2-a-pv", "CRYPT-PLAIN-b"], True),
        ("LVM-abc", ["CRYPT-LUKS2-a-pv", None], False),
        ("LVM-abc", [None], False),
    ],
)
def test_all_of_it_must_be_encrypted(tmp_path, devices, uuid, below, answer):
    device(devices, uuid)
    for number, each in enumerate(below):
        device(devices / "slaves" / f"dm-{number}", each)
    assert disk.encrypted(tmp_path, tmp_path / "block") is answer


def test_a_file_system_without_a_device_is_not_known_to_be():
    assert disk.encrypted("/proc") is False
