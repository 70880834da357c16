"""What instances left on several hosts comes together on one, in the order of the instances, whatever is repeated."""

from types import SimpleNamespace

import pytest

from node.test_protocol import spec
from phalanx.data import artifacts
from phalanx.node import agent as node_agent
from phalanx.node.agent import Agent
from phalanx.node.instance import Shared
from phalanx.node.names import Names


def host(directory, *specs):
    """A host's agent, that has these instances and no more of itself than deliveries need. Until their containers' end the
    instances' models lack a file."""
    names = Names(directory)
    made = Agent(Shared(names, None, None, None, None))
    instances = [SimpleNamespace(spec=one, opt_ml=names.instance_dir(one.id) / "ml") for one in specs]
    for instance in instances:
        for folder in ("model", "output/data"):
            (instance.opt_ml / folder).mkdir(parents=True)
        (instance.opt_ml / "model" / f"of-{instance.spec.host}").write_text(instance.spec.host * 100)
    made._workers = {
        instance.spec.id: SimpleNamespace(instance=instance, end=(instance.opt_ml / "model" / "last").touch)
        for instance in instances
    }
    return made


@pytest.fixture
def uploaded(monkeypatch):
    seen = []

    def upload(_store, _output, workspaces):
        seen[:] = [sorted(path.name for path in (workspace / "model").iterdir()) for workspace in workspaces]
        return "s3://bucket/model"

    monkeypatch.setattr(artifacts, "upload", upload)
    return seen


def test_pieces_arrive_in_order_and_again(tmp_path, uploaded, monkeypatch):
    monkeypatch.setattr(node_agent, "PARCEL_BYTES", 1000)
    one, two = spec("algo-1", encrypted=False), spec("algo-2", encrypted=False)
    here, there = host(tmp_path / "here", one), host(tmp_path / "there", two)
    with pytest.raises(LookupError, match="lost"):
        here.upload((one.id, two.id))
    for _ in range(2):
        offset = 0
        while content := there.parcel(two.id, offset):
            for _ in range(2):
                here.deliver(one.id, two.id, offset, content)
            offset += len(content)
        assert offset > 1000
        for _ in range(2):
            here.deliver(one.id, two.id, offset, b"")
    assert here.upload((one.id, two.id)) == "s3://bucket/model"
    assert uploaded == [["last", "of-algo-1"], ["last", "of-algo-2"]]


def test_what_is_not_there_is_lost_and_said_so(tmp_path):
    one = spec("algo-1", encrypted=False)
    here = host(tmp_path, one)
    for call in (
        lambda: here.parcel("i-none", 0),
        lambda: here.deliver("i-none", "i-2", 0, b"x"),
        lambda: here.upload(("i-none",)),
    ):
        with pytest.raises(LookupError, match="lost"):
            call()
