"""What the local fleet takes from an agent's answers."""

from phalanx.fleet.local import LocalFleet
from phalanx.node.messages import InstanceStatus, Phase, Statuses


def test_an_answer_that_was_overtaken_does_not_undo_a_newer_one(tmp_path):
    fleet = LocalFleet(tmp_path, tmp_path)
    one, two = InstanceStatus("i-1", Phase.NEW), InstanceStatus("i-2", Phase.NEW)
    fleet._see(Statuses(8, (one, two)))
    fleet._see(Statuses(7, (one,)))
    assert set(fleet.statuses(["i-1", "i-2"])) == {"i-1", "i-2"}
    fleet._see(Statuses(9, (one,)))
    assert set(fleet.statuses(["i-1", "i-2"])) == {"i-1"}
