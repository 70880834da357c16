"""`phalanx doctor` on hosts where no container starts: each lack is seen and said."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phalanx.cli.main import app
from phalanx.node import prerequisites
from phalanx.runtime import cgroup, oci


def faults(images):
    return {each.name: each.detail for each in prerequisites.probe(images) if not each.ok}


def test_a_host_that_runs_containers_lacks_nothing(tmp_path):
    # The image store is made with the first image.
    assert faults(tmp_path / "later" / "images") == {}
    assert list(cgroup.ROOT.glob("**/phalanx-doctor")) == []


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A host with `sh` and one program that cannot be executed."""
    (tmp_path / "crun").touch(mode=0o644)
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setattr(oci, "PATH", str(tmp_path))


def test_programs_that_cannot_be_executed_are_not_there(bare, tmp_path):
    found = faults(tmp_path)
    assert set(found) == {"container programs", "FUSE"}
    assert all(f"'{name}'" in found["container programs"] for name in ("crun", "conmon", "catatonit", "podman"))
    assert "'fusermount3'" in found["FUSE"]
    asked = CliRunner().invoke(app, ["doctor", "--json"])
    assert asked.exit_code == 1
    told = {each["name"]: each for each in json.loads(asked.stdout)["capabilities"]}
    assert not told["container programs"]["ok"]
    assert "install crun" in told["container programs"]["remedy"]


def test_a_kernel_or_a_file_system_that_makes_no_container_is_seen(tmp_path, monkeypatch):
    assert "ID-mapped" in faults(Path("/proc"))["container roots"]
    monkeypatch.setattr(cgroup, "ROOT", tmp_path / "none")
    monkeypatch.setattr(prerequisites, "_FUSE", str(tmp_path / "fuse"))
    assert set(faults(tmp_path)) == {"control groups", "FUSE"}
