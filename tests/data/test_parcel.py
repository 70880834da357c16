"""What an instance left, carried to another host, where containers' tricks work no better."""

import io
import os
import tarfile

import pytest

from phalanx.data import parcel


@pytest.fixture
def workspace(tmp_path):
    for folder in parcel.FOLDERS:
        (tmp_path / "ml" / folder).mkdir(parents=True)
    return tmp_path / "ml"


def test_files_directories_and_links_arrive(workspace, tmp_path):
    (workspace / "model" / "deep" / "er").mkdir(parents=True)
    (workspace / "model" / "deep" / "er" / "weights").write_bytes(bytes(range(256)) * 5000)
    os.chmod(workspace / "model" / "deep" / "er" / "weights", 0o4640)
    os.symlink("deep/er/weights", workspace / "model" / "latest")
    os.symlink("/etc/passwd", workspace / "model" / "passwd")
    os.mkfifo(workspace / "model" / "fifo")
    (workspace / "output" / "data" / "log").write_text("ü")
    (workspace / "input").mkdir()
    (workspace / "input" / "secret").write_text("not an artifact")
    parcel.pack(workspace, tmp_path / "parcel")
    for _ in range(2):
        parcel.unpack(tmp_path / "parcel", tmp_path / "got")
    got = sorted(str(path.relative_to(tmp_path / "got")) for path in (tmp_path / "got").rglob("*"))
    assert got == [
        "model",
        "model/deep",
        "model/deep/er",
        "model/deep/er/weights",
        "model/latest",
        "output",
        "output/data",
        "output/data/log",
    ]
    weights = tmp_path / "got" / "model" / "deep" / "er" / "weights"
    assert weights.read_bytes() == bytes(range(256)) * 5000
    assert weights.stat().st_mode & 0o7777 == 0o640
    assert os.readlink(tmp_path / "got" / "model" / "latest") == "deep/er/weights"


@pytest.mark.parametrize("names", [("../out",), ("/out",), ("model/link", "model/link/out"), ("model/a/../../../out",)])
def test_nothing_is_written_beside_the_workspace(tmp_path, names):
    with tarfile.open(tmp_path / "parcel", "w") as tar:
        for name in names[:-1]:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(link)
        info = tarfile.TarInfo(names[-1])
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(OSError):
        parcel.unpack(tmp_path / "parcel", tmp_path / "workspace")
    assert not (tmp_path / "out").exists()
