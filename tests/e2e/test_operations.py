"""What an operator does with a service: watches it, and puts a new version in its place while jobs run."""

import re
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from e2e.conftest import ESP, UDP_500, wait_for
from e2e.test_survival import LONG


def scrape(service) -> str:
    secret = (service.data_dir / "metrics.token").read_text()
    request = urllib.request.Request(
        f"{service.env['AWS_ENDPOINT_URL']}/metrics", headers={"Authorization": f"Bearer {secret}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def samples(service) -> dict[tuple, float]:
    families = text_string_to_metric_families(scrape(service))
    return {(each.name, *sorted(each.labels.values())): each.value for family in families for each in family.samples}


def test_metrics_tell_of_an_encrypted_job_what_its_evidence_tells(own_phalanx):
    own_phalanx.create("watched", network=own_phalanx.network(UDP_500, ESP), HyperParameters=LONG)
    own_phalanx.training("watched")
    during = samples(own_phalanx)
    assert during["phalanx_training_jobs", "InProgress"] == during["phalanx_training_jobs_unfinished", "Training"] == 1
    assert during["phalanx_instances", "running"] == 2
    assert during["phalanx_ipsec_pairs", "established"] == 2
    assert during["phalanx_ipsec_pairs", "missing"] == during["phalanx_unmeasured_jobs",] == during["phalanx_queue_jobs",] == 0
    assert during["phalanx_reserved_memory_bytes",] > 0
    assert during["phalanx_esp_packets_total", "sent"] > 0
    assert own_phalanx.ended("watched")["TrainingJobStatus"] == "Completed"
    evidence = own_phalanx.evidence("watched")
    wait_for(lambda: samples(own_phalanx).get(("phalanx_training_jobs_ended_total", "", "Completed")) == 1, 10, "the end")
    text = scrape(own_phalanx)
    after = samples(own_phalanx)
    for name in ("packets", "bytes"):
        for direction, key in (("sent", name), ("received", f"{name}_received")):
            told = after[f"phalanx_esp_{name}_total", direction]
            assert told == sum(pair[key] for pair in evidence["pairs"]) > 0
    assert after["phalanx_router_packets_total", "esp"] == evidence["router_guard"]["esp_packets"]
    assert after["phalanx_plaintext_blocked_packets_total", "router"] == evidence["router_guard"]["dropped_packets"]
    assert after["phalanx_instances", "running"] == after["phalanx_evidence_doubted_total",] == 0
    assert after["phalanx_api_requests_total", "", "CreateTrainingJob", "sagemaker"] == 1
    assert after["phalanx_api_request_seconds_count", "CreateTrainingJob", "sagemaker"] == 1
    assert after["phalanx_store_write_seconds_count",] > 10
    # Nothing that a user has chosen, and nothing that grows with jobs.
    for word in ("watched", "num_round", "algo-1", "i-", "vpc-", own_phalanx.env["AWS_ACCESS_KEY_ID"]):
        assert not re.search(rf'"{word}', text), word
