"""An instance's volume: what is written to it ends at its size, and nothing of it stays."""

import concurrent.futures
import errno
import os
import subprocess
from pathlib import Path

import pytest

from phalanx.data.fastfile import release
from phalanx.node import volume as module
from phalanx.node.volume import Volume, VolumeError

MIB = 1 << 20


@pytest.fixture
def directory(tmp_path):
    yield tmp_path / "i-1"
    release(tmp_path)


def loops(directory):
    """Loop devices over files in a directory."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            text = path.read_text()
        except OSError:
            continue
        found += [text] if str(directory) in text else []
    return found


def test_bytes_and_files_end_at_its_size_and_the_host_gives_no_more(directory):
    volume = Volume(directory, 64 * MIB)
    volume.mount()
    written = 0
    with pytest.raises(OSError) as full, (volume.path / "large").open("wb", buffering=0) as file:
        while True:
            written += file.write(bytes(MIB))
    assert full.value.errno == errno.ENOSPC
    assert 48 * MIB < written < 64 * MIB
    (volume.path / "large").unlink()
    with pytest.raises(OSError) as full:
        for number in range(100_000):
            (volume.path / str(number)).touch()
    assert full.value.errno == errno.ENOSPC
    volume.settle()
    assert (directory / "volume.ext4").stat().st_blocks * 512 <= 64 * MIB


def test_many_makers_make_one_and_release_leaves_nothing(directory):
    volumes = [Volume(directory, 32 * MIB) for _ in range(6)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(Volume.mount, volumes))
    (volumes[0].path / "kept").write_text("word")
    # Somebody unmounted it; nothing of it is lost.
    subprocess.run(["umount", volumes[0].path], check=True)
    volumes[1].mount()
    assert (volumes[0].path / "kept").read_text() == "word"
    assert len(loops(directory)) == 1
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    assert len([line for line in mounts if str(directory) in line]) == 1
    # Who copied the mounts meanwhile, as an IKE daemon does that begins in between, does not keep it.
    copier = subprocess.Popen(["unshare", "--mount", "--propagation", "slave", "sh", "-c", "echo; read word"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    copier.stdout.readline()
    release(directory)
    subprocess.run(["rm", "-rf", "--one-file-system", directory], check=True)
    assert loops(directory) == []
    copier.communicate(b"\n")
    assert str(directory) not in Path("/proc/self/mounts").read_text()


def test_what_the_hosts_disk_did_not_take_is_not_passed_off_as_written(directory):
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", directory], check=True)
    volume = Volume(directory, 256 * MIB)
    volume.mount()
    (volume.path / "fits").write_bytes(os.urandom(4 * MIB))
    volume.settle()
    (volume.path / "model").write_bytes(os.urandom(48 * MIB))
    with pytest.raises(VolumeError, match="is it full"):
        volume.settle()


def test_a_host_that_cannot_make_one_says_so(directory, monkeypatch):
    assert module.probe().ok
    monkeypatch.setattr(module, "_FORMAT", ("mkfs.none",))
    with pytest.raises(VolumeError, match="install e2fsprogs"):
        Volume(directory, 32 * MIB).mount()
    assert not module.probe().ok
