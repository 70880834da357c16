"""What an instance keeps for the agents after the one that made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.test_protocol import spec
from phalanx.ipsec.probe import Unprotected
from phalanx.node import instance, names
from phalanx.node.instance import Instance, InstanceError, Shared
from phalanx.node.messages import Phase
from phalanx.node.names import Names


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What members are told to carry ESP by."""
    told = []
    monkeypatch.setattr(names, "RUN", tmp_path / "run")
    monkeypatch.setattr(instance, "Member", lambda spec, space, rundir, plane: told.append(plane) or object())
    return told


def shared(directory: Path, plane) -> Shared:
    return Shared(Names(directory), None, None, None, plane)


def test_a_later_agent_leaves_an_instance_the_data_plane_that_it_has(planes: list[str], tmp_path: Path) -> None:
    first = Instance(spec(), shared(tmp_path, lambda: "engine"))
    first.save(Phase.PREPARED)
    assert first.member is first.member
    # As where ESP was loaded since, and where the host could not encrypt any more at all.
    assert Instance(spec(), shared(tmp_path, lambda: "kernel")).member is not None
    assert Instance(spec(), shared(tmp_path, cannot)).member is not None
    assert planes == ["engine"] * 3


@pytest.mark.parametrize(("file", "plane", "other"), [("engine.lock", "engine", "kernel"), ("ledger.lock", "kernel", "engine")])
def test_an_instance_of_a_version_that_did_not_write_it_down_keeps_it_too(
    planes: list[str], tmp_path: Path, file: str, plane: str, other: str
) -> None:
    made = Instance(spec(), shared(tmp_path, lambda: other))
    made.save(Phase.PREPARED)
    ipsec = Names(tmp_path).instance_run_dir(made.spec.id) / "ipsec"
    ipsec.mkdir()
    (ipsec / file).touch()
    assert made.member is not None
    assert planes == [plane]


def test_a_host_that_cannot_encrypt_may_be_mended(planes: list[str], tmp_path: Path) -> None:
    made = Instance(spec(), shared(tmp_path, cannot))
    with pytest.raises(InstanceError, match="Nothing was sent, since"):
        assert made.member
    assert Instance(spec(), shared(tmp_path, lambda: "kernel")).member is not None
    assert planes == ["kernel"]


def cannot() -> str:
    raise Unprotected("it lacks a charon")
