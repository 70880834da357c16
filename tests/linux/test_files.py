"""A file is replaced whole: all of the old or all of the new, and where it is to last, on the disk before anybody sees it."""

import os
import stat

import pytest

from phalanx.linux import files


def test_what_is_there_is_replaced_and_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    # Left by one that was killed, and longer than what is written now.
    (tmp_path / "key.new").write_text("half of something else")
    files.replace(path, "nëw")
    assert path.read_bytes() == "nëw".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files.replace(path, b"\0\xff", mode=0o640)
    assert path.read_bytes() == b"\0\xff"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_the_end_of_a_log_of_any_length_is_found(tmp_path):
    log = tmp_path / "log"
    assert (files.tail(log), files.last_lines(log)) == (b"", [])
    with log.open("wb") as file:
        # Nobody has so much memory.
        file.seek(1 << 42)
        file.write(b"\nfirst\n\nsecond \xff\nlast\n\n")
    assert files.tail(log, 7) == b"\nlast\n\n"
    assert files.last_lines(log) == ["last"]
    assert files.last_lines(log, 4) == ["first", "", "second \ufffd", "last"]


def test_two_files_of_one_stem_do_not_meet(tmp_path):
    (tmp_path / "host.key.new").write_text("another's, half written")
    files.replace(tmp_path / "host.pem", "certificate")
    assert (tmp_path / "host.key.new").exists()


def test_a_file_that_cannot_be_written_leaves_the_one_that_is_there(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "key"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.replace(path, "new")
    assert path.read_text() == "old"


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_call_returns(tmp_path, monkeypatch):
    steps = []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor):
        steps.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))
        fsync(descriptor)

    def renamed(source, target):
        steps.append(("rename", str(source), str(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    path = tmp_path / "key"
    files.replace(path, b"new")
    assert steps == [
        ("sync", f"{path}.new", 3),
        ("rename", f"{path}.new", str(path)),
        ("sync", str(tmp_path), tmp_path.stat().st_size),
    ]
    steps.clear()
    files.replace(path, b"newer", durable=False)
    assert [step for step, *_ in steps] == ["rename"]
