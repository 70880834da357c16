"""How data comes into a container: pipes, files that are read when they are read, instance groups."""

import json
import os
import signal

import pytest
from botocore.exceptions import ClientError

from e2e.conftest import wait_for

IMAGE = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"


def channel(name, prefix="train/", mode=None, **source):
    return {
        "ChannelName": name,
        **({"InputMode": mode} if mode else {}),
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://test-bucket/{prefix}", **source}},
    }


def create(phalanx, name, program, channels, mode="File", instances=1, **members):
    """A job that is a Python program in each container, which it gets by a channel."""
    phalanx.client("s3").put_object(Bucket="test-bucket", Key=f"code/{name}/main.py", Body=program.encode())
    algorithm = {
        "TrainingImage": IMAGE,
        "TrainingInputMode": mode,
        "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/main.py"],
    }
    code = channel("code", f"code/{name}/", "File")
    phalanx.create(
        name, instances, encrypted=False, AlgorithmSpecification=algorithm, InputDataConfig=[code, *channels], **members
    )


def completed(phalanx, name):
    job = phalanx.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    return job


PIPE = """
import json, os, struct, time
def read(path):
    while not os.path.exists(path): time.sleep(0.01)
    return open(path, "rb").read()
def size(name): return len(read(f"/opt/ml/input/data/{name}"))
config = json.load(open("/opt/ml/input/config/inputdataconfig.json"))
assert {c["TrainingInputMode"] for c in config.values()} == {"Pipe", "File"}, config
first, second = read("/opt/ml/input/data/raw_0"), read("/opt/ml/input/data/raw_1")
assert first == second and first == open("/opt/ml/input/data/files/part-0.csv", "rb").read() + open(
    "/opt/ml/input/data/files/part-1.csv", "rb").read(), len(first)
magic, length = struct.unpack("<II", read("/opt/ml/input/data/records_0")[:8])
assert magic == 0xced7230a and length == os.path.getsize("/opt/ml/input/data/files/part-0.csv")
"""


def test_a_job_reads_pipes_epoch_by_epoch(phalanx):
    channels = [channel("raw", mode="Pipe"), {**channel("records", mode="Pipe"), "RecordWrapperType": "RecordIO"}]
    create(phalanx, "pipes", PIPE, [*channels, channel("files")])
    completed(phalanx, "pipes")


FAST = """
import json, os, pathlib
config = json.load(open("/opt/ml/input/config/inputdataconfig.json"))
assert config["train"]["TrainingInputMode"] == "File"
folder = pathlib.Path("/opt/ml/input/data/train")
assert sorted(os.listdir(folder)) == ["part-0.csv", "part-1.csv"]
assert folder.joinpath("part-0.csv").read_text().startswith("0,0,0")
for attempt in (lambda: folder.joinpath("x").write_text("x"), lambda: folder.joinpath("part-0.csv").unlink()):
    try: attempt()
    except OSError as error: assert error.errno == 30, error
    else: raise SystemExit("writable")
"""


def test_a_job_reads_fast_files_that_it_cannot_change(phalanx):
    create(phalanx, "fast", FAST, [channel("train")], mode="FastFile")
    completed(phalanx, "fast")
    assert phalanx.processes("rclone", "mount") == {}


@pytest.mark.parametrize(("mode", "helper"), [("Pipe", ("phalanx.data.feeder",)), ("FastFile", ("rclone", "mount"))])
def test_a_job_outlives_the_agent_but_not_what_streams_its_data(own_phalanx, mode, helper):
    create(own_phalanx, "streams", "import time; time.sleep(600)", [channel("train")], mode=mode)
    wait_for(lambda: own_phalanx.describe("streams")["SecondaryStatus"] == "Training", 60, "the job to train")
    wait_for(lambda: own_phalanx.processes(*helper) and own_phalanx.processes("conmon"), 30, "the container")
    for process in own_phalanx.processes("phalanx.node"):
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: own_phalanx.processes("phalanx.node"), 30, "the next agent")
    assert own_phalanx.describe("streams")["TrainingJobStatus"] == "InProgress"
    for process in own_phalanx.processes(*helper):
        os.kill(process, signal.SIGKILL)
    job = own_phalanx.ended("streams")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: The ")


