"""Which running children are stopped early, and when a search is over."""

from phalanx.jobs.tuning.completion import Progress, converged, progress, reached
from phalanx.jobs.tuning.stopping import below_median, halved

PREVIOUS = [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 6.0, 9.0]]
"""Running averages at epoch 2: 1.5, 3, 4.5."""


def test_worse_than_the_median_of_running_averages_stops():
    assert below_median([9.0, 2.9], PREVIOUS, minimize=False)
    assert not below_median([0.0, 3.0], PREVIOUS, minimize=False)
    assert below_median([0.0, 3.1], PREVIOUS, minimize=True)
    assert not below_median([9.0, 3.0], PREVIOUS, minimize=True)


def test_the_median_rule_needs_enough_children_that_came_as_far():
    assert not below_median([], PREVIOUS, minimize=False)
    assert not below_median([0.0], PREVIOUS[:2], minimize=False)
    assert not below_median([0.0] * 4, PREVIOUS, minimize=False)


def test_hyperband_keeps_the_best_third_at_each_rung():
    # Of nine epochs at most, the first nine children are in the bracket that compares at epochs 1 and 3.
    curves = {number: [float(number)] for number in range(9)}
    assert [number for number in curves if not halved(curves, number, 1, 9, minimize=True)] == [0, 1, 2]
    assert [number for number in curves if not halved(curves, number, 1, 9, minimize=False)] == [6, 7, 8]
    curves = {**curves, 0: [0.0] * 3, 1: [1.0] * 3, 2: [2.0] * 3}
    assert [number for number in range(3) if not halved(curves, number, 1, 9, minimize=True)] == [0]


def test_hyperbands_best_child_goes_on_to_the_end():
    curves = {0: [0.0] * 8, 1: [1.0]}
    assert not halved(curves, 0, 1, 9, minimize=True)
    assert not halved({**curves, 0: [0.0] * 9}, 0, 1, 9, minimize=True)
    assert halved({**curves, 0: [0.0] * 10}, 0, 1, 9, minimize=True)


def test_hyperband_stops_nobody_before_the_least_resource():
    curves = {0: [0.0, 0.0], 1: [9.0, 9.0]}
    assert not halved(curves, 1, 3, 81, minimize=True)
    assert halved({0: [0.0] * 3, 1: [9.0] * 3}, 1, 3, 81, minimize=True)


def test_hyperbands_later_brackets_compare_later():
    # 9 + 5 + 3 children make a round; number 9 is the first of the second bracket, 14 of the one that never stops.
    curves = {9: [9.0], 10: [0.0], 14: [9.0] * 9, 15: [0.0] * 9}
    assert not halved(curves, 9, 1, 9, minimize=True)
    assert halved({**curves, 9: [9.0] * 3, 10: [0.0] * 3}, 9, 1, 9, minimize=True)
    assert not halved(curves, 14, 1, 9, minimize=True)


def test_progress_is_counted_since_the_last_improvement_by_more_than_a_hundredth():
    assert progress([], minimize=True) == Progress(None, 0)
    assert progress([1.0, 0.5, 0.499, 0.9], minimize=True) == Progress(0.499, 2)
    assert progress([0.5, 0.504, 0.51], minimize=False) == Progress(0.51, 0)
    # Small steps add up.
    assert progress([1.0, 1.008, 1.016], minimize=False).not_improving == 0


def test_a_search_converges_when_it_has_not_improved_for_long():
    assert not converged(progress([1.0] * 10, minimize=True), 2)
    assert converged(progress([1.0] * 11, minimize=True), 2)
    assert not converged(progress([1.0] * 11, minimize=True), 5)
    assert not converged(progress([], minimize=True), 0)


def test_a_target_is_reached_from_its_side():
    assert reached(0.9, 0.9, minimize=False)
    assert not reached(0.9, 0.9001, minimize=False)
    assert reached(0.1, 0.2, minimize=True)
    assert not reached(None, 0.2, minimize=True)
    assert not reached(0.1, None, minimize=True)
