"""Ranges: what can be searched, on which scale, and how values are written."""

import math

import pytest

from phalanx.jobs.tuning.search import Search
from phalanx.jobs.tuning.space import Categorical, Continuous, Integer, Space, SpaceError
from phalanx.jobs.tuning.strategy import propose
from phalanx.jobs.tuning.study import distribution


def integer(low, high, scaling=None, name="p"):
    return {"Name": name, "MinValue": low, "MaxValue": high, **({"ScalingType": scaling} if scaling else {})}


def drawn(kind, given, count=400):
    space = Space.of({f"{kind}ParameterRanges": [given]}, {})
    return [propose(Search("Random", space, True, 1, count), number, [])["p"] for number in range(count)]


def test_integers_are_written_as_integers_and_reach_both_bounds():
    assert {int(text) for text in drawn("Integer", integer("-2", "3"))} == {-2, -1, 0, 1, 2, 3}


@pytest.mark.parametrize(
    ("kind", "given", "middle"),
    [
        ("Continuous", integer("0.0001", "1", "Logarithmic"), 0.01),
        ("Continuous", integer("0.0001", "1", "Auto"), 0.01),
        ("Continuous", integer("0.0001", "1"), 0.01),
        ("Continuous", integer("0", "10", "Linear"), 5),
        ("Continuous", integer("0", "10", "Auto"), 5),
        ("Continuous", integer("0.0", "0.9999", "ReverseLogarithmic"), 0.99),
        ("Integer", integer("1", "10000", "Logarithmic"), 100),
        ("Integer", integer("1", "10000", "Linear"), 5000),
    ],
)
def test_half_of_the_values_lie_on_each_side_of_the_scale(kind, given, middle):
    values = [float(text) for text in drawn(kind, given)]
    assert all(float(given["MinValue"]) <= value <= float(given["MaxValue"]) for value in values)
    assert 0.4 < sum(value < middle for value in values) / len(values) < 0.6


@pytest.mark.parametrize(
    "parameter",
    [
        Integer("p", 1, 9, False),
        Continuous("p", 0.0, 0.999, False, True),
        Continuous("p", 1e-5, 1.0, True, False),
        Categorical("p", ("a", "b")),
    ],
)
def test_what_was_written_is_read_back_into_the_range(parameter):
    space = Space((parameter,))
    for number in range(50):
        text = propose(Search("Random", space, True, 0, 50), number, [])
        encoded = space.encode(text)
        assert encoded is not None
        assert distribution(parameter)._contains(distribution(parameter).to_internal_repr(encoded["p"]))
    assert space.encode({"p": "7000"}) is None
    assert space.encode({}) is None


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("Integer", integer("1.5", "2"), "valid integer"),
        ("Integer", integer("1", "9" * 200), "valid integer"),
        ("Integer", integer("3", "3"), "less than"),
        ("Integer", integer("0", "3", "Logarithmic"), "greater than 0"),
        ("Integer", integer("1", "3", "ReverseLogarithmic"), "continuous"),
        ("Continuous", integer("a", "b"), "valid numbers"),
        ("Continuous", integer("0", "inf"), "finite"),
        ("Continuous", integer("nan", "1"), "finite"),
        ("Continuous", integer("-1e308", "1e308"), "finite"),
        ("Continuous", integer("2", "1"), "less than"),
        ("Continuous", integer("0", "1", "Logarithmic"), "greater than 0"),
        ("Continuous", integer("0", "1", "ReverseLogarithmic"), "0 <= x < 1.0"),
        ("Categorical", {"Name": "p", "Values": ["a", "a"]}, "more than once"),
    ],
)
def test_ranges_that_cannot_be_searched_are_refused_with_a_reason(kind, given, reason):
    with pytest.raises(SpaceError, match=reason):
        Space.of({f"{kind}ParameterRanges": [given]}, {})


def test_a_name_has_one_range():
    with pytest.raises(SpaceError, match="more than one range"):
        Space.of({"IntegerParameterRanges": [integer("1", "2")], "ContinuousParameterRanges": [integer("1", "2")]}, {})


def test_combinations_are_counted():
    ranges = {
        "IntegerParameterRanges": [integer("1", "4")],
        "CategoricalParameterRanges": [{"Name": "c", "Values": ["a", "b"]}],
    }
    assert Space.of(ranges, {}).size == 8
    assert Space.of({**ranges, "ContinuousParameterRanges": [integer("0", "1", name="x")]}, {}).size == math.inf


def test_autotune_takes_the_algorithms_ranges_and_else_goes_by_the_example():
    known = {"eta": ("Continuous", "0.1", "0.5", "Linear")}
    hints = {"eta": "0.3", "rate": "0.05", "units": "64", "offset": "-2.5", "shuffle": "True", "zero": "0"}
    space = Space.of({"AutoParameters": [{"Name": name, "ValueHint": hint} for name, hint in hints.items()]}, known)
    assert space.parameters == (
        Continuous("eta", 0.1, 0.5, False, False),
        Continuous("rate", 0.005, 0.5, True, False),
        Integer("units", 16, 256, False),
        Continuous("offset", -25.0, -0.25, False, False),
        Categorical("shuffle", ("True", "false")),
        Continuous("zero", 0.0, 1.0, False, False),
    )
    with pytest.raises(SpaceError, match="example value 'adam'"):
        Space.of({"AutoParameters": [{"Name": "optimizer", "ValueHint": "adam"}]}, known)
