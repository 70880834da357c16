"""What a job may ask for besides training: checkpoints, manifests, another attempt."""

import contextlib
import io
import json
import os
import signal
import tarfile
from datetime import UTC, datetime, timedelta

import pytest

from e2e.conftest import channel, wait_for

CHECKPOINTS = "s3://test-bucket/checkpoints"


def shell(script):
    """An algorithm that is a shell script."""
    return {
        "AlgorithmSpecification": {
            "TrainingImage": "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/sh", "-ec", script],
        },
        "InputDataConfig": None,
    }


def stored(phalanx):
    pages = phalanx.client("s3").list_objects_v2(Bucket="test-bucket", Prefix="checkpoints/")
    return {item["Key"].removeprefix("checkpoints/"): item["Size"] for item in pages.get("Contents", [])}


def create(phalanx, name, script, **members):
    phalanx.create(name, instances=1, encrypted=False, **{**shell(script), **members})


@pytest.mark.shows("CheckpointConfig.S3Uri", "CheckpointConfig.LocalPath")
def test_checkpoints_outlive_a_job_that_is_stopped_and_start_the_next(phalanx):
    script = "cd /opt/ml/checkpoints; echo one > first; mkdir deep; echo two > deep/second; sleep 600"
    create(phalanx, "writes", script, CheckpointConfig={"S3Uri": CHECKPOINTS})
    wait_for(lambda: stored(phalanx) == {"first": 4, "deep/second": 4}, 60, "the checkpoints to be in S3")
    phalanx.client("sagemaker").stop_training_job(TrainingJobName="writes")
    assert phalanx.ended("writes")["TrainingJobStatus"] == "Stopped"
    script = "cd /opt/ml/checkpoints; grep -q two deep/second; rm first; echo three > third"
    create(phalanx, "continues", script, CheckpointConfig={"S3Uri": CHECKPOINTS})
    job = phalanx.ended("continues")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert stored(phalanx) == {"deep/second": 4, "third": 6}


SAVES = """
import signal, sys, time
from pathlib import Path

def save(*_):
    Path("/opt/ml/model/saved").write_text("in time")
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
Path("/opt/ml/checkpoints/begun").touch()
time.sleep(600)
"""


def packed(name, script):
    """A source archive of one script, as the SDK makes it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(script.encode())
        tar.addfile(member, io.BytesIO(script.encode()))
    return content.getvalue()


def left(phalanx, name):
    """What a job's model archive holds."""
    _, _, bucket, key = phalanx.describe(name)["ModelArtifacts"]["S3ModelArtifacts"].split("/", 3)
    content = phalanx.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def test_a_script_below_the_toolkit_may_save_what_it_has_when_its_job_is_stopped(phalanx):
    phalanx.client("s3").put_object(Bucket="test-bucket", Key="code/saves.tar.gz", Body=packed("saves.py", SAVES))
    source = {"sagemaker_program": "saves.py", "sagemaker_submit_directory": "s3://test-bucket/code/saves.tar.gz"}
    phalanx.create("saves", 1, False, HyperParameters=source, CheckpointConfig={"S3Uri": CHECKPOINTS + "/saves"})
    wait_for(lambda: "saves/begun" in stored(phalanx), 60, "the script to begin")
    phalanx.client("sagemaker").stop_training_job(TrainingJobName="saves")
    assert phalanx.ended("saves")["TrainingJobStatus"] == "Stopped"
    assert left(phalanx, "saves") == {"saved": b"in time"}


def test_what_a_failed_job_left_is_uploaded(phalanx):
    create(phalanx, "fails", "echo half > /opt/ml/model/half; echo no luck > /opt/ml/output/failure; exit 3")
    job = phalanx.ended("fails")
    assert job["FailureReason"] == "AlgorithmError: no luck, exit code: 3"
    assert left(phalanx, "fails") == {"half": b"half\n"}
    assert [each["Status"] for each in job["SecondaryStatusTransitions"]][-2:] == ["Uploading", "Failed"]


@pytest.mark.shows("OutputDataConfig.KmsKeyId")
def test_what_a_job_with_a_key_writes_is_ciphertext_that_the_next_job_and_its_owner_read(phalanx, tmp_path):
    kms, s3 = phalanx.client("kms"), phalanx.client("s3")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/models", TargetKeyId=key)
    output = {"S3OutputPath": "s3://test-bucket/sealed", "KmsKeyId": "alias/models"}
    where = {"S3Uri": CHECKPOINTS + "/sealed"}
    script = "echo patient-7 > /opt/ml/model/weights; echo patient-7 > /opt/ml/checkpoints/state"
    create(phalanx, "sealed", script, OutputDataConfig=output, CheckpointConfig=where)
    job = phalanx.ended("sealed")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["OutputDataConfig"]["KmsKeyId"] == "alias/models"
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    stored = s3.get_object(Bucket="test-bucket", Key="sealed/sealed/output/model.tar.gz")["Body"].read()
    assert key.encode() in stored
    for content in (stored, s3.get_object(Bucket="test-bucket", Key="checkpoints/sealed/state")["Body"].read()):
        assert not content.startswith(b"\x1f\x8b")
        assert b"patient-7" not in content
    # From here on jobs write under other material, and read what lies there still.
    kms.rotate_key_on_demand(KeyId=key)
    model = {**channel("model"), "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}
    script = (
        "tar -xzOf /opt/ml/input/data/model/model.tar.gz weights | grep -q patient-7; grep patient-7 /opt/ml/checkpoints/state"
    )
    script += "; cp /opt/ml/checkpoints/state /opt/ml/model/weights"
    create(phalanx, "reads", script, InputDataConfig=[model], CheckpointConfig=where, OutputDataConfig=output)
    job = phalanx.ended("reads")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    shown = phalanx.run("decrypt", job["ModelArtifacts"]["S3ModelArtifacts"], str(tmp_path / "second.tar.gz"))
    assert shown.returncode == 0, shown.stderr
    shown = phalanx.run("decrypt", uri, str(tmp_path / "model.tar.gz"))
    assert shown.returncode == 0, shown.stderr
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert tar.extractfile("weights").read() == b"patient-7\n"
    kms.disable_key(KeyId=key)
    shown = phalanx.run("decrypt", uri, str(tmp_path / "again"))
    assert shown.returncode == 1
    assert "is disabled" in shown.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"model.tar.gz", "second.tar.gz"}
    create(phalanx, "too-late", "true", InputDataConfig=[model])
    job = phalanx.ended("too-late")
    assert job["FailureReason"].startswith("ClientError: Data download failed"), job
    assert f"under {key}, which is disabled" in job["FailureReason"]


