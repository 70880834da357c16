"""What becomes of an instance's secrets when it is gone."""

import shutil

import pytest

from node.test_protocol import spec
from phalanx.node import keep
from phalanx.node.messages import Phase
from phalanx.node.names import Names


class Killed(Exception):
    pass


def test_an_agent_killed_while_it_erases_an_instance_leaves_none_to_its_successor(tmp_path, monkeypatch):
    monkeypatch.setattr("phalanx.node.names.RUN", tmp_path / "run")
    names = Names(tmp_path)
    directory = names.instance_run_dir(spec().id)
    keep.save(names, spec(), Phase.PREPARED)
    assert [found.id for found, _ in keep.saved(names)] == [spec().id]

    def killed(*_arguments, **_options):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", killed)
        keep.erase(directory)
    assert keep.saved(names) == []
    assert not any(path.read_bytes().strip(b"\0") for path in directory.iterdir())
    keep.erase(directory)
    assert not directory.exists()
