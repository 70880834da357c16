"""The directory in memory that keys lie in, and whether they stay there."""

import os
import subprocess
from pathlib import Path

import pytest

from phalanx.node import memory

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def options(directory: Path) -> set[str]:
    (line,) = (line.split() for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(directory))
    assert line[2] == "tmpfs"
    return set(line[3].split(","))


@pytest.fixture
def directory(tmp_path):
    yield tmp_path / "run" / "123456"
    subprocess.run(["umount", tmp_path / "run" / "123456"], capture_output=True, check=False)


def test_it_is_not_swapped_where_the_kernel_can_do_that(directory):
    memory.mount(directory)
    release = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
    assert ("noswap" in options(directory)) == (release >= (6, 4))
    assert {"nosuid", "nodev", "noexec", "mode=700"} <= options(directory)
    (directory / "spec.json").write_text("keys")
    memory.mount(directory)
    assert (directory / "spec.json").exists()
    memory.unmount(directory)
    assert not directory.exists()


def test_an_older_kernel_mounts_it_all_the_same(directory, tmp_path, monkeypatch):
    """Linux before 6.4 does not know `noswap`, and refuses what it does not know."""
    program = tmp_path / "mount"
    program.write_text('#!/bin/sh\ncase "$*" in *noswap*) exit 32;; esac\nexec /bin/mount "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    memory.mount(directory)
    assert "noswap" not in options(directory)
    assert {"nosuid", "nodev", "noexec", "mode=700"} <= options(directory)


@pytest.mark.parametrize(
    ("swaps", "limit", "ok", "words"),
    [
        (None, None, True, "no swap"),
        ("", None, True, "no swap"),
        ("/dev/sda2 partition 1000 0 -2\n", None, False, "/dev/sda2"),
        ("/dev/sda2 partition 1000 0 -2\n", "max\n", False, "/dev/sda2"),
        ("/dev/sda2 partition 1000 0 -2\n", "0\n", True, "phalanx-host.service"),
    ],
)
def test_a_swap_that_keys_may_get_to_is_found_out(tmp_path, monkeypatch, swaps, limit, ok, words):
    if swaps is not None:
        (tmp_path / "swaps").write_text(HEADER + swaps)
    monkeypatch.setattr(memory, "_SWAPS", tmp_path / "swaps")
    monkeypatch.setattr(memory, "_UNITS", tmp_path)
    if limit is not None:
        (tmp_path / "phalanx-host.service").mkdir()
        (tmp_path / "phalanx-host.service" / "memory.swap.max").write_text(limit)
    found = memory.probe()
    assert (found.ok, words in found.detail) == (ok, True)
    assert "MemorySwapMax" in found.remedy
