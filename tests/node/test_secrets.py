"""What becomes of an instance's secrets when it is gone."""

import shutil

import pytest

from node.test_protocol import spec
from phalanx.node.instance import Instance, erase, saved
from phalanx.node.messages import Phase
from phalanx.node.names import Names


class Killed(Exception):
    pass


def test_an_agent_killed_while_it_erases_an_instance_leaves_none_to_its_successor(tmp_path, monkeypatch):
    monkeypatch.setattr("phalanx.node.names.RUN", tmp_path / "run")
    names = Names(tmp_path)
    instance = object.__new__(Instance)
    instance.spec, instance._run_dir = spec(), names.instance_run_dir(spec().id)
    instance.save(Phase.PREPARED)
    assert [found.id for found, _ in saved(names)] == [spec().id]

    def killed(*_arguments, **_options):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", killed)
        erase(instance._run_dir)
    assert saved(names) == []
    assert not any(path.read_bytes().strip(b"\0") for path in instance._run_dir.iterdir())
    erase(instance._run_dir)
    assert not instance._run_dir.exists()
