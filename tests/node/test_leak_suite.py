"""Not one packet in the clear between instances of an encrypted job, whatever is done to them; each twin is caught at it."""

from node.leak_lab import results


def test_nothing_crosses_in_the_clear_in_any_scenario_and_every_twin_is_caught():
    found = results()
    assert len(found) >= 40
    assert [f"{result.scenario.name}: {result.details}" for result in found if not result.holds] == []
