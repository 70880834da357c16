"""What encryption cost a job, estimated from its report."""

import pytest

from phalanx.jobs.cost import WAKE_SECONDS, Cost, estimate


def report(*work):
    return {"instances": [{"work": each} for each in work], "pairs": [{"bytes": 3_000_000}, {"bytes": 1_000_000}]}


def work(milliseconds_in, milliseconds_out, wakes):
    return {"milliseconds_in": milliseconds_in, "milliseconds_out": milliseconds_out, "wakes": wakes}


def test_the_busiest_instance_is_what_the_others_wait_for():
    cost = estimate(report(work(200, 300, 10_000), work(100, 100, 0)))
    busiest = 0.5 + 10_000 * WAKE_SECONDS
    assert cost == Cost(0.0, pytest.approx(busiest), pytest.approx(busiest + 0.2), 4_000_000)


def test_a_data_plane_that_counts_no_work_gives_no_estimate():
    assert estimate(report(work(1, 1, 1), None)) is None
    assert estimate({"instances": [{}], "pairs": []}) is None
