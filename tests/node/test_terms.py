"""Whose orders a host takes."""

import json
import threading
import time

import pytest

from phalanx.node import protocol
from phalanx.node.terms import Outdated, Terms


class Agent:
    def __init__(self):
        self.done = []

    def capacity(self) -> int:
        return 2

    def lead(self) -> None:
        pass

    def stop(self, ids: tuple[str, ...]) -> None:
        self.done.append(ids)


def ask(agent, terms, method, term, **arguments):
    return json.loads(protocol.answer(agent, protocol.request(Agent, method, arguments, term), terms))


def test_orders_of_an_earlier_leader_are_refused_also_after_a_restart(tmp_path):
    agent, terms = Agent(), Terms(tmp_path / "term")
    ask(agent, terms, "stop", None, ids=("a",))
    assert ask(agent, terms, "lead", 2) == {"result": None}
    for again in (terms, Terms(tmp_path / "term")):
        for outdated in (1, None):
            assert "Another replica" in ask(agent, again, "stop", outdated, ids=("b",))["error"]
        # Whoever asks changes nothing.
        assert ask(agent, again, "capacity", None) == {"result": 2}
    ask(agent, terms, "stop", 2, ids=("c",))
    assert agent.done == [("a",), ("c",)]


def test_a_new_leader_waits_for_what_an_earlier_one_has_under_way(tmp_path):
    terms = Terms(tmp_path / "term")
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def earlier():
        with terms.order(1, whole=True):
            begun.set()
            assert go_on.wait(30)
            ended.append(1)

    def newer():
        with terms.order(2, whole=False):
            ended.append(2)

    # The second of them comes as the first order of the new term does not any more, when its caller has given that up.
    threads = [threading.Thread(target=each) for each in (earlier, newer, newer)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    while terms._newest < 2:
        time.sleep(0.01)
    threads[2].start()
    threads[2].join(0.2)
    # From now on, and not only once it is obeyed.
    with pytest.raises(Outdated), terms.order(1, whole=True):
        pass
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert ended == [1, 2, 2]


def test_a_term_that_cannot_be_read_is_no_reason_to_obey(tmp_path):
    (tmp_path / "term").write_text("")
    with pytest.raises(ValueError):
        Terms(tmp_path / "term")