def test_a_manifest_brings_what_it_names(phalanx):
    s3 = phalanx.client("s3")
    s3.put_object(
        Bucket="test-bucket", Key="lists/m.json", Body=json.dumps([{"prefix": "s3://test-bucket/train/"}, "part-1.csv"])
    )
    source = {"S3DataType": "ManifestFile", "S3Uri": "s3://test-bucket/lists/m.json"}
    channel = {"ChannelName": "train", "DataSource": {"S3DataSource": source}}
    create(phalanx, "manifest", 'test "$(ls /opt/ml/input/data/train)" = part-1.csv', InputDataConfig=[channel])
    job = phalanx.ended("manifest")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


@pytest.mark.shows("GetMetricStatistics", "GetMetricData", "ListMetrics")
def test_cloudwatch_has_a_jobs_metrics_and_what_its_instance_used(phalanx):
    definitions = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
    script = 'for n in 1 2 3; do echo "loss=0.$n"; sleep 1; done; timeout 3 sh -c "while :; do :; done" || true'
    specification = {**shell(script)["AlgorithmSpecification"], "MetricDefinitions": definitions}
    create(phalanx, "measured", script, AlgorithmSpecification=specification)
    waiter = phalanx.client("sagemaker").get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="measured", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    cloudwatch = phalanx.client("cloudwatch")
    listed = cloudwatch.list_metrics(Namespace="/aws/sagemaker/TrainingJobs", RecentlyActive="PT3H")["Metrics"]
    metrics = {each["MetricName"]: each for each in listed if each["Dimensions"][0]["Value"].startswith("measured")}
    assert metrics["loss"]["Dimensions"] == [{"Name": "TrainingJobName", "Value": "measured"}]
    assert metrics["CPUUtilization"]["Dimensions"] == [{"Name": "Host", "Value": "measured/algo-1"}]
    now = datetime.now(UTC)
    window = {"StartTime": now - timedelta(hours=1), "EndTime": now + timedelta(minutes=1)}
    told = cloudwatch.get_metric_statistics(**metrics["loss"], **window, Period=3600, Statistics=["Average", "SampleCount"])
    assert sum(point["SampleCount"] for point in told["Datapoints"]) == 3
    queries = [
        {"Id": name.lower(), "MetricStat": {"Metric": metrics[name], "Period": 3600, "Stat": "Maximum"}}
        for name in ("CPUUtilization", "MemoryUtilization", "DiskUtilization")
    ]
    data = cloudwatch.get_metric_data(MetricDataQueries=queries, **window)["MetricDataResults"]
    cpu, memory, disk = (max(each["Values"]) for each in data)
    # One process that spins: one CPU at most, and what the machine leaves of it.
    assert 1 < cpu < 130
    assert 0 < memory < 100
    assert 0 < disk < 100


def test_a_job_whose_container_is_lost_with_its_monitor_is_tried_again(phalanx):
    script = "cd /opt/ml/checkpoints; if [ -e tried ]; then exit 0; fi; touch tried; sleep 600"
    members = {"CheckpointConfig": {"S3Uri": CHECKPOINTS + "/retry"}, "RetryStrategy": {"MaximumRetryAttempts": 1}}
    create(phalanx, "stumbles", script, **members)
    wait_for(lambda: "retry/tried" in stored(phalanx), 60, "the container to begin")
    for process in (*phalanx.processes("conmon"), *phalanx.processes("sleep", "600")):
        # The container may end with its monitor.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    job = phalanx.ended("stumbles")
    assert job["TrainingJobStatus"] == "Completed", job["SecondaryStatusTransitions"]
    assert "Restarting" in [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


def test_an_interrupted_spot_job_resumes_from_its_checkpoint(phalanx):
    """The container is told, given its time, and what it kept in its last moments is there when it begins again."""
    script = (
        "cd /opt/ml/checkpoints; if [ -e told ]; then exit 0; fi; trap 'echo x > told; exit 143' TERM;"
        " echo x > begun; while true; do sleep 0.1; done"
    )
    create(
        phalanx,
        "spot",
        script,
        CheckpointConfig={"S3Uri": CHECKPOINTS + "/spot"},
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600},
    )
    wait_for(lambda: "spot/begun" in stored(phalanx), 60, "the container to begin")
    said = phalanx.run("interrupt", "spot", "--away", "2")
    assert said.returncode == 0, said.stderr
    job = phalanx.ended("spot")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "spot/told" in stored(phalanx)
    seen = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    assert seen[seen.index("Interrupted") :][:2] == ["Interrupted", "Restarting"]
    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    again = phalanx.run("interrupt", "spot")
    assert again.returncode != 0
    assert "it is Completed" in again.stderr
