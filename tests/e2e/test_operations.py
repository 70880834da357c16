"""What an operator does with a service: watches it, and puts a new version in its place while jobs run."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import phalanx
from e2e.conftest import ESP, ROUND, UDP_500, wait_for
from e2e.test_first_job import capture, kinds


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


def test_metrics_tell_of_an_encrypted_job_what_its_evidence_tells(own_phalanx, tmp_path):
    own_phalanx.create_steady("watched", network=own_phalanx.network(UDP_500, ESP))
    own_phalanx.training("watched")
    during = samples(own_phalanx)
    assert during["phalanx_training_jobs", "InProgress"] == during["phalanx_training_jobs_unfinished", "Training"] == 1
    assert during["phalanx_instances", "running"] == 2
    assert during["phalanx_ipsec_pairs", "established"] == 2
    assert during["phalanx_ipsec_pairs", "missing"] == during["phalanx_unmeasured_jobs",] == during["phalanx_queue_jobs",] == 0
    assert during["phalanx_reserved_memory_bytes",] > 0
    assert during["phalanx_esp_packets_total", "sent"] > 0
    assert own_phalanx.finished("watched")["TrainingJobStatus"] == "Completed"
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
    for word in ("watched", "steady", "algo-1", "i-", "vpc-", own_phalanx.env["AWS_ACCESS_KEY_ID"]):
        assert not re.search(rf'"{word}', text), word
    # One object a line, and what is about an instance says about which.
    for file, wanted in ((own_phalanx.data_dir / "agent.log", "instance reached"), (tmp_path / "serve.log", "stage ended")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        about = [line for line in lines if line["event"] == wanted]
        assert len(about) >= 5
        assert all(line["job"] == "watched" for line in about)
        if wanted == "instance reached":
            assert {line["instance"] for line in about} == {"algo-1", "algo-2"}
            assert all(line["instance_id"].startswith("i-") for line in about)


def rounds(service, job: str) -> list[int]:
    """The numbers of the rounds that the job's first instance has logged."""
    logs = service.fresh("logs")
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/algo-1")["logStreams"]
    found, token = [], None
    while True:
        page = logs.get_log_events(
            logGroupName=group,
            logStreamName=stream["logStreamName"],
            startFromHead=True,
            **({} if token is None else {"nextToken": token}),
        )
        if not page["events"]:
            return found
        token = page["nextForwardToken"]
        found += [int(each) for event in page["events"] for each in ROUND.findall(event["message"])]


def confined() -> list[str]:
    """What gives a program the capabilities that the service has under systemd."""
    unit = (Path(__file__).parent.parent.parent / "deploy" / "systemd" / "phalanx.service").read_text()
    lost = [each for line in re.findall(r"^CapabilityBoundingSet=~(.*)$", unit, re.MULTILINE) for each in line.split()]
    assert len(lost) > 10
    return ["setpriv", "--bounding-set", ",".join("-" + each.removeprefix("CAP_").lower() for each in lost)]


def test_a_running_encrypted_job_outlives_the_upgrade_to_a_new_version(own_phalanx, tmp_path, monkeypatch):
    new = tmp_path / "new"
    shutil.copytree(os.path.dirname(phalanx.__file__), new / "phalanx", ignore=shutil.ignore_patterns("__pycache__"))
    (new / "phalanx" / "__init__.py").write_text('"""The next version."""\n\n__version__ = "9.9.9"\n')
    network = own_phalanx.network(UDP_500, ESP)
    watching = capture(own_phalanx, own_phalanx.vpc_of(network))
    own_phalanx.create_steady("long", network=network)
    own_phalanx.training("long")
    own_phalanx.create("later")
    instances = {word: set(own_phalanx.processes(word)) for word in ("charon", "phalanx.ipsec.engine", "conmon")}
    agents = set(own_phalanx.processes("-m phalanx.node"))
    assert all(instances.values())
    assert agents

    before = len(rounds(own_phalanx, "long"))
    own_phalanx.process.send_signal(signal.SIGHUP)
    assert own_phalanx.process.wait(60) == 0
    assert not own_phalanx.processes("-m phalanx.node")
    left = set(own_phalanx.processes())
    assert all(pids <= left for pids in instances.values())

    monkeypatch.setenv("PYTHONPATH", str(new))
    own_phalanx.start(*confined())
    assert any(each[0] == "phalanx_build_info" and "9.9.9" in each for each in samples(own_phalanx))
    assert own_phalanx.describe("long")["SecondaryStatus"] == "Training"
    assert not agents & set(own_phalanx.processes("-m phalanx.node"))
    wait_for(lambda: len(rounds(own_phalanx, "long")) > 2 * before, 120, "the job to train on")
    own_phalanx.client("sagemaker").stop_training_job(TrainingJobName="long")
    job = own_phalanx.ended("long")
    # Trained once, without an interruption, and every line of it is kept.
    statuses = list(dict.fromkeys(each["Status"] for each in job["SecondaryStatusTransitions"]))
    assert statuses == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]
    trained = rounds(own_phalanx, "long")
    assert trained == list(range(len(trained)))
    assert kinds(watching) == {"UDP 500", "ESP"}
    evidence = own_phalanx.evidence("long")
    assert evidence["phalanx"] == "9.9.9"
    assert evidence["gaps"] == []
    assert all(instance["interruptions"] == [] for instance in evidence["instances"])
    assert all(pair["packets"] == pair["packets_received"] > 0 for pair in evidence["pairs"])
    assert own_phalanx.ended("later")["TrainingJobStatus"] == "Completed"