GROUPS = """
import json, os
resources = json.load(open("/opt/ml/input/config/resourceconfig.json"))
with open("/opt/ml/output/data/" + resources["current_host"], "w") as file:
    json.dump([resources, sorted(os.listdir("/opt/ml/input/data"))], file)
"""


@pytest.mark.shows(
    "InputDataConfig[].DataSource.S3DataSource.InstanceGroupNames",
    "ResourceConfig.InstanceGroups[].InstanceType",
    "ResourceConfig.InstanceGroups[].InstanceCount",
    "ResourceConfig.InstanceGroups[].InstanceGroupName",
)
def test_a_heterogeneous_cluster_knows_its_groups(phalanx):
    groups = [
        {"InstanceGroupName": "readers", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
        {"InstanceGroupName": "trainers", "InstanceType": "ml.m5.large", "InstanceCount": 2},
    ]
    create(
        phalanx,
        "groups",
        GROUPS,
        [channel("all"), channel("some", InstanceGroupNames=["trainers"], S3DataDistributionType="ShardedByS3Key")],
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
        OutputDataConfig={"S3OutputPath": "s3://test-bucket/models", "CompressionType": "NONE"},
    )
    job = completed(phalanx, "groups")
    assert job["ResourceConfig"]["InstanceGroups"] == groups
    s3 = phalanx.client("s3")
    shown = {
        host: json.loads(s3.get_object(Bucket="test-bucket", Key=f"models/groups/output/data/{host}")["Body"].read())
        for host in ("algo-1", "algo-2", "algo-3")
    }
    assert {
        host: (config["current_group_name"], config["current_instance_type"], data) for host, (config, data) in shown.items()
    } == {
        "algo-1": ("readers", "ml.c5.xlarge", ["all", "code"]),
        "algo-2": ("trainers", "ml.m5.large", ["all", "code", "some"]),
        "algo-3": ("trainers", "ml.m5.large", ["all", "code", "some"]),
    }
    assert shown["algo-1"][0]["instance_groups"] == [
        {"hosts": ["algo-1"], "instance_group_name": "readers", "instance_type": "ml.c5.xlarge"},
        {"hosts": ["algo-2", "algo-3"], "instance_group_name": "trainers", "instance_type": "ml.m5.large"},
    ]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"OutputDataConfig": {"S3OutputPath": "s3://test-bucket//models"}}, "s3://test-bucket//models"),
        ({"OutputDataConfig": {"S3OutputPath": "s3://test-bucket/" + 256 * "a"}}, "is not valid: in this S3 no part"),
        ({"CheckpointConfig": {"S3Uri": "s3://test-bucket/a//b/"}}, "s3://test-bucket/a//b/"),
        ({"InputDataConfig": [channel("train", "/train/")]}, "No S3 objects found under S3 URL"),
        ({"InputDataConfig": [channel("train", "./train/")]}, "No S3 objects found under S3 URL"),
    ],
)
def test_a_job_with_keys_that_s3_cannot_have_is_refused_before_it_trains(phalanx, members, text):
    with pytest.raises(ClientError, match="ValidationException") as refused:
        phalanx.create("never", 1, encrypted=False, **members)
    assert text in str(refused.value)


def test_what_s3_cannot_keep_below_an_object_is_the_users_fault_and_not_trained_for_again(phalanx):
    phalanx.client("s3").put_object(Bucket="test-bucket", Key="taken", Body=b"an object, and no folder")
    output, retries = {"S3OutputPath": "s3://test-bucket/taken"}, {"MaximumRetryAttempts": 1}
    create(phalanx, "below", "print('here')", [], OutputDataConfig=output, RetryStrategy=retries)
    job = phalanx.ended("below")
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed:NotImplemented")
    assert "Restarting" not in {each["Status"] for each in job["SecondaryStatusTransitions"]}


def test_slashes_at_the_end_of_prefixes_change_nothing(phalanx):
    ends = {
        "OutputDataConfig": {"S3OutputPath": "s3://test-bucket//"},
        "CheckpointConfig": {"S3Uri": "s3://test-bucket/ends//"},
    }
    create(phalanx, "ends", "print('here')", [], **ends)
    assert completed(phalanx, "ends")["ModelArtifacts"] == {"S3ModelArtifacts": "s3://test-bucket/ends/output/model.tar.gz"}
