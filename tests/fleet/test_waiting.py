"""Who waits for instances is woken by news of these alone."""

import pytest

from phalanx.fleet.waiting import Waiting


@pytest.mark.parametrize(
    ("news", "looks"),
    [
        (lambda waiting: None, 1),
        (lambda waiting: waiting.tell(["i-other"]), 1),
        (lambda waiting: waiting.tell(["i-other", "i-mine"]), 2),
        (lambda waiting: waiting.tell_all(), 2),
    ],
)
def test_looks_again_after_news_of_ones_own_however_early_it_comes(news, looks):
    waiting, looked = Waiting(), []

    def true():
        looked.append(True)
        if len(looked) == 1:
            # Between the look and the wait.
            news(waiting)
        return False

    waiting.until(true, ["i-mine", "i-also"], 0.0)
    assert len(looked) == looks
    # Nobody is remembered who waits no more.
    assert waiting._bells == {}


def test_does_not_wait_for_what_is_true_already():
    Waiting().until(lambda: True, ["i-mine"], 1e6)
