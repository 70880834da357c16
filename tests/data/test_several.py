import threading

import pytest

from phalanx.data.several import for_each


def test_each_is_done_once_and_none_is_taken_before_a_thread_is_free():
    done, most = [], []
    taken = 0

    def items():
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    def do(number):
        most.append(taken - len(done))
        done.append(number)

    for_each(do, items(), 4, "test", threading.Event())
    assert sorted(done) == list(range(1000))
    assert max(most) <= 4


def test_the_first_error_is_told_and_nothing_is_begun_after_it():
    failed, begun = threading.Event(), []

    def do(number):
        begun.append(number)
        if number == 5:
            raise ValueError("the first")
        if number > 5:
            failed.wait()
            raise RuntimeError("a later one")

    with pytest.raises(ValueError, match="the first"):
        for_each(do, range(1_000_000), 2, "test", failed)
    assert len(begun) <= 8