def test_the_administrators_key_is_rotated_while_jobs_run(own_phalanx):
    old = own_phalanx.env["AWS_ACCESS_KEY_ID"]
    own_phalanx.create_steady("before", 1, encrypted=False)
    own_phalanx.training("before")
    iam = own_phalanx.client("iam")
    new = iam.create_access_key(UserName="admin")["AccessKey"]["AccessKeyId"]
    iam.update_access_key(UserName="admin", AccessKeyId=old, Status="Inactive")
    # What is printed works, and deletes the key that was.
    own_phalanx.clients.clear()
    own_phalanx.ready()
    assert own_phalanx.env["AWS_ACCESS_KEY_ID"] == new
    own_phalanx.client("iam").delete_access_key(UserName="admin", AccessKeyId=old)
    own_phalanx.create("after", 1, encrypted=False)
    for job in (own_phalanx.ended("after"), own_phalanx.finished("before")):
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        assert "ModelArtifacts" in job
    assert own_phalanx.stop() == 0
    own_phalanx.clients.clear()
    own_phalanx.start()
    assert own_phalanx.env["AWS_ACCESS_KEY_ID"] == new


def test_a_thousand_idle_connections_keep_nobody_out(own_phalanx):
    """A shell lets a program open 1024 files: the service had none left, with so many clients, and took S3 for dead."""
    assert own_phalanx.stop() == 0
    own_phalanx.start("prlimit", "--nofile=256:8192")
    own_phalanx.clients.clear()
    with contextlib.ExitStack() as idle:
        for port in (own_phalanx.port, int(own_phalanx.env["AWS_ENDPOINT_URL_S3"].rpartition(":")[2])):
            for _ in range(600):
                idle.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        time.sleep(3)
        own_phalanx.client("s3").put_object(Bucket="test-bucket", Key="among-many", Body=b"a")
        own_phalanx.client("iam").create_user(UserName="among-many")
    assert "is started again" not in (own_phalanx.data_dir.parent / "serve.log").read_text()


def test_a_service_whose_clients_have_all_files_that_it_may_open_does_not_take_s3_for_dead(own_phalanx):
    assert own_phalanx.stop() == 0
    own_phalanx.start("prlimit", "--nofile=256:256")
    own_phalanx.clients.clear()
    s3 = set(own_phalanx.processes("rclone", "serve")) | set(own_phalanx.processes("phalanx.cli.door"))
    assert len(s3) == 2
    with contextlib.ExitStack() as idle:
        for _ in range(300):
            idle.enter_context(socket.create_connection(("127.0.0.1", own_phalanx.port), 10))
        # It looks at S3 every second.
        time.sleep(5)
    own_phalanx.client("s3").put_object(Bucket="test-bucket", Key="after-many", Body=b"a")
    assert set(own_phalanx.processes("rclone", "serve")) | set(own_phalanx.processes("phalanx.cli.door")) == s3
    assert "is started again" not in (own_phalanx.data_dir.parent / "serve.log").read_text()
