import itertools
from types import SimpleNamespace

import pytest

from phalanx.data import metrics
from phalanx.data.metrics import Definitions, MetricError

NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"


def test_values_come_with_their_names_and_times_in_order():
    definitions = Definitions([("loss", rf"loss={NUMBER};?"), ("acc", rf"acc: {NUMBER}")])
    lines = [(1, "epoch 1 loss=0.5; acc: 90"), (2, "nothing"), (3, "loss=1e-3 then loss=-2")]
    assert definitions.scan(lines) == [("loss", 0.5, 1), ("acc", 90.0, 1), ("loss", 1e-3, 3), ("loss", -2.0, 3)]


def test_sagemakers_own_patterns_match_a_tab():
    definitions = Definitions([("validation:auc", rf".*\[[0-9]+\].*#011validation-auc:{NUMBER}.*")])
    assert definitions.scan([(7, "[12:34:56] [3]\ttrain-auc:0.9\tvalidation-auc:0.8")]) == [("validation:auc", 0.8, 7)]


@pytest.mark.parametrize("value", ["nan", "inf", "", "12a", "1" * 400])
def test_what_is_no_finite_number_is_no_metric(value):
    assert Definitions([("m", "m=(.*)")]).scan([(1, f"m={value}")]) == []


def test_a_group_that_takes_no_part_is_no_metric():
    assert Definitions([("m", "a(1)?")]).scan([(1, "a")]) == []


def test_a_pattern_that_would_hang_backtracking_engines_ends():
    definitions = Definitions([("m", r"(a+)+$"), ("n", r"(.*)*x(.*)*y([0-9])")])
    assert definitions.scan([(1, "a" * 100_000 + "b")]) == []


@pytest.mark.parametrize("regex", ["(", "(?=x)(1)", r"(a)\1", "((a{1000}){1000})", "no group", "(?<!a)(b)"])
def test_a_pattern_that_cannot_be_used_is_refused_by_name(regex):
    with pytest.raises(MetricError, match=r"Invalid regex for metric speed: "):
        Definitions([("speed", regex)])


def test_patterns_that_outgrow_the_memory_of_a_set_are_matched_one_by_one():
    wide = [(f"m{number}", f"(a|b)*a(a|b){{{8 + number % 5}}}(x){number}(.*y){{20}}") for number in range(39)]
    text = "".join("ab"[number * number % 7 % 2] for number in range(8_000)) + " loss=0.5"
    assert Definitions([*wide, ("loss", "loss=(.*)")]).scan([(1, text)]) == [("loss", 0.5, 1)]


def test_a_line_is_looked_at_from_its_beginning_and_gives_so_many_values():
    definitions = Definitions([("digit", r"([2-9])(?:.*X)?"), ("tab", "#011(a|1)")])
    found = definitions.scan([(1, "2" * 262_118), (2, "\t" * 262_117 + "1"), (3, "x" * (metrics.LINE_CHARACTERS - 1) + "34")])
    assert found == [("digit", 2.0, 1)] * metrics.LINE_VALUES + [("digit", 3.0, 3)]


@pytest.mark.parametrize(("regex", "line"), [("loss=(.*)", "loss=0.5"), ("#011(a)", "\ta")])
def test_looking_takes_so_much_cpu_time_and_no_more(monkeypatch, regex, line):
    seconds = itertools.count()
    monkeypatch.setattr(metrics, "time", SimpleNamespace(thread_time=lambda: next(seconds)))
    lines = iter([(number, line) for number in range(100)])
    assert len(Definitions([("loss", regex)]).scan(lines)) <= metrics.SCAN_SECONDS + 1
    assert len(list(lines)) > 90
