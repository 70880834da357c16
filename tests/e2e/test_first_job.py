"""The first job: what `make demo` shows, held."""

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.conftest import ESP, PHALANX, TCP, UDP_500, Phalanx, free_port, wait_for

ROOT = Path(__file__).parents[2]


def first_program(readme: str) -> tuple[list[str], str]:
    """What a README says is to be typed for the first program, without comments; and the program."""
    section = (ROOT / readme).read_text().partition("$ make setup\n")[2].partition("\n## ")[0]
    (program,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\$ (.*?) *(?:#.*)?$", section, re.MULTILINE), program


def test_the_first_program_of_the_readme_trains_encrypted(tmp_path):
    typed, program = first_program("README.md")
    assert (typed, program) == first_program("README.ja.md")
    status = 'print(sagemaker.describe_training_job(TrainingJobName="my-first-encrypted-job")["TrainingJobStatus"])\n'
    (tmp_path / "program.py").write_text(program + status)
    service = Phalanx(tmp_path / "data", free_port())
    # An earlier start's, on another port: it is not taken for this one's.
    service.data_dir.mkdir()
    (service.data_dir / "endpoints.json").write_text(
        json.dumps({"endpoint": f"http://127.0.0.1:{free_port()}", "s3": "http://127.0.0.1:1", "region": "us-west-2"})
    )
    script = "\n".join(["set -e", "trap 'kill %1; wait %1' EXIT", *typed])
    changed = {
        "phalanx serve &": f"phalanx serve --port {service.port} 2>{shlex.quote(str(tmp_path / 'serve.log'))} &",
        ".venv/bin/python": f".venv/bin/python {shlex.quote(str(tmp_path / 'program.py'))}",
        ".venv/bin/": f"{Path(sys.executable).parent}/",
    }
    for given, used in changed.items():
        assert given in script
        script = script.replace(given, used)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_"))}
    env["PHALANX_DATA_DIR"] = str(service.data_dir)
    # Where it hangs, the service is stopped as well.
    command = ["timeout", "300", "bash", "-c", script]
    shown = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr + (tmp_path / "serve.log").read_text()
    assert shown.stdout.startswith("Completed\n")
    assert "AES_GCM_16" in shown.stdout, shown.stdout
    assert service.leftovers() == []


def capture(phalanx, vpc):
    """Start `phalanx capture`; it ends when the last instance has left the VPC."""
    process = subprocess.Popen(
        [PHALANX, "capture", vpc, "--json", "--data-dir", str(phalanx.data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == f"watching {vpc}\n"
    return process


def kinds(process):
    output, _ = process.communicate(timeout=60)
    captured = json.loads(output)
    assert captured["lost"] == 0
    return {row["kind"] for row in captured["frames"]}


@pytest.mark.shows(
    "CreateTrainingJob",
    "DescribeTrainingJob",
    "TrainingJobName",
    "HyperParameters",
    "AlgorithmSpecification.TrainingImage",
    "AlgorithmSpecification.TrainingInputMode",
    "InputDataConfig[].ChannelName",
    "InputDataConfig[].DataSource.S3DataSource.S3DataType",
    "InputDataConfig[].DataSource.S3DataSource.S3Uri",
    "InputDataConfig[].DataSource.S3DataSource.S3DataDistributionType",
    "InputDataConfig[].ContentType",
    "OutputDataConfig.S3OutputPath",
    "ResourceConfig.InstanceType",
    "ResourceConfig.InstanceCount",
    "VpcConfig.SecurityGroupIds",
    "VpcConfig.Subnets",
    "EnableInterContainerTrafficEncryption",
)
def test_encrypted_job_puts_ike_and_esp_on_the_wire_and_nothing_else(phalanx):
    network = phalanx.network(UDP_500, ESP)
    process = capture(phalanx, phalanx.vpc_of(network))
    phalanx.create("encrypted", network=network)
    job = phalanx.ended("encrypted")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert kinds(process) == {"UDP 500", "ESP"}
    statuses = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    assert list(dict.fromkeys(statuses)) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert {metric["MetricName"] for metric in job["FinalMetricDataList"]} >= {"train:auc"}

    evidence = phalanx.evidence("encrypted")
    assert {(pair["local"], pair["remote"]) for pair in evidence["pairs"]} == {("algo-1", "algo-2"), ("algo-2", "algo-1")}
    for pair in evidence["pairs"]:
        assert (pair["algorithm"], pair["key_bits"], pair["ppk"], pair["esn"]) == ("AES_GCM_16", 256, True, True)
        assert pair["packets"] == pair["packets_received"] > 0
        assert pair["bytes"] == pair["bytes_received"] > 0
    assert evidence["gaps"] == []
    assert evidence["requested_by"] == phalanx.client("sts").get_caller_identity()["Arn"]
    for instance in evidence["instances"]:
        assert (instance["versions"]["linux"], instance["versions"]["strongswan"][:2]) == (os.uname().release, "5.")
        held = [change["held_by"] for change in instance["guards"]["changes"]]
        assert held == [["kernel"], ["kernel", "router"]]
        assert instance["guards"]["changes"][1]["at"] <= instance["wire"]["since"]
        assert instance["wire"]["away"] == []
    seen = evidence["capture"]
    assert (seen["verdict"], seen["clear"]) == ("all encrypted", 0)
    assert seen["esp"] >= sum(pair["packets"] for pair in evidence["pairs"])
    assert seen["ike"] > 0
    assert evidence["router_guard"]["esp_packets"] >= sum(pair["packets"] for pair in evidence["pairs"])


def test_what_encryption_cost_is_counted_and_compared_with_a_twin_in_the_clear(phalanx):
    phalanx.create("compared", network=phalanx.network(UDP_500, ESP))
    assert phalanx.ended("compared")["TrainingJobStatus"] == "Completed"
    for instance in phalanx.evidence("compared")["instances"]:
        assert instance["work"]["milliseconds_in"] + instance["work"]["milliseconds_out"] > 0
        assert instance["work"]["wakes"] > 0
    told = phalanx.run("evidence", "compared").stdout
    assert re.search(r"cost: \d+\.\d MB between the instances", told), told
    compared = phalanx.run("compare", "compared", "--json")
    assert compared.returncode == 0, compared.stderr
    found = json.loads(compared.stdout)
    assert [len(found["encrypted"]), len(found["clear"])] == [1, 1]
    assert 0 <= found["estimate"]["likely"] <= found["estimate"]["most"]
    assert found["estimate"]["bytes"] > 0


def test_the_same_job_in_the_clear_is_seen_by_the_same_capture(phalanx):
    network = phalanx.network(TCP)
    process = capture(phalanx, phalanx.vpc_of(network))
    phalanx.create("clear", encrypted=False, network=network)
    assert phalanx.ended("clear")["TrainingJobStatus"] == "Completed"
    seen = kinds(process)
    assert "TCP" in seen
    assert "ESP" not in seen
    assert phalanx.evidence("clear")["encrypted"] is False


@pytest.mark.parametrize(("present", "missing"), [(UDP_500, "ESP (protocol 50)"), (ESP, "UDP 500")])
def test_a_missing_rule_fails_the_job_and_is_named(phalanx, present, missing):
    name = f"lacks-{missing[:3].lower()}"
    phalanx.create(name, network=phalanx.network(present))
    job = phalanx.ended(name)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Security group sg-")
    assert missing in job["FailureReason"]
    assert "authorize-security-group-ingress" in job["FailureReason"]


def test_the_flag_on_one_instance_starts_no_ike_and_no_data_plane(phalanx):
    phalanx.create("single", instances=1, HyperParameters={"objective": "binary:logistic", "num_round": "400"})
    seen = set()

    def ended():
        seen.update(phalanx.processes("charon").values(), phalanx.processes("ipsec.engine").values())
        return phalanx.describe("single")["TrainingJobStatus"] != "InProgress"

    wait_for(ended, 120, "the job")
    assert phalanx.describe("single")["TrainingJobStatus"] == "Completed"
    assert seen == set()
    evidence = phalanx.evidence("single")
    assert (evidence["pairs"], evidence["data_plane"]) == ([], None)


def test_jobs_without_a_vpc_are_encrypted_too(phalanx):
    phalanx.create("platform-network")
    job = phalanx.ended("platform-network")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert len(phalanx.evidence("platform-network")["pairs"]) == 2


def test_jobs_side_by_side_do_not_meet(phalanx):
    network = phalanx.network(UDP_500, ESP)
    names = [f"side-{number}" for number in range(3)]
    for name in names:
        phalanx.create(name, network=network)
    with ThreadPoolExecutor() as pool:
        jobs = list(pool.map(phalanx.ended, names))
    assert [job["TrainingJobStatus"] for job in jobs] == ["Completed"] * 3


def test_evidence_verifies_offline_and_shows_one_changed_byte(phalanx, tmp_path):
    phalanx.create("proof")
    phalanx.ended("proof")
    path = tmp_path / "proof.json"
    shown = phalanx.run("evidence", "proof", "--json").stdout
    path.write_text(shown)
    assert subprocess.run([PHALANX, "evidence", "--verify", path], check=False).returncode == 0
    path.write_text(shown.replace('"packets": ', '"packets": 1', 1))
    assert subprocess.run([PHALANX, "evidence", "--verify", path], check=False).returncode != 0


@pytest.mark.shows("StopTrainingJob")
def test_stop_ends_the_container_and_keeps_the_model(phalanx):
    phalanx.create("stopped", HyperParameters={"objective": "binary:logistic", "eval_metric": "auc", "num_round": "1000000"})
    phalanx.training("stopped")
    phalanx.client("sagemaker").stop_training_job(TrainingJobName="stopped")
    job = phalanx.ended("stopped")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")


def test_a_user_error_is_the_failure_reason(phalanx):
    phalanx.create("wrong", HyperParameters={"objective": "no:such", "num_round": "5"})
    job = phalanx.ended("wrong")
    assert job["TrainingJobStatus"] == "Failed"
    assert "no:such" in job["FailureReason"]


def test_doctor_says_which_data_plane_and_why(phalanx):
    shown = phalanx.run("doctor")
    assert shown.returncode == 0
    assert "data plane" in shown.stdout.lower()
