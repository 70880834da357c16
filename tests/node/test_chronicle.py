"""The guards of an instance over time: who held, since when, and when nobody looked."""

from phalanx.node import chronicle as module
from phalanx.node.chronicle import Chronicle


def told(chronicle):
    return [(change.held_by, change.cause) for change in chronicle.guards.changes]


def raised(path):
    chronicle = Chronicle(path)
    chronicle.raised("kernel", "blocks")
    chronicle.raised("router", "drops")
    return chronicle


def test_a_loss_and_its_mending_are_told_with_the_looks_between_which_they_fell(tmp_path):
    chronicle = raised(tmp_path / "guards")
    begun = chronicle.guards.changes[-1].at
    for at in (begun + 1000, begun + 2000):
        chronicle.seen("router", None, at)
    chronicle.seen("router", "flushed", begun + 3000)
    chronicle.seen("router", "flushed", begun + 3500)
    chronicle.raised("kernel", "is no change")
    chronicle.seen("router", None, begun + 4000)
    assert told(chronicle) == [
        (("kernel",), "blocks"),
        (("kernel", "router"), "drops"),
        (("kernel",), "flushed"),
        (("kernel", "router"), "the router's guard was seen to hold again"),
    ]
    assert [change.since for change in chronicle.guards.changes[2:]] == [begun + 2000, begun + 3500]


def test_a_guard_that_was_never_raised_is_never_said_to_hold(tmp_path):
    chronicle = Chronicle(tmp_path / "guards")
    chronicle.seen("router", None, 1)
    chronicle.resumed()
    assert told(chronicle) == []


def test_a_new_agent_knows_what_was_and_says_that_nobody_looked(tmp_path):
    earlier = raised(tmp_path / "guards")
    looked = earlier.guards.changes[-1].at + 5000
    earlier.seen("router", None, looked)
    earlier.seen("kernel", None, looked + 1500)
    later = Chronicle(tmp_path / "guards")
    later.resumed()
    later.raised("kernel", "blocks")
    assert told(later)[:2] == told(earlier)
    assert told(later)[2:] == [((), "the agent had ended: nobody looked meanwhile"), (("kernel",), "blocks")]
    assert later.guards.changes[2].since == looked


def test_it_stays_small_and_counts_what_it_leaves_out(tmp_path):
    chronicle = raised(tmp_path / "guards")
    for number in range(300):
        chronicle.seen("router", f"flush {number}", number)
        chronicle.seen("router", None, number)
    assert len(chronicle.guards.changes) == module.FIRST + module.LAST
    assert chronicle.guards.omitted == 602 - module.FIRST - module.LAST
    assert told(chronicle)[0][1] == "blocks"
    assert told(chronicle)[-2][1] == "flush 299"


def test_nothing_is_kept_of_an_instance_that_goes(tmp_path):
    chronicle = raised(tmp_path / "guards")
    chronicle.close()
    (tmp_path / "guards").unlink()
    chronicle.seen("router", "gone", chronicle.guards.changes[-1].at + 5000)
    assert list(tmp_path.iterdir()) == []
