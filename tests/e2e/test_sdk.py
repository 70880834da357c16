"""Programs of AWS's clients, unmodified, against a live service: what they need is what `phalanx env` prints."""

import json

import pytest

from e2e.conftest import ESP, IMAGE, ROLE, UDP_500, channel
from e2e.programs import SDK_V2, SDK_V3, started

PROGRAMS = {"sdk_v2_pytorch": SDK_V2, "sdk_v2": SDK_V2, "sdk_v3": SDK_V3}
GROUP = "/aws/sagemaker/TrainingJobs"
GRADIENTS = 4 << 20
"""Bytes that the script's peers send each other at least: one tensor of 1,048,576 floats."""


@pytest.fixture(scope="module")
def network(phalanx):
    return phalanx.network(UDP_500, ESP)


@pytest.fixture(scope="module")
def programs(phalanx, network, tmp_path_factory):
    with started(phalanx, network, tmp_path_factory.mktemp, PROGRAMS) as ended:
        yield ended


def written(phalanx, job):
    """Messages of a job's log streams, by host."""
    logs = phalanx.client("logs")
    found = {}
    for stream in logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{job}/")["logStreams"]:
        name = stream["logStreamName"]
        events = logs.get_log_events(logGroupName=GROUP, logStreamName=name, startFromHead=True)["events"]
        found[name.split("/")[1].rpartition("-")[0]] = [event["message"] for event in events]
    return found


def all_was_shown(shown, streams):
    """The client showed every line of both hosts."""
    assert set(streams) == {"algo-1", "algo-2"}
    for messages in streams.values():
        assert messages
        for message in messages:
            assert message in shown


def peers_were_encrypted(phalanx, job):
    """What the peers sent each other went through the data plane, both ways."""
    assert phalanx.describe(job)["TrainingJobStatus"] == "Completed"
    pairs = phalanx.evidence(job)["pairs"]
    assert len(pairs) == 2
    for pair in pairs:
        assert pair["algorithm"] == "AES_GCM_16"
        assert pair["bytes"] > GRADIENTS


def test_sdk_v2_trains_streams_complete_logs_and_attaches(phalanx, network, programs):
    shown, facts = programs("sdk_v2")
    assert facts["status"] == "Completed"
    assert facts["model"] == facts["attached_model"] == f"s3://test-bucket/models/{facts['job']}/output/model.tar.gz"
    assert facts["attached"] == facts["job"]
    assert facts["attached_encrypts"] is True
    assert facts["attached_subnets"] == network["Subnets"]
    assert (facts["produced"], facts["contributed"]) == (["roc"], ["ConfusionMatrix"])
    assert facts["file"] == "text/x-python"
    assert facts["steps"] == ["Complete", [0, 1, 2], [1.0, 0.5, 0.25]]
    assert facts["of_job"] == ["Complete", True, True]
    assert facts["logged"] == ["loss", 3, 0.25, 1.0, 0.25]
    all_was_shown(shown, written(phalanx, facts["job"]))
    assert phalanx.evidence(facts["job"])["pairs"][0]["algorithm"] == "AES_GCM_16"


def test_sdk_v3_runs_a_script_by_torchrun_and_shows_its_lines_while_it_runs(phalanx, programs):
    shown, facts = programs("sdk_v3")
    assert facts["status"] == "Completed"
    assert facts["seen"] == ["Training"]
    streams = written(phalanx, facts["job"])
    all_was_shown(shown, streams)
    assert "rank 0 of 2 on algo-1" in streams["algo-1"]
    assert "rank 1 of 2 on algo-2" in streams["algo-2"]
    peers_were_encrypted(phalanx, facts["job"])


def test_sdk_v2_runs_a_script_on_peers_and_attaches(phalanx, programs):
    shown, facts = programs("sdk_v2_pytorch")
    job = facts["jobs"]["peers"]
    streams = written(phalanx, job)
    all_was_shown(shown, streams)
    assert "rank 1 of 2 on algo-2" in streams["algo-2"]
    peers_were_encrypted(phalanx, job)
    assert facts["attached"] == [job, facts["model"], "5"]
    bucket, _, key = facts["model"].removeprefix("s3://").partition("/")
    assert phalanx.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 0


def test_sdk_v2_runs_a_script_by_torchrun(phalanx, programs):
    job = programs("sdk_v2_pytorch")[1]["jobs"]["torchrun"]
    assert any(message.startswith("torchrun --nnodes 2") for message in written(phalanx, job)["algo-1"])
    peers_were_encrypted(phalanx, job)


def test_sdk_v2_runs_a_script_by_mpi(phalanx, programs):
    job = programs("sdk_v2_pytorch")[1]["jobs"]["mpi"]
    assert any("mpirank:1" in message and "rank 1 is done" in message for message in written(phalanx, job)["algo-1"])
    peers_were_encrypted(phalanx, job)


def test_sdk_v2_runs_a_script_alone_and_isolated(phalanx, programs):
    job = programs("sdk_v2_pytorch")[1]["jobs"]["isolated"]
    described = phalanx.describe(job)
    assert (described["TrainingJobStatus"], described["EnableNetworkIsolation"]) == ("Completed", True)
    assert "rank 0 of 1 on algo-1" in written(phalanx, job)["algo-1"]
    assert phalanx.evidence(job)["pairs"] == []


def test_the_aws_cli_creates_waits_for_and_describes_a_job(phalanx, network, aws):
    train = json.dumps([channel("train")])
    created = aws(
        f"aws sagemaker create-training-job --training-job-name by-cli --role-arn {ROLE}"
        f" --algorithm-specification TrainingImage={IMAGE},TrainingInputMode=File"
        f" --hyper-parameters objective=binary:logistic,num_round=5 --input-data-config '{train}'"
        " --output-data-config S3OutputPath=s3://test-bucket/models --stopping-condition MaxRuntimeInSeconds=300"
        " --resource-config InstanceType=ml.m5.large,InstanceCount=2,VolumeSizeInGB=1"
        f" --vpc-config Subnets={network['Subnets'][0]},SecurityGroupIds={network['SecurityGroupIds'][0]}"
        " --enable-inter-container-traffic-encryption --tags Key=team,Value=a"
    )
    arn = created["TrainingJobArn"]
    phalanx.ended("by-cli")
    assert aws("aws sagemaker wait training-job-completed-or-stopped --training-job-name by-cli") is None
    described = aws("aws sagemaker describe-training-job --training-job-name by-cli")
    assert (described["TrainingJobArn"], described["TrainingJobStatus"]) == (arn, "Completed")
    assert described["EnableInterContainerTrafficEncryption"] is True
    assert aws(f"aws sagemaker list-tags --resource-arn {arn}") == {"Tags": [{"Key": "team", "Value": "a"}]}
    assert "by-cli/algo-2" in json.dumps(aws(f"aws logs describe-log-streams --log-group-name {GROUP}"))
