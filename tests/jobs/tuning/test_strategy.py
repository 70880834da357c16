"""What the strategies propose: within the ranges, never twice, the same for the same seed, and better than chance."""

import statistics

import pytest

from jobs.tuning.functions import FUNCTIONS, ranges, value
from phalanx.jobs.tuning.search import Evaluation, Prior, Search
from phalanx.jobs.tuning.space import Space
from phalanx.jobs.tuning.strategy import propose

EVALUATIONS = 40


def search(strategy, bounds, seed=0, prior=None, budget=EVALUATIONS):
    return Search(strategy, Space.of(ranges(bounds), {}), True, seed, budget, prior or Prior())


def minimise(given, function, evaluations=EVALUATIONS):
    found = []
    for number in range(evaluations):
        parameters = propose(given, number, found)
        found.append(Evaluation(parameters, value(function, parameters)))
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bayesian_beats_random_in_the_median_of_twenty_seeds(name):
    function, bounds = FUNCTIONS[name]
    best = {
        strategy: statistics.median(
            min(each.value for each in minimise(search(strategy, bounds, seed), function)) for seed in range(20)
        )
        for strategy in ("Random", "Bayesian")
    }
    assert best["Bayesian"] < best["Random"]


@pytest.mark.parametrize("strategy", ["Random", "Bayesian", "Hyperband"])
def test_the_same_seed_proposes_the_same_and_another_does_not(strategy):
    function, bounds = FUNCTIONS["branin"]
    first, again, other = (minimise(search(strategy, bounds, seed), function, 15) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_proposal_depends_on_the_store_alone():
    """Of a service that was killed nothing is needed: the evaluations in any process lead to the same proposal."""
    function, bounds = FUNCTIONS["branin"]
    found = minimise(search("Bayesian", bounds), function, 20)
    assert propose(search("Bayesian", bounds), 13, found[:13]) == found[13].parameters


def test_running_evaluations_keep_others_away_from_them():
    _, bounds = FUNCTIONS["branin"]
    running = []
    for number in range(10):
        running.append(Evaluation(propose(search("Bayesian", bounds), number, running), None))
    assert len({tuple(each.parameters.values()) for each in running}) == 10


def test_failed_evaluations_teach_nothing_and_are_not_repeated():
    space = Space.of({"CategoricalParameterRanges": [{"Name": "c", "Values": ["a", "b", "c", "d"]}]}, {})
    found = []
    for number in range(4):
        found.append(Evaluation(propose(Search("Bayesian", space, True, 0, 4), number, found), None, failed=True))
    assert {each.parameters["c"] for each in found} == {"a", "b", "c", "d"}


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_no_combination_is_tried_twice_while_there_are_others(strategy):
    space = Space.of(
        {
            "CategoricalParameterRanges": [{"Name": "c", "Values": ["a", "b", "c"]}],
            "IntegerParameterRanges": [{"Name": "i", "MinValue": "1", "MaxValue": "4"}],
        },
        {},
    )
    found = []
    for number in range(12):
        found.append(Evaluation(propose(Search(strategy, space, False, 3, 12), number, found), 1.0 if number % 2 else 0.5))
    assert len({tuple(each.parameters.items()) for each in found}) == 12


def test_grid_takes_every_combination_once_and_then_no_more():
    space = Space.of(
        {"CategoricalParameterRanges": [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y", "z"]}]}, {}
    )
    grid = Search("Grid", space, True, 0, 6)
    found = [tuple(propose(grid, number, []).items()) for number in range(6)]
    assert len(set(found)) == 6
    with pytest.raises(IndexError):
        propose(grid, 6, [])


def test_a_warm_start_begins_where_its_parents_have_come_to():
    function, bounds = FUNCTIONS["hartmann"]
    cold, warm, transferred = [], [], []
    for seed in range(8):
        parent = tuple(minimise(search("Bayesian", bounds, seed + 100), function, 30))
        # On other data the objective is another one, with its best at the same place.
        moved = tuple(Evaluation(each.parameters, 50 + 9 * each.value) for each in parent)
        for into, prior in (
            (cold, Prior()),
            (warm, Prior((parent,), True)),
            (transferred, Prior((moved,), False)),
        ):
            into.append(min(each.value for each in minimise(search("Bayesian", bounds, seed, prior, 8), function, 8)))
    assert statistics.median(warm) < statistics.median(cold)
    assert statistics.median(transferred) < statistics.median(cold)


def test_a_parents_evaluations_outside_of_the_new_ranges_are_left_out():
    prior = Prior(((Evaluation({"x0": "9"}, 0.0), Evaluation({"x0": ""}, 0.0)),), True)
    for number in range(5):
        assert 0 <= float(propose(search("Bayesian", [(0, 1)], 0, prior), number, [])["x0"]) <= 1
