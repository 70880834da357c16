"""Counters that tell what evidence tells, each packet once."""

import copy
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from phalanx.jobs.meter import CAUSES, Meter
from phalanx.store.jobs import TrainingJob

REPORT = {
    "instances": [
        {
            "host": host,
            "id": id_,
            "interruptions": [],
            "plaintext_blocked_out": 1,
            "plaintext_blocked_in": 2,
            "drops": {"in_replay": 3},
        }
        for host, id_ in (("algo-1", "i-1"), ("algo-2", "i-2"))
    ],
    "pairs": [
        {
            "local": local,
            "remote": remote,
            "packets": 10,
            "bytes": 1000,
            "packets_received": 9,
            "bytes_received": None,
            "rekeys": 1,
        }
        for local, remote in (("algo-1", "algo-2"), ("algo-2", "algo-1"))
    ],
    "router_guard": {"dropped_packets": 5, "ike_packets": 4, "esp_packets": 20},
}
ALL = {
    'phalanx_esp_packets_total{"direction": "sent"}': 20,
    'phalanx_esp_packets_total{"direction": "received"}': 18,
    'phalanx_esp_bytes_total{"direction": "sent"}': 2000,
    'phalanx_esp_bytes_total{"direction": "received"}': 0,
    'phalanx_esp_dropped_packets_total{"cause": "in_replay"}': 6,
    'phalanx_plaintext_blocked_packets_total{"guard": "namespace"}': 6,
    'phalanx_plaintext_blocked_packets_total{"guard": "router"}': 5,
    'phalanx_router_packets_total{"kind": "esp"}': 20,
    "phalanx_ipsec_rekeys_total{}": 2,
    "phalanx_ipsec_interruptions_total{}": 0,
}


def values():
    found = {}
    for name in ALL:
        plain, _, labels = name.partition("{")
        pairs = dict(pair.split(": ") for pair in labels.rstrip("}").replace('"', "").split(", ") if pair)
        found[name] = REGISTRY.get_sample_value(plain, pairs) or 0
    return found


@pytest.fixture
def more():
    before = values()
    return lambda: {name: value - before[name] for name, value in values().items()}


def test_what_comes_is_added_once_however_often_it_is_looked_at(more):
    meter = Meter()
    meter.note("job", REPORT)
    meter.note("job", REPORT)
    assert more() == ALL


def test_an_earlier_process_has_counted_what_was_there_before(more):
    meter = Meter()
    meter.inherit(["job"])
    meter.note("job", REPORT)
    later = copy.deepcopy(REPORT)
    later["pairs"][0]["packets"] += 7
    later["instances"][1]["interruptions"].append("charon is dead")
    meter.note("job", later)
    assert {name: value for name, value in more().items() if value} == {
        'phalanx_esp_packets_total{"direction": "sent"}': 7,
        "phalanx_ipsec_interruptions_total{}": 1,
    }


def test_a_router_that_was_made_anew_counts_from_zero(more):
    meter = Meter()
    meter.note("job", REPORT)
    meter.note("job", {**REPORT, "router_guard": {"dropped_packets": 2, "ike_packets": 0, "esp_packets": 1}})
    assert more()['phalanx_plaintext_blocked_packets_total{"guard": "router"}'] == 7
    assert more()['phalanx_router_packets_total{"kind": "esp"}'] == 21


@pytest.mark.parametrize(
    ("reason", "label"), [(None, ""), ("AlgorithmError: it broke", "AlgorithmError"), ("name-of-a-patient: x", "other")]
)
def test_no_label_holds_what_a_user_wrote(reason, label):
    def count():
        return REGISTRY.get_sample_value("phalanx_training_jobs_ended_total", {"status": "Failed", "reason": label}) or 0

    before = count()
    Meter().end(
        TrainingJob(name="job", status="Failed", failure_reason=reason, encrypted=False, instances=1, evidence=None), ""
    )
    assert count() == before + 1


def test_every_cause_of_the_engine_is_there_from_the_beginning():
    header = (Path(__file__).parent.parent.parent / "native" / "engine" / "drops.h").read_text()
    causes = [name.lower() for name in re.findall(r"^    ((?:OUT|IN)_\w+),", header, re.MULTILINE)]
    assert len(causes) > 15
    assert [cause for cause in CAUSES if not cause.startswith("Xfrm")] == causes
