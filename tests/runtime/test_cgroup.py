"""Control groups that several containers make and remove at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phalanx.runtime.cgroup import ROOT, Cgroups

PARENT = f"phalanx-test-cgroup-{os.getpid()}"
MEMORY = 256 * 1024**2
LIMITS = [Path("/sys/fs/cgroup", path) for path in (f"memory/{PARENT}/memory.limit_in_bytes", f"{PARENT}/memory.max")]


def test_the_last_container_takes_no_group_from_one_that_begins() -> None:
    groups = Cgroups(PARENT, MEMORY)
    limits = set()

    def live(number: int) -> None:
        for _ in range(300):
            assert groups.make_monitor(f"c{number}").exists()
            limit = next(path for path in LIMITS if path.exists())
            limits.add(int(limit.read_text()))
            groups.remove(f"c{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(4)))
    assert limits == {MEMORY}
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{PARENT}")) + list(Path("/sys/fs/cgroup").glob(PARENT))


@pytest.mark.parametrize(
    ("look", "nothing"),
    [
        (lambda groups: groups.processes("c", "container"), []),
        (lambda groups: groups.oom_kills("c"), 0),
        (lambda groups: groups.usage("c"), None),
    ],
)
def test_a_group_that_goes_while_it_is_read_is_gone(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[Cgroups], object], nothing: object
) -> None:
    groups = Cgroups(PARENT)
    groups.make_monitor("c")
    for made in (*ROOT.glob(f"*/{PARENT}/c"), *ROOT.glob(f"{PARENT}/c")):
        (made / "container").mkdir()

    def late(self: Path) -> str:
        with self.open() as file:
            groups.remove("c")
            return file.read()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", late)
        assert look(groups) == nothing
    assert look(groups) == nothing


def test_a_host_without_control_groups_is_told_apart_from_one_whose_groups_vanish() -> None:
    code = "from phalanx.runtime.cgroup import Cgroups; Cgroups('phalanx-test').make_monitor('c')"
    for bare in ("true", "mount -t tmpfs none /sys/fs/cgroup"):
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                f'umount --recursive /sys/fs/cgroup && {bare} && exec "$0" -c "$1"',
                sys.executable,
                code,
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "CgroupError: no control groups are mounted at /sys/fs/cgroup" in done.stderr
