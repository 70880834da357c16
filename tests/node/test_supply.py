"""Why an image does not come, and how long it is waited for."""

import threading
import time
from dataclasses import replace

import pytest

from node.test_protocol import spec
from phalanx.node import supply
from phalanx.node.depot import MISSING
from phalanx.node.errors import InstanceError
from phalanx.node.messages import Offer
from phalanx.node.names import Names
from phalanx.node.supply import Supply
from phalanx.runtime.podman import ImageError


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"reading manifest: {MISSING}", "ClientError: Cannot find the training image xgboost"),
        ("write /x: no space left on device", "CapacityError: Unable to provision requested ML compute capacity"),
        ("dial tcp: connection refused", "InternalServerError: Cannot bring the training image xgboost to a host: dial tcp"),
    ],
)
def test_a_job_says_why_its_image_does_not_come(tmp_path, monkeypatch, said, told):
    attempts = []

    class Store:
        def has(self, name):
            return False

        def receive(self, *_):
            attempts.append(1)
            raise ImageError(said)

    monkeypatch.setattr(supply, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(supply, "RECEIVE_SECONDS", 0.05)
    wanted = replace(spec(), offer=Offer("10.0.0.1:1/phalanx:1", "sha256:1"))
    with pytest.raises(InstanceError) as fault:
        Supply(Store(), frozenset(), Names(tmp_path)).bring(wanted, threading.Event(), lambda _: None)
    assert str(fault.value).startswith(told)
    assert (len(attempts) > 1) == told.startswith("Internal")


def test_an_image_that_was_cut_short_after_long_is_waited_for_as_long_as_one_that_never_began(tmp_path, monkeypatch):
    attempts = []

    class Store:
        def has(self, name):
            return False

        def receive(self, *_):
            attempts.append(1)
            if len(attempts) == 1:
                time.sleep(0.3)
            raise ImageError("connection reset by peer")

    monkeypatch.setattr(supply, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(supply, "RECEIVE_SECONDS", 0.2)
    wanted = replace(spec(), offer=Offer("10.0.0.1:1/phalanx:1", "sha256:1"))
    with pytest.raises(InstanceError, match="connection reset"):
        Supply(Store(), frozenset(), Names(tmp_path)).bring(wanted, threading.Event(), lambda _: None)
    assert len(attempts) > 2
