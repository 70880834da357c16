"""What an instance keeps for the agents after the one that made it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ipsec.lab import eventually
from node.test_protocol import spec
from phalanx.ipsec.probe import Unprotected
from phalanx.network import namespace
from phalanx.node import instance, names
from phalanx.node.chronicle import now_ms
from phalanx.node.errors import InstanceError, NotYet
from phalanx.node.instance import Instance, Shared
from phalanx.node.messages import Phase
from phalanx.node.names import Names
from phalanx.node.supply import Supply
from phalanx.node.vpcs import Vpcs


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


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Instance]:
    """An instance of an encrypted job, with all that it has before its container."""
    run = Path(tempfile.mkdtemp(prefix="phxt-", dir="/dev/shm"))  # short: Unix sockets lie in it
    monkeypatch.setattr(names, "RUN", run)
    made = Names(tmp_path)
    made.run_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "phxt", made.run_dir], check=True)
    containers = SimpleNamespace(remove=lambda _: None)
    one = Instance(spec(), Shared(made, Vpcs(made), Supply(None, frozenset(), made), containers, lambda: "engine"))
    one.save(Phase.PREPARED)
    one.prepare()
    yield one
    one.destroy()
    assert namespace.listing(made.namespaces) == []
    subprocess.run(["umount", made.run_dir], check=True)
    shutil.rmtree(run)


def test_nothing_outlives_an_instance_whose_namespace_lost_its_name(prepared: Instance) -> None:
    """The name alone goes: what runs in the namespace, with the keys of the job, goes on in it."""
    space = prepared._shared.names.instance_namespace(prepared.spec.id)
    left = namespace.processes(space)
    assert len(left) == 2, "the IKE daemon and the engine"
    namespace.delete(space)
    try:
        prepared.destroy()
        assert eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in left))
    finally:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_an_instance_goes_on_while_the_memory_for_what_is_kept_is_full(prepared: Instance) -> None:
    since = now_ms()
    filler = prepared._shared.names.run_dir / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    prepared.inspect()
    prepared.chronicle.seen("router", "flushed", since + 5000)
    prepared.look()
    (note,) = prepared.interrupted("charon is dead")
    measured = prepared.measure()
    assert measured.guards.changes[-1].cause == "flushed"
    assert measured.watched.until >= since
    filler.unlink()
    assert prepared.interrupted("charon is dead again")[0] == prepared.notes()[0] == note
    prepared.chronicle.seen("router", None, since + 10000)
    later = Instance(prepared.spec, prepared._shared)
    assert later.chronicle.guards == prepared.chronicle.guards
    assert later.notes()[-1] == prepared.notes()[-1]


def test_what_happens_to_an_instance_that_goes_ends_nobody(prepared: Instance) -> None:
    prepared.destroy()
    assert "somebody changed the rules" in prepared.note("somebody changed the rules")[-1]


@pytest.mark.parametrize(("victim", "cause"), [("charon", "charon is dead"), ("python", "the ESP engine is dead")])
def test_a_daemon_that_is_killed_at_the_mesh_gate_fails_no_instance(prepared: Instance, victim: str, cause: str) -> None:
    space = prepared._shared.names.instance_namespace(prepared.spec.id)
    (pid,) = (pid for pid in namespace.processes(space) if victim in os.readlink(f"/proc/{pid}/exe"))
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: pid not in namespace.processes(space))
    with pytest.raises(NotYet, match=cause):
        prepared.connect()
