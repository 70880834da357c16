"""What the local fleet takes from an agent's answers."""

import subprocess
import threading

from phalanx.fleet.local import LocalFleet
from phalanx.node.messages import InstanceStatus, Phase, Statuses


def test_an_answer_that_was_overtaken_does_not_undo_a_newer_one(tmp_path):
    fleet = LocalFleet(tmp_path, tmp_path)
    one, two = InstanceStatus("i-1", Phase.NEW), InstanceStatus("i-2", Phase.NEW)
    fleet._see(Statuses(8, (one, two)))
    fleet._see(Statuses(7, (one,)))
    assert set(fleet.statuses(["i-1", "i-2"])) == {"i-1", "i-2"}
    fleet._see(Statuses(9, (one,)))
    assert set(fleet.statuses(["i-1", "i-2"])) == {"i-1"}


def test_an_agent_that_cannot_be_started_now_is_tried_again(tmp_path, monkeypatch):
    fleet, tried = LocalFleet(tmp_path, tmp_path), threading.Semaphore(0)

    def no_process(*_arguments, **_options):
        tried.release()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    fleet._watcher.start()
    try:
        assert all(tried.acquire(timeout=10) for _ in range(3))
        assert fleet._watcher.is_alive()
    finally:
        fleet._closing.set()
        fleet._watcher.join()
